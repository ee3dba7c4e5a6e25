/* Matrix products on the tensor cores, out[m,n] = sum over k of a[m,k] b[n,k], for the three that a model needs. Twin:
 * cpu/kernels/matmul.c.
 *
 *              out            m   n   k     a             b
 *   matmul     y [R,n]        R   n   k     x [R,k]       w [n,k]
 *   matmul_dx  dx [R,k]       R   k   n     dy [R,n]      w [n,k] read as [k,n] transposed
 *   matmul_dw  dw [n,k]       n   k   R     dy [R,n] and x [R,k] both read transposed
 *
 * A block makes a tile of out. It walks k in steps of STEP in ascending order, three steps under way by asynchronous
 * copies; a warp multiplies 16x16 by 16x8 pieces in ascending k. There is no other order, whatever the tile: an element of
 * out has the same bits in the tile for few rows and in that for many, and a row's bits are its own (ops.h O1).
 *
 * These serve where cuBLASLt is absent or fails its self-test (lt.cu). No figure was measured on a device yet. */
#include "common/compute/cuda/kernel.cuh"
#include "common/compute/cuda/lt.h"

#define STEP 32
#define STAGES 3
#define PAD 8 /* elements behind each row of a tile, so that eight rows lie in different banks */
#define FEW_ROWS 16

/* How an operand lies in memory: STRAIGHT [m or n, k], TRANSPOSED [k, m or n]. */
enum layout { STRAIGHT, TRANSPOSED };

struct operand {
    const uint16_t *data;
    int64_t count, k; /* rows and columns as used here; k is the shared dimension */
};

struct output {
    void *data; /* [m,n] */
    enum { OUT_BF16, OUT_F32 } type;
    bool add;
    struct weight bias; /* data NULL: none */
    int64_t m, n;
};

/* One step's part of an operand in shared memory: TILE rows of STEP elements, or STEP rows of TILE elements. */
template <int TILE, layout LAYOUT> struct tile {
    static constexpr int ROWS = LAYOUT == STRAIGHT ? TILE : STEP, COLUMNS = LAYOUT == STRAIGHT ? STEP : TILE;
    static constexpr int STRIDE = COLUMNS + PAD, ELEMENTS = ROWS * STRIDE;

    /* Starts to fetch [first .. first + TILE) x [k .. k + STEP); 0 outside of the operand. */
    static DEVICE_MEMBER void fetch(shared_pointer<uint16_t> to, const struct operand &from, int64_t first, int64_t k,
                                    int lanes) {
        int64_t row0 = LAYOUT == STRAIGHT ? first : k, column0 = LAYOUT == STRAIGHT ? k : first;
        int64_t rows = LAYOUT == STRAIGHT ? from.count : from.k, columns = LAYOUT == STRAIGHT ? from.k : from.count;
        for (int i = (int)threadIdx.x; i < ROWS * (COLUMNS / 8); i += lanes) {
            int row = i / (COLUMNS / 8), column = i % (COLUMNS / 8) * 8;
            int64_t left = row0 + row < rows ? columns - column0 - column : 0;
            const uint16_t *source = from.data + (row0 + row) * columns + column0 + column;
            shared_pointer<uint16_t> target = to + (row * STRIDE + column);
            if (wide_rows(columns, from.data))
                copy_async16(target, left > 0 ? source : from.data, left > 0 ? 16 : 0);
            else
                for (int j = 0; j < 8; j++)
                    target[j] = j < left ? source[j] : (uint16_t)0;
        }
    }
};

/* Fragments of mma from a tile: 16 rows of a, or 16 columns (two products) of b, at k. */
template <int TILE, layout LAYOUT>
DEVICE void load_a(uint32_t (&a)[4], shared_pointer<uint16_t> from, int row, int k, int lane) {
    constexpr int STRIDE = tile<TILE, LAYOUT>::STRIDE;
    if (LAYOUT == STRAIGHT)
        load_matrices(a, from + ((row + lane % 16) * STRIDE + k + lane / 16 * 8));
    else
        load_matrices_transposed(a, from + ((k + lane / 16 * 8 + lane % 8) * STRIDE + row + lane / 8 % 2 * 8));
}

