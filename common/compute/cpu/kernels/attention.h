/* What attention forward and backward share. An item is a query row and a head. Items that attend to the keys of one
 * sequence and one key/value head go together, up to ATTENTION_ITEMS of them, so that a block of keys is read once for
 * all. An item's own operations and their order do not depend on its company. */
#ifndef CANDOR_COMPUTE_CPU_ATTENTION_H
#define CANDOR_COMPUTE_CPU_ATTENTION_H

#include "common/compute/cpu/kernels/kernels.h"

#define ATTENTION_ITEMS 8
#define ATTENTION_PARTS 8 /* vectors of a head: D = 64 has 4, D = 128 has 8 */
#define ATTENTION_INLINE static inline __attribute__((always_inline))

_Static_assert(KV_PAGE_TOKENS == 2 * LANES, "a block of keys is two vectors");

struct attention_batch {
    int count;
    int64_t row[ATTENTION_ITEMS], head[ATTENTION_ITEMS];
    int64_t keys[ATTENTION_ITEMS]; /* position + 1 */
    int64_t most_keys;
    const int32_t *key_rows;
    /* Of the block in hand: */
    int here[ATTENTION_ITEMS]; /* keys of the block that the item attends to */
    int most_here;
};

/* The next items: units unit .. end-1 of kv_head, a unit being row * (heads of the group) + head in the group. */
static inline struct attention_batch attention_batch_next(const struct attention_view *view,
                                                          struct attention_shape shape, int64_t kv_head, int64_t unit,
                                                          int64_t end) {
    int64_t group = shape.heads / shape.kv_heads;
    int32_t sequence = view->row_sequence[unit / group];
    struct attention_batch batch = {.key_rows = view->key_rows + view->key_offset[sequence]};
    for (; unit < end && batch.count < ATTENTION_ITEMS; unit++) {
        int64_t row = unit / group, i = batch.count;
        if (view->row_sequence[row] != sequence)
            break;
        batch.row[i] = row;
        batch.head[i] = kv_head * group + unit % group;
        batch.keys[i] = (int64_t)view->row_position[row] + 1;
        batch.most_keys = batch.keys[i] > batch.most_keys ? batch.keys[i] : batch.most_keys;
        batch.count++;
    }
    return batch;
}

static inline void attention_batch_block(struct attention_batch *batch, int64_t first) {
    batch->most_here = (int)least_i64(KV_PAGE_TOKENS, batch->most_keys - first);
    for (int i = 0; i < batch->count; i++) {
        int64_t left = batch->keys[i] - first;
        batch->here[i] = left < 0 ? 0 : (int)least_i64(KV_PAGE_TOKENS, left);
    }
}

/* out [KV_PAGE_TOKENS] = q . base[rows[j]] for j < keys (1 .. KV_PAGE_TOKENS), -infinity behind. Rows are stride floats
 * apart. Each product is sixteen running sums over the head's elements, added as v16_sum does. */
ATTENTION_INLINE void attention_dots(float *out, const v16 *q, int parts, const float *base, int64_t stride,
                                     const int32_t *rows, int keys) {
    for (int first = 0; first < KV_PAGE_TOKENS; first += LANES) {
        v16 sums[LANES];
        if (first >= keys) {
            v16_store(out + first, v16_set(-INFINITY));
            continue;
        }
        for (int j = 0; j < LANES; j++) {
            const float *key = base + rows[first + j < keys ? first + j : keys - 1] * stride;
            sums[j] = v16_mul(q[0], v16_load(key));
            for (int i = 1; i < parts; i++)
                sums[j] = v16_fma(q[i], v16_load(key + i * LANES), sums[j]);
        }
        v16 here = v16_sums(sums);
        v16_store(out + first,
                  v16_select(v16_less(v16_places(), v16_set((float)(keys - first))), here, v16_set(-INFINITY)));
    }
}

/* sum [parts] += weights[j] * base[rows[j]] for j = from .. to-1 */
ATTENTION_INLINE void attention_weigh(v16 *sum, const float *weights, int parts, const float *base, int64_t stride,
                                      const int32_t *rows, int from, int to) {
    v16 held[ATTENTION_PARTS];
    for (int i = 0; i < parts; i++)
        held[i] = sum[i];
    for (int j = from; j < to; j++) {
        const float *row = base + rows[j] * stride;
        v16 weight = v16_set(weights[j]);
        for (int i = 0; i < parts; i++)
            held[i] = v16_fma(weight, v16_load(row + i * LANES), held[i]);
    }
    for (int i = 0; i < parts; i++)
        sum[i] = held[i];
}

/* The same for two items at once over the keys that both attend to: twice the independent chains for each row read. */
ATTENTION_INLINE void attention_weigh_two(v16 *sum_a, v16 *sum_b, const float *weights_a, const float *weights_b,
                                          int parts, const float *base, int64_t stride, const int32_t *rows, int to) {
    v16 a[ATTENTION_PARTS], b[ATTENTION_PARTS];
    for (int i = 0; i < parts; i++) {
        a[i] = sum_a[i];
        b[i] = sum_b[i];
    }
    for (int j = 0; j < to; j++) {
        const float *row = base + rows[j] * stride;
        v16 weight_a = v16_set(weights_a[j]), weight_b = v16_set(weights_b[j]);
        for (int i = 0; i < parts; i++) {
            v16 value = v16_load(row + i * LANES);
            a[i] = v16_fma(weight_a, value, a[i]);
            b[i] = v16_fma(weight_b, value, b[i]);
        }
    }
    for (int i = 0; i < parts; i++) {
        sum_a[i] = a[i];
        sum_b[i] = b[i];
    }
}

/* sums[i] += weights[i] over each item's keys of the block. */
ATTENTION_INLINE void attention_weigh_all(const struct attention_batch *batch, v16 (*sums)[ATTENTION_PARTS],
                                          float (*weights)[KV_PAGE_TOKENS], int parts, const float *base,
                                          int64_t stride, const int32_t *rows) {
    for (int i = 0; i < batch->count; i++) {
        int both = 0;
#if defined(__AVX512F__) /* enough registers for two */
        if (i + 1 < batch->count) {
            both = batch->here[i] < batch->here[i + 1] ? batch->here[i] : batch->here[i + 1];
            attention_weigh_two(sums[i], sums[i + 1], weights[i], weights[i + 1], parts, base, stride, rows, both);
            attention_weigh(sums[i], weights[i], parts, base, stride, rows, both, batch->here[i]);
            i++;
        }
#endif
        attention_weigh(sums[i], weights[i], parts, base, stride, rows, both, batch->here[i]);
    }
}

#endif
