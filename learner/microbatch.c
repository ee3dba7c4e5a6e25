#include "learner/microbatch.h"

uint32_t microbatch_cut(const struct microbatch_weight *weights, uint32_t group_count, uint32_t tokens_max,
                        struct microbatch *out_batches) {
    uint32_t batches = 0;
    uint64_t rows = 0, targets = 0;
    for (uint32_t g = 0; g < group_count; g++) {
        rows += weights[g].rows;
        targets += weights[g].targets;
        if (batches > 0 && rows <= tokens_max && targets <= tokens_max) {
            out_batches[batches - 1].count++;
            continue;
        }
        out_batches[batches++] = (struct microbatch){.first = g, .count = 1};
        rows = weights[g].rows;
        targets = weights[g].targets;
    }
    return batches;
}

struct microbatch_weight microbatch_most(struct microbatch_weight heaviest, uint32_t tokens_max) {
    return (struct microbatch_weight){.rows = heaviest.rows > tokens_max ? heaviest.rows : tokens_max,
                                      .targets = heaviest.targets > tokens_max ? heaviest.targets : tokens_max};
}
