/* One token a row by inverse CDF over fixed blocks: the blocks' sums come with the log-sum-exp, so only the block in
 * which the uniform falls is read again. top-k and top-p both become one threshold on z, found digit by digit of its
 * bit pattern without sorting; values equal to the threshold stay in. */
#include "common/compute/cpu/kernels/vocabulary.h"

struct sample {
    int32_t *ids;
    float *lp;
    const float *logits, *uniforms;
    const int32_t *rows;
    int64_t V;
    int32_t valid, top_k;
    float inv_temperature, top_p;
    struct device *device;
};

/* Order of floats as order of unsigned integers, and back. */
static uint32_t key_of(float value) {
    uint32_t bits = bits_of_f32(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float of_key(uint32_t key) {
    return f32_of_bits(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* The greatest threshold t >= least such that the ids with z >= t weigh at least `enough`; an id weighs 1 (by_count) or
 * e^(z - most). Eight bits of t at a time, from the top. */
static float threshold_find(const float *logits, int32_t valid, float inv_temperature, float least, float most,
                            bool by_count, double enough) {
    uint32_t prefix = 0;
    double above = 0; /* weight of the ids whose leading bits are greater than the prefix */
    for (int shift = 24; shift >= 0; shift -= 8) {
        double bins[256] = {0};
        for (int32_t i = 0; i < valid; i++) {
            float z = logits[i] * inv_temperature;
            uint32_t key = key_of(z);
            if (!(z >= least) || (shift < 24 && key >> (shift + 8) != prefix))
                continue;
            bins[key >> shift & 255] += by_count ? 1.0 : (double)exp_f32(z - most);
        }
        int bin = 255, lowest = 255;
        for (int i = 0; i < 256; i++)
            if (bins[i] > 0) {
                lowest = i;
                break;
            }
        while (bin > lowest && above + bins[bin] < enough)
            above += bins[bin--];
        prefix = prefix << 8 | (uint32_t)bin;
    }
    return of_key(prefix);
}

/* blocks[b].sum over the ids with z >= least only; returns the row's total. */
static double restrict_blocks(const struct sample *c, const float *logits, float least, float most,
                              struct vocabulary_block *blocks) {
    double total = 0;
    for (int32_t i = 0; i < c->valid; i++) {
        struct vocabulary_block *block = &blocks[i / VOCABULARY_BLOCK];
        if (i % VOCABULARY_BLOCK == 0)
            block->sum = 0.0f;
        float z = logits[i] * c->inv_temperature;
        if (z >= least)
            block->sum += exp_f32(z - block->most);
    }
    for (int32_t b = 0; b < vocabulary_blocks(c->valid); b++)
        if (blocks[b].sum > 0)
            total += (double)exp_f32(blocks[b].most - most) * (double)blocks[b].sum;
    return total;
}

/* The first id of a block whose cumulative weight is greater than target: sixteen ids at a time, then one by one. Where
 * rounding leaves none: the last id that weighs anything. */
static int32_t locate_in_block(const struct sample *c, const float *logits, int32_t first, float least,
                               float block_most, double target) {
    int32_t last = c->valid - first < VOCABULARY_BLOCK ? c->valid : first + VOCABULARY_BLOCK, id = first;
    float e[LANES] = {0};
    double sum = 0, within = 0;
    for (int32_t i = first; i < last && !(sum > target); i += LANES) {
        v16 z = vocabulary_load(logits + i, last - i, v16_set(c->inv_temperature));
        v16 weights = v16_select(v16_less(z, v16_set(least)), v16_zero(), v16_exp(v16_sub(z, v16_set(block_most))));
        double group = (double)v16_sum(weights);
        if (!(group > 0))
            continue;
        id = i;
        within = sum;
        sum += group;
        v16_store(e, weights);
    }
    int32_t group_first = id;
    for (int32_t j = 0; j < LANES; j++) {
        if (!(e[j] > 0))
            continue;
        id = group_first + j;
        within += (double)e[j];
        if (within > target)
            break;
    }
    return id;
}

/* The first id whose cumulative weight is greater than target; the last one that weighs anything when rounding leaves
 * none. */
static int32_t locate(const struct sample *c, const float *logits, float least, float most, double target,
                      const struct vocabulary_block *blocks) {
    int32_t found = -1, count = vocabulary_blocks(c->valid);
    double before = 0, sum = 0; /* weight of the blocks before the found one; before the next one */
    for (int32_t b = 0; b < count && !(found >= 0 && sum > target); b++) {
        double weight = blocks[b].sum > 0 ? (double)exp_f32(blocks[b].most - most) * (double)blocks[b].sum : 0.0;
        if (!(weight > 0))
            continue;
        found = b;
        before = sum;
        sum += weight;
    }
    if (found < 0)
        return 0; /* no finite logit: lp says so */
    return locate_in_block(c, logits, found * VOCABULARY_BLOCK, least, blocks[found].most,
                           (target - before) / (double)exp_f32(blocks[found].most - most));
}

/* What top-k and top-p leave: the least z that stays in, and the total weight; blocks are restricted to it. */
static float restrict_row(const struct sample *c, const float *logits, float most, struct vocabulary_block *blocks,
                          double *total) {
    float least = -INFINITY;
    if (c->top_k > 0 && c->top_k < c->valid)
        least = threshold_find(logits, c->valid, c->inv_temperature, least, most, true, c->top_k);
    if (least > -INFINITY)
        *total = restrict_blocks(c, logits, least, most, blocks);
    if (c->top_p < 1.0f) {
        least = threshold_find(logits, c->valid, c->inv_temperature, least, most, false, (double)c->top_p * *total);
        *total = restrict_blocks(c, logits, least, most, blocks);
    }
    return least;
}

static int32_t greatest(const float *logits, int32_t valid) {
    int32_t best = 0;
    for (int32_t i = 1; i < valid; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static void sample_draws(void *context, int64_t begin, int64_t end, int thread) {
    const struct sample *c = context;
    struct vocabulary_block *blocks = cpu_scratch(c->device, thread);
    bool greedy = c->inv_temperature == 0.0f;
    float inv_temperature = greedy ? 1.0f : c->inv_temperature, least = -INFINITY;
    struct vocabulary_row row = {0};
    int64_t scanned = -1;
    double total = 0;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = c->rows != NULL ? c->rows[i] : i;
        const float *logits = c->logits + at * c->V;
        if (at != scanned) {
            row = vocabulary_scan(logits, c->valid, inv_temperature, blocks);
            total = row.total;
            least = greedy ? -INFINITY : restrict_row(c, logits, row.most, blocks, &total);
            scanned = at;
        }
        int32_t id = greedy ? greatest(logits, c->valid)
                            : locate(c, logits, least, row.most, (double)c->uniforms[i] * total, blocks);
        c->ids[i] = id;
        c->lp[i] = logits[id] * inv_temperature - row.lse;
    }
}

void PATH(sample)(struct device *device, int32_t *ids, float *lp, const float *logits, const int32_t *rows,
                  const float *uniforms, int32_t draws, int32_t V, int32_t valid, float inv_temperature, int32_t top_k,
                  float top_p) {
    ASSERT(valid >= 1 && valid <= V && vocabulary_blocks(valid) <= VOCABULARY_BLOCKS_MAX);
    struct sample context = {ids, lp, logits, uniforms, rows, V, valid, top_k, inv_temperature, top_p, device};
    /* Neighbours that share a row stay together for the most part. */
    int64_t share = draws / (4 * team_threads(cpu_team(device))), least = cpu_grain(4 * (int64_t)V);
    team_for(cpu_team(device), draws, share > least ? share : least, sample_draws, &context);
}
