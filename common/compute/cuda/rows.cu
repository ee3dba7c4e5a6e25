/* Operations that move or add rows. Twin: cpu/kernels/rows.c. All are bound by memory: 2 bytes an element read and written.
 * Sums over rows run in ascending row order for each element, in fp32. */
#include "common/compute/cuda/kernel.cuh"
#include "common/compute/cuda/columns.cuh"

#define ROW_LANES 128

/* ---- embedding ---- */

/* x [R,H] over = w[ids[r]]; a block a row. Exact for bf16 weights. */
KERNEL void embed_kernel(uint16_t *x, struct weight w, const int32_t *ids, int32_t H) {
    int64_t row = blockIdx.x, from = ids[row] * (int64_t)H;
    for (int32_t i = (int32_t)threadIdx.x; i < H; i += ROW_LANES)
        x[row * H + i] = bf16_of_f32(weight_at(w, from + i));
}

void cuda_embed_forward(struct device *device, void *x, struct weight w, const int32_t *ids, int32_t R, int32_t H) {
    if (R > 0)
        LAUNCH(device, embed_kernel, dim3((unsigned)R), ROW_LANES, (uint16_t *)x, w, ids, H);
}

/* dw[id] += the rows of dx with this id, ascending. A warp a row; the first row of an id does the work for all of them, so
 * no two warps touch one row of dw. Ids are compared 32 at a time: R^2/32 warp steps in all. */
KERNEL void embed_backward_kernel(float *dw, const uint16_t *dx, const int32_t *ids, int32_t R, int32_t H) {
    int32_t lane = (int32_t)threadIdx.x, row = (int32_t)blockIdx.x, id = ids[row];
    bool leads = true;
    for (int32_t first = 0; first < row && leads; first += WARP_LANES)
        leads = __ballot_sync(FULL_MASK, first + lane < row && ids[first + lane] == id) == 0;
    if (!leads)
        return;
    for (int32_t first = row / WARP_LANES * WARP_LANES; first < R; first += WARP_LANES) {
        int32_t other = first + lane;
        uint32_t same = __ballot_sync(FULL_MASK, other >= row && other < R && ids[other < R ? other : row] == id);
        for (; same != 0; same &= same - 1) {
            int64_t from = (int64_t)(first + __ffs(same) - 1) * H;
            for (int32_t i = lane; i < H; i += WARP_LANES)
                dw[(int64_t)id * H + i] += f32_of_bf16(dx[from + i]);
        }
    }
}

void cuda_embed_backward(struct device *device, float *dw, const void *dx, const int32_t *ids, int32_t R, int32_t H,
                         int32_t V) {
    (void)V;
    if (R > 0)
        LAUNCH(device, embed_backward_kernel, dim3((unsigned)R), WARP_LANES, dw, (const uint16_t *)dx, ids, R, H);
}

/* ---- rows ---- */

KERNEL void gather_kernel(uint16_t *y, const uint16_t *x, const int32_t *rows, int32_t H) {
    int64_t to = (int64_t)blockIdx.x * H, from = rows[blockIdx.x] * (int64_t)H;
    if (wide_rows(H, x, y))
        for (int32_t i = (int32_t)threadIdx.x * 8; i < H; i += ROW_LANES * 8)
            store16(y + to + i, load16(x + from + i));
    else
        for (int32_t i = (int32_t)threadIdx.x; i < H; i += ROW_LANES)
            y[to + i] = x[from + i];
}

void cuda_gather_rows(struct device *device, void *y, const void *x, const int32_t *rows, int32_t count, int32_t H) {
    if (count > 0)
        LAUNCH(device, gather_kernel, dim3((unsigned)count), ROW_LANES, (uint16_t *)y, (const uint16_t *)x, rows, H);
}

/* A block an entry; the first of equal entries, which stand side by side, adds them all and rounds once. */
KERNEL void scatter_kernel(uint16_t *x, const uint16_t *y, const int32_t *rows, int32_t count, int32_t H) {
    int32_t first = (int32_t)blockIdx.x, row = rows[first], last = first + 1;
    if (first > 0 && rows[first - 1] == row)
        return;
    while (last < count && rows[last] == row)
        last++;
    for (int32_t i = (int32_t)threadIdx.x; i < H; i += ROW_LANES) {
        float sum = f32_of_bf16(x[(int64_t)row * H + i]);
        for (int64_t from = first; from < last; from++)
            sum += f32_of_bf16(y[from * H + i]);
        x[(int64_t)row * H + i] = bf16_of_f32(sum);
    }
}

void cuda_scatter_add_rows(struct device *device, void *x, const void *y, const int32_t *rows, int32_t count,
                           int32_t H) {
    if (count > 0)
        LAUNCH(device, scatter_kernel, dim3((unsigned)count), ROW_LANES, (uint16_t *)x, (const uint16_t *)y, rows,
               count, H);
}

KERNEL void add_kernel(uint16_t *y, const uint16_t *x, int64_t count) {
    int64_t at = ((int64_t)blockIdx.x * ROW_LANES + threadIdx.x) * 8, left = count - at;
    if (left <= 0)
        return;
    bool wide = left >= 8 && wide_rows(8, x, y);
    float8 a = load8(y + at, left, wide), b = load8(x + at, left, wide);
    for (int i = 0; i < 8; i++)
        a.v[i] += b.v[i];
    store8(y + at, a, left, wide);
}

void cuda_add(struct device *device, void *y, const void *x, int64_t count) {
    if (count > 0)
        LAUNCH(device, add_kernel, dim3(blocks_for(count, ROW_LANES * 8)), ROW_LANES, (uint16_t *)y,
               (const uint16_t *)x, count);
}

/* ---- bias ---- */

struct bias_term {
    const uint16_t *dy;
    DEVICE_MEMBER float at(int64_t r, int64_t column, int64_t columns) const {
        return f32_of_bf16(dy[r * columns + column]);
    }
};

void cuda_bias_backward(struct device *device, float *db, const void *dy, int32_t R, int32_t n) {
    struct bias_term term = {(const uint16_t *)dy};
    add_columns(device, db, term, R, n);
}
