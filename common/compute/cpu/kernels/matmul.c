/* Matrix products. One kernel serves the three of them: C [m,n] = A [m,k] B [k,n], where a strip of B is laid out once
 * as a panel [k][LANES] of fp32 and used for all rows.
 *
 * Bits: every element of C is one chain of fused multiply-adds over k ascending, whatever the number of rows, the place
 * of the row or the cut of k into panels (a chain is stored as fp32 between two panels, which loses nothing). That is
 * ops.h O1 and O2 at once. Forward and dx start the chain at 0 and add bias or the old value at its end; dw continues
 * the chain from what is there, so rows may come in one call or in several. */
#include "common/compute/cpu/kernels/kernels.h"

#define PANEL_DEPTH 448  /* k of one panel: 28 KiB, stays in the first-level cache */
#define ROWS_AT_ONCE 256 /* rows of a task: 16 KiB of sums beside it */
#if defined(__AVX512F__)
#define TILE_ROWS 12
#else
#define TILE_ROWS 6
#endif

enum panel_source {
    PANEL_WEIGHT_ROWS, /* B = w^T, w [n,k]: forward */
    PANEL_WEIGHT,      /* B = w, w [k,n]: dx */
};

enum finish { FINISH_OVER, FINISH_ADD, FINISH_CONTINUE };

struct product {
    float *c;
    const float *a;
    int64_t a_row, a_column; /* strides of A */
    struct weight b;
    enum panel_source source;
    struct weight bias; /* data NULL: none */
    enum finish finish;
    int64_t m, n, k, strips;
    struct device *device;
};

static float weight_at(struct weight w, int64_t i) {
    return w.type == DTYPE_F32 ? ((const float *)w.data)[i] : f32_of_bf16(((const uint16_t *)w.data)[i]);
}

/* panel [depth][LANES] = B[p0 .. p0+depth, j0 .. j0+LANES]; columns past n are 0. */
static void fill_panel(float *panel, const struct product *c, int64_t p0, int64_t depth, int64_t j0) {
    int64_t columns = least_i64(LANES, c->n - j0);
    if (c->source == PANEL_WEIGHT) {
        for (int64_t p = 0; p < depth; p++) {
            struct weight row = c->b;
            size_t offset = (size_t)((p0 + p) * c->n) * dtype_bytes(row.type);
            row.data = (const unsigned char *)row.data + offset;
            v16_store(panel + p * LANES, weight_load(row, j0, columns));
        }
        return;
    }
    for (int64_t p = 0; p < depth; p++)
        for (int64_t j = 0; j < LANES; j++)
            panel[p * LANES + j] = j < columns ? weight_at(c->b, (j0 + j) * c->k + p0 + p) : 0.0f;
}

/* sums [rows][LANES] continue (or start) their chains over one panel. */
static inline __attribute__((always_inline)) void tile(int rows, float *sums, const float *a, int64_t a_row,
                                                       int64_t a_column, const float *panel, int64_t depth,
                                                       bool start) {
    v16 sum[TILE_ROWS];
    for (int i = 0; i < rows; i++)
        sum[i] = start ? v16_zero() : v16_load(sums + i * LANES);
    for (int64_t p = 0; p < depth; p++) {
        v16 b = v16_load(panel + p * LANES);
        for (int i = 0; i < rows; i++)
            sum[i] = v16_fma(v16_set(a[i * a_row + p * a_column]), b, sum[i]);
    }
    for (int i = 0; i < rows; i++)
        v16_store(sums + i * LANES, sum[i]);
}

static void panel_rows(int64_t rows, float *sums, const float *a, int64_t a_row, int64_t a_column, const float *panel,
                       int64_t depth, bool start) {
    int64_t i = 0;
    for (; i + TILE_ROWS <= rows; i += TILE_ROWS)
        tile(TILE_ROWS, sums + i * LANES, a + i * a_row, a_row, a_column, panel, depth, start);
    for (; i + 2 <= rows; i += 2)
        tile(2, sums + i * LANES, a + i * a_row, a_row, a_column, panel, depth, start);
    if (i < rows)
        tile(1, sums + i * LANES, a + i * a_row, a_row, a_column, panel, depth, start);
}

