#include "deploy/cli/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/build.h"
#include "common/base/fs.h"
#include "common/base/rng.h"
#include "common/hub/server.h"
#include "common/model/chat.h"
#include "common/model/parameters.h"
#include "common/transport/daemon.h"
#include "deploy/cli/launch.h"
#include "deploy/cli/progress.h"
#include "learner/questions.h"
#include "learner/version.h"
#include "proto/proto.h"

/* Questions of one piece of work. It is part of what is drawn: a question's place is (round, piece, slot). */
#define PIECE_QUESTIONS 128u
#define PIECES_AHEAD 3u /* offered at once, so that actors never wait for the next piece */
#define PIECES_MAX 65536u
#define TAKE_MS 100
#define DRAIN_MS 5000

struct driver {
    struct driver_options options;
    char directory[PATH_BYTES]; /* private: sockets and logs */
    struct tokenizer *tokenizer;
    struct chat chat;
    struct model_config shape;
    int32_t valid_vocab, positions;
    char backend[8], chip[32], arithmetic[96]; /* of the device: which answers are of one class */
    struct version *weights;                   /* host copy that the hub serves */
    uint64_t run_id;
    struct digest config_digest;
    struct hub_server *server;
    struct launch *launch;
};

/* ---- opening ---- */

/* The weights as the hub serves them. The device is the actors' when this returns. */
static enum status read_weights(struct driver *driver, struct device *device) {
    const struct run_config *config = driver->options.config;
    struct model *model;
    enum status status = model_load(device, driver->options.model, DTYPE_BF16,
                                    (int32_t)(config->prompt_max_tokens + config->sample_max_new_tokens),
                                    tokenizer_vocab_size(driver->tokenizer), &model);
    if (status == STATUS_LIMIT)
        return fail_context(status, "prompt.max_tokens + sample.max_new_tokens");
    TRY(status);
    driver->shape = model->config;
    driver->valid_vocab = model->valid_vocab;
    driver->positions = model->rope_positions;
    status = version_capture(model, driver->options.version, &driver->weights);
    model_destroy(&model);
    return status;
}

static enum status open_model(struct driver *driver) {
    struct device *device;
    TRY(tokenizer_open(driver->options.model, &driver->tokenizer));
    TRY(chat_open(driver->options.model, driver->tokenizer, &driver->chat));
    TRY(device_open_for("model.device", driver->options.config->model_device, 0, &device));
    snprintf(driver->backend, sizeof driver->backend, "%s", device->kind == DEVICE_CPU ? "cpu" : "cuda");
    snprintf(driver->chip, sizeof driver->chip, "%s", device->chip);
    snprintf(driver->arithmetic, sizeof driver->arithmetic, "%s", device->arithmetic);
    enum status status = read_weights(driver, device);
    device_close(&device);
    return status;
}

static void release_weights(void *context) {
    version_release(context);
}

static enum status start_server(struct driver *driver) {
    const struct run_config *config = driver->options.config;
    char control[ENDPOINT_BYTES], weights[ENDPOINT_BYTES];
    TRY(daemon_endpoint("", driver->directory, "control", true, control));
    TRY(daemon_endpoint("", driver->directory, "weights", true, weights));
    struct daemon_identity identity;
    TRY(daemon_identify("", &identity));
    driver->run_id = identity.incarnation;
    const struct hub_server_settings settings = {
        .hub = {.run_id = driver->run_id,
                .incarnation = identity.incarnation,
                .seed = (uint64_t)config->run_seed,
                .run = config->run_name,
                .config = driver->config_digest,
                .fingerprint = {.build = text_of(build_name()),
                                .backend = text_of(driver->backend),
                                .device = text_of(driver->chip),
                                .arithmetic = text_of(driver->arithmetic)},
                .heartbeat_ms = (uint32_t)config->hub_heartbeat_ms,
                .lease_ms = (uint32_t)config->hub_lease_ms,
                .weights_endpoint = weights,
                .valid_vocab = driver->valid_vocab,
                .positions_max = driver->positions},
        .control = control,
        .weights = weights,
        .config = config,
        .model_directory = driver->options.model,
    };
    TRY(hub_server_start(&settings, &driver->server));
    const struct published published = {.version = driver->options.version,
                                        .digest = driver->weights->digest,
                                        .data = driver->weights->data,
                                        .elements = driver->weights->elements,
                                        .dtype = (uint8_t)driver->weights->type,
                                        .release = release_weights,
                                        .context = version_retain(driver->weights)};
    enum status status = hub_server_publish(driver->server, &published);
    if (status != STATUS_OK)
        version_release(driver->weights);
    return status;
}

static enum status start_workers(struct driver *driver) {
    char logs[PATH_BYTES];
    TRY(fs_join(logs, driver->directory, "logs"));
    TRY(launch_create(logs, &driver->launch));
    return launch_workers(driver->launch, driver->options.config, driver->directory, driver->options.actors,
                          driver->options.rewards, driver->options.threads);
}

enum status driver_open(const struct driver_options *options, struct driver **out_driver) {
    struct driver *driver = calloc(1, sizeof *driver);
    if (driver == NULL)
        return fail(STATUS_NO_MEMORY, "driver: out of memory");
    driver->options = *options;
    strcpy(driver->directory, "/tmp/candor-eval-XXXXXX");
    enum status status = STATUS_OK;
    if (mkdtemp(driver->directory) == NULL) {
        status = fail_errno("%s", driver->directory);
        driver->directory[0] = 0;
    }
    if (status == STATUS_OK)
        status = run_config_digest(options->config, &driver->config_digest);
    if (status == STATUS_OK)
        status = open_model(driver);
    if (status == STATUS_OK)
        status = start_server(driver);
    if (status == STATUS_OK)
        status = start_workers(driver);
    if (status != STATUS_OK) {
        driver_close(&driver);
        return status;
    }
    *out_driver = driver;
    return STATUS_OK;
}

