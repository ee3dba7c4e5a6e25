#include "actor/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/engine_internal.h"
#include "common/base/build.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/compute/device.h"
#include "proto/proto.h"

/* Commands: at most one to generate and one to cancel for each lease held, and again as many for those revoked while a
 * pass runs. */
#define COMMANDS_MAX (4 * HELD_MAX)
#define EVENTS_MAX (2 * HELD_MAX)
#define PROGRESS_MS 100
#define IDLE_MS 200
/* Making a model, loading weights and the first pass (the canary) may take this long: a cold device, and memory that is
 * touched for the first time at no less than 100 MB/s. */
#define LOAD_MS_LEAST 60000
#define LOAD_BYTES_PER_MS 100000

/* ---- events ---- */

struct engine_event *engine_event_create(enum engine_event_type type, size_t more_bytes) {
    struct engine_event *event = calloc(1, sizeof *event + more_bytes);
    if (event)
        event->type = type;
    return event;
}

/* Hand the event over; it is lost when the transport thread has not looked for thousands of events, which ends the
 * process. */
enum status engine_emit(struct engine *engine, struct engine_event *event) {
    if (!event)
        return fail(STATUS_NO_MEMORY, "no memory: an event of the generation");
    if (queue_push(engine->events, event, 0) == STATUS_OK)
        return STATUS_OK;
    free(event);
    return fail(STATUS_LIMIT, "generation: %d events wait: the transport thread stands still", EVENTS_MAX);
}

static enum status emit_refused(struct engine *engine, uint64_t lease) {
    struct engine_event *event = engine_event_create(ENGINE_REFUSED, 0);
    if (event) {
        event->lease = lease;
        snprintf(event->reason, sizeof event->reason, "%s", status_message());
    }
    return engine_emit(engine, event);
}

/* A copy in one block: the event, the samples, their ids and log-probabilities. */
static enum status emit_generated(struct engine *engine, const struct generated_group *group, int64_t since_ms) {
    size_t samples_bytes = group->sample_count * sizeof *group->samples;
    struct engine_event *event =
        engine_event_create(ENGINE_GENERATED, samples_bytes + group->tokens * (sizeof(int32_t) + sizeof(float)));
    if (event) {
        event->generation_ms = (uint32_t)(clock_boot_ms() - since_ms);
        event->group = *group;
        event->group.samples = (struct generated_sample *)(event + 1);
        memcpy(event->group.samples, group->samples, samples_bytes);
        char *at = (char *)event->group.samples + samples_bytes;
        for (uint32_t i = 0; i < group->sample_count; i++) {
            struct generated_sample *sample = &event->group.samples[i];
            sample->ids = memcpy(at, group->samples[i].ids, sample->count * sizeof *sample->ids);
            at += sample->count * sizeof *sample->ids;
            sample->logprobs = memcpy(at, group->samples[i].logprobs, sample->count * sizeof *sample->logprobs);
            at += sample->count * sizeof *sample->logprobs;
        }
    }
    return engine_emit(engine, event);
}

static enum status emit_progress(struct engine *engine) {
    if (clock_boot_ms() < engine->progress_ms || !engine->generator)
        return STATUS_OK;
    engine->progress_ms = clock_boot_ms() + PROGRESS_MS;
    struct engine_event *event =
        engine_event_create(ENGINE_PROGRESS, (size_t)engine->record_count * sizeof(struct client_progress));
    if (event) {
        event->progress = (struct client_progress *)(event + 1);
        generator_count(engine->generator, &event->counters);
        for (int32_t i = 0; i < engine->record_count; i++) {
            struct client_progress *progress = &event->progress[event->progress_count];
            progress->lease = engine->records[i].lease;
            event->progress_count += generator_find(engine->generator, progress->lease, &progress->progress);
        }
    }
    return engine_emit(engine, event);
}

/* ---- commands, on the thread ---- */

static struct record *find_record(struct engine *engine, uint64_t lease) {
    for (int32_t i = 0; i < engine->record_count; i++)
        if (engine->records[i].lease == lease)
            return &engine->records[i];
    return NULL;
}

static void drop_record(struct engine *engine, uint64_t lease) {
    struct record *record = find_record(engine, lease);
    if (record)
        *record = engine->records[--engine->record_count];
}

static enum status do_generate(struct engine *engine, const struct command *command) {
    if (engine->record_count == engine->settings.groups_max || !engine->generator ||
        generator_submit(engine->generator, &command->request) != STATUS_OK) {
        if (engine->record_count == engine->settings.groups_max)
            fail(STATUS_AGAIN, "%d questions are inside", engine->settings.groups_max);
        else if (!engine->generator)
            fail(STATUS_AGAIN, "no weights are loaded");
        return emit_refused(engine, command->request.id);
    }
    engine->records[engine->record_count++] = (struct record){command->request.id, command->version, clock_boot_ms()};
    if (!digest_equal(command->version, engine->loaded))
        generator_pause(engine->generator, command->request.id, true);
    return STATUS_OK;
}

/* ---- the thread ---- */

