/* Matrix products by cuBLASLt, as engine reference 6.1 has it: no workspace, no reduction scheme, no split over k; never a single
 * row; and no trust: for each shape of the loaded model every count of rows that will ever be asked for is tried before the
 * first use, its rows compared bit by bit, and a product that has no algorithm which passes is left to Candor's own kernel
 * for good. Compiled where the library is; it has run around a stand-in (tests/support/emulator/cublas), not on a device yet.
 *
 * Rows come in multiples of ROW_STEP, ROWS_MOST at once: what is left over is copied into a padded piece of its own. A bucket's
 * algorithm serves all counts of rows down to the bucket before. What is chosen follows from chip, library and shape alone, not
 * from free memory or time: of one version the library promises the same bits on GPUs of one architecture and number of SMs
 * (cuBLAS, "Results reproducibility"), which is what chip and arithmetic (device.h) say. The canary asks again: an actor of the
 * same chip whose forward products came out otherwise is refused, and `products` in the logs tells that from damage.
 *
 * cuBLASLt thinks in columns: our row-major [R,n] is its column-major n x R, and
 *   y  = x w^T   is  n x R = (k x n)^T (k x R)       dx = dy w   is  k x R = (k x n) (n x R)
 *   dw = dy^T x  is  k x n = (k x R) (n x R)^T */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "common/compute/cuda/kernel.cuh"
#include "common/compute/cuda/lt.h"

#define ROW_STEP 16
#define SHAPES_MAX 32
#define CANDIDATES 8
#define LANES 128

static const int32_t buckets[] = {16, 32, 64, 128, 256, 512, 1024, 2048};
#define BUCKETS ((int32_t)(sizeof buckets / sizeof buckets[0]))
#define ROWS_MOST buckets[BUCKETS - 1]

/* y in bf16, y in fp32, dx */
enum product { PRODUCT_Y, PRODUCT_Y32, PRODUCT_DX, PRODUCTS };

struct choice {
    bool usable;
    cublasLtMatmulAlgo_t algorithms[BUCKETS];
};

struct shape {
    int32_t n, k;
    struct choice products[PRODUCTS];
};

struct lt {
    cublasLtHandle_t handle;
    struct shape shapes[SHAPES_MAX];
    int32_t count;
    int32_t usable, tried; /* products */
    uint32_t hash;         /* of the algorithms in use */
};

enum status lt_create(struct device *device, struct lt **out_lt) {
    struct lt *lt = (struct lt *)calloc(1, sizeof *lt);
    if (lt == NULL)
        return fail(STATUS_NO_MEMORY, "%s: out of host memory", device->name);
    cublasStatus_t status = cublasLtCreate(&lt->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(lt);
        return fail(STATUS_DEVICE, "%s: cuBLASLt does not start: %s", device->name, cublasLtGetStatusString(status));
    }
    size_t length = strlen(device->arithmetic);
    snprintf(device->arithmetic + length, sizeof device->arithmetic - length, ", cublasLt %zu", cublasLtGetVersion());
    *out_lt = lt;
    return STATUS_OK;
}

void lt_destroy(struct lt **lt) {
    if (*lt == NULL)
        return;
    (void)cublasLtDestroy((*lt)->handle);
    free(*lt);
    *lt = NULL;
}

/* ---- one product ---- */

/* D = op(A) op(B) (+ D), column-major; the leading dimension of each is its rows. */
struct call {
    cublasOperation_t a_op, b_op;
    int64_t a_rows, a_columns, b_rows, b_columns, d_rows, d_columns;
    cudaDataType d_type;
    const void *a, *b;
    void *d;
    bool add;
};

struct description {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
};

static void describe_end(struct description *it) {
    if (it->operation != NULL)
        (void)cublasLtMatmulDescDestroy(it->operation);
    cublasLtMatrixLayout_t layouts[] = {it->a, it->b, it->d};
    for (cublasLtMatrixLayout_t layout : layouts)
        if (layout != NULL)
            (void)cublasLtMatrixLayoutDestroy(layout);
}

