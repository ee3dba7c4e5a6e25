/* Reward rules by name (DESIGN section 10): verdicts of a group's samples in, one reward a sample out. A rule is one
 * small file, rule_NAME.c, and one row of the table in rules.c. Pure functions; thread-safe.
 *
 *  rule               correct  process-correct  abstain                 wrong, malformed
 *  both               1        .5               1 if none is correct     0
 *  fact               1        .5               0                        0
 *  caution            0        0                1 if none is correct     0
 *  fact-then-caution  as fact before switch_step, as caution from it on
 *  anchored           1        .5               1 if not known           0
 *  ternary            1        -1               0                       -1
 *  threshold          1        -t/(1-t)         0                       -t/(1-t)
 *
 * both, fact: the pay for correct and process-correct needs one correct sample in the group; where there is none, both
 * pays as caution and fact pays nothing (the study's rule). anchored pays it where the question is known: base_known_k
 * >= anchor_k, or one correct sample in the group.
 *
 * An unanswerable question needs no case of its own. None of its samples can be correct and its k is 0, so both,
 * caution and anchored pay 1 for abstaining; under ternary and threshold abstaining (0) beats any attempt (< 0), and a
 * group's advantages depend on differences alone; under fact such a question has no signal. */
#ifndef CANDOR_REWARD_RULES_H
#define CANDOR_REWARD_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/verdict.h"

struct rule_context {
    uint32_t step;        /* the training step the group belongs to */
    uint32_t switch_step; /* reward.switch_step: fact-then-caution */
    int base_known_k;     /* the base model's right answers of 16; -1 unknown */
    int anchor_k;         /* reward.anchor_k: anchored takes k >= anchor_k as known */
    double threshold_t;   /* reward.threshold_t in [0, 1): abstaining pays below this chance of being right */
};

struct rule {
    const char *name;
    const char *summary; /* one line for help and report */
    void (*apply)(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards);
};

/* NULL when there is no such rule. */
const struct rule *rule_find(const char *name);
const struct rule *rule_table(size_t *out_count);

/* verdicts, out_rewards [count]; each verdict inside the enum. */
void rule_apply(const struct rule *rule, const struct rule_context *context, const enum verdict *verdicts, size_t count,
                float *out_rewards);

void verdict_tally(const enum verdict *verdicts, size_t count, uint32_t out_counts[VERDICT_COUNT]);

#endif
