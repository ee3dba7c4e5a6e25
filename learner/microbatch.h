/* Where a step is cut into micro-batches: a pure function of train.microbatch_tokens and the groups' lengths, in slot order, and
 * never of free memory or threads, because gradients add up in this order (DESIGN section 5.4). A group is never cut: one that
 * is larger than the limit is a micro-batch of its own. */
#ifndef CANDOR_LEARNER_MICROBATCH_H
#define CANDOR_LEARNER_MICROBATCH_H

#include <stdint.h>

/* What a group weighs in a packed batch (train.h): rows of its tree, and target tokens of its answers. */
struct microbatch_weight {
    uint32_t rows, targets;
};

struct microbatch {
    uint32_t first, count; /* groups */
};

/* weights [group_count]; out_batches [group_count], in order, covering every group. A batch of several groups has at most
 * tokens_max rows and at most tokens_max targets. Returns how many batches. */
uint32_t microbatch_cut(const struct microbatch_weight *weights, uint32_t group_count, uint32_t tokens_max,
                        struct microbatch *out_batches);

/* The most that one micro-batch can weigh, given the heaviest group that can occur. */
struct microbatch_weight microbatch_most(struct microbatch_weight heaviest, uint32_t tokens_max);

#endif
