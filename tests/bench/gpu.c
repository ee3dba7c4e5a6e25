#include "tests/bench/gpu.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/compute/math.h"

const struct bench_shapes bench_shapes_7b = {.hidden = 3584,
                                             .ffn = 18944,
                                             .heads = 28,
                                             .kv_heads = 4,
                                             .head_dim = 128,
                                             .vocab = 151672,
                                             .decode_rows = 512,
                                             .context = 200,
                                             .prompt = 150,
                                             .answers = 20,
                                             .answer = 100,
                                             .groups = 4,
                                             .logit_rows = 512,
                                             .flat = (int64_t)1 << 28};

/* What the makers state, dense bf16 and memory; engine reference 4.1. */
static const struct peak {
    const char *name;
    double tflops, gbs;
} peaks[] = {{"H200", 989, 4800}, {"H100", 989, 3350}, {"A100", 312, 2039}, {"B200", 2250, 8000}};

#define BUFFERS_MAX 24

struct bench {
    struct device *device;
    const struct ops *ops;
    const struct bench_shapes *s;
    const struct peak *peak; /* NULL: unknown */
    double seconds;
    FILE *out;
    enum status status; /* the first failure; nothing is measured after it */
    void *buffers[BUFFERS_MAX];
    int buffer_count;
    /* what the operation that is being measured works on */
    int32_t R, n, k;
    void *a, *b, *c, *d, *e, *f, *g;
    int32_t *ids;
    float *u, *v;
    struct weight w;
    struct attention_view view;
};

/* ---- buffers ---- */

static void *buffer(struct bench *b, int64_t bytes) {
    void *memory = NULL;
    if (b->status == STATUS_OK)
        b->status = b->ops->allocate(b->device, (size_t)bytes, &memory);
    if (memory != NULL)
        b->buffers[b->buffer_count++] = memory;
    return memory;
}

/* The same megabyte of small numbers over and over: what is multiplied decides the power that a GPU draws, so not zeros. */
static void fill(struct bench *b, void *to, int64_t bytes, bool narrow) {
    enum { PIECE = 1 << 20 };
    static unsigned char piece[2][PIECE];
    struct rng_key key = {.seed = 1, .stream = RNG_TEST};
    static bool made;
    for (uint32_t i = 0; !made && i < PIECE / 2; i++) {
        float value = rng_uniform(&key, i) - 0.5f;
        uint16_t bits = bf16_of_f32(value);
        memcpy(piece[1] + 2 * i, &bits, 2);
        if (i < PIECE / 4)
            memcpy(piece[0] + 4 * i, &value, 4);
    }
    made = true;
    for (int64_t at = 0; at < bytes && b->status == STATUS_OK; at += PIECE)
        b->ops->upload(b->device, (char *)to + at, piece[narrow], (size_t)(bytes - at < PIECE ? bytes - at : PIECE));
}

static void *bf16_buffer(struct bench *b, int64_t count) {
    void *memory = buffer(b, count * 2);
    fill(b, memory, count * 2, true);
    return memory;
}

static float *f32_buffer(struct bench *b, int64_t count) {
    void *memory = buffer(b, count * 4);
    fill(b, memory, count * 4, false);
    return memory;
}

static int32_t *ints(struct bench *b, const int32_t *host, int64_t count) {
    int32_t *memory = buffer(b, count * 4);
    if (b->status == STATUS_OK)
        b->ops->upload(b->device, memory, host, (size_t)count * 4);
    return memory;
}

static void release_all(struct bench *b) {
    while (b->buffer_count > 0)
        b->ops->release(b->device, b->buffers[--b->buffer_count]);
}

/* ---- one figure ---- */

/* Runs of an operation are asynchronous: they are timed together. */
static double seconds_of(struct bench *b, void (*run)(struct bench *b)) {
    int64_t runs = 1;
    for (;;) {
        double begin = clock_seconds();
        for (int64_t i = 0; i < runs; i++)
            run(b);
        b->status = b->ops->synchronize(b->device);
        double took = clock_seconds() - begin;
        if (b->status != STATUS_OK || took >= b->seconds || runs > 1 << 20)
            return took / (double)runs;
        runs *= took > b->seconds / 16 ? 2 : 16;
    }
}

