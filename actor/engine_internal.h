/* Shared by engine.c (the thread and its queues) and engine_swap.c (which weights are loaded). Private. */
#ifndef CANDOR_ACTOR_ENGINE_INTERNAL_H
#define CANDOR_ACTOR_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "actor/engine.h"
#include "actor/stage.h"
#include "common/base/queue.h"

enum command_type { COMMAND_OPEN, COMMAND_GENERATE, COMMAND_CANCEL, COMMAND_LOAD, COMMAND_STAGE, COMMAND_PATCH };

struct command {
    enum command_type type;
    struct model_config config; /* OPEN */
    int32_t positions, valid_vocab;
    uint64_t lease; /* CANCEL */
    void *weights;  /* LOAD: taken */
    struct message_manifest manifest;
    struct chain *chain;               /* STAGE: taken */
    struct generation_request request; /* GENERATE: its arrays lie behind the command */
    struct digest version;
};

/* What the generator does not know of a group. */
struct record {
    uint64_t lease;
    struct digest version;
    int64_t since_ms;
};

struct engine {
    struct engine_settings settings;
    pthread_t thread;
    struct queue *commands, *events;
    struct engine_event *last; /* FAILED, made at the start: the end is told without memory too */
    atomic_bool stop;
    char backend[16], chip[32], arithmetic[96]; /* of the device, for the fingerprint */

    /* the thread's own */
    struct device *device;
    struct model_config config;
    int32_t positions, valid_vocab;
    struct model *model;
    struct generator *generator;
    struct digest loaded;
    struct stage *stage;
    bool patch_due;  /* load what is staged when it is */
    bool canary_due; /* of the loaded version; answers wait for it */
    struct record *records; /* [settings.groups_max] */
    int32_t record_count;
    int64_t progress_ms;
};

/* ---- engine.c; NULL of no memory is for engine_emit to say ---- */
struct engine_event *engine_event_create(enum engine_event_type type, size_t more_bytes);
enum status engine_emit(struct engine *engine, struct engine_event *event);
/* Hand over the groups that are finished, unless a canary is due. */
enum status engine_take_finished(struct engine *engine);

/* ---- engine_swap.c, on the thread ---- */
enum status swap_load(struct engine *engine, const struct command *command);
enum status swap_stage(struct engine *engine, struct command *command);
/* Once around the loop. busy: the last pass had something to do. */
enum status swap_advance(struct engine *engine, bool busy);
enum status swap_take_canary(struct engine *engine);

#endif
