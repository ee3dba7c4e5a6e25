/* Sums over rows: to[column] += the terms of rows 0 .. R-1. Blocks of COLUMN_ROWS rows are summed in ascending order, then
 * the blocks' sums in ascending order, all fp32: the order depends on R alone. Two passes, because a model has few
 * columns and many rows. */
#ifndef CANDOR_COMPUTE_CUDA_COLUMNS_CUH
#define CANDOR_COMPUTE_CUDA_COLUMNS_CUH

#include "common/compute/cuda/kernel.cuh"

#define COLUMN_LANES 128
#define COLUMN_ROWS 128

/* partial [blocks of rows, columns]; TERM::at(r, column, columns) */
template <typename TERM> KERNEL void column_partial_kernel(float *partial, TERM term, int64_t R, int64_t columns) {
    int64_t column = (int64_t)blockIdx.x * COLUMN_LANES + threadIdx.x, first = (int64_t)blockIdx.y * COLUMN_ROWS;
    if (column >= columns)
        return;
    int64_t last = first + COLUMN_ROWS < R ? first + COLUMN_ROWS : R;
    float sum = 0.0f;
    for (int64_t r = first; r < last; r++)
        sum += term.at(r, column, columns);
    partial[blockIdx.y * columns + column] = sum;
}

KERNEL void column_total_kernel(float *to, const float *partial, int64_t blocks, int64_t columns) {
    int64_t column = (int64_t)blockIdx.x * COLUMN_LANES + threadIdx.x;
    if (column >= columns)
        return;
    float sum = to[column];
    for (int64_t b = 0; b < blocks; b++)
        sum += partial[b * columns + column];
    to[column] = sum;
}

template <typename TERM>
static void add_columns(struct device *device, float *to, TERM term, int32_t R, int32_t columns) {
    if (R <= 0)
        return;
    unsigned blocks = blocks_for(R, COLUMN_ROWS), wide = blocks_for(columns, COLUMN_LANES);
    float *partial = (float *)cuda_scratch(device, (size_t)blocks * (size_t)columns * sizeof *partial);
    if (partial == NULL)
        return;
    LAUNCH(device, column_partial_kernel<TERM>, dim3(wide, blocks), COLUMN_LANES, partial, term, (int64_t)R,
           (int64_t)columns);
    LAUNCH(device, column_total_kernel, dim3(wide), COLUMN_LANES, to, partial, (int64_t)blocks, (int64_t)columns);
}

#endif
