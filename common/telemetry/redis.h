/* Writing telemetry records to Redis through hiredis, in pipelines, with every wait bounded. Used by the telemetry thread. */
#ifndef CANDOR_TELEMETRY_REDIS_H
#define CANDOR_TELEMETRY_REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/telemetry/ring.h"

#define REDIS_BATCH_RECORDS 32  /* a pipeline; hiredis' output buffer has no limit of its own: 32 records are about 100 KB */
#define REDIS_TIMEOUT_MS 100    /* for connecting, and for each answer */

struct redis_target {
    char text[256]; /* as given, for messages */
    char host[256]; /* "" for a socket, whose path is text */
    int port;
};

/* STATUS_CONFIG unless "host:port" or "/path". */
enum status redis_target_parse(const char *text, struct redis_target *out_target);

struct redis_writer {
    struct redisContext *context; /* NULL: not connected */
    int64_t last_id_ms;           /* of the last sample's stream id; ids only grow */
    uint64_t last_id_sequence;
    char refusal[128]; /* the last error that Redis answered with */
};

/* Records in the order of their push. They stay until they are acknowledged; a second attempt gives samples the same ids, so
 * that none is written twice. */
struct redis_batch {
    uint64_t dropped; /* records lost so far, written with samples */
    bool again;       /* an attempt failed: parts may have been written */
    uint32_t count;
    struct record records[REDIS_BATCH_RECORDS];
    struct {
        int64_t ms; /* 0: not given yet */
        uint64_t sequence;
    } ids[REDIS_BATCH_RECORDS];
};

/* Nothing to do when connected. */
enum status redis_connect(struct redis_writer *writer, const struct redis_target *target);
void redis_disconnect(struct redis_writer *writer);

/* STATUS_IO when the connection is dead. *out_refused: records that Redis answered with an error. */
enum status redis_write(struct redis_writer *writer, const char *run, struct redis_batch *batch, uint32_t *out_refused);

#endif