static bool set(struct description *it, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes) {
    return cublasLtMatmulDescSetAttribute(it->operation, attribute, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool describe(const struct call *c, struct description *it) {
    *it = {};
    return cublasLtMatmulDescCreate(&it->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           set(it, CUBLASLT_MATMUL_DESC_TRANSA, &c->a_op, sizeof c->a_op) &&
           set(it, CUBLASLT_MATMUL_DESC_TRANSB, &c->b_op, sizeof c->b_op) &&
           cublasLtMatrixLayoutCreate(&it->a, CUDA_R_16BF, (uint64_t)c->a_rows, (uint64_t)c->a_columns, c->a_rows) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&it->b, CUDA_R_16BF, (uint64_t)c->b_rows, (uint64_t)c->b_columns, c->b_rows) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&it->d, c->d_type, (uint64_t)c->d_rows, (uint64_t)c->d_columns, c->d_rows) ==
               CUBLAS_STATUS_SUCCESS;
}

template <typename T>
static bool prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
}

/* Operands lie at multiples of 16 bytes; the library assumes 256 unless it is told. */
static bool prefer_all(cublasLtMatmulPreference_t preference) {
    return prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)0) &&
           prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)CUBLASLT_REDUCTION_SCHEME_NONE) &&
           prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)16) &&
           prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)16) &&
           prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)16) &&
           prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)16);
}

/* What an algorithm is: its configuration, as the structure itself is opaque. */
static const cublasLtMatmulAlgoConfigAttributes_t configuration[] = {CUBLASLT_ALGO_CONFIG_ID,
                                                                     CUBLASLT_ALGO_CONFIG_TILE_ID,
                                                                     CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                                     CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                                     CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING,
                                                                     CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION,
                                                                     CUBLASLT_ALGO_CONFIG_STAGES_ID,
                                                                     CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID,
                                                                     CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID};

/* 0 for an attribute that this algorithm does not have. Values of 2 bytes fill the low ones. */
static uint32_t configured(const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
    uint32_t value = 0;
    size_t written = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(algorithm, attribute, &value, sizeof value, &written) ==
        CUBLAS_STATUS_SUCCESS)
        return value;
    uint16_t small = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(algorithm, attribute, &small, sizeof small, &written) ==
        CUBLAS_STATUS_SUCCESS)
        return small;
    return 0;
}

/* The library's proposals that split nothing over k, the fastest by its reckoning first; returns how many. */
static int propose(struct lt *lt, const struct call *c, cublasLtMatmulAlgo_t (&out)[CANDIDATES + 1]) {
    struct description it;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    int found = 0, kept = 0;
    bool asked = describe(c, &it) && cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
                 prefer_all(preference) &&
                 cublasLtMatmulAlgoGetHeuristic(lt->handle, it.operation, it.a, it.b, it.d, it.d, preference,
                                                CANDIDATES, results, &found) == CUBLAS_STATUS_SUCCESS;
    if (preference != NULL)
        (void)cublasLtMatmulPreferenceDestroy(preference);
    describe_end(&it);
    for (int i = 0; asked && i < found; i++)
        if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize == 0 &&
            configured(&results[i].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1)
            out[kept++] = results[i].algo;
    return kept;
}

static bool execute(struct device *device, const struct call *c, const cublasLtMatmulAlgo_t *algorithm) {
    struct cuda_state *state = cuda_state_of(device);
    struct description it;
    const float one = 1.0f, zero = 0.0f;
    bool done = describe(c, &it) && cublasLtMatmul(state->lt->handle, it.operation, &one, c->a, it.a, c->b, it.b,
                                                   c->add ? &one : &zero, c->d, it.d, c->d, it.d, algorithm, NULL, 0,
                                                   (cudaStream_t)state->stream) == CUBLAS_STATUS_SUCCESS;
    describe_end(&it);
    if (!done)
        (void)cudaGetLastError(); /* what could not be launched here is no fault of the next kernel */
    return done;
}

/* from: x or dy, R rows; to: y or dx */
static struct call call_of(enum product product, const void *from, const void *w, void *to, int32_t R, int32_t n,
                           int32_t k) {
    cudaDataType type = product == PRODUCT_Y32 ? CUDA_R_32F : CUDA_R_16BF;
    if (product == PRODUCT_DX)
        return {CUBLAS_OP_N, CUBLAS_OP_N, k, n, n, R, k, R, type, w, from, to, false};
    return {CUBLAS_OP_T, CUBLAS_OP_N, k, n, k, R, n, R, type, w, from, to, false};
}

static int32_t bucket_for(int32_t rows) {
    int32_t b = 0;
    while (b + 1 < BUCKETS && buckets[b] < rows)
        b++;
    return b;
}

/* ---- the self-test ---- */

