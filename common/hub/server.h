/* The hub's thread: both ROUTER sockets, the hub state machine, the store of weights and telemetry.
 *
 * Ownership: sockets, hub, store and telemetry belong to the hub's thread. The owner (training thread, driver) asks it through
 * a bounded queue of calls and waits for the answer: the thread never waits for the network, so an answer takes no longer than
 * the messages at hand. Completed work is handed over under a mutex; its memory is then the taker's. I6: telemetry is a copy into
 * a ring; no call to Redis is made here. Any thread may call. */
#ifndef CANDOR_HUB_SERVER_H
#define CANDOR_HUB_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/run_config.h"
#include "common/hub/hub.h"
#include "common/hub/versions.h"

struct hub_server;

struct hub_server_settings {
    struct hub_settings hub;         /* files, file_count and weights_endpoint are filled in by the server */
    const char *control, *weights;   /* endpoints to bind */
    const struct run_config *config; /* net.*, telemetry.* */
    const char *model_directory;     /* files offered to actors; "": none */
    void (*beat)(void *context);     /* called by the thread each time around its loop, for a watchdog; may be NULL */
    void (*describe)(void *context,
                     struct buf *out); /* what the holder does, for the status reply; by the thread; may be NULL */
    void *hook_context;
};

/* Binds both sockets, then starts the thread. STATUS_CONFIG for endpoints and keys, naming the setting. */
enum status hub_server_start(const struct hub_server_settings *settings, struct hub_server **out_server);
/* Drains at most drain_ms, says bye, and ends the thread. Every published version is released. */
void hub_server_stop(struct hub_server **server, int drain_ms, const char *reason);

/* The templates are copied. Errors as of hub_offer. */
enum status hub_server_offer(struct hub_server *server, const struct hub_work *work);
/* Forget offered work, or what was collected of it. */
void hub_server_withdraw(struct hub_server *server, uint8_t stream, uint32_t step);

/* versions.h says what of it is kept. */
enum status hub_server_publish(struct hub_server *server, const struct published *published);
/* Versions below, or this one, are neither leased nor wanted any more. */
enum status hub_server_retire_below(struct hub_server *server, uint32_t version);
enum status hub_server_retire(struct hub_server *server, uint32_t version);

/* Completed work: groups in slot order. */
struct completed_work {
    uint8_t stream;
    uint32_t step;
    uint32_t group_count;
    struct message_scored **groups; /* [group_count]; NULL: skipped (I8, run.skip_stuck) */
    uint32_t *arrivals;             /* [arrival_count] slots in the order in which they were filled */
    uint32_t arrival_count;
    double waited_seconds; /* from offer to completion */
    void *memory;          /* the server's */
};
/* The named work when complete; STATUS_TIMEOUT after timeout_ms; STATUS_RUN_FAILED after a fatal alarm, with its text;
 * STATUS_INTERRUPTED after hub_server_interrupt; STATUS_NOT_FOUND when it was never offered, or taken before. */
enum status hub_server_take(struct hub_server *server, uint8_t stream, uint32_t step, int timeout_ms,
                            struct completed_work **out_work);
void completed_work_free(struct completed_work **work);
/* Groups filled so far of an offered work, for progress bars. */
uint32_t hub_server_filled(struct hub_server *server, uint8_t stream, uint32_t step);

/* Every waiting take returns STATUS_INTERRUPTED. Not from a signal handler. */
void hub_server_interrupt(struct hub_server *server);

/* Counters for metrics.jsonl: hub_counts, and actors, reward_workers, bytes_in, bytes_out, as one JSON object, appended. */
enum status hub_server_counters(struct hub_server *server, struct hub_counts *out_counts, struct buf *out_json);
/* What it does or waits for, appended. */
void hub_server_status_line(struct hub_server *server, struct buf *out);
/* Per-step figures for telemetry (name, value), never blocks. */
void hub_server_telemetry(struct hub_server *server, const char *const *names, const double *values, uint32_t count);

#endif
