/* candor-bench-model: what the whole model achieves: generation of groups with shared prompts, and a training step on
 * them.
 *
 *     candor-bench-model [SHAPE] [GROUPS] [THREADS]     SHAPE demo (default) or 0.5b
 *
 * Prints tokens a second, GFLOP/s (products of the model alone, multiply and add count two) and, for generation, the
 * share of time that is spent on the host outside operations. Weights are random bits of small numbers: speed does not
 * depend on them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/model/infer.h"
#include "common/model/train.h"

#define GROUP 20

struct shape {
    const char *name;
    struct model_config config;
    int32_t prompt, answer, groups;
};

static const struct shape shapes[] = {
    {"demo",
     {.layers = 4,
      .hidden = 128,
      .heads = 2,
      .kv_heads = 2,
      .head_dim = 64,
      .ffn = 512,
      .vocab = 200,
      .max_positions = 64,
      .rope_theta = 1e4,
      .rms_eps = 1e-6f,
      .tied = true},
     14,
     8,
     32},
    {"0.5b",
     {.layers = 24,
      .hidden = 896,
      .heads = 14,
      .kv_heads = 2,
      .head_dim = 64,
      .ffn = 4864,
      .vocab = 151936,
      .max_positions = 1024,
      .rope_theta = 1e6,
      .rms_eps = 1e-6f,
      .tied = true},
     150,
     16,
     2},
};

static int failed(void) {
    fprintf(stderr, "candor-bench-model: %s\n", status_message());
    return 1;
}

static enum status fill(struct model *model) {
    const size_t bytes = (size_t)model->layout->total * 2;
    uint16_t *weights = malloc(bytes);
    if (!weights)
        return fail(STATUS_NO_MEMORY, "no memory for weights");
    for (int64_t i = 0; i < model->layout->total; i++) {
        uint32_t mixed = (uint32_t)i * 0x9E3779B1u;
        weights[i] = (uint16_t)(0x3c00 | (mixed >> 16 & 0x80ff)); /* +-0.008 to +-0.03 */
    }
    model->device->ops->upload(model->device, model->data, weights, bytes);
    free(weights);
    return model->device->ops->synchronize(model->device);
}

/* ---- generation ---- */

struct generation {
    const struct shape *shape;
    int32_t groups;
    struct infer *infer;
    struct infer_row *rows;
    int32_t *sequences, *ids, *draw_rows;
    float *uniforms, *lp;
    double prefill_seconds, decode_seconds, sample_seconds, fork_seconds;
};

static enum status prefill(struct generation *g) {
    int32_t parents[4096], count = 0;
    for (int32_t q = 0; q < g->groups; q++) {
        TRY(infer_sequence_open(g->infer, &parents[q]));
        for (int32_t p = 0; p < g->shape->prompt; p++)
            g->rows[count++] = (struct infer_row){parents[q], (q * 31 + p * 7) % 199, p == g->shape->prompt - 1};
    }
    double start = clock_seconds();
    TRY(infer_forward(g->infer, g->rows, count));
    double forward = clock_seconds();
    for (int32_t i = 0; i < g->groups * GROUP; i++) {
        g->draw_rows[i] = i / GROUP;
        TRY(infer_sequence_fork(g->infer, parents[i / GROUP], g->shape->prompt, &g->sequences[i]));
    }
    double forked = clock_seconds();
    for (int32_t q = 0; q < g->groups; q++)
        infer_sequence_close(g->infer, parents[q]);
    g->prefill_seconds += forward - start;
    g->fork_seconds += forked - forward;
    return STATUS_OK;
}

