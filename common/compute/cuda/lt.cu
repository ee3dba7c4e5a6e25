/* Matrix products by cuBLASLt, as engine reference 6.1 has it: no workspace and no reduction scheme, so no product is split over
 * k; never a single row; and no trust: each shape is tried over all buckets of rows before its first use, its rows compared bit
 * by bit, and a shape that fails once is left to Candor's own kernel for good. Compiled where the library is; the emulator
 * cannot run it, and it has not run on a device yet.
 *
 * Rows come in multiples of ROW_STEP: what is left over is copied into a padded piece of its own. A bucket's algorithm serves
 * all counts of rows down to the bucket before.
 *
 * cuBLASLt thinks in columns: our row-major [R,n] is its column-major n x R, and
 *   y  = x w^T   is  n x R = (k x n)^T (k x R)       dx = dy w   is  k x R = (k x n) (n x R)
 *   dw = dy^T x  is  k x n = (k x R) (n x R)^T */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "common/compute/cuda/lt.h"
#include "common/compute/math.h"

#define ROW_STEP 16
#define SHAPES_MAX 32

static const int32_t buckets[] = {16, 32, 64, 128, 256, 512, 1024, 2048};
#define BUCKETS ((int32_t)(sizeof buckets / sizeof buckets[0]))
#define ROWS_TRIED buckets[BUCKETS - 1]

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
    uint32_t hash; /* of the algorithms in use */
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

/* D = op(A) op(B) (+ D) (+ bias), column-major; the leading dimension of each is its rows. */
struct call {
    cublasOperation_t a_op, b_op;
    int64_t a_rows, a_columns, b_rows, b_columns, d_rows, d_columns;
    cudaDataType d_type;
    const void *a, *b, *bias;
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
    const cublasLtEpilogue_t with_bias = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType bias_type = CUDA_R_16BF;
    *it = {};
    return cublasLtMatmulDescCreate(&it->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           set(it, CUBLASLT_MATMUL_DESC_TRANSA, &c->a_op, sizeof c->a_op) &&
           set(it, CUBLASLT_MATMUL_DESC_TRANSB, &c->b_op, sizeof c->b_op) &&
           (c->bias == NULL || (set(it, CUBLASLT_MATMUL_DESC_EPILOGUE, &with_bias, sizeof with_bias) &&
                                set(it, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &c->bias, sizeof c->bias) &&
                                set(it, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type))) &&
           cublasLtMatrixLayoutCreate(&it->a, CUDA_R_16BF, (uint64_t)c->a_rows, (uint64_t)c->a_columns, c->a_rows) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&it->b, CUDA_R_16BF, (uint64_t)c->b_rows, (uint64_t)c->b_columns, c->b_rows) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&it->d, c->d_type, (uint64_t)c->d_rows, (uint64_t)c->d_columns, c->d_rows) ==
               CUBLAS_STATUS_SUCCESS;
}

static bool choose(struct lt *lt, const struct call *c, cublasLtMatmulAlgo_t *out_algorithm) {
    struct description it;
    cublasLtMatmulPreference_t preference = NULL;
    const size_t workspace = 0;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    bool chosen = describe(c, &it) && cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
                  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                       sizeof workspace) == CUBLAS_STATUS_SUCCESS &&
                  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                       &reduction, sizeof reduction) == CUBLAS_STATUS_SUCCESS &&
                  cublasLtMatmulAlgoGetHeuristic(lt->handle, it.operation, it.a, it.b, it.d, it.d, preference, 1, &best,
                                                 &found) == CUBLAS_STATUS_SUCCESS &&
                  found == 1 && best.state == CUBLAS_STATUS_SUCCESS;
    if (preference != NULL)
        (void)cublasLtMatmulPreferenceDestroy(preference);
    describe_end(&it);
    if (chosen)
        *out_algorithm = best.algo;
    return chosen;
}

static bool execute(struct device *device, const struct call *c, const cublasLtMatmulAlgo_t *algorithm) {
    struct cuda_state *state = cuda_state_of(device);
    struct description it;
    const float one = 1.0f, zero = 0.0f;
    bool done = describe(c, &it) && cublasLtMatmul(state->lt->handle, it.operation, &one, c->a, it.a, c->b, it.b,
                                                   c->add ? &one : &zero, c->d, it.d, c->d, it.d, algorithm, NULL, 0,
                                                   (cudaStream_t)state->stream) == CUBLAS_STATUS_SUCCESS;
    describe_end(&it);
    return done;
}

/* from: x or dy, R rows; to: y or dx */
static struct call call_of(enum product product, const void *from, const void *w, void *to, int32_t R, int32_t n,
                           int32_t k) {
    if (product == PRODUCT_DX)
        return {CUBLAS_OP_N, CUBLAS_OP_N, k, n, n, R, k, R, CUDA_R_16BF, w, from, NULL, to, false};
    return {CUBLAS_OP_T, CUBLAS_OP_N, k,    n,  k,    R, n, R, product == PRODUCT_Y32 ? CUDA_R_32F : CUDA_R_16BF,
            w,           from,        NULL, to, false};
}