template <int TILE, layout LAYOUT>
DEVICE void load_b(uint32_t (&b)[4], shared_pointer<uint16_t> from, int column, int k, int lane) {
    constexpr int STRIDE = tile<TILE, LAYOUT>::STRIDE;
    if (LAYOUT == STRAIGHT)
        load_matrices(b, from + ((column + lane / 16 * 8 + lane % 8) * STRIDE + k + lane / 8 % 2 * 8));
    else
        load_matrices_transposed(b, from + ((k + lane / 8 % 2 * 8 + lane % 8) * STRIDE + column + lane / 16 * 8));
}

DEVICE void put(const struct output &out, int64_t m, int64_t n, float value) {
    if (m >= out.m || n >= out.n)
        return;
    int64_t at = m * out.n + n;
    if (out.bias.data != NULL)
        value += weight_at(out.bias, n);
    if (out.type == output::OUT_F32) {
        float *to = (float *)out.data;
        to[at] = out.add ? to[at] + value : value;
    } else {
        uint16_t *to = (uint16_t *)out.data;
        to[at] = bf16_of_f32(out.add ? f32_of_bf16(to[at]) + value : value);
    }
}

/* TM x TN a block, WM x WN warps, each (TM/WM) x (TN/WN). Shared memory: STAGES steps of both tiles. */
template <int TM, int TN, int WM, int WN, layout A, layout B>
KERNEL void __launch_bounds__(WM *WN *WARP_LANES, 3)
    matmul_kernel(struct output out, struct operand a_from, struct operand b_from) {
    constexpr int LANES = WM * WN * WARP_LANES, MS = TM / WM / 16, NS = TN / WN / 16;
    using a_tile = tile<TM, A>;
    using b_tile = tile<TN, B>;
    SHARED(uint16_t, a_shared, STAGES * a_tile::ELEMENTS);
    SHARED(uint16_t, b_shared, STAGES * b_tile::ELEMENTS);
    int lane = (int)threadIdx.x % WARP_LANES, warp = (int)threadIdx.x / WARP_LANES;
    int warp_m = warp / WN * (TM / WM), warp_n = warp % WN * (TN / WN);
    int64_t m0 = (int64_t)blockIdx.y * TM, n0 = (int64_t)blockIdx.x * TN, steps = (a_from.k + STEP - 1) / STEP;
    float sums[MS][2 * NS][4] = {};

    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) {
            a_tile::fetch(a_shared + s * a_tile::ELEMENTS, a_from, m0, s * STEP, LANES);
            b_tile::fetch(b_shared + s * b_tile::ELEMENTS, b_from, n0, s * STEP, LANES);
        }
        copy_async_commit();
    }
    for (int64_t s = 0; s < steps; s++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads(); /* step s is there for all, and all are done with step s - 1, whose place is filled now */
        int64_t ahead = s + STAGES - 1;
        if (ahead < steps) {
            int place = (int)(ahead % STAGES);
            a_tile::fetch(a_shared + place * a_tile::ELEMENTS, a_from, m0, ahead * STEP, LANES);
            b_tile::fetch(b_shared + place * b_tile::ELEMENTS, b_from, n0, ahead * STEP, LANES);
        }
        copy_async_commit();
        shared_pointer<uint16_t> a_now = a_shared + (int)(s % STAGES) * a_tile::ELEMENTS;
        shared_pointer<uint16_t> b_now = b_shared + (int)(s % STAGES) * b_tile::ELEMENTS;
        UNROLL
        for (int k = 0; k < STEP; k += 16) {
            uint32_t a[MS][4], b[NS][4];
            UNROLL
            for (int i = 0; i < MS; i++)
                load_a<TM, A>(a[i], a_now, warp_m + i * 16, k, lane);
            UNROLL
            for (int j = 0; j < NS; j++)
                load_b<TN, B>(b[j], b_now, warp_n + j * 16, k, lane);
            UNROLL
            for (int i = 0; i < MS; i++) {
                UNROLL
                for (int j = 0; j < NS; j++) {
                    uint32_t low[2] = {b[j][0], b[j][1]}, high[2] = {b[j][2], b[j][3]};
                    mma_bf16(sums[i][2 * j], a[i], low);
                    mma_bf16(sums[i][2 * j + 1], a[i], high);
                }
            }
        }
    }
    copy_async_wait<0>();
    UNROLL
    for (int i = 0; i < MS; i++) {
        UNROLL
        for (int j = 0; j < 2 * NS; j++) {
            UNROLL
            for (int e = 0; e < 4; e++)
                put(out, m0 + warp_m + i * 16 + lane / 4 + e / 2 * 8, n0 + warp_n + j * 8 + lane % 4 * 2 + e % 2,
                    sums[i][j][e]);
        }
    }
}

