/* Matrix products. One kernel serves the three of them: C [m,n] = A [m,k] B [k,n], where a strip of B is laid out once
 * as a panel of fp32 (panel.h) and used for all rows of a task.
 *
 * Bits: every element of C is one chain of fused multiply-adds over k ascending, whatever the number of rows, the place
 * of the row, the width of the vectors or the cut of k into panels (between two panels a chain is kept as fp32, which
 * loses nothing). That is ops.h O1 and O2 at once. Forward and dx start the chain at 0 and add bias or the old value at
 * its end; dw goes on from what is there, so rows may come in one call or in several. */
#include "common/compute/cpu/kernels/panel.h"

/* A panel is 32 KiB or less and stays in the first-level cache beside the rows of a tile. */
#define PANEL_DEPTH (PANEL_VECTORS == 2 ? 160 : 448)
#define TASK_ROWS 252 /* a multiple of every TILE_ROWS */
#define TASK_STRIPS 8
/* Rows of a tile: as many accumulators as the registers hold beside a panel row and one value of A. */
#if defined(__AVX512F__)
#define TILE_ROWS 12
#else
#define TILE_ROWS 6
#endif
#define TASK_WORK 2000000 /* multiply-adds that are worth a task: about 20 us */

enum panel_source {
    PANEL_TURN, /* B = w^T, w [n,k]: forward */
    PANEL_COPY, /* B = w, w [k,n]: dx and dw */
};

enum finish { FINISH_OVER, FINISH_ADD, FINISH_CONTINUE };

struct product {
    float *c;
    const float *a; /* A [m,k], or with transposed_a A^T [k,m] */
    bool transposed_a;
    struct weight b, bias; /* bias.data NULL: none */
    enum panel_source source;
    enum finish finish;
    int64_t m, n, k;
    int64_t rows, strips; /* of a task */
    int64_t row_blocks;
    struct device *device;
};

static int64_t parts(int64_t whole, int64_t part) {
    return (whole + part - 1) / part;
}

/* sums [rows], sums_row floats apart, go on with (or start) their chains over one panel. A's element (i, p) is a[i *
 * a_row + p * a_column]. */
static inline __attribute__((always_inline)) void tile(int rows, float *sums, int64_t sums_row, const float *a,
                                                       int64_t a_row, int64_t a_column, const float *panel,
                                                       int64_t depth, bool start) {
    v16 sum[TILE_ROWS][PANEL_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < PANEL_VECTORS; j++)
            sum[i][j] = start ? v16_zero() : v16_load(sums + i * sums_row + j * LANES);
    for (int64_t p = 0; p < depth; p++) {
        v16 b[PANEL_VECTORS];
        for (int j = 0; j < PANEL_VECTORS; j++)
            b[j] = v16_load(panel + p * STRIP + j * LANES);
        for (int i = 0; i < rows; i++) {
            v16 value = v16_set(a[i * a_row + p * a_column]);
            for (int j = 0; j < PANEL_VECTORS; j++)
                sum[i][j] = v16_fma(value, b[j], sum[i][j]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < PANEL_VECTORS; j++)
            v16_store(sums + i * sums_row + j * LANES, sum[i][j]);
}

/* Up to TILE_ROWS rows in tiles of sizes that are compiled. */
static inline __attribute__((always_inline)) void tiles(int64_t rows, float *sums, int64_t sums_row, const float *a,
                                                        int64_t a_row, int64_t a_column, const float *panel,
                                                        int64_t depth, bool start) {
    while (rows > 0) {
        int size = 0;
#define TILE(r)                                                                                                        \
    if (size == 0 && (r) <= TILE_ROWS && rows >= (r)) {                                                                \
        tile((r), sums, sums_row, a, a_row, a_column, panel, depth, start);                                            \
        size = (r);                                                                                                    \
    }
        TILE(12)
        TILE(8)
        TILE(6)
        TILE(4)
        TILE(3)
        TILE(2) TILE(1)
#undef TILE
            rows -= size;
        sums += size * sums_row;
        a += size * a_row;
    }
}

/* All rows of a task over one panel; A strided [rows, k] */
static void rows_strided(int64_t rows, float *sums, int64_t sums_row, const float *a, int64_t stride,
                         const float *panel, int64_t depth, bool start) {
    tiles(rows, sums, sums_row, a, stride, 1, panel, depth, start);
}

/* The same with A packed as [tile][depth][TILE_ROWS]. */
static void rows_packed(int64_t rows, float *sums, int64_t sums_row, const float *a, const float *panel, int64_t depth,
                        bool start) {
    for (int64_t i = 0; i < rows; i += TILE_ROWS)
        tiles(least_i64(TILE_ROWS, rows - i), sums + i * sums_row, sums_row, a + i * depth, 1, TILE_ROWS, panel, depth,
              start);
}

/* A^T [k,m], its columns i0 .. and rows p0 .., to [tile][depth][TILE_ROWS]. */
static void pack(float *to, const struct product *c, int64_t i0, int64_t rows, int64_t p0, int64_t depth) {
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        int64_t columns = least_i64(TILE_ROWS, rows - i);
        const float *from = c->a + p0 * c->m + i0 + i;
        if (columns == TILE_ROWS)
            for (int64_t p = 0; p < depth; p++)
                memcpy(to + i * depth + p * TILE_ROWS, from + p * c->m, TILE_ROWS * sizeof *to);
        else
            for (int64_t p = 0; p < depth; p++)
                memcpy(to + i * depth + p * TILE_ROWS, from + p * c->m, (size_t)columns * sizeof *to);
    }
}

static void start_rows(const struct product *c, float *sums, int64_t i0, int64_t rows, int64_t j0) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < STRIP && j0 + j < c->n; j += LANES)
            v16_store(sums + i * STRIP + j, v16_load_some(c->c + (i0 + i) * c->n + j0 + j, c->n - j0 - j));
}

