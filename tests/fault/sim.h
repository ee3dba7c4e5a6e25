/* A whole run of Candor under one seed: the real state machines of hub, lease client, weight sync, store and reward worker, a
 * learner made of its rules alone, a virtual clock, and a network and hosts that do what they should not. README.md has the tour.
 *
 * The same seed gives the same run, event for event. Everything random is drawn by sim_draw. One thread; what goes wrong ends the
 * process by sim_fail or ASSERT, and main.c names the seed. */
#ifndef CANDOR_TESTS_FAULT_SIM_H
#define CANDOR_TESTS_FAULT_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/hub/hub.h"
#include "common/weights/store.h"
#include "proto/messages.h"
#include "tests/fault/rows.h"

enum {
    STEPS = 10,
    SLOTS = 8,
    EVALS_MAX = 2, /* pending at once */
    EVAL_SLOTS = 4,
    EXTRA_SLOTS = 3, /* of a driver's work beside the training */
    EXTRA_WORKS = 2,
    SAMPLES = 2,
    TOKENS = 6,
    ACTORS = 5,
    WORKERS = 2,
    LEARNER = ACTORS + WORKERS, /* process number */
    PROCESSES,
    HOSTS = 2, /* of process i: i % HOSTS */
    LAG_MAX = 3,
    ELEMENTS = 160, /* bf16, in ten chunks: more than FETCH_WINDOW */
    WEIGHT_BYTES = ELEMENTS * 2,
    CHUNK_BYTES = 32,
    CHANGED = 6, /* weights, from one version to the next: three deltas are cheaper than a snapshot */
    HEARTBEAT_MS = 500,
    LEASE_MS = 3000,
    TICK_MS = 100,
    STOP = 7, /* token */
    VOCABULARY = 100,
    HELD_LIMIT = 3, /* groups that an actor generates at once */
    ACTOR_JOBS = 64,
    FAULTS_MAX = 12,
    FAULTS_LEAST = 5,
    TIME_MAX_MS = 900000,
    FLIGHT_MAX = 20000, /* messages on their way (I4) */
};

/* ---- history.c: what must come out ---- */
struct content {
    uint8_t data[WEIGHT_BYTES];
    struct digest history; /* of the version before, its groups in order and the versions that they used */
    struct message_manifest manifest;
};
/* A group, from the weights that really answered it. Points into itself. */
struct made_group {
    int32_t ids[SAMPLES][TOKENS];
    float logprobs[SAMPLES][TOKENS];
    uint32_t counts[SAMPLES];
};
struct used_group {
    struct digest group, weights;
};
void history_begin(struct content *out_version);
/* The version after a step on these groups [SLOTS]; zero: a slot that was skipped. skipped: the update was, and its weights are
 * those of the version before. */
void history_next(const struct content *before, const struct used_group *groups, bool skipped,
                  struct content *out_version);
/* Actors of another class compute other bits. */
void history_group(const uint8_t *weights, const struct work_key *key, bool same_class, struct made_group *out_group);
/* The digest that the hub must see (group_digest). */
struct digest history_group_digest(const uint8_t *weights, const struct work_key *key, bool same_class);
uint32_t history_version_of_step(uint32_t step, uint32_t lag);

/* ---- the simulation ---- */
enum fault {
    FAULT_KILL,
    FAULT_PAUSE,
    FAULT_SLOW,
    FAULT_STALL,   /* alive, beats, gets nowhere */
    FAULT_RESTART, /* drain, leave, come back */
    FAULT_CUT,
    FAULT_DROP,
    FAULT_DUPLICATE,
    FAULT_DELAY, /* behind what is sent later */
    FAULT_TRUNCATE,
    FAULT_CORRUPT,  /* a chunk of weights, under a right or a wrong hash */
    FAULT_FOREIGN,  /* groups of another run, configuration, version or shape */
    FAULT_LEARNER,  /* killed, resumed from its checkpoint */
    FAULT_DISK,     /* a checkpoint cannot be written */
    FAULT_DAMAGE,   /* the newest checkpoint is damaged when the learner comes back */
    FAULT_SUSPEND,  /* a whole host: its clocks jump ahead, at once or after a while of standing still */
    FAULT_BROKEN,   /* what an actor makes is not finite, or refused: given back with a fault */
    FAULT_CANARY,   /* a bit of an actor's weights flips as they are loaded */
    FAULT_BUILD,    /* a process of another protocol comes up in place of the right one */
    FAULT_FULL,     /* a socket takes nothing more */
    FAULT_FORGED,   /* a peer speaks of leases that others hold */
    FAULT_CLASS,    /* an actor of another class says hello */
    FAULT_NAMESAKE, /* an actor of a name that another has says hello */
    FAULT_COUNT
};

enum channel { CHANNEL_CONTROL, CHANNEL_GROUPS, CHANNEL_WEIGHTS, CHANNEL_COUNT };

