/* Log-probabilities over the vocabulary, forward and backward. Twin: cpu/kernels/vocabulary.c. A block a row; forward reads
 * 4 bytes an id once, backward reads 4 and writes 2. */
#include "common/compute/cuda/vocabulary.cuh"

KERNEL void logprob_kernel(float *lp, float *lse, float *entropy, const float *logits, const int32_t *targets,
                           int32_t V, int32_t valid, float inv_temperature) {
    SHARED_VOCABULARY(blocks);
    int64_t r = blockIdx.x;
    logits += r * V;
    struct vocabulary_row row = vocabulary_scan(blocks, logits, valid, inv_temperature);
    if (threadIdx.x != 0)
        return;
    lse[r] = row.lse;
    lp[r] = logits[targets[r]] * inv_temperature - row.lse;
    if (entropy != NULL)
        entropy[r] = row.entropy;
}

void cuda_logprob_forward(struct device *device, float *lp, float *lse, float *entropy, const float *logits,
                          const int32_t *targets, int32_t R, int32_t V, int32_t valid, float inv_temperature) {
    ASSERT(valid >= 1 && valid <= V && valid <= VOCABULARY_BLOCKS_MAX * VOCABULARY_BLOCK);
    if (R > 0)
        LAUNCH(device, logprob_kernel, dim3((unsigned)R), VOCABULARY_LANES, lp, lse, entropy, logits, targets, V, valid,
               inv_temperature);
}

/* dlogits = dlp * inv_temperature * (onehot(target) - p) */
KERNEL void logprob_backward_kernel(uint16_t *dlogits, const float *logits, const float *lse, const float *dlp,
                                    const int32_t *targets, int32_t V, int32_t valid, float inv_temperature) {
    int64_t r = blockIdx.y;
    int32_t id = (int32_t)(blockIdx.x * VOCABULARY_LANES + threadIdx.x), target = targets[r];
    if (id >= V)
        return;
    float value = 0.0f, slope = dlp[r];
    if (slope != 0.0f && id < valid) { /* selected, not multiplied: the logits of a dead row may be anything */
        float scale = slope * inv_temperature;
        value = -scale * exp_f32(logits[r * V + id] * inv_temperature - lse[r]);
        if (id == target)
            value += scale;
    }
    dlogits[r * V + id] = bf16_of_f32(value);
}

void cuda_logprob_backward(struct device *device, void *dlogits, const float *logits, const float *lse,
                           const float *dlp, const int32_t *targets, int32_t R, int32_t V, int32_t valid,
                           float inv_temperature) {
    ASSERT(valid >= 1 && valid <= V);
    const int32_t rows_most = 32768; /* of a launch: the grid's y ends at 65535 */
    for (int32_t first = 0; first < R; first += rows_most) {
        int32_t rows = R - first < rows_most ? R - first : rows_most;
        LAUNCH(device, logprob_backward_kernel, dim3(blocks_for(V, VOCABULARY_LANES), (unsigned)rows), VOCABULARY_LANES,
               (uint16_t *)dlogits + (int64_t)first * V, logits + (int64_t)first * V, lse + first, dlp + first,
               targets + first, V, valid, inv_temperature);
    }
}
