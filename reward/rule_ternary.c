#include "reward/rule_table.h"

/* Abstaining pays below an even chance of being right, whatever the group. Source: TruthRL, arXiv 2509.25760. */
void rule_ternary(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards) {
    (void)context;
    const struct rule_pay pay = {.correct = 1, .process_correct = -1, .abstain = 0, .wrong = -1};
    rule_pay_all(&pay, verdicts, count, out_rewards);
}
