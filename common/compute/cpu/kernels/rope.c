/* Rotary positions: pair (a, b) = elements (i, i + D/2) of a head is turned by the position's angle:
 * a' = a cos - b sin, b' = b cos + a sin. Backward turns the other way. */
#include "common/compute/cpu/kernels/kernels.h"

/* One head of D elements, from -> to (may be the same memory). */
static inline void turn(float *to, const float *from, const float *table, int64_t D, float direction) {
    int64_t half = D / 2;
    for (int64_t i = 0; i < half; i++) {
        float cosine = table[2 * i], sine = direction * table[2 * i + 1];
        float a = from[i], b = from[half + i];
        to[i] = a * cosine - b * sine;
        to[half + i] = b * cosine + a * sine;
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
        const float *table = c->table + c->positions[r] * D;
        float *q = c->qkv + r * (N + 2 * K) * D, *k = q + N * D, *v = k + K * D;
        float *k_to = c->k_out + c->slots[r] * K * D, *v_to = c->v_out + c->slots[r] * K * D;
        for (int64_t h = 0; h < N; h++)
            turn(q + h * D, q + h * D, table, D, 1.0f);
        for (int64_t h = 0; h < K; h++)
            turn(k_to + h * D, k + h * D, table, D, 1.0f);
        memcpy(v_to, v, (size_t)(K * D) * sizeof *v);
    }
}

void PATH(rope_forward)(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                        const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape) {
    struct rope context = {qkv, k_out, v_out, NULL, NULL, table, positions, slots, shape};
    int64_t row = (int64_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    team_for(cpu_team(device), R, cpu_grain(row), rope_rows, &context);
}

static void rope_backward_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct rope *c = context;
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = c->shape.head_dim;
    for (int64_t r = begin; r < end; r++) {
        const float *table = c->table + c->positions[r] * D;
        float *dq = c->qkv + r * (N + 2 * K) * D, *dk = dq + N * D, *dv = dk + K * D;
        for (int64_t h = 0; h < N; h++)
            turn(dq + h * D, dq + h * D, table, D, -1.0f);
        for (int64_t h = 0; h < K; h++)
            turn(dk + h * D, c->dk + (r * K + h) * D, table, D, -1.0f);
        memcpy(dv, c->dv + r * K * D, (size_t)(K * D) * sizeof *dv);
    }
}

void PATH(rope_backward)(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                         const int32_t *positions, int32_t R, struct attention_shape shape) {
    struct rope context = {dqkv, NULL, NULL, dk, dv, table, positions, NULL, shape};
    int64_t row = (int64_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    team_for(cpu_team(device), R, cpu_grain(row), rope_backward_rows, &context);
}
