/* Loops over flat buffers: AdamW with exact masters, the sum of squares, the digest. */
#include "common/compute/cpu/kernels/kernels.h"
#include "common/compute/digest.h"
#include "common/compute/moments.h"

#define FLAT_GRAIN 65536

/* ---- masters ---- */

struct masters {
    void *w;
    enum dtype type;
    uint16_t *rem;
};

/* Elements i .. i+n-1, n at most LANES. */
static inline __attribute__((always_inline)) v16 masters_load(const struct masters *c, int64_t i, int64_t n) {
    if (c->type == DTYPE_F32)
        return v16_load_some((const float *)c->w + i, n);
    uint16_t high[LANES] = {0}, rest[LANES] = {0};
    memcpy(high, (const uint16_t *)c->w + i, (size_t)n * sizeof *high);
    memcpy(rest, c->rem + i, (size_t)n * sizeof *rest);
    return v16_join(high, rest);
}

static inline __attribute__((always_inline)) void masters_store(const struct masters *c, int64_t i, v16 value,
                                                                int64_t n) {
    if (c->type == DTYPE_F32) {
        v16_store_some((float *)c->w + i, value, n);
        return;
    }
    uint16_t high[LANES], rest[LANES];
    v16_split(value, high, rest);
    memcpy((uint16_t *)c->w + i, high, (size_t)n * sizeof *high);
    memcpy(c->rem + i, rest, (size_t)n * sizeof *rest);
}

struct decay {
    struct masters masters;
    float factor;
};

static inline __attribute__((always_inline)) void decay_some(const struct decay *c, int64_t i, int64_t n) {
    masters_store(&c->masters, i, v16_mul(masters_load(&c->masters, i, n), v16_set(c->factor)), n);
}

static void decay_range(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct decay *c = context;
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
        decay_some(c, i, LANES);
    if (i < end)
        decay_some(c, i, end - i);
}

void PATH(decay)(struct device *device, void *w, enum dtype type, uint16_t *rem, int64_t count, float factor) {
    ASSERT(type == DTYPE_F32 || rem != NULL);
    struct decay context = {{w, type, rem}, factor};
    team_for(cpu_team(device), count, FLAT_GRAIN / 4, decay_range, &context);
}

/* ---- AdamW ---- */

struct adamw {
    struct masters masters;
    float *m, *v;
    const float *g;
    struct adamw_step step;
};

/* m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w = w - lr (m / bias1) / (sqrt(v / bias2) + eps) */
static inline v16 adamw_step(const struct adamw_step *s, v16 w, v16 g, v16 *m, v16 *v) {
    g = v16_mul(g, v16_set(s->grad_scale));
    *m = v16_fma(v16_set(s->beta1), *m, v16_mul(v16_set(1.0f - s->beta1), g));
    *v = v16_fma(v16_set(s->beta2), *v, v16_mul(v16_mul(v16_set(1.0f - s->beta2), g), g));
    v16 spread = v16_add(v16_sqrt(v16_div(*v, v16_set(s->bias2))), v16_set(s->eps));
    v16 update = v16_div(v16_div(*m, v16_set(s->bias1)), spread);
    return v16_fma(v16_set(-s->lr), update, w);
}

static inline __attribute__((always_inline)) void adamw_some(const struct adamw *c, int64_t i, int64_t n) {
    v16 m = v16_load_some(c->m + i, n), v = v16_load_some(c->v + i, n), g = v16_load_some(c->g + i, n);
    masters_store(&c->masters, i, adamw_step(&c->step, masters_load(&c->masters, i, n), g, &m, &v), n);
    v16_store_some(c->m + i, m, n);
    v16_store_some(c->v + i, v, n);
}

static void adamw_range(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct adamw *c = context;
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
        adamw_some(c, i, LANES);
    if (i < end)
        adamw_some(c, i, end - i);
}

void PATH(adamw)(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                 int64_t count, const struct adamw_step *step) {
    ASSERT(type == DTYPE_F32 || rem != NULL);
    struct adamw context = {{w, type, rem}, m, v, g, *step};
    team_for(cpu_team(device), count, FLAT_GRAIN / 4, adamw_range, &context);
}

/* ---- AdamW with moments of eight bits: 16 bytes an element with a split master ---- */

struct adamw8 {
    struct masters masters;
    struct moments8 moments;
    const float *g;
    int64_t count;
    struct adamw_step step;
    struct moment_tables tables;
};

static inline void moments_decode(float out[MOMENT_BLOCK], const struct moment_codes *codes, const uint8_t *from,
                                  int64_t n, float most) {
    for (int64_t i = 0; i < n; i++)
        out[i] = codes->share[from[i]] * most;
}

