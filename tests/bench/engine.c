/* candor-bench: what the engine achieves on this machine against what the machine can do.
 *
 * The machine's peak of fused multiply-adds and its reading bandwidth are measured first, with the same instruction
 * path and threads as the operations; then each operation and shape prints time, GFLOP/s and share of that peak, or
 * GB/s and share of the bandwidth. Each figure is the best of several runs. Links no transport library. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"
#include "common/compute/math.h"
#include "common/compute/ops.h"
#include "tests/bench/gpu.h"
#include "tests/bench/machine.h"

static struct bench {
    struct device *device;
    const struct ops *ops;
    const char *filter, *path;
    double seconds; /* for each figure */
    double peak_gflops, read_gbs;
} bench = {.filter = "", .seconds = 0.15};

static double now(void) {
    return machine_now(bench.device);
}

/* ---- one figure ---- */

#define BUFFERS_MAX 24
static void *buffers[BUFFERS_MAX];
static int buffer_count;

static void *buffer(int64_t bytes) {
    void *memory = NULL;
    if (buffer_count == BUFFERS_MAX || bench.ops->allocate(bench.device, (size_t)bytes, &memory) != STATUS_OK) {
        fprintf(stderr, "candor-bench: %s\n", status_message());
        exit(1);
    }
    buffers[buffer_count++] = memory;
    return memory;
}

static void release_buffers(void) {
    while (buffer_count > 0)
        bench.ops->release(bench.device, buffers[--buffer_count]);
}

static float *fractions(int64_t count) {
    float *to = buffer(count * 4);
    struct rng_key key = {.seed = 1, .stream = RNG_TEST};
    for (int64_t i = 0; i < count; i++)
        to[i] = i < 4096 ? 2.0f * rng_uniform(&key, (uint32_t)i) - 1.0f : to[i - 4093];
    return to;
}

static struct weight weights(int64_t count) {
    uint16_t *to = buffer(count * 2);
    struct rng_key key = {.seed = 2, .stream = RNG_TEST};
    for (int64_t i = 0; i < count; i++)
        to[i] = i < 4096 ? bf16_of_f32(0.1f * rng_uniform(&key, (uint32_t)i) - 0.05f) : to[i - 4093];
    return (struct weight){to, DTYPE_BF16};
}

/* The best of the runs that fit in the time: peak and bandwidth are the best of theirs too, and other programs only
 * add. */
static double best_seconds(void (*run)(const void *), const void *job) {
    double best = INFINITY, until = now() + bench.seconds;
    run(job);
    for (int count = 0; count < 3 || now() < until; count++) {
        double start = now();
        run(job);
        best = fmin(best, now() - start);
    }
    return best;
}

static bool wanted(const char *name) {
    return strstr(name, bench.filter) != NULL;
}

static void print_figure(const char *name, const char *shape, double seconds, double flops, double bytes) {
    bench.peak_gflops = fmax(bench.peak_gflops, machine_peak(bench.device)); /* other programs come and go */
    printf("%-20s %-26s %10.3f ms %8.1f GFLOP/s %5.1f %% %8.1f GB/s %5.1f %%\n", name, shape, seconds * 1e3,
           flops / seconds / 1e9, 100 * flops / seconds / 1e9 / bench.peak_gflops, bytes / seconds / 1e9,
           100 * bytes / seconds / 1e9 / bench.read_gbs);
    fflush(stdout);
    release_buffers();
}

/* ---- matrix products ---- */

struct product {
    int32_t R, n, k;
    float *x, *y;
    struct weight w;
};

static void run_forward(const void *job) {
    const struct product *p = job;
    bench.ops->matmul_f32(bench.device, p->y, p->x, p->w, p->R, p->n, p->k);
}

static void run_dx(const void *job) {
    const struct product *p = job;
    bench.ops->matmul_dx(bench.device, p->x, WRITE_OVER, p->y, p->w, p->R, p->n, p->k);
}

static void run_dw(const void *job) {
    const struct product *p = job;
    float *dw;
    memcpy(&dw, &p->w.data, sizeof dw);
    bench.ops->matmul_dw(bench.device, dw, p->y, p->x, p->R, p->n, p->k);
}

static void bench_product(const char *name, void (*run)(const void *), int32_t R, int32_t n, int32_t k) {
    char shape[64];
    snprintf(shape, sizeof shape, "R=%d n=%d k=%d", R, n, k);
    bool dw = run == run_dw;
    struct product job = {R, n, k, fractions((int64_t)R * k), fractions((int64_t)R * n), {0}};
    job.w = dw ? (struct weight){buffer((int64_t)n * k * 4), DTYPE_F32} : weights((int64_t)n * k);
    double flops = 2.0 * R * n * k, bytes = (double)n * k * (dw ? 8 : 2) + 4.0 * R * (n + k);
    print_figure(name, shape, best_seconds(run, &job), flops, bytes);
}