static void figure(struct bench *b, const char *name, const char *shape, void (*run)(struct bench *b), double flops,
                   double bytes) {
    if (b->status == STATUS_OK)
        run(b); /* chooses, allocates scratch */
    if (b->status == STATUS_OK)
        b->status = b->ops->synchronize(b->device);
    if (b->status != STATUS_OK)
        return;
    double seconds = seconds_of(b, run), tflops = flops / seconds / 1e12, gbs = bytes / seconds / 1e9;
    fprintf(b->out, "%-22s %-26s %10.1f us %8.1f TFLOP/s %8.0f GB/s", name, shape, seconds * 1e6, tflops, gbs);
    if (b->peak != NULL)
        fprintf(b->out, " %5.1f %% %5.1f %%", 100 * tflops / b->peak->tflops, 100 * gbs / b->peak->gbs);
    fputc('\n', b->out);
    fflush(b->out);
}

/* ---- matrix products ---- */

static void run_matmul(struct bench *b) {
    b->ops->matmul(b->device, b->c, WRITE_OVER, b->a, b->w, (struct weight){NULL, DTYPE_BF16}, b->R, b->n, b->k);
}

static void run_matmul_f32(struct bench *b) {
    b->ops->matmul_f32(b->device, b->c, b->a, b->w, b->R, b->n, b->k);
}

static void run_matmul_dx(struct bench *b) {
    b->ops->matmul_dx(b->device, b->a, WRITE_OVER, b->c, b->w, b->R, b->n, b->k);
}

static void run_matmul_dw(struct bench *b) {
    b->ops->matmul_dw(b->device, b->d, b->c, b->a, b->R, b->n, b->k);
}

static void product(struct bench *b, const char *what, int32_t R, int32_t n, int32_t k, bool backward, bool logits) {
    char shape[64];
    double flops = 2.0 * R * n * k, narrow = 2.0 * ((double)R * k + (double)n * k + (double)R * n);
    snprintf(shape, sizeof shape, "%s %d x %d x %d", what, R, n, k);
    b->R = R;
    b->n = n;
    b->k = k;
    b->a = bf16_buffer(b, (int64_t)R * k);
    b->w = (struct weight){bf16_buffer(b, (int64_t)n * k), DTYPE_BF16};
    b->c = logits ? (void *)f32_buffer(b, (int64_t)R * n) : bf16_buffer(b, (int64_t)R * n);
    if (b->status == STATUS_OK && b->ops->prepare_matmul)
        b->status = b->ops->prepare_matmul(b->device, n, k);
    figure(b, logits ? "matmul_f32" : "matmul", shape, logits ? run_matmul_f32 : run_matmul, flops,
           narrow + (logits ? 2.0 * R * n : 0));
    if (backward) {
        b->d = f32_buffer(b, (int64_t)n * k);
        figure(b, "matmul_dx", shape, run_matmul_dx, flops, narrow);
        figure(b, "matmul_dw", shape, run_matmul_dw, flops, narrow + 6.0 * n * k);
    }
    release_all(b);
}

static void products(struct bench *b) {
    const struct bench_shapes *s = b->s;
    int32_t q = s->heads * s->head_dim, qkv = q + 2 * s->kv_heads * s->head_dim;
    int32_t train = s->groups * (s->prompt + s->answers * s->answer), rows[3] = {1, s->decode_rows, train};
    for (int i = 0; i < 3; i++) {
        bool backward = i == 2;
        product(b, "qkv", rows[i], qkv, s->hidden, backward, false);
        product(b, "out", rows[i], s->hidden, q, backward, false);
        product(b, "gate_up", rows[i], 2 * s->ffn, s->hidden, backward, false);
        product(b, "down", rows[i], s->hidden, s->ffn, backward, false);
    }
    product(b, "logits", s->decode_rows, s->vocab, s->hidden, false, true);
}