static void allow_for_load(const struct engine *engine, const struct message_manifest *manifest) {
    if (engine->settings.beat)
        engine->settings.allow(engine->settings.beat_context,
                               LOAD_MS_LEAST + (int64_t)(manifest->payload_bytes / LOAD_BYTES_PER_MS));
}

static enum status do_command(struct engine *engine, struct command *command) {
    switch (command->type) {
    case COMMAND_OPEN:
        engine->config = command->config;
        engine->positions = command->positions;
        engine->valid_vocab = command->valid_vocab;
        return STATUS_OK;
    case COMMAND_GENERATE:
        return do_generate(engine, command);
    case COMMAND_CANCEL:
        if (engine->generator)
            generator_cancel(engine->generator, command->lease);
        drop_record(engine, command->lease);
        return STATUS_OK;
    case COMMAND_LOAD:
        allow_for_load(engine, &command->manifest);
        return swap_load(engine, command);
    case COMMAND_STAGE:
        return swap_stage(engine, command);
    case COMMAND_PATCH:
        engine->patch_due = engine->stage; /* NULL: it was refused, and the event is on its way */
        return STATUS_OK;
    }
    return STATUS_OK;
}

static void command_destroy(struct command *command) {
    free(command->weights);
    chain_destroy(&command->chain);
    free(command);
}

static enum status take_commands(struct engine *engine, bool busy) {
    void *item;
    int wait_ms = busy ? 0 : IDLE_MS;
    while (queue_pop(engine->commands, &item, wait_ms) == STATUS_OK) {
        enum status status = do_command(engine, item);
        command_destroy(item);
        TRY(status);
        wait_ms = 0;
    }
    return STATUS_OK;
}

enum status engine_take_finished(struct engine *engine) {
    const struct generated_group *group;
    while (!engine->canary_due && (group = generator_finished(engine->generator))) {
        uint64_t lease = group->id;
        const struct record *record = find_record(engine, lease);
        TRY(emit_generated(engine, group, record ? record->since_ms : clock_boot_ms()));
        drop_record(engine, lease);
        generator_release(engine->generator, lease);
    }
    return STATUS_OK;
}

static enum status generate(struct engine *engine) {
    bool busy = false;
    while (!atomic_load(&engine->stop)) {
        TRY(take_commands(engine, busy));
        TRY(swap_advance(engine, busy));
        busy = false;
        if (engine->generator) {
            TRY(generator_step(engine->generator, &busy));
            TRY(swap_take_canary(engine));
            TRY(engine_take_finished(engine));
        }
        TRY(emit_progress(engine));
        if (engine->settings.beat)
            engine->settings.beat(engine->settings.beat_context);
    }
    return STATUS_OK;
}

/* The first event says whether the device is there; a later FAILED is the end. */
static void *run_thread(void *argument) {
    struct engine *engine = argument;
    enum status status =
        device_open_for("actor.device", engine->settings.device, engine->settings.threads, &engine->device);
    if (status == STATUS_OK) {
        snprintf(engine->chip, sizeof engine->chip, "%s", engine->device->chip);
        snprintf(engine->arithmetic, sizeof engine->arithmetic, "%s", engine->device->arithmetic);
        snprintf(engine->backend, sizeof engine->backend, "%s", engine->device->kind == DEVICE_CPU ? "cpu" : "cuda");
        log_event(LOG_INFO, "device", "name=\"%s\" threads=%d", engine->device->name, engine->device->threads);
        status = engine_emit(engine, engine_event_create(ENGINE_PROGRESS, 0));
    }
    if (status == STATUS_OK)
        status = generate(engine);
    if (status != STATUS_OK) {
        engine->last->status = status;
        snprintf(engine->last->reason, sizeof engine->last->reason, "%s", status_message());
        if (queue_push(engine->events, engine->last, 1000) == STATUS_OK)
            engine->last = NULL; /* the transport thread's */
    }
    stage_destroy(&engine->stage);
    generator_destroy(&engine->generator);
    model_destroy(&engine->model);
    device_close(&engine->device);
    return NULL;
}

static void engine_free(struct engine *engine) {
    void *item;
    while (engine->commands && queue_pop(engine->commands, &item, 0) == STATUS_OK)
        command_destroy(item);
    while (engine->events && queue_pop(engine->events, &item, 0) == STATUS_OK)
        free(item);
    queue_destroy(&engine->commands);
    queue_destroy(&engine->events);
    free(engine->last);
    free(engine->records);
    free(engine);
}

static enum status wait_for_device(struct engine *engine) {
    void *item;
    TRY(queue_pop(engine->events, &item, -1));
    struct engine_event *event = item;
    enum status status = STATUS_OK;
    if (event->type == ENGINE_FAILED)
        status = fail(event->status, "%s", event->reason);
    free(event);
    return status;
}