void driver_close(struct driver **driver) {
    struct driver *it = *driver;
    if (it == NULL)
        return;
    if (it->server != NULL)
        hub_server_stop(&it->server, DRAIN_MS, "the evaluation is done");
    launch_destroy(&it->launch, DRAIN_MS);
    if (it->directory[0] != 0)
        fs_remove_tree(it->directory);
    version_release(it->weights);
    tokenizer_close(&it->tokenizer);
    free(it);
    *driver = NULL;
}

/* ---- a round ---- */

static uint32_t piece_count(const struct questions *questions, uint32_t piece) {
    uint32_t left = questions->set.count - piece * PIECE_QUESTIONS;
    return left < PIECE_QUESTIONS ? left : PIECE_QUESTIONS;
}

static enum status offer_piece(struct driver *driver, const struct driver_round *round,
                               const struct questions *questions, uint32_t piece) {
    uint32_t indices[PIECE_QUESTIONS];
    uint32_t count = piece_count(questions, piece);
    for (uint32_t i = 0; i < count; i++)
        indices[i] = piece * PIECE_QUESTIONS + i;
    size_t stop_count;
    const int32_t *stops = tokenizer_eos(driver->tokenizer, &stop_count);
    const struct question_work work = {.stream = WORK_GENERATE,
                                       .step = round->number * PIECES_MAX + piece,
                                       .priority = piece,
                                       .version = driver->options.version,
                                       .weights = driver->weights->digest,
                                       .samples = round->samples,
                                       .run_id = driver->run_id,
                                       .config = driver->config_digest,
                                       .stops = stops,
                                       .stop_count = (uint32_t)stop_count};
    struct message_lease *slots = NULL;
    TRY(questions_slots(questions, driver->options.config, &work, indices, count, &slots));
    const struct hub_work offered = questions_work(&work, slots, count);
    enum status status = hub_server_offer(driver->server, &offered);
    free(slots);
    return status;
}

/* Waits for a piece, watching the children and the operator. */
static enum status take_piece(struct driver *driver, uint32_t step, struct progress *progress, uint64_t done,
                              uint64_t total, struct completed_work **out_work) {
    for (;;) {
        enum status status = hub_server_take(driver->server, WORK_GENERATE, step, TAKE_MS, out_work);
        if (status != STATUS_TIMEOUT)
            return status;
        TRY(launch_watch(driver->launch));
        if (driver->options.stopped != NULL && driver->options.stopped())
            return fail(STATUS_INTERRUPTED, "stopped; nothing was written");
        struct buf line = {0};
        hub_server_status_line(driver->server, &line);
        progress_update(progress, done + hub_server_filled(driver->server, WORK_GENERATE, step), total,
                        line.bytes > 0 ? line.data : "");
        buf_deinit(&line);
    }
}

static enum status gather(struct driver *driver, const struct driver_round *round, const struct questions *questions,
                          struct progress *progress, struct outcome_file *file) {
    uint32_t pieces = (questions->set.count + PIECE_QUESTIONS - 1) / PIECE_QUESTIONS, offered = 0;
    if (pieces > PIECES_MAX)
        return fail(STATUS_LIMIT, "%s: more than %u questions", round->paths, PIECES_MAX * PIECE_QUESTIONS);
    for (uint32_t piece = 0; piece < pieces; piece++) {
        for (; offered < pieces && offered < piece + PIECES_AHEAD; offered++)
            TRY(offer_piece(driver, round, questions, offered));
        uint64_t done = (uint64_t)piece * PIECE_QUESTIONS;
        struct completed_work *work = NULL;
        TRY(take_piece(driver, round->number * PIECES_MAX + piece, progress, done, questions->set.count, &work));
        enum status status = STATUS_OK;
        for (uint32_t i = 0; i < work->group_count && status == STATUS_OK; i++)
            if (work->groups[i] != NULL)
                status = questions_add_outcome(questions, (uint32_t)done + i, work->groups[i], &driver->shape, file);
        completed_work_free(&work);
        TRY(status);
    }
    return STATUS_OK;
}

enum status driver_ask(struct driver *driver, const struct driver_round *round, struct outcome_file **out_outcomes) {
    struct questions questions;
    TRY(questions_load(round->paths, round->limit, round->system, &driver->chat,
                       (uint32_t)driver->options.config->prompt_max_tokens, NULL, &questions));
    struct outcome_file *file = NULL;
    struct progress progress;
    progress_begin(&progress, round->title);
    enum status status = outcome_file_create(round->kind, round->samples, (uint64_t)driver->options.config->run_seed,
                                             round->system, &file);
    if (status == STATUS_OK) {
        file->version = driver->options.version;
        file->weights = driver->weights->digest;
        status = gather(driver, round, &questions, &progress, file);
    }
    questions_deinit(&questions);
    if (status != STATUS_OK) {
        progress_abort(&progress);
        outcome_file_destroy(&file);
        return status;
    }
    char note[64];
    snprintf(note, sizeof note, "%u questions, %u answers each", file->count, round->samples);
    progress_end(&progress, note);
    *out_outcomes = file;
    return STATUS_OK;
}
