/* The generation thread: it owns device, model and generator. The transport thread gives it commands and takes its events, through
 * two bounded queues; neither ever waits for the other.
 *
 * A version is loaded in place: what is unfinished is parked, the weights are copied over or changed where the staged
 * deltas say, groups of the loaded version go on and the others stand still. Nothing is generated from a version that
 * its lease did not name. The canary is computed beside the first passes; no answer leaves before it, and no other version
 * takes the place of one whose canary is not told. */
#ifndef CANDOR_ACTOR_ENGINE_H
#define CANDOR_ACTOR_ENGINE_H

#include "actor/client.h"
#include "common/model/config.h"

struct engine;

struct engine_settings {
    const char *device; /* "auto", "cpu", "cuda:0" */
    int threads;
    int32_t in_flight;
    int64_t kv_tokens;
    int32_t groups_max;
    void (*beat)(void *context);              /* once around its loop, on its thread; may be NULL */
    void (*allow)(void *context, int64_t ms); /* the next beat may be so long in coming; NULL as beat is */
    void *beat_context;
};

/* Starts the thread and waits until the device is open. */
enum status engine_start(const struct engine_settings *settings, struct engine **out_engine);
/* Ends the thread after the pass it is in, and frees everything. */
void engine_stop(struct engine **engine);
/* What the device adds to the fingerprint; the texts live as long as the engine. */
struct fingerprint engine_fingerprint(const struct engine *engine);

/* ---- commands; STATUS_LIMIT when the thread stands still and the queue is full ---- */
/* The shape of the model, once, before the first load. */
enum status engine_open(struct engine *engine, const struct model_config *config, int32_t positions,
                        int32_t valid_vocab);
enum status engine_generate(struct engine *engine, const struct message_lease *lease); /* copied */
enum status engine_cancel(struct engine *engine, uint64_t lease);
enum status engine_load(struct engine *engine, void *take_weights, const struct message_manifest *manifest);
/* Decode and verify a chain that begins at the loaded version, beside the generation; in place of the one before. */
enum status engine_stage(struct engine *engine, struct chain *take_chain);
/* Load the staged version, as soon as it is staged. */
enum status engine_patch(struct engine *engine);

/* ---- events ---- */
enum engine_event_type {
    ENGINE_GENERATED,
    ENGINE_REFUSED,
    ENGINE_PROGRESS,
    ENGINE_SWAPPED,
    ENGINE_CANARY,
    ENGINE_UNPATCHED,
    ENGINE_FAILED
};

struct engine_event {
    enum engine_event_type type;
    uint64_t lease;                     /* REFUSED */
    char reason[STATUS_MESSAGE_BYTES];  /* REFUSED, UNPATCHED, FAILED */
    enum status status;                 /* FAILED: final */
    struct digest weights;              /* SWAPPED, CANARY: loaded; UNPATCHED: as before, and not this version */
    struct digest canary;               /* CANARY */
    uint32_t pause_ms;                  /* SWAPPED */
    uint32_t generation_ms;             /* GENERATED */
    struct generated_group group;       /* GENERATED: one block of memory with the event */
    struct generator_counters counters; /* PROGRESS */
    struct client_progress *progress;   /* PROGRESS [progress_count] */
    uint32_t progress_count;
};

int engine_fd(const struct engine *engine); /* readable while events wait */
/* NULL: none. free() the event. */
struct engine_event *engine_next(struct engine *engine);

#endif
