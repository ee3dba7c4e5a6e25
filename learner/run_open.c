/* Setting a run up and taking it down (run_internal.h). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/build.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/weights/delta.h"
#include "learner/support.h"
#include "learner/run_internal.h"

#define CANARY_ROWS 64

_Static_assert(CHECKPOINT_OLDER_MAX == COURSE_VERSIONS_MAX - 1, "a checkpoint holds what the course keeps");

/* ---- model, questions ---- */

static enum status open_questions(struct run *run) {
    const struct run_config *config = run->config;
    uint32_t prompt_max = (uint32_t)config->prompt_max_tokens;
    TRY(questions_load(config->data_train, (uint64_t)config->data_limit, config->prompt_system, &run->chat, prompt_max,
                       NULL, &run->train));
    if (config->data_knowledge[0])
        TRY(questions_read_knowledge(&run->train, config->data_knowledge));
    if (config->eval_every > 0) {
        TRY(questions_load(config->data_eval, (uint64_t)config->eval_questions, config->prompt_system, &run->chat,
                           prompt_max, NULL, &run->eval));
        if (config->data_knowledge[0])
            TRY(questions_read_knowledge(&run->eval, config->data_knowledge));
        run->eval_count = run->eval.set.count;
    }
    uint32_t slots = (uint32_t)config->sample_questions, most = slots > run->eval_count ? slots : run->eval_count;
    TRY(order_init(&run->order, (uint64_t)config->run_seed, run->train.set.count, slots));
    run->groups = calloc(slots, sizeof *run->groups);
    run->indices = calloc(most, sizeof *run->indices);
    run->advantages = calloc((size_t)slots * (size_t)config->sample_group, sizeof *run->advantages);
    if (!run->groups || !run->indices || !run->advantages)
        return fail(STATUS_NO_MEMORY, "run: no memory for a step of %u questions", slots);
    return STATUS_OK;
}

/* Longest sequence of the run. */
static int32_t positions(const struct run *run) {
    uint32_t prompt = run->train.longest > run->eval.longest ? run->train.longest : run->eval.longest;
    return (int32_t)(prompt + (uint32_t)run->config->sample_max_new_tokens);
}

static enum dtype storage(const struct run_config *config) {
    return config->model_storage == 0 ? DTYPE_BF16 : DTYPE_F32;
}

static enum status open_device(struct run *run) {
    const struct run_config *config = run->config;
    struct model_config shape;
    TRY(model_config_read(config->model_path, &shape));
    TRY(tokenizer_open(config->model_path, &run->tokenizer));
    TRY(chat_open(config->model_path, run->tokenizer, &run->chat));
    size_t stops;
    run->stops = tokenizer_eos(run->tokenizer, &stops);
    run->stop_count = (uint32_t)stops;
    TRY(open_questions(run));
    if (positions(run) > shape.max_positions)
        return fail(STATUS_CONFIG,
                    "sample.max_new_tokens = %lld: with prompts of up to %d tokens, right would be at most %d: "
                    "the model has %d positions",
                    (long long)config->sample_max_new_tokens, positions(run) - (int32_t)config->sample_max_new_tokens,
                    shape.max_positions - positions(run) + (int32_t)config->sample_max_new_tokens, shape.max_positions);
    TRY(device_open_for("model.device", config->model_device, (int)config->train_threads, &run->device));
    return support_check_memory(run->device, config->model_path, &shape, storage(config),
                                (enum moment_storage)config->optim_moments, config->loss_kl > 0 ? 2 : 1,
                                (int)config->run_lag + 2);
}

static enum status load_weights(struct run *run, const char *directory, struct model **out_model) {
    return model_load(run->device, directory, storage(run->config), positions(run),
                      tokenizer_vocab_size(run->tokenizer), out_model);
}

static enum status open_reference(struct run *run) {
    const struct run_config *config = run->config;
    if (config->loss_kl <= 0)
        return STATUS_OK;
    const char *path = config->model_reference[0] ? config->model_reference : config->model_path;
    TRY(load_weights(run, path, &run->reference));
    struct digest digest;
    TRY(model_digest(run->reference, &digest));
    if (!digest_is_zero(run->state.reference) && !digest_equal(digest, run->state.reference))
        return fail(STATUS_MISMATCH,
                    "%s: not the weights that this run has as its reference; right would be the same directory", path);
    run->state.reference = digest;
    return STATUS_OK;
}

