/* Log-probabilities over the vocabulary, forward and backward. */
#include "common/compute/cpu/kernels/vocabulary.h"

struct logprob {
    float *lp, *lse, *entropy, *dlogits;
    const float *logits, *dlp;
    const float *lse_in;
    const int32_t *targets;
    int64_t V;
    int32_t valid;
    float inv_temperature;
    struct device *device;
};

static void logprob_rows(void *context, int64_t begin, int64_t end, int thread) {
    const struct logprob *c = context;
    struct vocabulary_block *blocks = cpu_scratch(c->device, thread);
    for (int64_t r = begin; r < end; r++) {
        const float *logits = c->logits + r * c->V;
        struct vocabulary_row row = vocabulary_scan(logits, c->valid, c->inv_temperature, blocks);
        c->lse[r] = row.lse;
        c->lp[r] = logits[c->targets[r]] * c->inv_temperature - row.lse;
        if (c->entropy != NULL)
            c->entropy[r] = row.entropy;
    }
}

void PATH(logprob_forward)(struct device *device, float *lp, float *lse, float *entropy, const float *logits,
                           const int32_t *targets, int32_t R, int32_t V, int32_t valid, float inv_temperature) {
    ASSERT(valid >= 1 && valid <= V && vocabulary_blocks(valid) <= VOCABULARY_BLOCKS_MAX);
    struct logprob context = {.lp = lp,
                              .lse = lse,
                              .entropy = entropy,
                              .logits = logits,
                              .targets = targets,
                              .V = V,
                              .valid = valid,
                              .inv_temperature = inv_temperature,
                              .device = device};
    team_for(cpu_team(device), R, cpu_grain(4 * (int64_t)V), logprob_rows, &context);
}

static void logprob_backward_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct logprob *c = context;
    for (int64_t r = begin; r < end; r++) {
        const float *logits = c->logits + r * c->V;
        float *to = c->dlogits + r * c->V;
        int64_t valid = c->dlp[r] != 0.0f ? c->valid : 0;
        float scale = c->dlp[r] * c->inv_temperature;
        v16 lse = v16_set(c->lse_in[r]), minus = v16_set(-scale);
        for (int64_t i = 0; i < valid; i += LANES) {
            v16 z = v16_mul(v16_load_some(logits + i, valid - i), v16_set(c->inv_temperature));
            v16_store_some(to + i, v16_mul(minus, v16_exp(v16_sub(z, lse))), valid - i);
        }
        memset(to + valid, 0, (size_t)(c->V - valid) * sizeof *to);
        if (valid > 0)
            to[c->targets[r]] += scale;
    }
}

void PATH(logprob_backward)(struct device *device, void *dlogits, const float *logits, const float *lse,
                            const float *dlp, const int32_t *targets, int32_t R, int32_t V, int32_t valid,
                            float inv_temperature) {
    ASSERT(valid >= 1 && valid <= V);
    struct logprob context = {.dlogits = dlogits,
                              .logits = logits,
                              .lse_in = lse,
                              .dlp = dlp,
                              .targets = targets,
                              .V = V,
                              .valid = valid,
                              .inv_temperature = inv_temperature,
                              .device = device};
    team_for(cpu_team(device), R, cpu_grain(4 * (int64_t)V), logprob_backward_rows, &context);
}
