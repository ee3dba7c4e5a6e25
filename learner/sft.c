#include "learner/sft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/model/train.h"
#include "learner/support.h"
#include "learner/microbatch.h"
#include "learner/optimiser.h"
#include "learner/sft_data.h"

struct sft {
    const struct run_config *config;
    const struct sft_events *events;
    struct tokenizer *tokenizer;
    struct chat chat;
    struct sft_data data;
    struct sft_order order;
    struct device *device;
    struct model *model;
    struct optimiser *optimiser;
    struct train *train;
    struct train_batch *batch;
    uint32_t *picked;                  /* [batch] examples of the update */
    struct microbatch_weight *weights; /* [batch] */
    struct microbatch *cuts;           /* [batch] */
    float *lp, *dlp;                   /* [targets most] */
    double loss;                       /* of the last update */
    uint64_t rows, targets;            /* that went through the model; only targets meet the vocabulary */
};

static void sft_deinit(struct sft *s) {
    free(s->picked);
    free(s->weights);
    free(s->cuts);
    free(s->lp);
    free(s->dlp);
    train_batch_destroy(&s->batch);
    train_destroy(&s->train);
    optimiser_destroy(&s->optimiser);
    model_destroy(&s->model);
    device_close(&s->device);
    sft_order_deinit(&s->order);
    sft_data_deinit(&s->data);
    tokenizer_close(&s->tokenizer);
}

static enum status open_model(struct sft *s, bool from_nothing) {
    const struct run_config *config = s->config;
    struct model_config shape;
    TRY(model_config_read(config->model_path, &shape));
    TRY(tokenizer_open(config->model_path, &s->tokenizer));
    TRY(chat_open(config->model_path, s->tokenizer, &s->chat));
    TRY(sft_data_load(config->sft_data, &s->chat, (uint32_t)shape.max_positions, &s->data));
    TRY(sft_order_init(&s->order, (uint64_t)config->run_seed, s->data.count));
    TRY(device_open_for("model.device", config->model_device, (int)config->train_threads, &s->device));
    enum dtype type = config->model_storage == 0 ? DTYPE_BF16 : DTYPE_F32;
    TRY(support_check_memory(s->device, config->model_path, &shape, type, (enum moment_storage)config->optim_moments, 1,
                             0));
    int32_t positions = (int32_t)s->data.longest, vocab = tokenizer_vocab_size(s->tokenizer);
    if (!from_nothing)
        return model_load(s->device, config->model_path, type, positions, vocab, &s->model);
    TRY(model_create(s->device, &shape, type, positions, vocab, &s->model));
    return model_initialise(s->model, (uint64_t)config->run_seed, config->sft_init_std);
}

static enum status open_trainer(struct sft *s) {
    const struct run_config *config = s->config;
    struct optimiser_settings settings = {.lr = config->sft_lr,
                                          .beta1 = config->optim_beta1,
                                          .beta2 = config->sft_beta2,
                                          .eps = config->optim_eps,
                                          .weight_decay = config->sft_weight_decay,
                                          .clip = config->optim_clip,
                                          .moments = (enum moment_storage)config->optim_moments,
                                          .schedule = (enum lr_schedule)config->sft_schedule,
                                          .warmup = (uint64_t)config->sft_warmup,
                                          .steps = (uint64_t)config->sft_steps};
    TRY(optimiser_create(s->model, &settings, &s->optimiser));
    struct microbatch_weight most = microbatch_most((struct microbatch_weight){s->data.longest, s->data.longest_answer},
                                                    (uint32_t)config->train_microbatch_tokens);
    struct train_limits limits = {.rows_max = (int32_t)most.rows,
                                  .targets_max = (int32_t)most.targets,
                                  .logit_chunk = (int32_t)config->train_logit_chunk};
    limits.keep_layers = support_keep_layers(s->device, &s->model->config, limits, 0);
    TRY(train_create(s->model, &limits, &s->train));
    TRY(train_batch_create((int32_t)most.rows, (int32_t)most.targets, &s->batch));
    size_t batch = (size_t)config->sft_batch;
    s->picked = calloc(batch, sizeof *s->picked);
    s->weights = calloc(batch, sizeof *s->weights);
    s->cuts = calloc(batch, sizeof *s->cuts);
    s->lp = calloc(most.targets, sizeof *s->lp);
    s->dlp = calloc(most.targets, sizeof *s->dlp);
    if (!s->picked || !s->weights || !s->cuts || !s->lp || !s->dlp)
        return fail(STATUS_NO_MEMORY, "sft: no memory for a batch of %zu examples", batch);
    return STATUS_OK;
}

/* One micro-batch: adds to gradient and to *loss; each target weighs 1 / targets of the update. */
static enum status run_cut(struct sft *s, struct microbatch cut, double scale, double *loss) {
    train_batch_reset(s->batch);
    for (uint32_t i = cut.first; i < cut.first + cut.count; i++) {
        int32_t prompt_count, answer_count;
        const int32_t *prompt = sft_prompt(&s->data, s->picked[i], &prompt_count);
        const int32_t *answer = sft_answer(&s->data, s->picked[i], &answer_count);
        TRY(train_batch_add_tree(s->batch, prompt, prompt_count, &answer, &answer_count, 1));
    }
    TRY(train_forward(s->train, s->batch, 1, s->lp, NULL));
    int32_t targets = train_batch_targets(s->batch);
    for (int32_t t = 0; t < targets; t++) {
        *loss -= scale * (double)s->lp[t];
        s->dlp[t] = (float)-scale;
    }
    s->rows += (uint64_t)train_batch_rows(s->batch);
    s->targets += (uint64_t)targets;
    return train_backward(s->train, s->batch, s->dlp, s->optimiser->gradient);
}

