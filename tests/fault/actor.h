/* The inside of a simulated actor, for actor.c (the process around the real client) and watch.c (what its events may change). */
#ifndef CANDOR_TESTS_FAULT_ACTOR_H
#define CANDOR_TESTS_FAULT_ACTOR_H

#include "actor/client_internal.h"
#include "tests/fault/sim.h"

#define HELD_MAX_SEEN 64

struct job {
    uint64_t lease;
    struct work_key key;
    struct digest weights;
    uint32_t priority, done, whole;
};

/* What is compared after an event. */
struct seen {
    enum client_phase phase;
    uint64_t hub;
    enum sync_state sync;
    struct digest version;
    uint64_t here, refusals;
    struct {
        uint64_t lease;
        uint8_t state;
    } held[HELD_MAX_SEEN];
    uint32_t held_count;
    struct {
        uint64_t lease, receiver;
        uint32_t sends;
    } outbox[HELD_MAX_SEEN];
    uint32_t outbox_count;
};

struct actor {
    struct client *client;
    uint32_t index;
    struct sim *sim;
    struct job jobs[ACTOR_JOBS];
    uint32_t job_count;
    bool works;                   /* an EVENT_GENERATE is under way */
    uint8_t loaded[WEIGHT_BYTES]; /* what is on the device */
    bool has_loaded;
    uint8_t *loading;
    struct chain *staged, *patching;
    struct message_manifest manifest;
    struct generator_counters counters;
    uint32_t slots[WORKERS_MAX]; /* worker + 1 of an open slot */
    bool damaged, old_build, other_class;
    bool gave_back, refused, gone_delta; /* in this event */
    struct seen seen;
};

/* After every event of the actor; type: the message's, or -1. What changed must be a row of the tables of client.h, outbox.h and sync.h.
 * Another status than STATUS_OK ends the process. */
void actor_watch(struct actor *actor, int type, enum status status);
/* A process that starts has changed nothing yet. */
void actor_watch_begin(struct actor *actor);

#endif