static void finish_rows(const struct product *c, const float *sums, int64_t i0, int64_t rows, int64_t j0) {
    for (int64_t j = 0; j < STRIP && j0 + j < c->n; j += LANES) {
        int64_t left = c->n - j0 - j;
        v16 bias = c->bias.data != NULL ? weight_load(c->bias, j0 + j, left) : v16_zero();
        for (int64_t i = 0; i < rows; i++) {
            float *to = c->c + (i0 + i) * c->n + j0 + j;
            v16 sum = v16_load(sums + i * STRIP + j);
            if (c->bias.data != NULL)
                sum = v16_add(sum, bias);
            if (c->finish == FINISH_ADD)
                sum = v16_add(v16_load_some(to, left), sum);
            v16_store_some(to, sum, left);
        }
    }
}

struct product_scratch {
    float panel[PANEL_DEPTH * STRIP];
    float sums[TASK_STRIPS][TASK_ROWS * STRIP];
    float packed[TASK_ROWS * PANEL_DEPTH];
};
_Static_assert(sizeof(struct product_scratch) <= CPU_SCRATCH_BYTES, "scratch");

/* Whether the sums of a strip are C itself: nothing is to be done to them at the end, and the strip is whole. */
static bool in_place(const struct product *c, int64_t j0) {
    bool plain = c->finish == FINISH_CONTINUE || (c->finish == FINISH_OVER && c->bias.data == NULL);
    return plain && j0 + STRIP <= c->n;
}

/* One panel of a task: laid out, then used for all rows. */
static void product_panel(const struct product *c, struct product_scratch *scratch, float *sums, int64_t i0,
                          int64_t rows, int64_t j0, int64_t p0, int64_t depth) {
    bool start = p0 == 0 && c->finish != FINISH_CONTINUE;
    int64_t sums_row = STRIP;
    if (in_place(c, j0)) {
        sums = c->c + i0 * c->n + j0;
        sums_row = c->n;
    }
    if (c->source == PANEL_TURN)
        panel_turn(scratch->panel, c->b, c->n, c->k, j0, p0, depth);
    else
        panel_copy(scratch->panel, c->b, c->n, j0, p0, depth);
    if (c->transposed_a)
        rows_packed(rows, sums, sums_row, scratch->packed, scratch->panel, depth, start);
    else
        rows_strided(rows, sums, sums_row, c->a + i0 * c->k + p0, c->k, scratch->panel, depth, start);
}