static enum status run_update(struct sft *s, uint64_t step, double *out_loss, struct update *out_update) {
    uint32_t batch = (uint32_t)s->config->sft_batch;
    uint64_t targets = 0;
    for (uint32_t i = 0; i < batch; i++) {
        int32_t prompt_count, answer_count;
        s->picked[i] = sft_order_at(&s->order, step * batch + i);
        sft_prompt(&s->data, s->picked[i], &prompt_count);
        sft_answer(&s->data, s->picked[i], &answer_count);
        s->weights[i] = (struct microbatch_weight){(uint32_t)train_tree_rows(prompt_count, &answer_count, 1),
                                                   (uint32_t)answer_count};
        targets += (uint64_t)answer_count;
    }
    uint32_t cuts = microbatch_cut(s->weights, batch, (uint32_t)s->config->train_microbatch_tokens, s->cuts);
    double loss = 0;
    optimiser_zero_gradient(s->optimiser);
    for (uint32_t c = 0; c < cuts; c++)
        TRY(run_cut(s, s->cuts[c], 1 / (double)targets, &loss));
    TRY(optimiser_update(s->optimiser, step, loss, out_update));
    if (out_update->skipped)
        return fail(STATUS_NONFINITE,
                    "sft: update %llu: loss %g, gradient norm %g; right would be finite numbers: try a "
                    "smaller sft.lr (%g)",
                    (unsigned long long)step, loss, out_update->gradient_norm, s->config->sft_lr);
    *out_loss = loss;
    return STATUS_OK;
}

/* FLOP so far: forward, and twice that backward. */
static double work_done(const struct sft *s) {
    return 3 * model_pass_flop(&s->model->config, (double)s->rows, (double)s->targets, s->data.longest / 2.0);
}

static enum status run_updates(struct sft *s) {
    double start = clock_seconds();
    for (uint64_t step = 0; step < (uint64_t)s->config->sft_steps; step++) {
        if (s->events && s->events->stopped && s->events->stopped(s->events->context))
            return fail(STATUS_INTERRUPTED, "sft: stopped after %llu of %lld updates; nothing is written",
                        (unsigned long long)step, (long long)s->config->sft_steps);
        double loss = 0;
        struct update update;
        TRY(run_update(s, step, &loss, &update));
        s->loss = loss;
        struct sft_progress progress = {.step = step + 1,
                                        .steps = (uint64_t)s->config->sft_steps,
                                        .loss = loss,
                                        .lr = update.lr,
                                        .gradient_norm = update.gradient_norm,
                                        .seconds = clock_seconds() - start,
                                        .flop = work_done(s)};
        progress.tokens_per_second = (double)s->rows / (progress.seconds > 0 ? progress.seconds : 1e-9);
        if (s->events && s->events->progress)
            s->events->progress(s->events->context, &progress);
    }
    return STATUS_OK;
}

/* sft.json: what the model was made with. */
static enum status write_record(const struct sft *s, const char *directory) {
    char path[PATH_BYTES];
    struct buf out = {0};
    TRY(fs_join(path, directory, "sft.json"));
    buf_printf(&out, "{\"updates\": %lld, \"loss\": ", (long long)s->config->sft_steps);
    json_put_double(&out, s->loss);
    buf_puts(&out, ", \"flop\": ");
    json_put_double(&out, work_done(s));
    buf_puts(&out, "}\n");
    enum status status =
        buf_ok(&out) ? fs_write_atomic(path, out.data, out.bytes) : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    buf_deinit(&out);
    return status;
}

static enum status write_model(struct sft *s, const char *beside, const char *out_directory) {
    TRY(support_copy_tokenizer(s->config->model_path, beside));
    TRY(model_save(s->model, beside));
    TRY(write_record(s, beside));
    return fs_move_directory(beside, out_directory);
}

enum status sft_run(const struct run_config *config, bool from_nothing, const char *out_directory,
                    const struct sft_events *events) {
    if (config->sft_data[0] == '\0')
        return fail(STATUS_CONFIG, "sft.data: empty; right would be a JSONL file of system, question and answer");
    if (config->model_path[0] == '\0')
        return fail(STATUS_CONFIG, "model.path: empty; right would be a model directory");
    char beside[PATH_BYTES];
    TRY(fs_part_directory(out_directory, beside)); /* first: the work may take hours */
    struct sft s = {.config = config, .events = events};
    enum status status = open_model(&s, from_nothing);
    if (status == STATUS_OK)
        status = open_trainer(&s);
    if (status == STATUS_OK)
        status = run_updates(&s);
    if (status == STATUS_OK)
        status = write_model(&s, beside, out_directory);
    if (status != STATUS_OK)
        (void)fs_remove_tree(beside);
    sft_deinit(&s);
    return status;
}
