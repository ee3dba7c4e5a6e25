/* Rotary positions: pair (a, b) = elements (i, i + D/2) of a head is turned by the position's angle:
 * a' = a cos - b sin, b' = b cos + a sin. Backward turns the other way. */
#include "common/compute/cpu/kernels/kernels.h"

#define HALF_MOST 64 /* D / 2 */

struct angles {
    float cosine[HALF_MOST], sine[HALF_MOST];
};

/* A position's part of the table, cosines and sines apart; direction -1 turns the other way. */
static inline void angles_load(struct angles *angles, const float *table, int64_t half, float direction) {
    for (int64_t i = 0; i < half; i++) {
        angles->cosine[i] = table[2 * i];
        angles->sine[i] = direction * table[2 * i + 1];
    }
}

/* Heads of 2 * half elements, from -> to (may be the same memory). */
static inline void turn(float *to, const float *from, int64_t heads, const struct angles *angles, int64_t half) {
    for (int64_t h = 0; h < heads; h++, to += 2 * half, from += 2 * half)
        for (int64_t i = 0; i < half; i += LANES) {
            v16 cosine = v16_load(angles->cosine + i), sine = v16_load(angles->sine + i);
            v16 a = v16_load(from + i), b = v16_load(from + half + i);
            v16_store(to + i, v16_sub(v16_mul(a, cosine), v16_mul(b, sine)));
            v16_store(to + half + i, v16_add(v16_mul(b, cosine), v16_mul(a, sine)));
        }
}

struct rope {
    float *qkv, *k_out, *v_out;
    const float *dk, *dv, *table;
    const int32_t *positions, *slots;
    struct attention_shape shape;
};

static void rope_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct rope *c = context;
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = c->shape.head_dim;
    for (int64_t r = begin; r < end; r++) {
        struct angles angles;
        angles_load(&angles, c->table + c->positions[r] * D, D / 2, 1.0f);
        float *q = c->qkv + r * (N + 2 * K) * D, *k = q + N * D, *v = k + K * D;
        float *k_to = c->k_out + c->slots[r] * K * D, *v_to = c->v_out + c->slots[r] * K * D;
        turn(q, q, N, &angles, D / 2);
        turn(k_to, k, K, &angles, D / 2);
        memcpy(v_to, v, (size_t)(K * D) * sizeof *v);
    }
}

void PATH(rope_forward)(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                        const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape) {
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    struct rope context = {qkv, k_out, v_out, NULL, NULL, table, positions, slots, shape};
    int64_t row = (int64_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    team_for(cpu_team(device), R, cpu_grain(row), rope_rows, &context);
}

static void rope_backward_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct rope *c = context;
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = c->shape.head_dim;
    for (int64_t r = begin; r < end; r++) {
        struct angles angles;
        angles_load(&angles, c->table + c->positions[r] * D, D / 2, -1.0f);
        float *dq = c->qkv + r * (N + 2 * K) * D, *dk = dq + N * D, *dv = dk + K * D;
        turn(dq, dq, N, &angles, D / 2);
        turn(dk, c->dk + r * K * D, K, &angles, D / 2);
        memcpy(dv, c->dv + r * K * D, (size_t)(K * D) * sizeof *dv);
    }
}

void PATH(rope_backward)(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                         const int32_t *positions, int32_t R, struct attention_shape shape) {
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    struct rope context = {dqkv, NULL, NULL, dk, dv, table, positions, NULL, shape};
    int64_t row = (int64_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    team_for(cpu_team(device), R, cpu_grain(row), rope_backward_rows, &context);
}
