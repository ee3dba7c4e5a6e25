/* What the kernels share: starting them, bf16 rows eight elements at a time, parameters of either type, sums of a warp.
 * All arithmetic between loads and stores is fp32; one rounding to nearest even at the store. */
#ifndef CANDOR_COMPUTE_CUDA_KERNEL_CUH
#define CANDOR_COMPUTE_CUDA_KERNEL_CUH

#include "common/compute/cuda/cuda.h"
#include "common/compute/cuda/primitives.cuh"
#include "common/compute/math.h"

/* ---- starting a kernel: LAUNCH(device, kernel, blocks, lanes of a block, arguments ...); a template's name in brackets */

#if defined(__CUDACC__)
template <typename... P, typename... A>
static void launch(struct device *device, const char *name, void (*kernel)(P...), dim3 grid, unsigned block,
                   A... arguments) {
    if (!cuda_ready(device))
        return;
    kernel<<<grid, block, 0, (cudaStream_t)cuda_state_of(device)->stream>>>(arguments...);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess)
        cuda_set_fault(device, STATUS_DEVICE, "%s: kernel %s does not start: %s", device->name, name,
                       cudaGetErrorString(error));
}
#endif

#define LAUNCH(device, kernel, grid, block, ...) launch(device, #kernel, kernel, grid, block, __VA_ARGS__)

static inline unsigned blocks_for(int64_t items, int64_t per_block) {
    return (unsigned)((items + per_block - 1) / per_block);
}

/* ---- rows of activations ---- */

struct float8 {
    float v[8];
};

DEVICE uint32_t pack2(float low, float high) {
    return (uint32_t)bf16_of_f32(high) << 16 | bf16_of_f32(low);
}

DEVICE float8 unpack8(uint4 packed) {
    uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
    float8 out;
    for (int i = 0; i < 4; i++) {
        out.v[2 * i] = f32_of_bits(words[i] << 16);
        out.v[2 * i + 1] = f32_of_bits(words[i] & 0xffff0000u);
    }
    return out;
}

DEVICE uint4 pack8(float8 a) {
    uint4 out;
    out.x = pack2(a.v[0], a.v[1]);
    out.y = pack2(a.v[2], a.v[3]);
    out.z = pack2(a.v[4], a.v[5]);
    out.w = pack2(a.v[6], a.v[7]);
    return out;
}

/* May rows of this length at these places be touched 16 bytes at a time? A parameter may lie at any even address, if a model
 * has an odd one before it. */
template <typename... T> DEVICE bool wide_rows(int64_t row_elements, const T *...places) {
    uintptr_t bits = 0;
    ((bits |= (uintptr_t)places), ...);
    return row_elements % 8 == 0 && bits % 16 == 0;
}

/* Elements of a row from here on, of which `left` exist; the others read as 0. */
DEVICE float8 load8(const uint16_t *from, int64_t left, bool wide) {
    if (wide)
        return unpack8(load16(from));
    float8 out;
    for (int i = 0; i < 8; i++)
        out.v[i] = i < left ? f32_of_bf16(from[i]) : 0.0f;
    return out;
}

DEVICE void store8(uint16_t *to, float8 value, int64_t left, bool wide) {
    if (wide)
        store16(to, pack8(value));
    else
        for (int i = 0; i < 8 && i < left; i++)
            to[i] = bf16_of_f32(value.v[i]);
}

/* ---- parameters ---- */

DEVICE float weight_at(struct weight w, int64_t i) {
    return w.type == DTYPE_BF16 ? f32_of_bf16(((const uint16_t *)w.data)[i]) : ((const float *)w.data)[i];
}

/* ---- a warp's sum: lanes i and i^16, then ^8, ^4, ^2, ^1. Addition commutes, so every lane has the same bits. ---- */

template <typename T> DEVICE T warp_sum(T value) {
    for (int flip = WARP_LANES / 2; flip > 0; flip /= 2)
        value += __shfl_xor_sync(FULL_MASK, value, flip);
    return value;
}

DEVICE float warp_most(float value) {
    for (int flip = WARP_LANES / 2; flip > 0; flip /= 2) {
        float other = __shfl_xor_sync(FULL_MASK, value, flip);
        value = other > value ? other : value;
    }
    return value;
}

#endif