static enum status generate(struct generation *g) {
    const struct sampling sampling = {.temperature = 1.0f, .top_p = 1.0f};
    const int32_t samples = g->groups * GROUP;
    TRY(prefill(g));
    for (int32_t t = 0; t < g->shape->answer; t++) {
        for (int32_t i = 0; i < samples; i++)
            g->rows[i] = (struct infer_row){g->sequences[i], g->ids[i], 1};
        double start = clock_seconds();
        if (t > 0)
            TRY(infer_forward(g->infer, g->rows, samples));
        double forward = clock_seconds();
        for (int32_t i = 0; i < samples; i++) {
            const struct rng_key key = {.seed = 1, .stream = RNG_TEST, .slot = (uint32_t)i};
            g->uniforms[i] = rng_uniform(&key, (uint32_t)t);
        }
        TRY(infer_sample(g->infer, &sampling, t ? NULL : g->draw_rows, g->uniforms, samples, g->ids, g->lp));
        g->decode_seconds += forward - start;
        g->sample_seconds += clock_seconds() - forward;
    }
    infer_reset(g->infer);
    return STATUS_OK;
}

static enum status bench_generation(struct model *model, const struct shape *shape, int32_t groups) {
    const int32_t samples = groups * GROUP;
    const int32_t prompts = groups * shape->prompt, rows = samples > prompts ? samples : prompts;
    const struct infer_limits limits = {.rows_max = rows,
                                        .sequences_max = samples + groups,
                                        .kv_tokens =
                                            (int64_t)samples * (shape->prompt + shape->answer + KV_PAGE_TOKENS),
                                        .logit_rows_max = samples};
    struct generation g = {.shape = shape, .groups = groups};
    TRY(infer_create(model, &limits, &g.infer));
    g.rows = calloc((size_t)rows, sizeof *g.rows);
    g.sequences = calloc((size_t)samples, sizeof *g.sequences);
    g.ids = calloc((size_t)samples, sizeof *g.ids);
    g.draw_rows = calloc((size_t)samples, sizeof *g.draw_rows);
    g.uniforms = calloc((size_t)samples, sizeof *g.uniforms);
    g.lp = calloc((size_t)samples, sizeof *g.lp);
    TRY(generate(&g)); /* warm */
    g.prefill_seconds = g.decode_seconds = g.sample_seconds = g.fork_seconds = 0;
    double start = clock_seconds(), elapsed;
    int32_t runs = 0;
    do {
        TRY(generate(&g));
        runs++;
        elapsed = clock_seconds() - start;
    } while (elapsed < 2.0);
    double tokens = (double)runs * samples * shape->answer;
    double decoded = (double)runs * samples * (shape->answer - 1);
    double flop = model_forward_flop(&model->config, shape->prompt + shape->answer / 2);
    printf("generate %d x %d answers of %d tokens, prompts of %d: %.0f tokens/s\n", groups, GROUP, shape->answer,
           shape->prompt, tokens / elapsed);
    printf("  prefill %.2f ms, forks %.2f ms, decode %.3f ms a step (%.1f GFLOP/s), draws %.3f ms a step\n",
           1e3 * g.prefill_seconds / runs, 1e3 * g.fork_seconds / runs,
           1e3 * g.decode_seconds / runs / (shape->answer - 1), 1e-9 * decoded * flop / g.decode_seconds,
           1e3 * g.sample_seconds / runs / shape->answer);
    infer_destroy(&g.infer);
    free(g.rows);
    free(g.sequences);
    free(g.ids);
    free(g.draw_rows);
    free(g.uniforms);
    free(g.lp);
    return STATUS_OK;
}

/* ---- training ---- */

static enum status add_trees(struct train_batch *batch, const struct shape *shape, int32_t groups, bool shared) {
    int32_t tokens[4096], counts[GROUP];
    const int32_t *answers[GROUP];
    for (int32_t i = 0; i < 4096; i++)
        tokens[i] = i * 7 % 199;
    for (int32_t a = 0; a < GROUP; a++) {
        answers[a] = tokens + a;
        counts[a] = shape->answer;
    }
    for (int32_t q = 0; q < groups; q++) {
        if (shared)
            TRY(train_batch_add_tree(batch, tokens + q % 32, shape->prompt, answers, counts, GROUP));
        for (int32_t a = 0; !shared && a < GROUP; a++)
            TRY(train_batch_add_tree(batch, tokens + q % 32, shape->prompt, &answers[a], counts, 1));
    }
    return STATUS_OK;
}