/* ---- attention ---- */

static struct attention_shape attention_shape(const struct bench *b) {
    return (struct attention_shape){b->s->heads, b->s->kv_heads, b->s->head_dim,
                                    b->s->head_dim == 64 ? 0.125f : 0.08838835f};
}

static void run_attention(struct bench *b) {
    b->ops->attention_forward(b->device, b->e, b->u, b->a, b->c, b->d, &b->view, attention_shape(b));
}

static void run_attention_backward(struct bench *b) {
    b->ops->attention_backward(b->device, b->b, b->f, b->g, b->e, b->e, b->u, b->a, b->c, b->d, &b->view,
                               attention_shape(b));
}

/* Row lists on the host; what is allocated here is freed by attention(). */
struct lists {
    int32_t *row_sequence, *row_position, *key_offset, *key_rows, *tree_row;
    int32_t rows, sequences, keys, trees;
    double pairs; /* of query row and key */
};

static enum status lists_create(struct lists *l, int64_t rows, int64_t sequences, int64_t keys, int64_t trees) {
    *l = (struct lists){0};
    int32_t **all[] = {&l->row_sequence, &l->row_position, &l->key_offset, &l->key_rows, &l->tree_row};
    int64_t counts[] = {rows, rows, sequences + 1, keys, trees + 1};
    for (int i = 0; i < 5; i++)
        if ((*all[i] = calloc((size_t)counts[i], sizeof(int32_t))) == NULL)
            return fail(STATUS_NO_MEMORY, "candor-bench: out of host memory");
    return STATUS_OK;
}

static void lists_destroy(struct lists *l) {
    free(l->row_sequence);
    free(l->row_position);
    free(l->key_offset);
    free(l->key_rows);
    free(l->tree_row);
}

/* One row of each sequence, its keys in pages of its own. */
static enum status decode_lists(const struct bench_shapes *s, struct lists *l) {
    TRY(lists_create(l, s->decode_rows, s->decode_rows, (int64_t)s->decode_rows * s->context, 0));
    for (int32_t r = 0; r < s->decode_rows; r++) {
        l->row_sequence[r] = r;
        l->row_position[r] = s->context - 1;
        l->key_offset[r + 1] = (r + 1) * s->context;
        for (int32_t p = 0; p < s->context; p++)
            l->key_rows[l->keys++] = r * s->context + p;
    }
    l->rows = l->sequences = s->decode_rows;
    l->pairs = (double)l->keys;
    return STATUS_OK;
}

/* Prompts with answers hanging on them. */
static enum status tree_lists(const struct bench_shapes *s, struct lists *l) {
    int64_t tree_rows = s->prompt + (int64_t)s->answers * s->answer;
    TRY(lists_create(l, s->groups * tree_rows, (int64_t)s->groups * s->answers,
                     (int64_t)s->groups * s->answers * (s->prompt + s->answer), s->groups));
    for (int32_t t = 0; t < s->groups; t++) {
        int32_t root = l->rows;
        for (int32_t a = 0; a < s->answers; a++) {
            for (int32_t p = 0; p < s->prompt; p++)
                l->key_rows[l->keys++] = root + p;
            for (int32_t p = a == 0 ? 0 : s->prompt; p < s->prompt + s->answer; p++) {
                l->row_sequence[l->rows] = l->sequences;
                l->row_position[l->rows] = p;
                l->pairs += p + 1;
                if (p >= s->prompt)
                    l->key_rows[l->keys++] = l->rows;
                l->rows++;
            }
            l->key_offset[++l->sequences] = l->keys;
        }
        l->tree_row[++l->trees] = l->rows;
    }
    return STATUS_OK;
}