enum status engine_start(const struct engine_settings *settings, struct engine **out_engine) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return fail(STATUS_NO_MEMORY, "no memory: engine");
    engine->settings = *settings;
    enum status status;
    TRY_GOTO(queue_create(COMMANDS_MAX, &engine->commands), failed);
    TRY_GOTO(queue_create(EVENTS_MAX, &engine->events), failed);
    engine->records = calloc((size_t)settings->groups_max, sizeof *engine->records);
    engine->last = engine_event_create(ENGINE_FAILED, 0);
    if (!engine->records || !engine->last) {
        status = fail(STATUS_NO_MEMORY, "no memory: engine of %d groups", settings->groups_max);
        goto failed;
    }
    if (pthread_create(&engine->thread, NULL, run_thread, engine) != 0) {
        status = fail(STATUS_NO_MEMORY, "no memory: the generation thread");
        goto failed;
    }
    status = wait_for_device(engine);
    if (status != STATUS_OK)
        engine_stop(&engine);
    else
        *out_engine = engine;
    return status;
failed:
    engine_free(engine);
    return status;
}

void engine_stop(struct engine **engine) {
    if (!*engine)
        return;
    atomic_store(&(*engine)->stop, true);
    queue_close((*engine)->commands); /* wakes it */
    pthread_join((*engine)->thread, NULL);
    engine_free(*engine);
    *engine = NULL;
}

struct fingerprint engine_fingerprint(const struct engine *engine) {
    return (struct fingerprint){text_of(build_name()), text_of(engine->backend), text_of(engine->chip),
                                text_of(engine->arithmetic)};
}

/* ---- commands, from the transport thread ---- */

/* On the heap, with room for more_bytes behind it. */
static enum status copy_command(const struct command *command, size_t more_bytes, struct command **out_copy) {
    struct command *copy = calloc(1, sizeof *copy + more_bytes);
    if (!copy)
        return fail(STATUS_NO_MEMORY, "no memory: a command to the generation");
    *copy = *command;
    *out_copy = copy;
    return STATUS_OK;
}

static enum status send(struct engine *engine, struct command *take_command) {
    if (queue_push(engine->commands, take_command, 0) == STATUS_OK)
        return STATUS_OK;
    command_destroy(take_command);
    return fail(STATUS_AGAIN, "generation: %d commands wait: its thread stands still", COMMANDS_MAX);
}

enum status engine_open(struct engine *engine, const struct model_config *config, int32_t positions,
                        int32_t valid_vocab) {
    struct command *copy = NULL;
    TRY(copy_command(
        &(struct command){.type = COMMAND_OPEN, .config = *config, .positions = positions, .valid_vocab = valid_vocab},
        0, &copy));
    return send(engine, copy);
}

enum status engine_generate(struct engine *engine, const struct message_lease *lease) {
    size_t prompt_bytes = lease->prompt_count * sizeof *lease->prompt,
           stop_bytes = lease->stop_count * sizeof *lease->stops;
    struct command *copy = NULL;
    TRY(copy_command(&(struct command){.type = COMMAND_GENERATE, .version = lease->weights}, prompt_bytes + stop_bytes,
                     &copy));
    int32_t *prompt = (int32_t *)(copy + 1), *stops = prompt + lease->prompt_count;
    memcpy(prompt, lease->prompt, prompt_bytes);
    if (stop_bytes)
        memcpy(stops, lease->stops, stop_bytes);
    copy->request = (struct generation_request){
        .id = lease->lease,
        .priority = lease->priority,
        .prompt = prompt,
        .prompt_count = lease->prompt_count,
        .shared_count = lease->shared_count,
        .samples = lease->samples,
        .temperature = lease->temperature,
        .top_p = 1,
        .max_new_tokens = lease->max_new_tokens,
        .stops = stops,
        .stop_count = lease->stop_count,
        .key = {.seed = lease->seed, .step = lease->key.step, .slot = lease->key.slot, .stream = lease->key.stream},
    };
    return send(engine, copy);
}

enum status engine_cancel(struct engine *engine, uint64_t lease) {
    struct command *copy = NULL;
    TRY(copy_command(&(struct command){.type = COMMAND_CANCEL, .lease = lease}, 0, &copy));
    return send(engine, copy);
}

enum status engine_load(struct engine *engine, void *take_weights, const struct message_manifest *manifest) {
    struct command *copy = NULL;
    enum status status =
        copy_command(&(struct command){.type = COMMAND_LOAD, .weights = take_weights, .manifest = *manifest}, 0, &copy);
    if (status != STATUS_OK) {
        free(take_weights);
        return status;
    }
    return send(engine, copy);
}

enum status engine_stage(struct engine *engine, struct chain *take_chain) {
    struct command *copy = NULL;
    enum status status = copy_command(&(struct command){.type = COMMAND_STAGE, .chain = take_chain}, 0, &copy);
    if (status != STATUS_OK) {
        chain_destroy(&take_chain);
        return status;
    }
    return send(engine, copy);
}

enum status engine_patch(struct engine *engine) {
    struct command *copy = NULL;
    TRY(copy_command(&(struct command){.type = COMMAND_PATCH}, 0, &copy));
    return send(engine, copy);
}

/* ---- events ---- */

int engine_fd(const struct engine *engine) {
    return queue_fd(engine->events);
}

struct engine_event *engine_next(struct engine *engine) {
    void *item;
    return queue_pop(engine->events, &item, 0) == STATUS_OK ? item : NULL;
}