static enum status bench_training(struct model *model, const struct shape *shape, int32_t groups, bool shared) {
    const int32_t targets = groups * GROUP * shape->answer;
    const struct train_limits limits = {.rows_max = groups * GROUP * (shape->prompt + shape->answer),
                                        .targets_max = targets,
                                        .logit_chunk = 1024,
                                        .keep_layers = -1};
    struct train *train = NULL;
    struct train_batch *batch = NULL;
    void *gradients = NULL;
    TRY(train_batch_create(limits.rows_max, limits.targets_max, &batch));
    TRY(add_trees(batch, shape, groups, shared));
    TRY(train_create(model, &limits, &train));
    TRY(model->device->ops->allocate(model->device, (size_t)model->layout->total * sizeof(float), &gradients));
    float *lp = calloc((size_t)targets, sizeof *lp), *dlp = calloc((size_t)targets, sizeof *dlp);
    for (int32_t t = 0; t < targets; t++)
        dlp[t] = 1e-3f;
    double forward = 0, backward = 0;
    int32_t runs = -1; /* the first is warm-up */
    while (runs < 1 || forward + backward < 2.0) {
        double start = clock_seconds();
        TRY(train_forward(train, batch, 1.0f, lp, NULL));
        double middle = clock_seconds();
        TRY(train_backward(train, batch, dlp, gradients));
        forward += middle - start;
        backward += clock_seconds() - middle;
        if (runs++ < 0)
            forward = backward = 0;
    }
    int32_t rows = train_batch_rows(batch);
    double each = (forward + backward) / runs;
    double flop = 3.0 * (double)rows * model_forward_flop(&model->config, (shape->prompt + shape->answer) / 2);
    printf("train, %s prompts: %d rows for %d targets: forward %.2f ms, backward %.2f ms: %.0f rows/s, %.1f GFLOP/s\n",
           shared ? "shared" : "unshared", rows, targets, 1e3 * forward / runs, 1e3 * backward / runs, rows / each,
           1e-9 * flop / each);
    model->device->ops->release(model->device, gradients);
    train_destroy(&train);
    train_batch_destroy(&batch);
    free(lp);
    free(dlp);
    return STATUS_OK;
}

int main(int argc, char **argv) {
    const struct shape *shape = &shapes[0];
    for (size_t i = 0; argc > 1 && i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(argv[1], shapes[i].name) == 0)
            shape = &shapes[i];
    }
    int32_t groups = argc > 2 ? atoi(argv[2]) : shape->groups;
    if ((argc > 1 && strcmp(argv[1], shape->name) != 0) || groups < 1 || groups > 4096) {
        fprintf(stderr, "usage: candor-bench-model [demo|0.5b] [GROUPS 1..4096] [THREADS]\n");
        return 64;
    }
    struct device *device = NULL;
    struct model *model = NULL;
    if (device_open("cpu", argc > 3 ? atoi(argv[3]) : 0, &device) != STATUS_OK ||
        model_create(device, &shape->config, DTYPE_BF16, shape->config.max_positions, 0, &model) != STATUS_OK ||
        fill(model) != STATUS_OK)
        return failed();
    printf("%s, %d threads; model %s, %.1fM parameters\n", device->name, device->threads, shape->name,
           1e-6 * (double)model->layout->total);
    if (bench_generation(model, shape, groups) != STATUS_OK ||
        bench_training(model, shape, groups, true) != STATUS_OK ||
        bench_training(model, shape, groups, false) != STATUS_OK)
        return failed();
    model_destroy(&model);
    device_close(&device);
    return 0;
}