static void attention(struct bench *b, const char *shape, struct lists *l, bool backward) {
    int64_t N = b->s->heads, K = b->s->kv_heads, D = b->s->head_dim, R = l->rows, width = (N + 2 * K) * D,
            keys = l->keys;
    double flops = 4.0 * (double)(N * D) * l->pairs, bytes = 2.0 * (double)(R * (2 * N) * D + 2 * keys * K * D);
    b->a = bf16_buffer(b, R * width);
    b->b = bf16_buffer(b, R * width);
    b->c = bf16_buffer(b, keys * K * D);
    b->d = bf16_buffer(b, keys * K * D);
    b->e = bf16_buffer(b, R * N * D);
    b->f = bf16_buffer(b, R * K * D);
    b->g = bf16_buffer(b, R * K * D);
    b->u = f32_buffer(b, R * N);
    b->view = (struct attention_view){.rows = l->rows,
                                      .sequences = l->sequences,
                                      .row_sequence = ints(b, l->row_sequence, R),
                                      .row_position = ints(b, l->row_position, R),
                                      .key_offset = ints(b, l->key_offset, l->sequences + 1),
                                      .key_rows = ints(b, l->key_rows, keys),
                                      .trees = l->trees,
                                      .tree_row = backward ? l->tree_row : NULL};
    figure(b, "attention", shape, run_attention, flops, bytes);
    if (backward)
        figure(b, "attention backward", shape, run_attention_backward, 2.5 * flops, 2.5 * bytes);
    release_all(b);
}

static void attentions(struct bench *b) {
    struct lists l;
    if (b->status == STATUS_OK)
        b->status = decode_lists(b->s, &l);
    if (b->status != STATUS_OK)
        return;
    attention(b, "decode", &l, false);
    lists_destroy(&l);
    if (b->status == STATUS_OK)
        b->status = tree_lists(b->s, &l);
    if (b->status != STATUS_OK)
        return;
    attention(b, "trees", &l, true);
    lists_destroy(&l);
}

/* ---- the rest ---- */

static void run_copy(struct bench *b) {
    b->ops->copy(b->device, b->a, b->b, (size_t)b->R * (size_t)b->n * 2);
}

static void run_norm(struct bench *b) {
    b->ops->rmsnorm_forward(b->device, b->b, b->u, b->a, b->w, b->R, b->n, 1e-6f);
}

static void run_norm_backward(struct bench *b) {
    b->ops->rmsnorm_backward(b->device, b->b, WRITE_ADD, b->v, b->c, b->a, b->u, b->w, b->R, b->n);
}

static void run_swiglu(struct bench *b) {
    b->ops->swiglu_forward(b->device, b->b, b->a, b->R, b->n);
}

static void run_swiglu_backward(struct bench *b) {
    b->ops->swiglu_backward(b->device, b->a, b->b, b->a, b->R, b->n);
}

static void run_embed_backward(struct bench *b) {
    b->ops->embed_backward(b->device, b->v, b->a, b->ids, b->R, b->n, b->k);
}

static void rows_at(struct bench *b, int32_t R, int32_t n) {
    b->R = R;
    b->n = n;
    b->a = bf16_buffer(b, 2 * (int64_t)R * n);
    b->b = bf16_buffer(b, (int64_t)R * n);
    b->c = bf16_buffer(b, (int64_t)R * n);
    b->u = f32_buffer(b, R);
    b->v = f32_buffer(b, n);
    b->w = (struct weight){bf16_buffer(b, n), DTYPE_BF16};
}