static enum status open_trainer(struct run *run) {
    const struct run_config *config = run->config;
    struct trainer_limits limits = {.prompt_tokens = run->train.longest,
                                    .answer_tokens = (uint32_t)config->sample_max_new_tokens,
                                    .group = (uint32_t)config->sample_group,
                                    .groups = (uint32_t)config->sample_questions,
                                    .microbatch_tokens = (uint32_t)config->train_microbatch_tokens,
                                    .logit_chunk = (uint32_t)config->train_logit_chunk};
    if (run->device->ops->find_changes)
        TRY(record_create(run->device, (uint64_t)run->model->layout->total, &run->record));
    TRY(trainer_create(run->model, run->reference, config, &limits, &run->trainer));
    trainer_optimiser(run->trainer)->record = run->record;
    struct infer_limits canary = {.rows_max = CANARY_ROWS,
                                  .sequences_max = 1,
                                  .kv_tokens = CANARY_ROWS,
                                  .logit_rows_max = 1,
                                  .positions_max = positions(run)};
    return infer_create(run->model, &canary, &run->canary);
}

/* ---- where the run stands ---- */

static void damaged(void *context, const char *text) {
    (void)context;
    log_event(LOG_ERROR, "checkpoint_damaged", "reason=\"%s\" the one before it is used", text);
}

/* Those to train on and those to evaluate, by their content. */
static uint64_t questions_of(const struct run *run) {
    const uint64_t both[] = {run->train.digest, run->eval.digest};
    return run->eval_count ? hash64(both, sizeof both) : run->train.digest;
}

static enum status check_resumed(const struct run *run, const struct checkpoint *checkpoint) {
    if (!digest_equal(checkpoint->state.config, run->config_digest))
        return fail(STATUS_MISMATCH, "%s: written under another configuration", checkpoint->directory);
    if (checkpoint->state.run_id != run->directory.run_id)
        return fail(STATUS_MISMATCH, "%s: of another run", checkpoint->directory);
    if (checkpoint->state.questions != questions_of(run))
        return fail(STATUS_MISMATCH,
                    "data.train, data.eval, data.knowledge: other questions, or other tokens of them by the tokenizer in "
                    "model.path, than the run began with; right would be the same content");
    return STATUS_OK;
}

/* Loads the weights: those of the newest whole checkpoint, else model.path. out_checkpoint->directory empty: fresh. */
static enum status open_weights(struct run *run, struct checkpoint *out_checkpoint) {
    enum status status = checkpoint_find(run->directory.path, damaged, NULL, out_checkpoint);
    bool fresh = status == STATUS_NOT_FOUND;
    if (fresh) {
        out_checkpoint->directory[0] = '\0'; /* model.path holds version 0 */
        run->state.questions = questions_of(run);
        run->state.run_id = run->directory.run_id;
        run->state.config = run->config_digest;
        TRY(load_weights(run, run->config->model_path, &run->model));
        return model_digest(run->model, &run->state.weights);
    }
    TRY(status);
    TRY(check_resumed(run, out_checkpoint));
    run->state = out_checkpoint->state;
    TRY(load_weights(run, out_checkpoint->directory, &run->model));
    struct digest digest;
    TRY(model_digest(run->model, &digest));
    if (!digest_equal(digest, run->state.weights))
        return fail(STATUS_MISMATCH, "%s: the weights are not those of state.json", out_checkpoint->directory);
    log_event(LOG_INFO, "resumed", "step=%" PRIu64 " checkpoint=%s", run->state.step, out_checkpoint->directory);
    return STATUS_OK;
}

/* ---- the hub ---- */

static struct text text_of(const char *text) {
    return (struct text){.data = text, .bytes = (uint32_t)strlen(text)};
}

static void hub_beat(void *context) {
    struct run *run = context;
    if (run->hooks.hub_beat)
        run->hooks.hub_beat(run->hooks.context);
}

static void describe(void *context, struct buf *out) {
    run_status(context, out);
}

static enum status start_server(struct run *run) {
    const struct run_config *config = run->config;
    char control[ENDPOINT_BYTES], weights[ENDPOINT_BYTES];
    TRY(daemon_endpoint(config->hub_control, run->directory.path, "control", true, control));
    TRY(daemon_endpoint(config->hub_weights, run->directory.path, "weights", true, weights));
    struct hub_server_settings settings = {
        .hub = {.run_id = run->directory.run_id,
                .incarnation = run->incarnation,
                .seed = (uint64_t)config->run_seed,
                .run = config->run_name,
                .config = run->config_digest,
                .fingerprint = {.build = text_of(build_name()),
                                .backend = text_of(run->device->kind == DEVICE_CPU ? "cpu" : "cuda"),
                                .device = text_of(run->device->chip),
                                .arithmetic = text_of(run->device->arithmetic)},
                .strict = config->run_determinism == DETERMINISM_STRICT,
                .skip_stuck = config->run_skip_stuck,
                .heartbeat_ms = (uint32_t)config->hub_heartbeat_ms,
                .lease_ms = (uint32_t)config->hub_lease_ms,
                .weights_endpoint = weights,
                .valid_vocab = run->model->valid_vocab,
                .positions_max = positions(run)},
        .control = control,
        .weights = weights,
        .config = config,
        .model_directory = config->model_path,
        .beat = hub_beat,
        .describe = describe,
        .hook_context = run,
    };
    return hub_server_start(&settings, &run->server);
}

