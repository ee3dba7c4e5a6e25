/* The bounded ring of telemetry records: many threads push, one takes, no lock, nobody waits. When it is full, push drops the
 * oldest record.
 * Source: D. Vyukov's bounded MPMC queue. Each cell carries a sequence number that says whose turn it is: position p may be
 * filled when the number is p and taken when it is p + 1. */
#ifndef CANDOR_TELEMETRY_RING_H
#define CANDOR_TELEMETRY_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/telemetry/telemetry.h"

struct record {
    bool is_sample;
    int64_t at_ms; /* Unix time of the push */
    char name[TELEMETRY_TEXT_BYTES], role[TELEMETRY_TEXT_BYTES], host[TELEMETRY_TEXT_BYTES],
        state[TELEMETRY_TEXT_BYTES];
    uint32_t pair_count;
    struct {
        char name[TELEMETRY_NAME_BYTES];
        double value;
    } pairs[TELEMETRY_PAIRS_MAX];
};

struct ring;

/* capacity is a power of two. */
enum status ring_create(uint32_t capacity, struct ring **out_ring);
void ring_destroy(struct ring **ring);
/* Returns how many records were lost by it: 0, 1 (the oldest), or more when several threads push into a full ring. */
uint32_t ring_push(struct ring *ring, const struct record *record);
bool ring_try_pop(struct ring *ring, struct record *out_record);

#endif
