/* Rotary positions, and keys and values into the cache. Twin: cpu/kernels/rope.c. Bound by memory. A block a row, a lane a
 * pair (i, i + D/2) of a head: a' = a cos - b sin, b' = b cos + a sin; backward turns the other way. */
#include "common/compute/cuda/kernel.cuh"

#define ROPE_LANES 128

/* Pair i of the head at from into the head at to, which may be the same. */
DEVICE void turn(uint16_t *to, const uint16_t *from, const float *table, int32_t i, int32_t half, float direction) {
    float cosine = table[2 * i], sine = direction * table[2 * i + 1];
    float a = f32_of_bf16(from[i]), b = f32_of_bf16(from[half + i]);
    to[i] = bf16_of_f32(a * cosine - b * sine);
    to[half + i] = bf16_of_f32(b * cosine + a * sine);
}

KERNEL void rope_kernel(uint16_t *qkv, uint16_t *k_out, uint16_t *v_out, const float *table, const int32_t *positions,
                        const int32_t *slots, struct attention_shape shape) {
    int32_t N = shape.heads, K = shape.kv_heads, D = shape.head_dim, half = D / 2;
    int64_t row = blockIdx.x, slot = slots[row];
    table += positions[row] * (int64_t)D;
    uint16_t *q = qkv + row * (N + 2 * K) * D;
    const uint16_t *k = q + (int64_t)N * D, *v = k + (int64_t)K * D;
    for (int32_t pair = (int32_t)threadIdx.x; pair < (N + K) * half; pair += ROPE_LANES) {
        int32_t head = pair / half, i = pair % half;
        if (head < N)
            turn(q + head * D, q + head * D, table, i, half, 1.0f);
        else
            turn(k_out + (slot * K + head - N) * D, k + (head - N) * D, table, i, half, 1.0f);
    }
    for (int32_t i = (int32_t)threadIdx.x; i < K * D; i += ROPE_LANES)
        v_out[slot * K * D + i] = v[i];
}

void cuda_rope_forward(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                       const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape) {
    if (R > 0)
        LAUNCH(device, rope_kernel, dim3((unsigned)R), ROPE_LANES, (uint16_t *)qkv, (uint16_t *)k_out,
               (uint16_t *)v_out, table, positions, slots, shape);
}

KERNEL void rope_backward_kernel(uint16_t *dqkv, const uint16_t *dk, const uint16_t *dv, const float *table,
                                 const int32_t *positions, struct attention_shape shape) {
    int32_t N = shape.heads, K = shape.kv_heads, D = shape.head_dim, half = D / 2;
    int64_t row = blockIdx.x;
    table += positions[row] * (int64_t)D;
    uint16_t *dq = dqkv + row * (N + 2 * K) * D, *dk_to = dq + (int64_t)N * D, *dv_to = dk_to + (int64_t)K * D;
    for (int32_t pair = (int32_t)threadIdx.x; pair < (N + K) * half; pair += ROPE_LANES) {
        int32_t head = pair / half, i = pair % half;
        if (head < N)
            turn(dq + head * D, dq + head * D, table, i, half, -1.0f);
        else
            turn(dk_to + (head - N) * D, dk + (row * K + head - N) * D, table, i, half, -1.0f);
    }
    for (int32_t i = (int32_t)threadIdx.x; i < K * D; i += ROPE_LANES)
        dv_to[i] = dv[row * K * D + i];
}

void cuda_rope_backward(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                        const int32_t *positions, int32_t R, struct attention_shape shape) {
    if (R > 0)
        LAUNCH(device, rope_backward_kernel, dim3((unsigned)R), ROPE_LANES, (uint16_t *)dqkv, (const uint16_t *)dk,
               (const uint16_t *)dv, table, positions, shape);
}
