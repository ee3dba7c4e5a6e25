/* What a graded answer is worth, in words: the verdict is what a group's samples carry from the reward worker to the hub,
 * the learner, the rollout files and the evaluation. The numbers travel in messages: never renumber. */
#ifndef CANDOR_BASE_VERDICT_H
#define CANDOR_BASE_VERDICT_H

#include <stdbool.h>

enum verdict {
    VERDICT_CORRECT = 0,         /* the final answer matches a gold alias */
    VERDICT_PROCESS_CORRECT = 1, /* the right answer stands in the reasoning; the final answer is wrong or missing */
    VERDICT_ABSTAIN = 2,         /* a final Unknown, whatever the reasoning says */
    VERDICT_WRONG = 3,           /* a final answer that matches nothing */
    VERDICT_MALFORMED = 4,       /* no final answer in the format */
    VERDICT_COUNT
};

/* "correct", "process-correct", "abstain", "wrong", "malformed"; "?" outside the enum. */
const char *verdict_name(enum verdict verdict);
bool verdict_find(const char *name, enum verdict *out_verdict);

#endif
