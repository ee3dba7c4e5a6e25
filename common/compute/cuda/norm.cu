/* RMSNorm. Twin: cpu/kernels/norm.c. A warp a row, a lane every 32nd group of eight elements, so the order of the sum
 * depends on H alone. Forward reads 2 bytes an element twice (the second time from cache) and writes 2. */
#include "common/compute/cuda/columns.cuh"

#define NORM_WARPS 4

/* y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps) */
KERNEL void rmsnorm_kernel(uint16_t *y, float *rstd_out, const uint16_t *x, struct weight w, int32_t R, int32_t H,
                           float eps) {
    int64_t row = (int64_t)blockIdx.x * NORM_WARPS + threadIdx.x / WARP_LANES;
    int32_t first = (int32_t)(threadIdx.x % WARP_LANES) * 8;
    if (row >= R)
        return;
    bool wide = wide_rows(H, x, y);
    x += row * H;
    y += row * H;
    float squares = 0.0f;
    for (int32_t i = first; i < H; i += 8 * WARP_LANES) {
        float8 some = load8(x + i, H - i, wide);
        for (int j = 0; j < 8; j++)
            squares = fmaf(some.v[j], some.v[j], squares);
    }
    float rstd = rsqrt_f32(warp_sum(squares) / (float)H + eps);
    if (first == 0)
        rstd_out[row] = rstd;
    for (int32_t i = first; i < H; i += 8 * WARP_LANES) {
        float8 some = load8(x + i, H - i, wide);
        for (int j = 0; j < 8 && i + j < H; j++)
            some.v[j] = some.v[j] * rstd * weight_at(w, i + j);
        store8(y + i, some, H - i, wide);
    }
}

void cuda_rmsnorm_forward(struct device *device, void *y, float *rstd, const void *x, struct weight w, int32_t R,
                          int32_t H, float eps) {
    if (R > 0)
        LAUNCH(device, rmsnorm_kernel, dim3(blocks_for(R, NORM_WARPS)), NORM_WARPS * WARP_LANES, (uint16_t *)y, rstd,
               (const uint16_t *)x, w, R, H, eps);
}

/* With n = x * rstd and d = dy * w: dx = rstd * (d - n * mean(d n)). dx may be the memory of dy: a lane reads an element
 * before it writes it, and the mean is known before the first write. */
KERNEL void rmsnorm_backward_kernel(uint16_t *dx, enum write_mode mode, const uint16_t *dy, const uint16_t *x,
                                    const float *rstd_in, struct weight w, int32_t R, int32_t H) {
    int64_t row = (int64_t)blockIdx.x * NORM_WARPS + threadIdx.x / WARP_LANES;
    int32_t first = (int32_t)(threadIdx.x % WARP_LANES) * 8;
    if (row >= R)
        return;
    bool wide = wide_rows(H, x, dy, dx);
    float rstd = rstd_in[row], sum = 0.0f;
    for (int32_t i = first; i < H; i += 8 * WARP_LANES) {
        float8 n = load8(x + row * H + i, H - i, wide), d = load8(dy + row * H + i, H - i, wide);
        for (int j = 0; j < 8 && i + j < H; j++)
            sum = fmaf(d.v[j] * weight_at(w, i + j), n.v[j] * rstd, sum);
    }
    float mean = warp_sum(sum) / (float)H;
    for (int32_t i = first; i < H; i += 8 * WARP_LANES) {
        float8 n = load8(x + row * H + i, H - i, wide), d = load8(dy + row * H + i, H - i, wide), old = {};
        if (mode == WRITE_ADD)
            old = load8(dx + row * H + i, H - i, wide);
        for (int j = 0; j < 8 && i + j < H; j++)
            d.v[j] = old.v[j] + rstd * fmaf(-(n.v[j] * rstd), mean, d.v[j] * weight_at(w, i + j));
        store8(dx + row * H + i, d, H - i, wide);
    }
}

/* dw += dy * n */
struct norm_term {
    const uint16_t *dy, *x;
    const float *rstd;
    DEVICE_MEMBER float at(int64_t r, int64_t column, int64_t columns) const {
        return f32_of_bf16(dy[r * columns + column]) * (f32_of_bf16(x[r * columns + column]) * rstd[r]);
    }
};

void cuda_rmsnorm_backward(struct device *device, void *dx, enum write_mode mode, float *dw, const void *dy,
                           const void *x, const float *rstd, struct weight w, int32_t R, int32_t H) {
    struct norm_term term = {(const uint16_t *)dy, (const uint16_t *)x, rstd};
    add_columns(device, dw, term, R, H); /* first: dx may be the memory of dy */
    if (R > 0)
        LAUNCH(device, rmsnorm_backward_kernel, dim3(blocks_for(R, NORM_WARPS)), NORM_WARPS * WARP_LANES,
               (uint16_t *)dx, mode, (const uint16_t *)dy, (const uint16_t *)x, rstd, w, R, H);
}
