/* Which weights are loaded: a snapshot over them, or deltas staged beside the generation and scattered into them; then the
 * canary. */
#include "actor/engine_internal.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/compute/device.h"
#include "common/compute/ops.h"

/* Rows for prompts beside one row for each sample in flight. */
#define PROMPT_ROWS 256

static enum status create_generator(struct engine *engine, enum dtype type) {
    const struct engine_settings *settings = &engine->settings;
    struct generator_limits limits = {settings->in_flight, settings->in_flight + PROMPT_ROWS, settings->kv_tokens,
                                      settings->groups_max};
    TRY(model_create(engine->device, &engine->config, type, engine->positions, engine->valid_vocab, &engine->model));
    if (engine->device->products[0])
        log_event(LOG_INFO, "products", "by=\"%s\"", engine->device->products);
    return generator_create(engine->model, &limits, &engine->generator);
}

/* The weights are in place: who goes on, who stands still. begin: when generation stopped. */
static enum status swapped(struct engine *engine, struct digest weights, double begin) {
    engine->loaded = weights;
    for (int32_t i = 0; i < engine->record_count; i++)
        generator_pause(engine->generator, engine->records[i].lease,
                        !digest_equal(engine->records[i].version, engine->loaded));
    generator_canary_begin(engine->generator);
    engine->canary_due = true;
    engine->progress_ms = 0; /* who stands still now is told at once */
    struct engine_event *event = engine_event_create(ENGINE_SWAPPED, 0);
    if (event) {
        event->weights = weights;
        event->pause_ms = (uint32_t)((clock_seconds() - begin) * 1e3);
    }
    return engine_emit(engine, event);
}

/* Before another version takes its place: answers that are finished wait for this one's canary, and go with it. A pass or
 * two. */
static enum status settle_canary(struct engine *engine) {
    bool busy;
    while (engine->canary_due) {
        TRY(generator_step(engine->generator, &busy));
        TRY(swap_take_canary(engine));
    }
    return engine_take_finished(engine);
}

enum status swap_load(struct engine *engine, const struct command *command) {
    const struct message_manifest *manifest = &command->manifest;
    enum dtype type = (enum dtype)manifest->dtype;
    if (!engine->generator)
        TRY(create_generator(engine, type));
    stage_destroy(&engine->stage); /* it begins at what is loaded now */
    engine->patch_due = false;
    TRY(settle_canary(engine));
    double begin = clock_seconds();
    struct model *model = engine->model;
    if (type != model->type || manifest->elements != (uint64_t)model->layout->total)
        return fail(STATUS_AGAIN, "version %u: weights of another type or size than before", manifest->version);
    generator_park_all(engine->generator);
    model->device->ops->upload(model->device, model->data, command->weights, manifest->payload_bytes);
    TRY(model->device->ops->synchronize(model->device));
    log_event(LOG_INFO, "weights_loaded", "version=%u seconds=%.3f", manifest->version, clock_seconds() - begin);
    return swapped(engine, manifest->weights, begin);
}

/* The chain is not what it should be, and the weights are as they were; any other failure is final. */
static enum status unpatched(struct engine *engine, struct digest weights, enum status status) {
    if (status != STATUS_MISMATCH && status != STATUS_FORMAT)
        return status;
    struct engine_event *event = engine_event_create(ENGINE_UNPATCHED, 0);
    if (event) {
        event->weights = weights;
        snprintf(event->reason, sizeof event->reason, "%s", status_message());
    }
    return engine_emit(engine, event);
}

/* On a CPU the generation has the cores; beside a GPU the host has nothing else to do. */
enum status swap_stage(struct engine *engine, struct command *command) {
    struct model *model = engine->model;
    struct chain *chain = command->chain;
    ASSERT(engine->generator); /* a chain begins at what is loaded */
    stage_destroy(&engine->stage);
    engine->patch_due = false;
    if (model->type != DTYPE_BF16)
        return unpatched(engine, chain->to,
                         fail(STATUS_MISMATCH, "version %u: deltas onto fp32 weights", chain->version));
    command->chain = NULL;
    bool on_cpu = model->device->kind == DEVICE_CPU;
    return stage_start(chain, engine->loaded, (uint64_t)model->layout->total, on_cpu ? model->data : NULL,
                       on_cpu ? 1 : engine->device->threads, &engine->stage);
}

static enum status apply(struct engine *engine, const struct patch *patch) {
    const struct chain *chain = stage_chain(engine->stage);
    TRY(settle_canary(engine));
    double begin = clock_seconds();
    generator_park_all(engine->generator);
    TRY(patch_apply_on(patch, engine->model->device, engine->model->data));
    log_event(LOG_INFO, "weights_patched", "version=%u deltas=%u bytes=%llu seconds=%.3f", chain->version,
              chain->hop_count, (unsigned long long)chain_bytes(chain), clock_seconds() - begin);
    return swapped(engine, chain->to, begin);
}

/* What is staged is loaded when it is due; while there is something to generate, nobody waits for the staging. */
enum status swap_advance(struct engine *engine, bool busy) {
    const struct patch *patch;
    if (!engine->stage || (!stage_done(engine->stage) && (busy || !engine->patch_due)))
        return STATUS_OK;
    enum status status = stage_wait(engine->stage, &patch);
    if (status == STATUS_OK && !engine->patch_due)
        return STATUS_OK;
    if (status == STATUS_OK)
        status = apply(engine, patch);
    if (status != STATUS_OK)
        status = unpatched(engine, stage_chain(engine->stage)->to, status);
    stage_destroy(&engine->stage);
    engine->patch_due = false;
    return status;
}

enum status swap_take_canary(struct engine *engine) {
    struct digest canary;
    if (!engine->canary_due || generator_canary(engine->generator, &canary) != GENERATOR_CANARY_DONE)
        return STATUS_OK;
    engine->canary_due = false;
    struct engine_event *event = engine_event_create(ENGINE_CANARY, 0);
    if (event) {
        event->weights = engine->loaded;
        event->canary = canary;
    }
    return engine_emit(engine, event);
}
