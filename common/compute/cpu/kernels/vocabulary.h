/* One pass over a row of logits: for every block of VOCABULARY_BLOCK ids its greatest value and the sum of e^(z -
 * greatest), and from these the row's log-sum-exp. Log-probability and sampling share it, so they agree to the bit. */
#ifndef CANDOR_COMPUTE_CPU_VOCABULARY_H
#define CANDOR_COMPUTE_CPU_VOCABULARY_H

#include "common/compute/cpu/kernels/kernels.h"

#define VOCABULARY_BLOCKS_MAX 8192 /* 4.2 million ids */

/* blocks[b] = {greatest z, sum of e^(z - greatest), sum of e^(z - greatest) (z - greatest)}, z = logits *
 * inv_temperature */
struct vocabulary_block {
    float most, sum, weighted;
};

struct vocabulary_row {
    float most, lse;
    double total; /* sum of e^(z - most) */
    float entropy;
};

static inline int32_t vocabulary_blocks(int32_t valid) {
    return (valid + VOCABULARY_BLOCK - 1) / VOCABULARY_BLOCK;
}

/* z of sixteen ids, -infinity where there is none. */
static inline v16 vocabulary_load(const float *logits, int32_t n, v16 inv_temperature) {
    if (n >= LANES)
        return v16_mul(v16_load(logits), inv_temperature);
    float some[LANES];
    for (int i = 0; i < LANES; i++)
        some[i] = i < n ? logits[i] : -INFINITY;
    return v16_mul(v16_load(some), inv_temperature);
}

static inline struct vocabulary_block vocabulary_scan_block(const float *logits, int32_t n, v16 inv_temperature) {
    v16 most = v16_set(-INFINITY);
    for (int32_t i = 0; i < n; i += LANES)
        most = v16_max(most, vocabulary_load(logits + i, n - i, inv_temperature));
    float block_most = v16_most(most);
    if (block_most == -INFINITY)
        return (struct vocabulary_block){-INFINITY, 0.0f, 0.0f};
    v16 shift = v16_set(block_most), sum = v16_zero(), weighted = v16_zero();
    for (int32_t i = 0; i < n; i += LANES) {
        v16 d = v16_sub(vocabulary_load(logits + i, n - i, inv_temperature), shift), e = v16_exp(d);
        sum = v16_add(sum, e);
        weighted = v16_fma(e, v16_max(d, v16_set(-128.0f)), weighted); /* where e is 0, d may be -infinity */
    }
    return (struct vocabulary_block){block_most, v16_sum(sum), v16_sum(weighted)};
}

/* blocks [vocabulary_blocks(valid)] */
static inline struct vocabulary_row vocabulary_scan(const float *logits, int32_t valid, float inv_temperature,
                                                    struct vocabulary_block *blocks) {
    int32_t count = vocabulary_blocks(valid);
    struct vocabulary_row row = {.most = -INFINITY};
    for (int32_t b = 0; b < count; b++) {
        int32_t first = b * VOCABULARY_BLOCK, n = valid - first < VOCABULARY_BLOCK ? valid - first : VOCABULARY_BLOCK;
        blocks[b] = vocabulary_scan_block(logits + first, n, v16_set(inv_temperature));
        row.most = row.most > blocks[b].most ? row.most : blocks[b].most;
    }
    double weighted = 0; /* sum of e^(z - most) (z - most) */
    for (int32_t b = 0; b < count; b++) {
        if (blocks[b].most == -INFINITY)
            continue;
        float shift = blocks[b].most - row.most;
        double scale = (double)exp_f32(shift);
        row.total += scale * (double)blocks[b].sum;
        weighted +=
            scale * ((double)blocks[b].sum * (double)(shift > -128.0f ? shift : -128.0f) + (double)blocks[b].weighted);
    }
    float log_total = log_f32((float)row.total);
    row.lse = row.most + log_total;
    row.entropy = log_total - (float)(weighted / row.total);
    return row;
}

#endif