static int32_t bucket_for(int32_t rows) {
    int32_t b = 0;
    while (b + 1 < BUCKETS && buckets[b] < rows)
        b++;
    return b;
}

/* ---- the self-test ---- */

struct trial {
    void *from, *w, *to;
    unsigned char *first, *again; /* host: the rows as the smallest bucket gives them, and as another does */
};

static void trial_end(struct device *device, struct trial *t) {
    cuda_release(device, t->from);
    cuda_release(device, t->w);
    cuda_release(device, t->to);
    free(t->first);
    free(t->again);
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

static bool trial_begin(struct device *device, struct trial *t, int32_t n, int32_t k) {
    int64_t wide = n > k ? n : k;
    size_t bytes = (size_t)(ROWS_TRIED * wide) * sizeof(float);
    *t = {};
    t->first = (unsigned char *)malloc(bytes);
    t->again = (unsigned char *)malloc(bytes);
    if (t->first == NULL || t->again == NULL ||
        cuda_allocate(device, (size_t)(ROWS_TRIED * wide) * 2, &t->from) != STATUS_OK ||
        cuda_allocate(device, (size_t)((int64_t)n * k) * 2, &t->w) != STATUS_OK ||
        cuda_allocate(device, bytes, &t->to) != STATUS_OK)
        return false;
    fill_trial(device, t->from, ROWS_TRIED * wide);
    fill_trial(device, t->w, (int64_t)n * k);
    return true;
}

/* Every row of ROWS_TRIED by the smallest bucket, then by all others, whole and short of whole. */
static bool rows_agree(struct device *device, struct trial *t, struct choice *choice, enum product product, int32_t n,
                       int32_t k) {
    int64_t in = product == PRODUCT_DX ? n : k, out = product == PRODUCT_DX ? k : n;
    int64_t element = product == PRODUCT_Y32 ? 4 : 2, row_bytes = out * element;
    for (int32_t row = 0; row < ROWS_TRIED; row += ROW_STEP) {
        struct call c =
            call_of(product, (uint16_t *)t->from + row * in, t->w, (char *)t->to + row * row_bytes, ROW_STEP, n, k);
        if (!execute(device, &c, &choice->algorithms[0]))
            return false;
    }
    cuda_download(device, t->first, t->to, (size_t)(ROWS_TRIED * row_bytes));
    for (int32_t b = 0; b < BUCKETS; b++)
        for (int32_t rows = buckets[b]; rows >= ROW_STEP && rows > buckets[b] - 2 * ROW_STEP; rows -= ROW_STEP) {
            cuda_zero(device, t->to, (size_t)(rows * row_bytes));
            struct call c = call_of(product, t->from, t->w, t->to, rows, n, k);
            if (!execute(device, &c, &choice->algorithms[bucket_for(rows)]))
                return false;
            cuda_download(device, t->again, t->to, (size_t)(rows * row_bytes));
            if (memcmp(t->again, t->first, (size_t)(rows * row_bytes)) != 0)
                return false;
        }
    return cuda_synchronize(device) == STATUS_OK;
}

static bool choose_all(struct lt *lt, const struct trial *t, struct choice *choice, enum product product, int32_t n,
                       int32_t k) {
    for (int32_t b = 0; b < BUCKETS; b++) {
        struct call c = call_of(product, t->from, t->w, t->to, buckets[b], n, k);
        if (!choose(lt, &c, &choice->algorithms[b]))
            return false;
    }
    return true;
}

static void add_to_hash(struct lt *lt, const void *data, size_t bytes) {
    const unsigned char *at = (const unsigned char *)data;
    for (size_t i = 0; i < bytes; i++)
        lt->hash = (lt->hash ^ at[i]) * 16777619u; /* FNV-1a */
}

static void describe_device(struct device *device, const struct lt *lt) {
    char *old = strstr(device->arithmetic, ", cublasLt");
    if (old != NULL)
        *old = '\0';
    size_t length = strlen(device->arithmetic);
    snprintf(device->arithmetic + length, sizeof device->arithmetic - length, ", cublasLt %zu %08x",
             cublasLtGetVersion(), lt->hash);
}

enum status lt_prepare(struct device *device, int32_t n, int32_t k) {
    struct lt *lt = cuda_state_of(device)->lt;
    for (int32_t i = 0; i < lt->count; i++)
        if (lt->shapes[i].n == n && lt->shapes[i].k == k)
            return STATUS_OK;
    if (lt->count == SHAPES_MAX || n % 8 != 0 || k % 8 != 0)
        return STATUS_OK; /* Candor's own kernel serves */
    struct shape *shape = &lt->shapes[lt->count++];
    *shape = {};
    shape->n = n;
    shape->k = k;
    struct trial trial;
    if (trial_begin(device, &trial, n, k))
        for (int product = 0; product < PRODUCTS; product++) {
            struct choice *choice = &shape->products[product];
            choice->usable = choose_all(lt, &trial, choice, (enum product)product, n, k) &&
                             rows_agree(device, &trial, choice, (enum product)product, n, k);
            add_to_hash(lt, &choice->usable, sizeof choice->usable);
            if (choice->usable)
                add_to_hash(lt, choice->algorithms, sizeof choice->algorithms);
        }
    trial_end(device, &trial);
    describe_device(device, lt);
    struct cuda_state *state = cuda_state_of(device);
    return state->fault == STATUS_OK ? STATUS_OK : fail(state->fault, "%s", state->fault_text);
}

/* ---- the operations ---- */

static const struct choice *usable_choice(const struct device *device, enum product product, int32_t n, int32_t k) {
    const struct lt *lt = cuda_state_of(device)->lt;
    for (int32_t i = 0; lt != NULL && i < lt->count; i++)
        if (lt->shapes[i].n == n && lt->shapes[i].k == k)
            return lt->shapes[i].products[product].usable ? &lt->shapes[i].products[product] : NULL;
    return NULL;
}

static void must(struct device *device, const struct call *c, const cublasLtMatmulAlgo_t *algorithm) {
    if (cuda_state_of(device)->fault == STATUS_OK && !execute(device, c, algorithm))
        cuda_set_fault(device, STATUS_DEVICE, "%s: cuBLASLt refuses a product of %lld x %lld that passed its test",
                       device->name, (long long)c->d_rows, (long long)c->d_columns);
}

/* Whole steps of rows where they lie; the rest in a padded piece. */
static bool run(struct device *device, enum product product, const void *from, const void *w, const void *bias,
                void *to, enum write_mode mode, int32_t R, int32_t n, int32_t k) {
    const struct choice *choice = usable_choice(device, product, n, k);
    /* algorithms were chosen for operands at multiples of 16 bytes */
    if (choice == NULL || ((uintptr_t)from | (uintptr_t)w | (uintptr_t)bias | (uintptr_t)to) % 16 != 0)
        return false;
    int64_t in = product == PRODUCT_DX ? n : k, out = product == PRODUCT_DX ? k : n;
    size_t row_in = (size_t)in * 2, row_out = (size_t)out * (product == PRODUCT_Y32 ? 4 : 2);
    int32_t whole = R / ROW_STEP * ROW_STEP, rest = R - whole;
    struct call c = call_of(product, from, w, to, whole, n, k);
    c.bias = bias;
    c.add = mode == WRITE_ADD;
    if (whole > 0)
        must(device, &c, &choice->algorithms[bucket_for(whole)]);
    char *piece = rest > 0 ? (char *)cuda_scratch(device, ROW_STEP * (row_in + row_out) + 256) : NULL;
    if (piece == NULL)
        return true;
    char *piece_out = piece + (ROW_STEP * row_in + 255) / 256 * 256;
    char *target = (char *)to + (size_t)whole * row_out;
    cuda_zero(device, piece, ROW_STEP * row_in);
    cuda_copy(device, piece, (const char *)from + (size_t)whole * row_in, (size_t)rest * row_in);
    if (c.add)
        cuda_copy(device, piece_out, target, (size_t)rest * row_out);
    c.b = piece;
    c.b_columns = c.d_columns = ROW_STEP;
    c.d = piece_out;
    must(device, &c, &choice->algorithms[0]);
    cuda_copy(device, target, piece_out, (size_t)rest * row_out);
    return true;
}

bool lt_matmul(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w, struct weight bias,
               int32_t R, int32_t n, int32_t k) {
    if (bias.data != NULL && bias.type != DTYPE_BF16)
        return false;
    return run(device, PRODUCT_Y, x, w.data, bias.data, y, mode, R, n, k);
}

bool lt_matmul_f32(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k) {
    return run(device, PRODUCT_Y32, x, w.data, NULL, y, WRITE_OVER, R, n, k);
}

bool lt_matmul_dx(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                  int32_t n, int32_t k) {
    return run(device, PRODUCT_DX, dy, w.data, NULL, dx, mode, R, n, k);
}

/* The sum over rows is one chain without a split, so it repeats; no row of it must agree with another batch. The algorithm
 * is a function of the shape. */
bool lt_matmul_dw(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k) {
    struct lt *lt = cuda_state_of(device)->lt;
    if (lt == NULL || usable_choice(device, PRODUCT_DX, n, k) == NULL || R % 8 != 0 ||
        ((uintptr_t)dw | (uintptr_t)dy | (uintptr_t)x) % 16 != 0)
        return false;
    struct call c = {CUBLAS_OP_N, CUBLAS_OP_T, k, R, n, R, k, n, CUDA_R_32F, x, dy, NULL, dw, true};
    cublasLtMatmulAlgo_t algorithm;
    if (!choose(lt, &c, &algorithm))
        return false;
    must(device, &c, &algorithm);
    return true;
}