static void bench_products(void) {
    static const int32_t rows[] = {1, 2, 4, 6, 8, 24, 96, 504};
    static const int32_t qwen[][2] = {{1152, 896}, {896, 896}, {9728, 896}, {896, 4864}, {151936, 896}};
    static const int32_t demo[][2] = {{384, 128}, {128, 128}, {512, 128}, {128, 256}, {200, 128}};
    for (int s = 0; s < 5; s++)
        for (int r = 0; r < 8; r++) {
            if (wanted("matmul"))
                bench_product("matmul", run_forward, rows[r], qwen[s][0], qwen[s][1]);
            if (rows[r] >= 96 && wanted("matmul_dx"))
                bench_product("matmul_dx", run_dx, rows[r], qwen[s][0], qwen[s][1]);
            if (rows[r] >= 96 && wanted("matmul_dw"))
                bench_product("matmul_dw", run_dw, rows[r], qwen[s][0], qwen[s][1]);
        }
    static const int32_t demo_rows[] = {1, 20, 160, 1000};
    for (int s = 0; s < 5; s++)
        for (int r = 0; r < 4; r++) {
            if (wanted("matmul demo"))
                bench_product("matmul demo", run_forward, demo_rows[r], demo[s][0], demo[s][1]);
            if (demo_rows[r] >= 160 && wanted("matmul_dx demo"))
                bench_product("matmul_dx demo", run_dx, demo_rows[r], demo[s][0], demo[s][1]);
            if (demo_rows[r] >= 160 && wanted("matmul_dw demo"))
                bench_product("matmul_dw demo", run_dw, demo_rows[r], demo[s][0], demo[s][1]);
        }
}

/* ---- attention: trees of a prompt of 150 and 20 answers of 100, or sequences at decode ---- */

struct attend {
    struct attention_view view;
    struct attention_shape shape;
    float *qkv, *k, *v, *out, *lse, *dout, *dqkv, *dk, *dv, *table;
    int32_t *slots;
};

static void run_attention(const void *job) {
    const struct attend *a = job;
    bench.ops->attention_forward(bench.device, a->out, a->lse, a->qkv, a->k, a->v, &a->view, a->shape);
}

static void run_attention_backward(const void *job) {
    const struct attend *a = job;
    bench.ops->attention_backward(bench.device, a->dqkv, a->dk, a->dv, a->dout, a->out, a->lse, a->qkv, a->k, a->v,
                                  &a->view, a->shape);
}

static void run_rope(const void *job) {
    const struct attend *a = job;
    bench.ops->rope_forward(bench.device, a->qkv, a->dk, a->dv, a->table, a->view.row_position, a->slots, a->view.rows,
                            a->shape);
}

/* trees of one prompt with answers; returns the job and the sum of attended keys over rows. */
static struct attend pack(struct attention_shape shape, int32_t trees, int32_t prompt, int32_t answers, int32_t length,
                          double *out_pairs) {
    int32_t rows = trees * (prompt + answers * length), sequences = trees * (1 + answers), row = 0, sequence = 0,
            key = 0;
    int64_t keys = (int64_t)trees * (prompt + answers * (prompt + length)), N = shape.heads, K = shape.kv_heads;
    int64_t D = shape.head_dim;
    int32_t *row_sequence = buffer(rows * 4), *row_position = buffer(rows * 4),
            *key_offset = buffer((sequences + 1) * 4);
    int32_t *key_rows = buffer(keys * 4), *tree_row = buffer((trees + 1) * 4);
    *out_pairs = 0;
    for (int32_t t = 0; t < trees; t++) {
        int32_t first = row;
        for (int32_t a = 0; a <= answers; a++) {
            int32_t before = a == 0 ? 0 : prompt, own = a == 0 ? prompt : length;
            for (int32_t i = 0; i < before; i++)
                key_rows[key++] = first + i;
            for (int32_t i = 0; i < own; i++) {
                key_rows[key++] = row;
                row_sequence[row] = sequence;
                row_position[row++] = before + i;
                *out_pairs += before + i + 1;
            }
            key_offset[++sequence] = key;
        }
        tree_row[t + 1] = row;
    }
    struct attend job = {.view = {rows, sequences, row_sequence, row_position, key_offset, key_rows, trees, tree_row},
                         .shape = shape};
    job.qkv = fractions(rows * (N + 2 * K) * D);
    job.dqkv = buffer(rows * (N + 2 * K) * D * 4);
    job.k = fractions(rows * K * D);
    job.v = fractions(rows * K * D);
    job.out = buffer(rows * N * D * 4);
    job.dout = fractions(rows * N * D);
    job.lse = buffer(rows * N * 4);
    job.dk = buffer(rows * K * D * 4);
    job.dv = buffer(rows * K * D * 4);
    job.table = fractions((prompt + length) * D);
    job.slots = buffer(rows * 4);
    for (int32_t r = 0; r < rows; r++)
        job.slots[r] = r;
    return job;
}