/* On the device: rows that go in, a matrix, the rows that must come out, those that do, and whether they ever differed. */
struct trial {
    void *from, *w, *want, *got;
    uint32_t *differed;
    enum product product;
    int32_t n, k;
};

static size_t row_in_bytes(enum product product, int32_t n, int32_t k) {
    return (size_t)(product == PRODUCT_DX ? n : k) * 2;
}

static size_t row_out_bytes(enum product product, int32_t n, int32_t k) {
    return (size_t)(product == PRODUCT_DX ? k : n) * (product == PRODUCT_Y32 ? 4 : 2);
}

KERNEL void differ_kernel(uint32_t *differed, const uint4 *a, const uint4 *b, int64_t count) {
    int64_t i = (int64_t)blockIdx.x * LANES + threadIdx.x;
    if (i >= count)
        return;
    uint4 x = a[i], y = b[i];
    if (x.x != y.x || x.y != y.y || x.z != y.z || x.w != y.w)
        *differed = 1;
}

static void trial_end(struct device *device, struct trial *t) {
    void *memory[] = {t->from, t->w, t->want, t->got, t->differed};
    for (void *each : memory)
        cuda_release(device, each);
}

/* Numbers of both signs without a pattern that a sum could hide. */
static void fill_trial(struct device *device, void *to, int64_t count) {
    constexpr int64_t PIECE = 65536;
    uint16_t piece[PIECE];
    uint32_t state = 12345;
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t here = count - at < PIECE ? count - at : PIECE;
        for (int64_t i = 0; i < here; i++) {
            state = state * 1664525u + 1013904223u;
            piece[i] = bf16_of_f32((float)(int32_t)state * 0x1p-31f);
        }
        cuda_upload(device, (uint16_t *)to + at, piece, (size_t)here * sizeof *piece);
    }
}

/* A shape that cannot be tried for want of memory is an error: left to Candor's kernel, bits would depend on what is free. */
static enum status trial_begin(struct device *device, struct trial *t, int32_t n, int32_t k) {
    int64_t wide = n > k ? n : k;
    size_t rows = (size_t)(ROWS_MOST * wide);
    void *differed = NULL;
    *t = {};
    TRY(cuda_allocate(device, rows * 2, &t->from));
    TRY(cuda_allocate(device, (size_t)((int64_t)n * k) * 2, &t->w));
    TRY(cuda_allocate(device, rows * sizeof(float), &t->want));
    TRY(cuda_allocate(device, rows * sizeof(float), &t->got));
    TRY(cuda_allocate(device, sizeof *t->differed, &differed));
    t->differed = (uint32_t *)differed;
    t->n = n;
    t->k = k;
    fill_trial(device, t->from, ROWS_MOST * wide);
    fill_trial(device, t->w, (int64_t)n * k);
    return STATUS_OK;
}

/* `rows` rows from `first` on, alone or added to zeros, against those that must come out. */
static bool try_rows(struct device *device, const struct trial *t, const cublasLtMatmulAlgo_t *algorithm, int32_t first,
                     int32_t rows, bool add) {
    size_t out = row_out_bytes(t->product, t->n, t->k), bytes = (size_t)rows * out;
    const char *from = (const char *)t->from + (size_t)first * row_in_bytes(t->product, t->n, t->k);
    struct call c = call_of(t->product, from, t->w, t->got, rows, t->n, t->k);
    c.add = add;
    cuda_zero(device, t->got, bytes);
    if (!execute(device, &c, algorithm))
        return false;
    int64_t count = (int64_t)(bytes / sizeof(uint4));
    LAUNCH(device, differ_kernel, dim3(blocks_for(count, LANES)), LANES, t->differed, (const uint4 *)t->got,
           (const uint4 *)(const void *)((const char *)t->want + (size_t)first * out), count);
    return true;
}

/* Every count of rows that the bucket serves; the smallest at every place. */
static bool rows_agree(struct device *device, const struct trial *t, const cublasLtMatmulAlgo_t *algorithm, int32_t b) {
    uint32_t differed = 1;
    cuda_zero(device, t->differed, sizeof differed);
    for (int32_t rows = buckets[b]; rows > (b > 0 ? buckets[b - 1] : 0); rows -= ROW_STEP)
        if (!try_rows(device, t, algorithm, 0, rows, false))
            return false;
    for (int32_t first = 0; b == 0 && first < ROWS_MOST; first += ROW_STEP)
        if (!try_rows(device, t, algorithm, first, ROW_STEP, false))
            return false;
    if (!try_rows(device, t, algorithm, 0, buckets[b], true))
        return false;
    cuda_download(device, &differed, t->differed, sizeof differed);
    return differed == 0;
}

