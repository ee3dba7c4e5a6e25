/* Scores of one query against one block of keys; shared by attention forward and backward, which must agree on them. */
#ifndef CANDOR_COMPUTE_CPU_ATTENTION_H
#define CANDOR_COMPUTE_CPU_ATTENTION_H

#include "common/compute/cpu/kernels/kernels.h"

/* out [KV_PAGE_TOKENS] = q . k[rows[j]] for j < keys, -infinity behind; q has parts vectors, k rows are `stride` floats
 * apart. Each product is sixteen running sums over the head's elements, added by v16_sum. */
static inline __attribute__((always_inline)) void attention_dots(float *out, const v16 *q, int parts, const float *k,
                                                                 int64_t stride, const int32_t *rows, int keys) {
    for (int j = 0; j < KV_PAGE_TOKENS; j++)
        out[j] = -INFINITY;
    for (int j = 0; j < keys; j++) {
        const float *key = k + rows[j] * stride;
        v16 sum = v16_mul(q[0], v16_load(key));
        for (int i = 1; i < parts; i++)
            sum = v16_fma(q[i], v16_load(key + i * LANES), sum);
        out[j] = v16_sum(sum);
    }
}

/* As attention_dots; returns the greatest. */
static inline __attribute__((always_inline)) float attention_scores(float *out, const v16 *q, int parts, const float *k,
                                                                    int64_t stride, const int32_t *rows, int keys) {
    attention_dots(out, q, parts, k, stride, rows, keys);
    return v16_most(v16_max(v16_load(out), v16_load(out + LANES)));
}

#endif
