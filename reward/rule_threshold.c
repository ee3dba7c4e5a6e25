#include "reward/rule_table.h"

/* Abstaining pays below a chance t of being right. Source: "Why language models hallucinate", arXiv 2509.04664. */
void rule_threshold(const struct rule_context *context, const enum verdict *verdicts, size_t count,
                    float *out_rewards) {
    float cost = (float)(context->threshold_t / (1.0 - context->threshold_t));
    const struct rule_pay pay = {.correct = 1, .process_correct = -cost, .abstain = 0, .wrong = -cost};
    rule_pay_all(&pay, verdicts, count, out_rewards);
}
