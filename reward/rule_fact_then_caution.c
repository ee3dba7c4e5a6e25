#include "reward/rule_table.h"

/* One half after the other: the study's fourth setting. */
void rule_fact_then_caution(const struct rule_context *context, const enum verdict *verdicts, size_t count,
                            float *out_rewards) {
    if (context->step < context->switch_step)
        rule_fact(context, verdicts, count, out_rewards);
    else
        rule_caution(context, verdicts, count, out_rewards);
}