/* A block of rows and a group of strips: one block of k after the other, so that A's part stays in the second-level
 * cache while the strips go over it. */
static void product_task(const struct product *c, struct product_scratch *scratch, int64_t task) {
    int64_t i0 = task % c->row_blocks * c->rows, rows = least_i64(c->rows, c->m - i0);
    int64_t first = task / c->row_blocks * c->strips * STRIP, last = least_i64(first + c->strips * STRIP, c->n);
    for (int64_t j0 = first, s = 0; j0 < last; j0 += STRIP, s++)
        if (c->finish == FINISH_CONTINUE && !in_place(c, j0))
            start_rows(c, scratch->sums[s], i0, rows, j0);
    int64_t blocks = parts(c->k, PANEL_DEPTH), even = parts(parts(c->k, blocks), 32) * 32;
    for (int64_t p0 = 0; p0 < c->k; p0 += even) {
        int64_t depth = least_i64(even, c->k - p0);
        if (c->transposed_a)
            pack(scratch->packed, c, i0, rows, p0, depth);
        for (int64_t j0 = first, s = 0; j0 < last; j0 += STRIP, s++)
            product_panel(c, scratch, scratch->sums[s], i0, rows, j0, p0, depth);
    }
    for (int64_t j0 = first, s = 0; j0 < last; j0 += STRIP, s++)
        if (!in_place(c, j0))
            finish_rows(c, scratch->sums[s], i0, rows, j0);
}

static void product_tasks(void *context, int64_t begin, int64_t end, int thread) {
    const struct product *c = context;
    for (int64_t task = begin; task < end; task++)
        product_task(c, cpu_scratch(c->device, thread), task);
}

/* Tasks small enough that every thread gets some, and not smaller than needed: a task lays out its own panels. */
static void product(struct device *device, struct product *c) {
    if (c->m <= 0 || c->n <= 0)
        return;
    ASSERT(c->k >= 1);
    int64_t threads = team_threads(cpu_team(device)), strips = parts(c->n, STRIP);
    int64_t tasks_wanted = threads == 1 || c->m * c->n * c->k < 2 * TASK_WORK ? 1 : 3 * threads;
    c->device = device;
    c->rows = least_i64(TASK_ROWS, c->m);
    /* Few rows: one strip at a time reads the weights end to end. */
    c->strips = c->m <= 2 * TILE_ROWS ? 1 : least_i64(TASK_STRIPS, strips);
    while (c->strips > 1 && parts(c->m, c->rows) * parts(strips, c->strips) < tasks_wanted)
        c->strips = parts(c->strips, 2);
    while (c->rows > 4 * TILE_ROWS && parts(c->m, c->rows) * parts(strips, c->strips) < tasks_wanted)
        c->rows = parts(parts(c->rows, 2), TILE_ROWS) * TILE_ROWS;
    c->row_blocks = parts(c->m, c->rows);
    int64_t tasks = c->row_blocks * parts(strips, c->strips), work = c->rows * c->strips * STRIP * c->k;
    team_for(cpu_team(device), tasks, tasks_wanted == 1 ? tasks : 1 + TASK_WORK / work, product_tasks, c);
}

void PATH(matmul)(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                  struct weight bias, int32_t R, int32_t n, int32_t k) {
    product(device, &(struct product){.c = y,
                                      .a = x,
                                      .b = w,
                                      .bias = bias,
                                      .source = PANEL_TURN,
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
                                      .b = w,
                                      .source = PANEL_COPY,
                                      .finish = mode == WRITE_ADD ? FINISH_ADD : FINISH_OVER,
                                      .m = R,
                                      .n = k,
                                      .k = n});
}

void PATH(matmul_dw)(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k) {
    if (R > 0)
        product(device, &(struct product){.c = dw,
                                          .a = dy,
                                          .transposed_a = true,
                                          .b = {x, DTYPE_F32},
                                          .source = PANEL_COPY,
                                          .finish = FINISH_CONTINUE,
                                          .m = n,
                                          .n = k,
                                          .k = R});
}