static void release_version(void *context) {
    version_release(context);
}

/* From the version before, when it is alive: both are frozen, so the device may go on. None for fp32, of which every
 * element changes, and none for a skipped step: its content is that of the version before. */
static enum status make_delta(const struct run *run, const struct version *version, struct published *out) {
    const struct course_version *kept = version->number ? course_find(&run->course, version->number - 1) : NULL;
    const struct version *before = kept ? kept->content : NULL;
    if (!before || version->type != DTYPE_BF16 || digest_equal(before->digest, version->digest))
        return STATUS_OK;
    double begin = clock_seconds();
    uint8_t *data;
    uint64_t bytes, changed;
    const struct patch *patch = run->record ? record_patch(run->record, before->digest, version->digest) : NULL;
    if (patch) { /* of the update that led from one to the other: run_capture */
        changed = patch->changes;
        TRY(delta_encode_patch(patch, run->device->threads, &data, &bytes));
    } else {
        TRY(delta_encode(before->data, version->data, version->elements, before->digest, version->digest,
                         run->device->threads, &data, &bytes, &changed));
    }
    out->take_delta = data;
    out->delta_bytes = bytes;
    out->delta_base = before->digest;
    log_event(LOG_INFO, "delta", "version=%u bytes=%" PRIu64 " of=%" PRIu64 " changed=%.4f seconds=%.3f",
              version->number, bytes, version->elements * dtype_bytes(version->type),
              (double)changed / (double)version->elements, clock_seconds() - begin);
    return STATUS_OK;
}

enum status run_add_version(struct run *run, struct version *version) {
    bool evaluated;
    enum status status = run_eval_written(run, version->number, &evaluated);
    if (status != STATUS_OK) {
        version_release(version);
        return status;
    }
    struct published published = {.version = version->number,
                                  .digest = version->digest,
                                  .canary = version->canary,
                                  .data = version->data,
                                  .elements = version->elements,
                                  .dtype = (uint8_t)version->type,
                                  .release = release_version,
                                  .context = version};
    status = make_delta(run, version, &published);
    course_add(&run->course, version->number, version, evaluated);
    if (status != STATUS_OK)
        return status;
    version_retain(version);
    status = hub_server_publish(run->server, &published);
    if (status != STATUS_OK)
        version_release(version);
    return status;
}

enum status run_capture(struct run *run, uint32_t number, struct version **out_version) {
    struct version *version;
    const struct course_version *kept = number ? course_find(&run->course, number - 1) : NULL;
    if (run->record && kept)
        TRY(version_follow(run->model, kept->content, run->record, number, &version));
    else
        TRY(version_capture(run->model, number, &version));
    enum status status = infer_canary(run->canary, &version->canary);
    infer_reset(run->canary);
    if (status != STATUS_OK) {
        version_release(version);
        return status;
    }
    *out_version = version;
    return STATUS_OK;
}

/* Each of them is on the device for a moment: an actor that is damaged must be known by their canaries too, and those of a checkpoint
 * may be of another class of device. */
static enum status add_canaries(struct run *run, struct version *const *versions, uint32_t count) {
    struct model *model = run->model;
    struct device *device = model->device;
    uint64_t bytes = versions[count]->elements * dtype_bytes(model->type);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        device->ops->upload(device, model->data, versions[i]->data, bytes);
        status = infer_canary(run->canary, &versions[i]->canary);
        infer_reset(run->canary);
    }
    device->ops->upload(device, model->data, versions[count]->data, bytes);
    return status;
}