struct process {
    bool alive;
    uint32_t life;   /* counts restarts */
    peer_id control; /* its connection at the hub; those below `cut_below` carry nothing any more */
    peer_id cut_below;
    int64_t paused_until_ms, slow_until_ms, stalled_until_ms;
    int64_t broken_until_ms;
    bool damages, old_build; /* FAULT_CANARY, FAULT_BUILD: still to come */
    bool was_damaged;
    bool stopping; /* drains */
    int64_t leave_ms;
};

struct planned {
    enum fault kind;
    uint32_t step;    /* when so many steps were trained, */
    int64_t delay_ms; /* and so much later */
    uint32_t process, amount;
    bool scheduled, done;
};

struct event;
struct actor;
struct reward;
struct learner;

struct sim {
    uint64_t seed;
    uint32_t draws, lag, eval_every, checkpoint_every;
    uint32_t skipped_step; /* its update is skipped; STEPS: none */
    bool has_poison;       /* a question kills whoever answers it: */
    struct work_key poison;
    bool skips_stuck;          /* run.skip_stuck; without it such a question ends the run (I8) */
    bool has_class, is_strict; /* actor 2 is of another class, which run.determinism = strict refuses */
    bool is_mixed;             /* it is admitted: the result is not the undisturbed run's */
    bool has_namesakes;        /* actor 4 has the name of actor 0 */
    bool disturbed, logs;
    struct content reference[STEPS + 1]; /* the undisturbed run, without any process */
    int64_t now_ms;
    struct arena arena; /* of the message that is handed over */
    /* events by time, a binary heap */
    struct event *heap;
    uint32_t heap_count, heap_capacity, flight_count;
    uint64_t next_order;
    /* network */
    peer_id next_connection;
    int64_t arrived_ms[PROCESSES][PROCESSES][CHANNEL_COUNT]; /* of the last one: in order without a fault */
    uint32_t drop_rate, duplicate_rate, delay_rate;          /* of a thousand */
    uint32_t burst[FAULT_COUNT];                             /* messages that the fault still takes */
    uint32_t latency_ms;
    peer_id group_links[ACTORS][WORKERS]; /* an actor's connection at a worker; 0: none */
    peer_id stranger;                     /* the newest connection of none of the processes */
    /* processes */
    struct process processes[PROCESSES];
    struct host {
        int64_t suspended_until_ms, behind_ms; /* behind: its clock */
    } hosts[HOSTS];
    struct actor *actors[ACTORS];
    struct reward *rewards[WORKERS];
    struct learner *learner;
    uint64_t next_incarnation;
    /* faults */
    struct planned faults[FAULTS_MAX];
    uint32_t fault_count, fault_counts[FAULT_COUNT];
    bool has_extra;
    uint64_t events, samples_made;
    uint64_t *rows; /* [ROW_COUNT] shared between the processes of main.c */
};

struct totals {
    uint64_t seeds, events, kills, duplicates, expired, revived, copies, restarts, simulated_ms, faults[FAULT_COUNT];
    uint64_t stuck; /* runs that ended by I8, as they had to */
    /* Of the history that each run ended with: samples that it needs, of them not trained on or evaluated, and once too often. */
    uint64_t samples, lost, twice;
    uint64_t made; /* by actors, wanted or not */
};