static void row_operations(struct bench *b) {
    const struct bench_shapes *s = b->s;
    int32_t R = s->groups * (s->prompt + s->answers * s->answer);
    double hidden = (double)R * s->hidden, ffn = (double)R * s->ffn;
    char shape[64];
    rows_at(b, R, s->hidden);
    snprintf(shape, sizeof shape, "%d x %d", R, s->hidden);
    figure(b, "copy", shape, run_copy, 0, 4 * hidden);
    figure(b, "rmsnorm", shape, run_norm, 0, 4 * hidden);
    figure(b, "rmsnorm backward", shape, run_norm_backward, 0, 12 * hidden);
    release_all(b);
    rows_at(b, R, s->ffn);
    snprintf(shape, sizeof shape, "%d x %d", R, s->ffn);
    figure(b, "swiglu", shape, run_swiglu, 0, 6 * ffn);
    figure(b, "swiglu backward", shape, run_swiglu_backward, 0, 10 * ffn);
    release_all(b);
    int32_t *ids = calloc((size_t)R, sizeof *ids), most = s->vocab < 4096 ? s->vocab : 4096;
    for (int32_t r = 0; ids != NULL && r < R; r++)
        ids[r] = (int32_t)((int64_t)r * 7919 % most);
    rows_at(b, R, s->hidden);
    if (ids != NULL) {
        b->k = most;
        b->v = f32_buffer(b, (int64_t)most * s->hidden);
        b->ids = ints(b, ids, R);
        snprintf(shape, sizeof shape, "%d x %d", R, s->hidden);
        figure(b, "embed backward", shape, run_embed_backward, 0, 10 * hidden);
    }
    free(ids);
    release_all(b);
}

static void run_logprob(struct bench *b) {
    b->ops->logprob_forward(b->device, b->u, b->v, NULL, b->a, b->ids, b->R, b->n, b->n - 7, 1.0f);
}

static void run_logprob_backward(struct bench *b) {
    b->ops->logprob_backward(b->device, b->b, b->a, b->v, b->u, b->ids, b->R, b->n, b->n - 7, 1.0f);
}

static void run_sample(struct bench *b) {
    b->ops->sample(b->device, b->ids, b->v, b->a, NULL, b->u, b->R, b->n, b->n - 7, 1.0f, 0, 1.0f);
}

static void run_adamw(struct bench *b) {
    struct adamw_step step = {1e-6f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f};
    b->ops->adamw(b->device, b->a, DTYPE_BF16, b->b, b->c, b->d, b->e, b->s->flat, &step);
}

static void run_adamw8(struct bench *b) {
    struct adamw_step step = {1e-6f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f};
    struct moments8 moments = {b->c, (uint8_t *)b->c + b->s->flat, b->d, (float *)b->d + moment_blocks(b->s->flat)};
    b->ops->adamw8(b->device, b->a, DTYPE_BF16, b->b, &moments, b->e, b->s->flat, &step);
}

static void run_sum_squares(struct bench *b) {
    double sum;
    b->ops->sum_squares(b->device, &sum, b->e, b->s->flat);
}

static void run_digest(struct bench *b) {
    struct digest digest;
    b->ops->digest(b->device, &digest, b->a, DTYPE_BF16, 0, b->s->flat);
}

/* ---- changes between versions: one piece of the flat buffer, one element in 64 moves ---- */

struct change_lists {
    int64_t count;
    uint32_t counts[CHANGE_BLOCKS_MAX];
    uint16_t *at, *step, *weights; /* host [count] */
};
static struct change_lists moved;

static void run_find_changes(struct bench *b) {
    b->ops->find_changes(b->device, moved.counts, moved.at, moved.step, b->a, b->b, moved.count);
}

static void run_apply_changes(struct bench *b) {
    struct digest sum;
    b->ops->apply_changes(b->device, b->a, &sum, moved.counts, moved.at, moved.step, false, 0, moved.count);
}

/* Lists of both directions cross to or from the host: 4 bytes a change, beside what moves in the device's memory. */
static void changes(struct bench *b) {
    const int64_t most = (int64_t)CHANGE_BLOCKS_MAX * CHANGE_BLOCK;
    char shape[64];
    moved.count = b->s->flat < most ? b->s->flat : most;
    size_t bytes = (size_t)moved.count * sizeof(uint16_t);
    moved.at = malloc(bytes);
    moved.step = malloc(bytes);
    moved.weights = calloc(1, bytes);
    if (moved.at == NULL || moved.step == NULL || moved.weights == NULL)
        b->status = fail(STATUS_NO_MEMORY, "candor-bench gpu: no host memory for lists of changes");
    b->a = buffer(b, (int64_t)bytes);
    b->b = buffer(b, (int64_t)bytes);
    for (int64_t i = 0; b->status == STATUS_OK && i < moved.count; i += 64)
        moved.weights[i] = 1;
    if (b->status == STATUS_OK)
        b->ops->upload(b->device, b->b, moved.weights, bytes);
    snprintf(shape, sizeof shape, "%lld", (long long)moved.count);
    double count = (double)moved.count;
    figure(b, "find_changes", shape, run_find_changes, 0, 4 * count + 4 * count / 64);
    figure(b, "apply_changes", shape, run_apply_changes, 0, 8 * count / 64);
    free(moved.at);
    free(moved.step);
    free(moved.weights);
    release_all(b);
}

