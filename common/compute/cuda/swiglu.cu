/* SwiGLU: h = silu(gate) * up. Twin: cpu/kernels/swiglu.c. Bound by memory: 6 bytes an element forward, 10 backward. */
#include "common/compute/cuda/kernel.cuh"

#define SWIGLU_LANES 256

DEVICE float sigmoid(float g) {
    return 1.0f / (1.0f + exp_f32(0.0f - g));
}

/* A lane eight elements of a row; blockIdx.y walks rows. */
KERNEL void swiglu_kernel(uint16_t *h, const uint16_t *gate_up, int32_t R, int32_t F) {
    int64_t i = ((int64_t)blockIdx.x * SWIGLU_LANES + threadIdx.x) * 8;
    bool wide = wide_rows(F, h, gate_up);
    if (i >= F)
        return;
    for (int64_t row = blockIdx.y; row < R; row += gridDim.y) {
        const uint16_t *gate = gate_up + 2 * row * F + i;
        float8 g = load8(gate, F - i, wide), u = load8(gate + F, F - i, wide);
        for (int j = 0; j < 8; j++)
            g.v[j] = g.v[j] * sigmoid(g.v[j]) * u.v[j];
        store8(h + row * F + i, g, F - i, wide);
    }
}

static dim3 swiglu_grid(int32_t R, int32_t F) {
    return dim3(blocks_for(F, SWIGLU_LANES * 8), R < 16384 ? (unsigned)R : 16384);
}

void cuda_swiglu_forward(struct device *device, void *h, const void *gate_up, int32_t R, int32_t F) {
    if (R > 0)
        LAUNCH(device, swiglu_kernel, swiglu_grid(R, F), SWIGLU_LANES, (uint16_t *)h, (const uint16_t *)gate_up, R, F);
}

/* s = sigmoid(g): d_up = dh g s; d_gate = dh up s (1 + g (1 - s)). In place: a lane reads its elements before it writes. */
KERNEL void swiglu_backward_kernel(uint16_t *d_gate_up, const uint16_t *dh, const uint16_t *gate_up, int32_t R,
                                   int32_t F) {
    int64_t i = ((int64_t)blockIdx.x * SWIGLU_LANES + threadIdx.x) * 8;
    bool wide = wide_rows(F, d_gate_up, dh, gate_up);
    if (i >= F)
        return;
    for (int64_t row = blockIdx.y; row < R; row += gridDim.y) {
        int64_t gate = 2 * row * F + i, up = gate + F;
        float8 g = load8(gate_up + gate, F - i, wide), u = load8(gate_up + up, F - i, wide);
        float8 d = load8(dh + row * F + i, F - i, wide);
        for (int j = 0; j < 8; j++) {
            float s = sigmoid(g.v[j]), slope = s * fmaf(g.v[j], 1.0f - s, 1.0f);
            u.v[j] = d.v[j] * u.v[j] * slope;
            g.v[j] = d.v[j] * (g.v[j] * s);
        }
        store8(d_gate_up + gate, u, F - i, wide);
        store8(d_gate_up + up, g, F - i, wide);
    }
}

void cuda_swiglu_backward(struct device *device, void *d_gate_up, const void *dh, const void *gate_up, int32_t R,
                          int32_t F) {
    if (R > 0)
        LAUNCH(device, swiglu_backward_kernel, swiglu_grid(R, F), SWIGLU_LANES, (uint16_t *)d_gate_up,
               (const uint16_t *)dh, (const uint16_t *)gate_up, R, F);
}