static void finish_rows(const struct product *c, const float *sums, int64_t i0, int64_t rows, int64_t j0) {
    int64_t left = c->n - j0;
    v16 bias = c->bias.data != NULL ? weight_load(c->bias, j0, left) : v16_zero();
    for (int64_t i = 0; i < rows; i++) {
        float *to = c->c + (i0 + i) * c->n + j0;
        v16 sum = v16_load(sums + i * LANES);
        if (c->bias.data != NULL)
            sum = v16_add(sum, bias);
        if (c->finish == FINISH_ADD)
            sum = v16_add(v16_load_some(to, left), sum);
        v16_store_some(to, sum, left);
    }
}

/* A task is ROWS_AT_ONCE rows and one strip of LANES columns. */
static void product_tasks(void *context, int64_t begin, int64_t end, int thread) {
    const struct product *c = context;
    float *panel = cpu_scratch(c->device, thread), *sums = panel + PANEL_DEPTH * LANES;
    for (int64_t task = begin; task < end; task++) {
        int64_t i0 = task / c->strips * ROWS_AT_ONCE, j0 = task % c->strips * LANES;
        int64_t rows = least_i64(ROWS_AT_ONCE, c->m - i0), left = c->n - j0;
        if (c->finish == FINISH_CONTINUE)
            for (int64_t i = 0; i < rows; i++)
                v16_store(sums + i * LANES, v16_load_some(c->c + (i0 + i) * c->n + j0, left));
        for (int64_t p0 = 0; p0 < c->k; p0 += PANEL_DEPTH) {
            int64_t depth = least_i64(PANEL_DEPTH, c->k - p0);
            fill_panel(panel, c, p0, depth, j0);
            panel_rows(rows, sums, c->a + i0 * c->a_row + p0 * c->a_column, c->a_row, c->a_column, panel, depth,
                       p0 == 0 && c->finish != FINISH_CONTINUE);
        }
        finish_rows(c, sums, i0, rows, j0);
    }
}

static void product(struct device *device, struct product *c) {
    _Static_assert((PANEL_DEPTH + ROWS_AT_ONCE) * LANES * sizeof(float) <= CPU_SCRATCH_BYTES, "scratch");
    if (c->m <= 0 || c->n <= 0)
        return;
    ASSERT(c->k >= 1);
    c->device = device;
    c->strips = (c->n + LANES - 1) / LANES;
    int64_t tasks = (c->m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE * c->strips;
    int64_t work = least_i64(c->m, ROWS_AT_ONCE) * c->k * LANES;
    int64_t grain = 1 + 1000000 / work; /* about 30 us */
    team_for(cpu_team(device), tasks, grain, product_tasks, c);
}

void PATH(matmul)(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                  struct weight bias, int32_t R, int32_t n, int32_t k) {
    product(device, &(struct product){.c = y,
                                      .a = x,
                                      .a_row = k,
                                      .a_column = 1,
                                      .b = w,
                                      .source = PANEL_WEIGHT_ROWS,
                                      .bias = bias,
                                      .finish = mode == WRITE_ADD ? FINISH_ADD : FINISH_OVER,
                                      .m = R,
                                      .n = n,
                                      .k = k});
}

void PATH(matmul_f32)(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n,
                      int32_t k) {
    PATH(matmul)(device, y, WRITE_OVER, x, w, (struct weight){NULL, DTYPE_F32}, R, n, k);
}

void PATH(matmul_dx)(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                     int32_t n, int32_t k) {
    product(device, &(struct product){.c = dx,
                                      .a = dy,
                                      .a_row = n,
                                      .a_column = 1,
                                      .b = w,
                                      .source = PANEL_WEIGHT,
                                      .finish = mode == WRITE_ADD ? FINISH_ADD : FINISH_OVER,
                                      .m = R,
                                      .n = k,
                                      .k = n});
}

void PATH(matmul_dw)(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k) {
    if (R > 0)
        product(device, &(struct product){.c = dw,
                                          .a = dy,
                                          .a_row = 1,
                                          .a_column = n,
                                          .b = {x, DTYPE_F32},
                                          .source = PANEL_WEIGHT,
                                          .finish = FINISH_CONTINUE,
                                          .m = n,
                                          .n = k,
                                          .k = R});
}