static void vocabulary_and_flat(struct bench *b) {
    const struct bench_shapes *s = b->s;
    double logits = (double)s->logit_rows * s->vocab, flat = (double)s->flat;
    char shape[64];
    snprintf(shape, sizeof shape, "%d x %d", s->logit_rows, s->vocab);
    b->R = s->logit_rows;
    b->n = s->vocab;
    b->a = f32_buffer(b, (int64_t)b->R * b->n);
    b->b = bf16_buffer(b, (int64_t)b->R * b->n);
    b->u = f32_buffer(b, b->R);
    b->v = f32_buffer(b, b->R);
    b->ids = buffer(b, (int64_t)b->R * 4);
    figure(b, "logprob", shape, run_logprob, 0, 4 * logits);
    figure(b, "logprob backward", shape, run_logprob_backward, 0, 6 * logits);
    figure(b, "sample", shape, run_sample, 0, 4 * logits);
    release_all(b);
    snprintf(shape, sizeof shape, "%lld", (long long)s->flat);
    b->a = bf16_buffer(b, s->flat);
    b->b = bf16_buffer(b, s->flat);
    b->c = f32_buffer(b, s->flat);
    b->d = buffer(b, s->flat * 4);
    b->e = f32_buffer(b, s->flat);
    figure(b, "adamw", shape, run_adamw, 0, 28 * flat);
    figure(b, "adamw8", shape, run_adamw8, 0, 16 * flat);
    figure(b, "sum_squares", shape, run_sum_squares, 0, 4 * flat);
    figure(b, "digest", shape, run_digest, 0, 2 * flat);
    release_all(b);
}

enum status bench_gpu_table(struct device *device, const struct bench_shapes *shapes, double seconds, FILE *out) {
    if (device->activation != DTYPE_BF16)
        return fail(STATUS_UNSUPPORTED, "candor-bench gpu: %s: right would be a GPU, as in --device cuda:0",
                    device->name);
    struct bench b = {.device = device, .ops = device->ops, .s = shapes, .seconds = seconds, .out = out};
    for (size_t i = 0; i < sizeof peaks / sizeof peaks[0] && b.peak == NULL; i++)
        if (strstr(device->name, peaks[i].name) != NULL)
            b.peak = &peaks[i];
    fprintf(out, "%s; %s\n", device->name, device->arithmetic);
    if (b.peak != NULL)
        fprintf(out, "stated peak: %.0f TFLOP/s bf16, %.0f GB/s; the shares are of these\n", b.peak->tflops,
                b.peak->gbs);
    products(&b);
    attentions(&b);
    row_operations(&b);
    vocabulary_and_flat(&b);
    changes(&b);
    if (device->products[0])
        fprintf(out, "matrix products: %s\n", device->products);
    release_all(&b);
    return b.status;
}

int bench_gpu(int argc, char **argv) {
    const char *spec = "cuda:0";
    double seconds = 0.2;
    for (int i = 0; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--device") == 0)
            spec = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
        else {
            fprintf(stderr, "usage: candor-bench gpu [--device cuda:N] [--seconds S]\n");
            return 64;
        }
    }
    struct device *device = NULL;
    enum status status = device_open_for("--device", spec, 0, &device);
    if (status == STATUS_OK)
        status = bench_gpu_table(device, &bench_shapes_7b, seconds, stdout);
    if (status != STATUS_OK)
        fprintf(stderr, "candor-bench: %s\n", status_message());
    device_close(&device);
    return status_exit_code(status);
}
