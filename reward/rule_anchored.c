#include "reward/rule_table.h"

/* As both, but a question is also known when the base model had at least anchor_k of its 16 answers right: a frozen
 * signal, which does not fade as the policy abstains more (factuality.md 1.3). Without a knowledge map (k = -1) it is
 * both. */
void rule_anchored(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards) {
    bool known = context->base_known_k >= context->anchor_k || rule_any_correct(verdicts, count);
    rule_pay_all(known ? &rule_pay_known : &rule_pay_unknown, verdicts, count, out_rewards);
}