/* The versions that the run stands on: those of the checkpoint, and the model's present weights. */
static enum status publish_versions(struct run *run, const struct checkpoint *checkpoint) {
    struct version *versions[COURSE_VERSIONS_MAX];
    uint32_t count = checkpoint->directory[0] ? checkpoint->older_count : 0, added = 0;
    TRY(run_capture(run, (uint32_t)run->state.step, &versions[count]));
    enum status status = STATUS_OK;
    if (count > 0)
        status = checkpoint_load_older(checkpoint, versions[count], run->device->threads, versions);
    if (status != STATUS_OK) {
        version_release(versions[count]);
        return status;
    }
    if (count > 0)
        status = add_canaries(run, versions, count);
    while (added <= count && status == STATUS_OK)
        status = run_add_version(run, versions[added++]);
    while (added <= count)
        version_release(versions[added++]);
    return status;
}

/* ---- all of it ---- */

static void log_plan(const struct run *run) {
    int64_t parameters = run->model->layout->total;
    double weights = (double)parameters * (double)dtype_bytes(run->model->type);
    if (run->device->products[0])
        log_event(LOG_INFO, "products", "by=\"%s\"", run->device->products);
    log_event(LOG_INFO, "memory_plan",
              "device=\"%s\" parameters=%" PRId64
              " weights_gb=%.3f moments=%s optimiser_gb=%.3f batch_gb=%.3f versions_gb=%.3f",
              run->device->name, parameters, weights * (run->reference ? 2 : 1) / 1e9,
              run->config->optim_moments == MOMENTS_INT8 ? "int8" : "fp32",
              (double)optimiser_bytes(parameters, run->model->type, (enum moment_storage)run->config->optim_moments) /
                  1e9,
              (double)trainer_batch_bytes(run->trainer) / 1e9, weights * (double)(run->config->run_lag + 2) / 1e9);
}

static enum status open_disk(struct run *run) {
    const struct run_config *config = run->config;
    uint32_t keep = (uint32_t)config->checkpoint_keep;
    uint64_t bytes = checkpoint_bytes(trainer_optimiser(run->trainer), (uint32_t)config->run_lag);
    TRY(checkpoint_check_room(run->directory.path, bytes, keep));
    struct checkpointer_settings settings = {.run_directory = run->directory.path,
                                             .model_directory = config->model_path,
                                             .model = run->model,
                                             .optimiser = trainer_optimiser(run->trainer),
                                             .keep = keep};
    TRY(checkpointer_open(&settings, &run->checkpointer));
    return run_directory_open_metrics(&run->directory, run->state.metrics_bytes);
}

enum status run_set_up(struct run *run) {
    const struct run_config *config = run->config;
    struct course_settings course = {.lag = (uint32_t)config->run_lag,
                                     .steps = (uint32_t)config->run_steps,
                                     .eval_every = (uint32_t)config->eval_every,
                                     .evals_max = COURSE_EVALS_MAX,
                                     .checkpoint_every = (uint32_t)config->checkpoint_every};
    struct checkpoint checkpoint;
    course_init(&run->course, &course);
    TRY(run_config_digest(run->config, &run->config_digest));
    if (getrandom(&run->incarnation, sizeof run->incarnation, 0) != sizeof run->incarnation)
        return fail_errno("no random number for this incarnation");
    run->incarnation |= 1;
    TRY(run_directory_open(run->config, &run->directory));
    TRY(open_device(run));
    TRY(open_weights(run, &checkpoint));
    TRY(open_reference(run));
    TRY(checkpoint.directory[0] ? run_directory_keep_config(&run->directory, run->config)
                                : run_directory_begin_anew(&run->directory));
    TRY(open_trainer(run));
    if (checkpoint.directory[0])
        TRY(checkpoint_load_optimiser(&checkpoint, trainer_optimiser(run->trainer)));
    TRY(open_disk(run));
    log_plan(run);
    TRY(start_server(run));
    TRY(publish_versions(run, &checkpoint));
    run->step_began = clock_seconds();
    return course_start(&run->course);
}

void run_tear_down(struct run *run, const char *reason) {
    if (run->server) /* at once: what is taken now would die with the hub, what actors keep can be taken after a resume */
        hub_server_stop(&run->server, 0, reason);
    checkpointer_close(&run->checkpointer);
    for (uint32_t i = 0; i < run->course.version_count; i++)
        version_release(run->course.versions[i].content);
    run->course.version_count = 0;
    infer_destroy(&run->canary);
    trainer_destroy(&run->trainer);
    record_destroy(&run->record);
    model_destroy(&run->reference);
    model_destroy(&run->model);
    device_close(&run->device);
    questions_deinit(&run->train);
    questions_deinit(&run->eval);
    order_deinit(&run->order);
    tokenizer_close(&run->tokenizer);
    free(run->groups);
    free(run->indices);
    free(run->advantages);
    run->groups = NULL;
    run->indices = NULL;
    run->advantages = NULL;
    run_directory_close(&run->directory);
}