static void bench_attention(const char *name, struct attention_shape shape, int32_t trees, int32_t prompt,
                            int32_t answers, int32_t length) {
    char text[64];
    double pairs;
    struct attend job = pack(shape, trees, prompt, answers, length, &pairs);
    snprintf(text, sizeof text, "R=%d keys=%.0f N=%d K=%d", job.view.rows, pairs / job.view.rows, shape.heads,
             shape.kv_heads);
    run_attention(&job);
    double rope = best_seconds(run_rope, &job), forward = best_seconds(run_attention, &job),
           backward = best_seconds(run_attention_backward, &job);
    double flops = 4 * pairs * shape.heads * shape.head_dim;
    char backward_name[64];
    snprintf(backward_name, sizeof backward_name, "%s backward", name);
    int held = buffer_count;
    buffer_count = 0;
    print_figure(name, text, forward, flops, 0);
    print_figure("rope", text, rope, 0, 8.0 * job.view.rows * (shape.heads + 2 * shape.kv_heads) * shape.head_dim);
    buffer_count = held;
    print_figure(backward_name, text, backward, 2.5 * flops, 0);
}

/* ---- the rest ---- */

struct simple {
    int32_t R, H;
    float *a, *b, *c, *d, *rows;
    struct weight w;
    int32_t *ids;
    uint16_t *rem;
};

static void run_norm(const void *job) {
    const struct simple *s = job;
    bench.ops->rmsnorm_forward(bench.device, s->b, s->rows, s->a, s->w, s->R, s->H, 1e-6f);
}

static void run_norm_backward(const void *job) {
    const struct simple *s = job;
    bench.ops->rmsnorm_backward(bench.device, s->b, WRITE_ADD, s->d, s->c, s->a, s->rows, s->w, s->R, s->H);
}

static void run_swiglu(const void *job) {
    const struct simple *s = job;
    bench.ops->swiglu_forward(bench.device, s->b, s->a, s->R, s->H);
}

static void run_swiglu_backward(const void *job) {
    const struct simple *s = job;
    bench.ops->swiglu_backward(bench.device, s->c, s->b, s->a, s->R, s->H);
}

static void run_logprob(const void *job) {
    const struct simple *s = job;
    bench.ops->logprob_forward(bench.device, s->rows, s->rows + s->R, NULL, s->a, s->ids, s->R, s->H, s->H - 30, 1.0f);
}

static void run_logprob_backward(const void *job) {
    const struct simple *s = job;
    bench.ops->logprob_backward(bench.device, s->b, s->a, s->rows + s->R, s->d, s->ids, s->R, s->H, s->H - 30, 1.0f);
}

static void run_sample(const void *job) {
    const struct simple *s = job;
    bench.ops->sample(bench.device, s->ids, s->rows, s->a, NULL, s->d, s->R, s->H, s->H - 30, 1.0f, 0, 1.0f);
}

static void run_adamw(const void *job) {
    const struct simple *s = job;
    struct adamw_step step = {1e-6f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f};
    uint16_t *w;
    memcpy(&w, &s->w.data, sizeof w);
    bench.ops->adamw(bench.device, w, DTYPE_BF16, s->rem, s->b, s->c, s->a, (int64_t)s->R * s->H, &step);
}

/* Codes and the blocks' greatest are whatever lies there: s->c is not negative, and any byte is a code. */
static void run_adamw8(const void *job) {
    const struct simple *s = job;
    struct adamw_step step = {1e-6f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f};
    int64_t count = (int64_t)s->R * s->H;
    struct moments8 moments = {(uint8_t *)s->b, (uint8_t *)s->b + count, s->c, s->c + moment_blocks(count)};
    uint16_t *w;
    memcpy(&w, &s->w.data, sizeof w);
    bench.ops->adamw8(bench.device, w, DTYPE_BF16, s->rem, &moments, s->a, count, &step);
}

