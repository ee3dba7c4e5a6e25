/* The hub's thread: both ROUTER sockets, the hub state machine, the weights server and telemetry. Talks with its owner (training
 * thread, driver) through bounded queues; no call below blocks on the network. */
#ifndef CANDOR_HUB_SERVER_H
#define CANDOR_HUB_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/run_config.h"
#include "common/hub/hub.h"

struct hub_server;

struct hub_server_settings {
    struct hub_settings hub;
    const char *control, *weights; /* endpoints to bind */
    const struct run_config *config; /* net.*, telemetry.* */
    const char *model_directory;   /* files offered to actors */
};

enum status hub_server_start(const struct hub_server_settings *settings, struct hub_server **out_server);
/* Drains at most drain_ms, then stops the thread. */
void hub_server_stop(struct hub_server **server, int drain_ms, const char *reason);

/* Takes over the slot templates: deep-copied. */
enum status hub_server_offer(struct hub_server *server, const struct hub_work *work);

/* A version in host memory; the server serves its snapshot from there until retired, when release(context) is called on the
 * hub's thread. */
struct published {
    uint32_t version;
    struct digest digest, canary; /* canary zero: none to compare */
    const void *data;
    uint64_t elements;
    uint8_t dtype;
    void (*release)(void *context);
    void *context;
};
enum status hub_server_publish(struct hub_server *server, const struct published *published);
/* Versions below are neither leased nor wanted any more. */
enum status hub_server_retire_below(struct hub_server *server, uint32_t version);

/* Completed work: groups in slot order, each an arena-owned copy. */
struct completed_work {
    uint8_t stream;
    uint32_t step;
    uint32_t group_count;
    struct message_scored **groups; /* [slot_count]; NULL: skipped (I8, run.skip_stuck) */
    double waited_seconds;          /* from offer to completion */
    void *memory;                   /* the server's */
};
/* The named work when complete; STATUS_TIMEOUT after timeout_ms; STATUS_RUN_FAILED after a fatal alarm, with its text;
 * STATUS_INTERRUPTED after hub_server_interrupt. */
enum status hub_server_take(struct hub_server *server, uint8_t stream, uint32_t step, int timeout_ms,
                            struct completed_work **out_work);
void completed_work_free(struct completed_work **work);
/* Groups filled so far of an offered work, for progress bars. */
uint32_t hub_server_filled(struct hub_server *server, uint8_t stream, uint32_t step);

/* From a signal handler's thread: every waiting take returns STATUS_INTERRUPTED. */
void hub_server_interrupt(struct hub_server *server);

/* Counters for metrics.jsonl: actors, workers, leases out, re-leases, duplicates, refused, bytes ... as name/value pairs. */
enum status hub_server_counters(struct hub_server *server, struct buf *out_json);
void hub_server_status_line(struct hub_server *server, struct buf *out);
/* Per-step figures for telemetry (name, value), never blocks. */
void hub_server_telemetry(struct hub_server *server, const char *const *names, const double *values, uint32_t count);

#endif
