/* Loops over flat buffers: AdamW with exact masters, the sum of squares, the digest. */
#include "common/compute/cpu/kernels/kernels.h"
#include "common/compute/digest.h"

#define FLAT_GRAIN 65536

/* The exact fp32 master of a bf16 weight: u = (w << 16) + remainder as a signed 16-bit number, modulo 2^32. The weight
 * is u rounded half away from zero; every finite pattern splits and joins without loss (engine.md section 7). */
static inline float master_join(uint16_t w, uint16_t rem) {
    return f32_of_bits(((uint32_t)w << 16) + (uint32_t)(int32_t)(int16_t)rem);
}

static inline void master_split(float value, uint16_t *w, uint16_t *rem) {
    uint32_t u = bits_of_f32(value), high = (u + 0x8000u) >> 16;
    *w = (uint16_t)high;
    *rem = (uint16_t)(u - (high << 16));
}

struct adamw {
    void *w;
    enum dtype type;
    uint16_t *rem;
    float *m, *v;
    const float *g;
    struct adamw_step step;
};

/* m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w = w (1 - lr wd) - lr (m / bias1) / (sqrt(v / bias2) + eps) */
static inline float adamw_element(const struct adamw *c, int64_t i, float w) {
    const struct adamw_step *s = &c->step;
    float g = c->g[i] * s->grad_scale;
    float m = fmaf(s->beta1, c->m[i], (1.0f - s->beta1) * g);
    float v = fmaf(s->beta2, c->v[i], (1.0f - s->beta2) * g * g);
    c->m[i] = m;
    c->v[i] = v;
    float update = m / s->bias1 / (sqrtf(v / s->bias2) + s->eps);
    return fmaf(-s->lr, update, w * (1.0f - s->lr * s->weight_decay));
}

static void adamw_range(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct adamw *c = context;
    if (c->type == DTYPE_F32) {
        float *w = c->w;
        for (int64_t i = begin; i < end; i++)
            w[i] = adamw_element(c, i, w[i]);
        return;
    }
    uint16_t *w = c->w;
    for (int64_t i = begin; i < end; i++)
        master_split(adamw_element(c, i, master_join(w[i], c->rem[i])), &w[i], &c->rem[i]);
}

void PATH(adamw)(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                 int64_t count, const struct adamw_step *step) {
    ASSERT(type == DTYPE_F32 || rem != NULL);
    struct adamw context = {w, type, rem, m, v, g, *step};
    team_for(cpu_team(device), count, FLAT_GRAIN / 4, adamw_range, &context);
}

/* Blocks of FLAT_GRAIN elements, in each sixteen running double sums (products of floats are exact in double), added in
 * lane order; the blocks' sums are added in block order. */
#define BLOCKS_AT_ONCE 256
struct squares {
    const float *g;
    int64_t count, first_block;
    double sums[BLOCKS_AT_ONCE];
};

static void squares_blocks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    struct squares *c = context;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = (c->first_block + b) * FLAT_GRAIN, last = least_i64(first + FLAT_GRAIN, c->count), i = first;
        double lanes[LANES] = {0}, sum = 0;
        for (; i + LANES <= last; i += LANES)
            for (int l = 0; l < LANES; l++)
                lanes[l] += (double)c->g[i + l] * (double)c->g[i + l];
        for (int l = 0; i + l < last; l++)
            lanes[l] += (double)c->g[i + l] * (double)c->g[i + l];
        for (int l = 0; l < LANES; l++)
            sum += lanes[l];
        c->sums[b] = sum;
    }
}

void PATH(sum_squares)(struct device *device, double *host_out, const float *g, int64_t count) {
    struct squares context = {.g = g, .count = count};
    int64_t blocks = (count + FLAT_GRAIN - 1) / FLAT_GRAIN;
    double total = 0;
    for (; context.first_block < blocks; context.first_block += BLOCKS_AT_ONCE) {
        int64_t now = least_i64(blocks - context.first_block, BLOCKS_AT_ONCE);
        team_for(cpu_team(device), now, 1, squares_blocks, &context);
        for (int64_t b = 0; b < now; b++)
            total += context.sums[b];
    }
    *host_out = total;
}

struct digest_job {
    const unsigned char *w;
    int bits; /* of an element */
    int64_t first;
    unsigned __int128 sums[TEAM_THREADS_MAX];
};

static uint64_t element_bits(const struct digest_job *c, int64_t i) {
    uint16_t narrow;
    uint32_t wide;
    if (c->bits == 16)
        memcpy(&narrow, c->w + 2 * i, sizeof narrow);
    else
        memcpy(&wide, c->w + 4 * i, sizeof wide);
    return c->bits == 16 ? narrow : wide;
}

/* Elements begin .. end-1 of the buffer: singly up to a 64-bit word's border of the index, then word by word
 * (digest.h). */
static void digest_range(void *context, int64_t begin, int64_t end, int thread) {
    struct digest_job *c = context;
    int64_t per_word = 64 / c->bits, i = begin;
    unsigned __int128 sum = 0;
    for (; i < end; i++) {
        uint64_t index = (uint64_t)(c->first + i), place = index % (uint64_t)per_word;
        if (place == 0 && end - i >= per_word)
            break;
        sum += (unsigned __int128)digest_key(index / (uint64_t)per_word) *
               (element_bits(c, i) << place * (uint64_t)c->bits);
    }
    for (; end - i >= per_word; i += per_word) {
        uint64_t word;
        memcpy(&word, c->w + i * c->bits / 8, sizeof word);
        sum += (unsigned __int128)digest_key((uint64_t)(c->first + i) / (uint64_t)per_word) * word;
    }
    for (; i < end; i++) {
        uint64_t index = (uint64_t)(c->first + i), place = index % (uint64_t)per_word;
        sum += (unsigned __int128)digest_key(index / (uint64_t)per_word) *
               (element_bits(c, i) << place * (uint64_t)c->bits);
    }
    c->sums[thread] += sum;
}

void PATH(digest)(struct device *device, struct digest *host_out, const void *w, enum dtype type, int64_t first,
                  int64_t count) {
    struct digest_job context = {.w = w, .bits = type == DTYPE_BF16 ? 16 : 32, .first = first};
    team_for(cpu_team(device), count, FLAT_GRAIN, digest_range, &context);
    unsigned __int128 sum = 0;
    for (int i = 0; i < team_threads(cpu_team(device)); i++)
        sum += context.sums[i];
    *host_out = digest_of_u128(sum);
}