/* The codes of the shares of most that are nearest to values; 0 where most is 0. */
static inline void moments_encode(uint8_t *to, const struct moment_codes *codes, const float values[MOMENT_BLOCK],
                                  int64_t n, float most) {
    float shares[MOMENT_BLOCK];
    v16 by = v16_set(most > 0.0f ? most : 1.0f), one = v16_set(1.0f), minus_one = v16_set(-1.0f);
    for (int i = 0; i < MOMENT_BLOCK; i += LANES) /* a NaN becomes 1: below has no place for it */
        v16_store(shares + i, v16_max(v16_min(v16_div(v16_load(values + i), by), one), minus_one));
    for (int64_t i = 0; i < n; i++) {
        unsigned code = codes->below[moment_key(shares[i])];
        to[i] = (uint8_t)(code + (shares[i] > codes->border[code]));
    }
}

static void adamw8_block(const struct adamw8 *c, int64_t block) {
    int64_t first = block * MOMENT_BLOCK, n = least_i64(MOMENT_BLOCK, c->count - first);
    float m[MOMENT_BLOCK] = {0}, v[MOMENT_BLOCK] = {0};
    moments_decode(m, &c->tables.m, c->moments.m + first, n, c->moments.m_most[block]);
    moments_decode(v, &c->tables.v, c->moments.v + first, n, c->moments.v_most[block]);
    v16 m_most = v16_zero(), v_most = v16_zero();
    for (int64_t i = 0; i < n; i += LANES) {
        v16 m_now = v16_load(m + i), v_now = v16_load(v + i), g = v16_load_some(c->g + first + i, n - i);
        v16 w = masters_load(&c->masters, first + i, least_i64(n - i, LANES));
        w = adamw_step(&c->step, w, g, &m_now, &v_now);
        masters_store(&c->masters, first + i, w, least_i64(n - i, LANES));
        v_now = v16_min(v_now, v16_set(MOMENT_MOST));
        m_most = v16_max(m_most, v16_max(m_now, v16_sub(v16_zero(), m_now)));
        v_most = v16_max(v_most, v_now);
        v16_store(m + i, m_now);
        v16_store(v + i, v_now);
    }
    c->moments.m_most[block] = v16_most(m_most);
    c->moments.v_most[block] = v16_most(v_most);
    moments_encode(c->moments.m + first, &c->tables.m, m, n, c->moments.m_most[block]);
    moments_encode(c->moments.v + first, &c->tables.v, v, n, c->moments.v_most[block]);
}

static void adamw8_blocks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    for (int64_t block = begin; block < end; block++)
        adamw8_block(context, block);
}

void PATH(adamw8)(struct device *device, void *w, enum dtype type, uint16_t *rem, const struct moments8 *moments,
                  const float *g, int64_t count, const struct adamw_step *step) {
    ASSERT(type == DTYPE_F32 || rem != NULL);
    struct adamw8 context = {.masters = {w, type, rem}, .moments = *moments, .g = g, .count = count, .step = *step};
    moment_tables_fill(&context.tables);
    team_for(cpu_team(device), moment_blocks(count), FLAT_GRAIN / 4 / MOMENT_BLOCK, adamw8_blocks, &context);
}

/* ---- sum of squares ---- */

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
    const void *w;
    int bits; /* of an element */
    int64_t first;
    unsigned __int128 sums[TEAM_THREADS_MAX];
};

static unsigned __int128 mix(const struct digest_job *c, int64_t i) {
    uint64_t index = (uint64_t)(c->first + i);
    if (c->bits == 16)
        return digest_to_u128(digest_mix16(index, ((const uint16_t *)c->w)[i]));
    return digest_to_u128(digest_mix32(index, ((const uint32_t *)c->w)[i]));
}

/* Elements begin .. end-1 of the buffer: singly up to the next border of a 64-bit word of the index, then words (digest.h). */
static void digest_range(void *context, int64_t begin, int64_t end, int thread) {
    struct digest_job *c = context;
    int64_t per_word = 64 / c->bits, i = begin;
    unsigned __int128 sum = 0;
    for (; i < end && (c->first + i) % per_word != 0; i++)
        sum += mix(c, i);
    const unsigned char *words = (const unsigned char *)c->w + i * c->bits / 8;
    uint64_t key = (uint64_t)((c->first + i) / per_word);
    int64_t count = (end - i) / per_word;
    for (int64_t j = 0; j < count; j++) {
        uint64_t word;
        memcpy(&word, words + 8 * j, sizeof word);
        sum += (unsigned __int128)digest_key(key + (uint64_t)j) * word;
    }
    for (i += count * per_word; i < end; i++)
        sum += mix(c, i);
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
