/* Telemetry: what processes and steps are doing, written to Redis for the dashboard by a thread of its own (DESIGN section 12).
 *
 * I6: nothing here blocks, slows or ends the caller. A record is copied into a bounded ring without a lock; when the ring is
 * full the oldest record is dropped and counted. Redis being slow, full, absent or killed means gaps in the charts: the thread
 * waits at most 100 ms for any answer, keeps what was not acknowledged, and tries again with growing pauses. A record carries
 * totals, not differences, so that a lost one costs resolution and no counts.
 *
 * Keys: candor:RUN:processes            sorted set of process names by the time of the last word from them (Unix ms)
 *       candor:RUN:process:NAME         hash: role, host, state, at_ms and the counters; ends TELEMETRY_PROCESS_TTL_S after
 *                                       the last word
 *       candor:RUN:samples              stream, one entry a step: its figures and telemetry_dropped */
#ifndef CANDOR_TELEMETRY_TELEMETRY_H
#define CANDOR_TELEMETRY_TELEMETRY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

#define TELEMETRY_PAIRS_MAX 64     /* figures a record; further ones are left out */
#define TELEMETRY_NAME_BYTES 40    /* of a figure's name, with its NUL; longer ones are cut */
#define TELEMETRY_TEXT_BYTES 128   /* of a name, host or state */
#define TELEMETRY_RING_RECORDS 512 /* times about 3.5 KB: 1.8 MB; 5 s of 100 processes at one record a second */
#define TELEMETRY_PROCESS_TTL_S 60
#define TELEMETRY_PROCESS_FORGET_S 86400 /* when a name leaves the set of processes */
#define TELEMETRY_SAMPLES_MAX 20000      /* entries of the stream; the oldest go first. About 30 bytes a figure */
#define TELEMETRY_SAMPLES_TTL_S 2592000  /* 30 days after the last sample */

struct telemetry;

/* One figure; the name is borrowed for the call and need not end in NUL. Values that are not finite are left out. */
struct telemetry_pair {
    const char *name;
    size_t name_bytes;
    double value;
};

/* Who a record is about; borrowed for the call, none of them NULL. */
struct telemetry_process {
    const char *name; /* label, the key */
    const char *role; /* "learner", "actor", "reward" */
    const char *host;
    const char *state; /* what it is doing, in words */
};

/* redis: "host:port", "/path/to/socket", or "" for none: *out_telemetry is then NULL, which every function below takes.
 * Starts the thread and returns at once, whether Redis answers or not. STATUS_CONFIG when redis is none of these. */
enum status telemetry_start(const char *redis, const char *run, struct telemetry **out_telemetry);

/* Writes what waits if Redis answers and ends the thread; returns after 1 s at the latest. */
void telemetry_stop(struct telemetry **telemetry);

/* Never wait. Any thread. */
void telemetry_process(struct telemetry *telemetry, const struct telemetry_process *process,
                       const struct telemetry_pair *pairs, uint32_t count);
void telemetry_sample(struct telemetry *telemetry, const char *const *names, const double *values, uint32_t count);

/* Records lost so far: pushed out of the ring, or refused by Redis. */
uint64_t telemetry_dropped(const struct telemetry *telemetry);
/* Records that Redis has acknowledged. */
uint64_t telemetry_written(const struct telemetry *telemetry);

#endif