/* ---- the operations ---- */

/* Blocks that start together differ in n: they share a's tile, and b, the weights, is read once for each row of tiles. */
template <layout A, layout B>
static void product(struct device *device, const struct output &out, const struct operand &a, const struct operand &b) {
    if (out.m <= 0 || out.n <= 0)
        return;
    if (out.m <= FEW_ROWS)
        LAUNCH(device, (matmul_kernel<16, 64, 1, 4, A, B>), dim3(blocks_for(out.n, 64), blocks_for(out.m, 16)), 128,
               out, a, b);
    else
        LAUNCH(device, (matmul_kernel<128, 64, 2, 2, A, B>), dim3(blocks_for(out.n, 64), blocks_for(out.m, 128)), 128,
               out, a, b);
}

static const struct weight no_bias = {NULL, DTYPE_BF16};

static struct output out_bf16(void *data, enum write_mode mode, struct weight bias, int64_t m, int64_t n) {
    return {data, output::OUT_BF16, mode == WRITE_ADD, bias, m, n};
}

static const uint16_t *matrix_data(struct weight w) {
    ASSERT(w.type == DTYPE_BF16); /* model_create refuses fp32 parameters on this device */
    return (const uint16_t *)w.data;
}

void cuda_matmul(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                 struct weight bias, int32_t R, int32_t n, int32_t k) {
    if (lt_matmul(device, y, mode, x, w, bias, R, n, k))
        return;
    product<STRAIGHT, STRAIGHT>(device, out_bf16(y, mode, bias, R, n), {(const uint16_t *)x, R, k},
                                {matrix_data(w), n, k});
}

void cuda_matmul_f32(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k) {
    if (lt_matmul_f32(device, y, x, w, R, n, k))
        return;
    product<STRAIGHT, STRAIGHT>(device, {y, output::OUT_F32, false, no_bias, R, n}, {(const uint16_t *)x, R, k},
                                {matrix_data(w), n, k});
}

void cuda_matmul_dx(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                    int32_t n, int32_t k) {
    if (lt_matmul_dx(device, dx, mode, dy, w, R, n, k))
        return;
    product<STRAIGHT, TRANSPOSED>(device, out_bf16(dx, mode, no_bias, R, k), {(const uint16_t *)dy, R, n},
                                  {matrix_data(w), k, n});
}

void cuda_matmul_dw(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k) {
    if (R <= 0 || lt_matmul_dw(device, dw, dy, x, R, n, k))
        return;
    product<TRANSPOSED, TRANSPOSED>(device, {dw, output::OUT_F32, true, no_bias, n, k}, {(const uint16_t *)dy, n, R},
                                    {(const uint16_t *)x, k, R});
}

enum status cuda_prepare_matmul(struct device *device, int32_t n, int32_t k) {
    return lt_prepare(device, n, k);
}