/* history.c: sim->reference. */
void history_make(struct sim *sim);
/* Run one seed to its end. */
void sim_run(struct sim *sim, uint64_t seed, bool disturbed, bool logs, uint64_t *rows, struct totals *totals);
uint32_t sim_draw(struct sim *sim, uint32_t bound);
bool sim_chance(struct sim *sim, uint32_t of_thousand); /* never when undisturbed */
void sim_row(struct sim *sim, enum row row);
/* The readable log: kept when sim->logs; its last lines are printed when the run fails. */
void sim_log(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
void sim_print_log(void);
extern bool sim_log_all; /* each line at once */
extern char sim_cache[]; /* an empty directory */
const char *sim_name(uint32_t process);
/* What it calls itself. */
const char *sim_label(const struct sim *sim, uint32_t process);
uint64_t sim_incarnation(struct sim *sim);
/* What this process takes for the time. */
int64_t sim_clock(const struct sim *sim, uint32_t process);
/* Stopped, or its host is suspended, until then; 0: not. */
int64_t sim_stands_until(const struct sim *sim, uint32_t process);
static inline bool sim_stands(const struct sim *sim, uint32_t process) {
    return sim_stands_until(sim, process) > 0;
}
struct fingerprint sim_fingerprint(bool other_class);
bool sim_is_poison(const struct sim *sim, const struct work_key *key);

/* ---- events ---- */
enum event_kind {
    EVENT_FRAME,
    EVENT_TICK,
    EVENT_GENERATE,
    EVENT_LOADED,
    EVENT_TURN,
    EVENT_TRAINED,
    EVENT_DURABLE,
    EVENT_CLOCK,
    EVENT_FAULT,
    EVENT_START
};

struct event {
    int64_t at_ms;
    uint64_t order;
    enum event_kind kind;
    uint8_t process, from, channel;
    uint32_t life;      /* the process's; of another life it is void */
    peer_id connection; /* a frame's */
    uint64_t argument;
    char *frame;
    uint32_t bytes;
};
void sim_at(struct sim *sim, int64_t in_ms, enum event_kind kind, uint32_t process, uint64_t argument);
void sim_push(struct sim *sim, const struct event *event);

/* ---- network.c ---- */
void network_send(struct sim *sim, uint32_t from, uint32_t to, enum channel channel, peer_id connection,
                  const struct message *message);
void network_send_frame(struct sim *sim, uint32_t from, uint32_t to, enum channel channel, peer_id connection,
                        const void *frame, size_t bytes);
/* Hand a frame to its process. */
void network_arrive(struct sim *sim, struct event *event);
/* FAULT_FULL: what was to be sent is not taken. */
bool network_is_full(struct sim *sim);
void network_cut(struct sim *sim, uint32_t process, bool noticed);

/* ---- learner.c, hub.c ---- */
void learner_create(struct sim *sim);
void learner_destroy(struct sim *sim);
void learner_start(struct sim *sim); /* from its checkpoint */
void learner_kill(struct sim *sim);
void learner_stop(struct sim *sim); /* drains; the kill comes later */
void learner_tick(struct sim *sim);
void learner_message(struct sim *sim, peer_id connection, const struct message *message);
void learner_fetch(struct sim *sim, uint32_t from, const struct message *message);
void learner_malformed(struct sim *sim, peer_id connection);
/* A message of a peer that is none of the processes. */
void learner_stranger(struct sim *sim, const struct message *message);
/* As a hello of another protocol must be refused: for good, naming both. */
void sim_check_refused(struct sim *sim, const struct message *message);
void learner_forge(struct sim *sim);
void learner_disconnected(struct sim *sim, peer_id connection);
void learner_turn(struct sim *sim);
void learner_trained(struct sim *sim);
void learner_durable(struct sim *sim);
bool learner_done(const struct sim *sim);
bool learner_failed(const struct sim *sim);    /* ended by I8 */
uint32_t learner_steps(const struct sim *sim); /* the most that were ever trained */
void learner_end(struct sim *sim, struct totals *totals);
/* Did the hub answer this lease's group? */
bool learner_answered(const struct sim *sim, uint64_t lease);

/* ---- observe.c: the hub's transitions and what they may be ---- */
struct observer;
struct observer *observer_create(void);
void observer_destroy(struct observer **observer);
void observer_new_hub(struct observer *observer);
/* Its slots may be offered again. */
void observer_withdrawn(struct observer *observer, uint8_t stream, uint32_t step);
/* Around every event of the hub; message: NULL for a tick or what the learner does. */
void observer_before(struct sim *sim, struct observer *observer, const struct hub *hub, peer_id connection,
                     const struct message *message);
void observer_after(struct sim *sim, struct observer *observer, const struct hub *hub);

/* ---- actor.c ---- */
void actor_start(struct sim *sim, uint32_t index);
void actor_kill(struct sim *sim, uint32_t index);
void actor_tick(struct sim *sim, uint32_t index);
void actor_generate(struct sim *sim, uint32_t index);
void actor_loaded(struct sim *sim, uint32_t index);
void actor_control(struct sim *sim, uint32_t index, const struct message *message);
void actor_weights(struct sim *sim, uint32_t index, const struct message *message);
void actor_worker(struct sim *sim, uint32_t index, uint32_t worker, const struct message *message);
void actor_malformed(struct sim *sim, uint32_t index);
void actor_drain(struct sim *sim, uint32_t index);
/* In this life or an earlier one. */
bool actor_was_damaged(const struct sim *sim, const char *label);

/* ---- reward.c ---- */
void reward_start(struct sim *sim, uint32_t index);
void reward_kill(struct sim *sim, uint32_t index);
void reward_tick(struct sim *sim, uint32_t index);
void reward_control(struct sim *sim, uint32_t index, const struct message *message);
void reward_actor(struct sim *sim, uint32_t index, peer_id peer, const struct message *message, size_t bytes);
void reward_malformed(struct sim *sim, uint32_t index);
void reward_drain(struct sim *sim, uint32_t index);

/* ---- faults.c ---- */
extern const char *const fault_names[FAULT_COUNT];
void faults_plan(struct sim *sim);
/* Those whose step came are scheduled. */
void faults_step(struct sim *sim);
void faults_apply(struct sim *sim, uint64_t number);
/* The process stops at once and comes back later. */
void faults_kill(struct sim *sim, uint32_t process);
/* A host comes back with a clock that stood still, and catches up later: stood_ms 0. */
void faults_clock(struct sim *sim, uint32_t host, uint64_t stood_ms);
/* All that were planned were carried out, every kind that each seed must have among them. */
bool faults_done(const struct sim *sim);

#endif
