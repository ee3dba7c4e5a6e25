#include "reward/rule_table.h"

/* The first half of both: where no sample is right nothing pays, so such a group has no signal. */
void rule_fact(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards) {
    (void)context;
    bool known = rule_any_correct(verdicts, count);
    rule_pay_all(known ? &rule_pay_known : &rule_pay_nothing, verdicts, count, out_rewards);
}