static void run_sum_squares(const void *job) {
    const struct simple *s = job;
    double sum;
    bench.ops->sum_squares(bench.device, &sum, s->a, (int64_t)s->R * s->H);
    machine_sink = (float)sum;
}

static void run_digest(const void *job) {
    const struct simple *s = job;
    struct digest digest;
    bench.ops->digest(bench.device, &digest, s->w.data, DTYPE_BF16, 0, (int64_t)s->R * s->H);
    machine_sink = (float)digest.low;
}

/* bytes: read and written for one element of R x H */
static void bench_simple(const char *name, void (*run)(const void *), int32_t R, int32_t H, double bytes) {
    if (!wanted(name))
        return;
    char shape[64];
    int64_t count = (int64_t)R * H;
    snprintf(shape, sizeof shape, "R=%d %s=%d", R, H > 100000 ? "V" : "H", H);
    struct simple job = {R,
                         H,
                         fractions(2 * count),
                         fractions(count),
                         fractions(2 * count),
                         buffer(4 * (int64_t)(R > H ? R : H)),
                         fractions(2 * R),
                         weights(count),
                         buffer(4 * R),
                         buffer(2 * count)};
    for (int32_t i = 0; i < (R > H ? R : H); i++)
        job.d[i] = 0.5f;
    for (int64_t i = 0; i < count; i++)
        job.c[i] = fabsf(job.c[i]);
    print_figure(name, shape, best_seconds(run, &job), 0, bytes * (double)count);
}

static void bench_rest(void) {
    static const int32_t shapes[][3] = {{504, 896, 4864}, {1000, 128, 256}};
    for (int s = 0; s < 2; s++) {
        int32_t R = shapes[s][0], H = shapes[s][1], F = shapes[s][2];
        bench_simple("rmsnorm", run_norm, R, H, 8);
        bench_simple("rmsnorm backward", run_norm_backward, R, H, 16);
        bench_simple("swiglu", run_swiglu, R, F, 12);
        bench_simple("swiglu backward", run_swiglu_backward, R, F, 20);
    }
    static const int32_t rows[][2] = {{64, 151936}, {1000, 200}};
    for (int s = 0; s < 2; s++) {
        bench_simple("logprob", run_logprob, rows[s][0], rows[s][1], 4);
        bench_simple("logprob backward", run_logprob_backward, rows[s][0], rows[s][1], 8);
        bench_simple("sample", run_sample, rows[s][0], rows[s][1], 4);
    }
    bench_simple("adamw", run_adamw, 1000, 16384, 28);
    bench_simple("adamw8", run_adamw8, 1000, 16384, 16);
    bench_simple("sum_squares", run_sum_squares, 1000, 16384, 4);
    bench_simple("digest", run_digest, 1000, 16384, 2);
}

static int usage(void) {
    fprintf(stderr, "usage: candor-bench [--path avx512|avx2|portable] [--threads N] [--only TEXT] [--seconds S]\n"
                    "       candor-bench gpu [--device cuda:N] [--seconds S]\n"
                    "  --only TEXT   operations whose name contains TEXT\n"
                    "  --seconds S   time for each figure (default 0.15)\n");
    return 64;
}

int main(int argc, char **argv) {
    int threads = 0;
    if (argc > 1 && strcmp(argv[1], "gpu") == 0)
        return bench_gpu(argc - 2, argv + 2);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc)
            return usage();
        if (strcmp(argv[i], "--path") == 0)
            bench.path = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--only") == 0)
            bench.filter = argv[i + 1];
        else if (strcmp(argv[i], "--seconds") == 0)
            bench.seconds = atof(argv[i + 1]);
        else
            return usage();
    }
    if (cpu_open(bench.path, threads, &bench.device) != STATUS_OK) {
        fprintf(stderr, "candor-bench: %s\n", status_message());
        return 1;
    }
    bench.ops = bench.device->ops;
    bench.peak_gflops = machine_peak(bench.device);
    bench.read_gbs = machine_reading(bench.device);
    printf("%s\npeak %.1f GFLOP/s fused multiply-add, %.1f GB/s reading\n\n", bench.device->name, bench.peak_gflops,
           bench.read_gbs);
    bench_products();
    if (wanted("attention")) {
        bench_attention("attention", (struct attention_shape){14, 2, 64, 0.125f}, 1, 150, 20, 100);
        bench_attention("attention demo", (struct attention_shape){2, 2, 64, 0.125f}, 8, 40, 20, 12);
    }
    bench_rest();
    device_close(&bench.device);
    return 0;
}
