#include "reward/rule_table.h"

/* The study's rule: a question that any of the samples gets right is known, and pays for the truth; any other pays for
 * saying Unknown. Source: "GRPO for Factuality", rule `both` (DESIGN section 10). */
void rule_both(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards) {
    (void)context;
    bool known = rule_any_correct(verdicts, count);
    rule_pay_all(known ? &rule_pay_known : &rule_pay_unknown, verdicts, count, out_rewards);
}