/* The first proposal for a bucket that gives the rows which must come out, at last the algorithm of the next larger bucket. */
static bool choose_for_bucket(struct device *device, const struct trial *t, struct choice *choice, int32_t b) {
    cublasLtMatmulAlgo_t candidates[CANDIDATES + 1];
    struct call c = call_of(t->product, t->from, t->w, t->got, buckets[b], t->n, t->k);
    int count = propose(cuda_state_of(device)->lt, &c, candidates);
    if (b < BUCKETS - 1)
        candidates[count++] = choice->algorithms[b + 1];
    for (int i = 0; i < count; i++) {
        if (b == BUCKETS - 1) { /* what the largest gives is what must come out */
            struct call whole = call_of(t->product, t->from, t->w, t->want, ROWS_MOST, t->n, t->k);
            if (!execute(device, &whole, &candidates[i]))
                continue;
        }
        choice->algorithms[b] = candidates[i];
        if (rows_agree(device, t, &candidates[i], b))
            return true;
    }
    return false;
}

static bool choose_all(struct device *device, const struct trial *t, struct choice *choice) {
    for (int32_t b = BUCKETS - 1; b >= 0; b--)
        if (!choose_for_bucket(device, t, choice, b))
            return false;
    return true;
}

static void add_to_hash(struct lt *lt, uint32_t value) {
    for (int i = 0; i < 4; i++)
        lt->hash = (lt->hash ^ (value >> 8 * i & 255)) * 16777619u; /* FNV-1a */
}

static void record(struct device *device, struct lt *lt, const struct choice *choice) {
    lt->tried++;
    lt->usable += choice->usable;
    add_to_hash(lt, choice->usable);
    for (int32_t b = 0; choice->usable && b < BUCKETS; b++)
        for (cublasLtMatmulAlgoConfigAttributes_t attribute : configuration)
            add_to_hash(lt, configured(&choice->algorithms[b], attribute));
    snprintf(device->products, sizeof device->products, "cublasLt %zu for %d of %d, algorithms %08x",
             cublasLtGetVersion(), lt->usable, lt->tried, lt->hash);
}

enum status lt_prepare(struct device *device, int32_t n, int32_t k) {
    struct cuda_state *state = cuda_state_of(device);
    struct lt *lt = state->lt;
    for (int32_t i = 0; i < lt->count; i++)
        if (lt->shapes[i].n == n && lt->shapes[i].k == k)
            return STATUS_OK;
    if (lt->count == SHAPES_MAX || n % 8 != 0 || k % 8 != 0)
        return STATUS_OK; /* Candor's own kernel serves */
    struct trial trial;
    enum status status = trial_begin(device, &trial, n, k);
    if (status == STATUS_OK) {
        struct shape *shape = &lt->shapes[lt->count++];
        *shape = {};
        shape->n = n;
        shape->k = k;
        for (int product = 0; product < PRODUCTS; product++) {
            trial.product = (enum product)product;
            shape->products[product].usable = choose_all(device, &trial, &shape->products[product]);
            record(device, lt, &shape->products[product]);
        }
        status = cuda_synchronize(device);
    }
    trial_end(device, &trial);
    return status == STATUS_OK ? STATUS_OK : fail_context(status, "trying matrix products of %d x %d", n, k);
}

/* ---- the operations ---- */

static const struct choice *usable_choice(const struct device *device, enum product product, int32_t n, int32_t k) {
    const struct lt *lt = cuda_state_of(device)->lt;
    for (int32_t i = 0; lt != NULL && i < lt->count; i++)
        if (lt->shapes[i].n == n && lt->shapes[i].k == k)
            return lt->shapes[i].products[product].usable ? &lt->shapes[i].products[product] : NULL;
    return NULL;
}

/* Algorithms were chosen for operands at multiples of 16 bytes. */
static bool on_lines(const void *a, const void *b, const void *c) {
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 == 0;
}

static void must(struct device *device, const struct call *c, const cublasLtMatmulAlgo_t *algorithm) {
    if (cuda_ready(device) && !execute(device, c, algorithm))
        cuda_set_fault(device, STATUS_DEVICE, "%s: cuBLASLt refuses a product of %lld x %lld that passed its test",
                       device->name, (long long)c->d_rows, (long long)c->d_columns);
}

