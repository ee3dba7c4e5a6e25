/* One pass over a row of logits by a block: for every block of VOCABULARY_BLOCK ids its greatest value and the sum of
 * e^(z - greatest), and from these the row's log-sum-exp. Log-probability and sampling share it, so they agree to the bit.
 * Twin: cpu/kernels/vocabulary.h. */
#ifndef CANDOR_COMPUTE_CUDA_VOCABULARY_CUH
#define CANDOR_COMPUTE_CUDA_VOCABULARY_CUH

#include "common/compute/cuda/kernel.cuh"

#define VOCABULARY_WARPS 8
#define VOCABULARY_LANES (VOCABULARY_WARPS * WARP_LANES)
#define VOCABULARY_BLOCKS_MAX 512 /* 262144 ids; their sums are kept in shared memory */
#define VOCABULARY_PER_LANE (VOCABULARY_BLOCK / WARP_LANES)

struct vocabulary_row {
    float most, lse, entropy;
    double total; /* sum of e^(z - most) */
};

/* Shared memory of a block that scans: greatest z, sum of e^(z - greatest), sum of e^(z - greatest) (z - greatest). */
#define SHARED_VOCABULARY(name)                                                                                        \
    SHARED(float, name##_most, VOCABULARY_BLOCKS_MAX);                                                                 \
    SHARED(float, name##_sum, VOCABULARY_BLOCKS_MAX);                                                                  \
    SHARED(float, name##_weighted, VOCABULARY_BLOCKS_MAX);                                                             \
    struct vocabulary_shared name = {name##_most, name##_sum, name##_weighted}

struct vocabulary_shared {
    shared_pointer<float> most, sum, weighted;
};

DEVICE int32_t vocabulary_blocks(int32_t valid) {
    return (valid + VOCABULARY_BLOCK - 1) / VOCABULARY_BLOCK;
}

/* A warp's block of ids: a lane every 32nd. */
DEVICE void vocabulary_scan_block(const struct vocabulary_shared &blocks, int32_t b, const float *logits, int32_t valid,
                                  float inv_temperature) {
    int32_t lane = (int32_t)threadIdx.x % WARP_LANES, first = b * VOCABULARY_BLOCK + lane;
    float z[VOCABULARY_PER_LANE], most = -INFINITY, sum = 0.0f, weighted = 0.0f;
    for (int i = 0; i < VOCABULARY_PER_LANE; i++) {
        int32_t id = first + i * WARP_LANES;
        z[i] = id < valid ? logits[id] * inv_temperature : -INFINITY;
        most = z[i] > most ? z[i] : most;
    }
    most = warp_most(most);
    if (most > -INFINITY)
        for (int i = 0; i < VOCABULARY_PER_LANE; i++) {
            float d = z[i] - most, e = exp_f32(d);
            sum += e;
            weighted = fmaf(e, d > -128.0f ? d : -128.0f, weighted); /* where e is 0, d may be -infinity */
        }
    sum = warp_sum(sum);
    weighted = warp_sum(weighted);
    if (lane == 0) {
        blocks.most[b] = most;
        blocks.sum[b] = sum;
        blocks.weighted[b] = weighted;
    }
}

/* All lanes of the block call it and get the same; a NaN among the logits makes lse NaN. */
DEVICE struct vocabulary_row vocabulary_scan(const struct vocabulary_shared &blocks, const float *logits, int32_t valid,
                                             float inv_temperature) {
    int32_t count = vocabulary_blocks(valid), lane = (int32_t)threadIdx.x % WARP_LANES;
    __syncthreads(); /* an earlier row's sums are done with */
    for (int32_t b = (int32_t)threadIdx.x / WARP_LANES; b < count; b += VOCABULARY_WARPS)
        vocabulary_scan_block(blocks, b, logits, valid, inv_temperature);
    __syncthreads();
    struct vocabulary_row row = {-INFINITY, 0.0f, 0.0f, 0};
    for (int32_t b = lane; b < count; b += WARP_LANES) {
        float most = blocks.most[b];
        row.most = most > row.most ? most : row.most;
    }
    row.most = warp_most(row.most);
    double weighted = 0;
    for (int32_t b = lane; b < count; b += WARP_LANES) {
        float shift = blocks.most[b] - row.most;
        if (!(shift > -INFINITY))
            continue; /* every logit of the block is -infinity */
        double scale = (double)exp_f32(shift), sum = (double)(float)blocks.sum[b];
        row.total += scale * sum;
        weighted += scale * (sum * (double)(shift > -128.0f ? shift : -128.0f) + (double)(float)blocks.weighted[b]);
    }
    row.total = warp_sum(row.total);
    weighted = warp_sum(weighted);
    float log_total = log_f32((float)row.total);
    row.lse = row.most + log_total;
    row.entropy = log_total - (float)(weighted / row.total);
    return row;
}

#endif