/* Whole steps of rows where they lie; the rest in a padded piece. At most ROWS_MOST. */
static void run_piece(struct device *device, enum product product, const struct choice *choice, const char *from,
                      const void *w, char *to, bool add, int32_t R, int32_t n, int32_t k) {
    size_t row_in = row_in_bytes(product, n, k), row_out = row_out_bytes(product, n, k);
    int32_t whole = R / ROW_STEP * ROW_STEP, rest = R - whole;
    struct call c = call_of(product, from, w, to, whole, n, k);
    c.add = add;
    if (whole > 0)
        must(device, &c, &choice->algorithms[bucket_for(whole)]);
    size_t in_bytes = (ROW_STEP * row_in + 255) / 256 * 256;
    char *piece = rest > 0 ? (char *)cuda_scratch(device, in_bytes + ROW_STEP * row_out) : NULL;
    if (piece == NULL)
        return;
    char *target = to + (size_t)whole * row_out;
    cuda_zero(device, piece, in_bytes + ROW_STEP * row_out);
    cuda_copy(device, piece, from + (size_t)whole * row_in, (size_t)rest * row_in);
    if (add)
        cuda_copy(device, piece + in_bytes, target, (size_t)rest * row_out);
    c.b = piece;
    c.b_columns = c.d_columns = ROW_STEP;
    c.d = piece + in_bytes;
    must(device, &c, &choice->algorithms[0]);
    cuda_copy(device, target, piece + in_bytes, (size_t)rest * row_out);
}

static bool run(struct device *device, enum product product, const void *from, const void *w, void *to, bool add,
                int32_t R, int32_t n, int32_t k) {
    const struct choice *choice = usable_choice(device, product, n, k);
    if (choice == NULL || !on_lines(from, w, to))
        return false;
    size_t row_in = row_in_bytes(product, n, k), row_out = row_out_bytes(product, n, k);
    for (int32_t row = 0; row < R; row += ROWS_MOST)
        run_piece(device, product, choice, (const char *)from + (size_t)row * row_in, w,
                  (char *)to + (size_t)row * row_out, add, R - row < ROWS_MOST ? R - row : ROWS_MOST, n, k);
    return true;
}

/* y [R,n] over = the bias; a product is added to it then. The sum is fp32 and rounded once, as Candor's own kernel does. */
KERNEL void bias_rows_kernel(uint16_t *y, const uint16_t *bias, int32_t n) {
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += LANES)
        y[(int64_t)blockIdx.x * n + i] = bias[i];
}

bool lt_matmul(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w, struct weight bias,
               int32_t R, int32_t n, int32_t k) {
    bool biased = bias.data != NULL;
    if (biased && (bias.type != DTYPE_BF16 || mode == WRITE_ADD))
        return false;
    if (usable_choice(device, PRODUCT_Y, n, k) == NULL || !on_lines(x, w.data, y))
        return false;
    if (biased && R > 0)
        LAUNCH(device, bias_rows_kernel, dim3((unsigned)R), LANES, (uint16_t *)y, (const uint16_t *)bias.data, n);
    return run(device, PRODUCT_Y, x, w.data, y, biased || mode == WRITE_ADD, R, n, k);
}

bool lt_matmul_f32(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k) {
    return run(device, PRODUCT_Y32, x, w.data, y, false, R, n, k);
}

bool lt_matmul_dx(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                  int32_t n, int32_t k) {
    return run(device, PRODUCT_DX, dy, w.data, dx, mode == WRITE_ADD, R, n, k);
}

/* The sum over rows is one chain without a split, so it repeats; no row of it must agree with another batch. The algorithm, the
 * first that can be launched, is a function of the shape. R is no leading dimension here, so any count keeps rows on 16 bytes. */
bool lt_matmul_dw(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k) {
    struct lt *lt = cuda_state_of(device)->lt;
    if (lt == NULL || usable_choice(device, PRODUCT_DX, n, k) == NULL || R < 1 || !on_lines(dw, dy, x))
        return false;
    struct call c = {CUBLAS_OP_N, CUBLAS_OP_T, k, R, n, R, k, n, CUDA_R_32F, x, dy, dw, true};
    cublasLtMatmulAlgo_t candidates[CANDIDATES + 1];
    int count = cuda_ready(device) ? propose(lt, &c, candidates) : 0;
    for (int i = 0; i < count; i++)
        if (execute(device, &c, &candidates[i]))
            return true;
    return false;
}
