/* What was made and not yet acknowledged (DESIGN section 3): an actor keeps each finished group here until a reward worker
 * answers, a reward worker keeps each scored group until the hub answers. The one implementation for both.
 *
 * It holds encoded frames, so that what is sent again is the same to the bit. Pure: no socket, no clock; the caller asks what
 * is due, sends it, and says so. One thread.
 *
 *   O1 bytes used + bytes reserved never exceed bytes_max (I4): room is reserved before work is taken.
 *   O2 an entry leaves by an answer, a revoke, or the deadline of a drain, and by nothing else.
 *   O3 an entry is waiting (due at once) or flying (sent to a receiver; due again when that receiver is lost or the answer takes
 *      too long). What is due comes oldest first. */
#ifndef CANDOR_TRANSPORT_OUTBOX_H
#define CANDOR_TRANSPORT_OUTBOX_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "proto/messages.h"

struct outbox;

struct outbox_entry {
    struct work_key key;
    uint64_t lease;
    const char *frame; /* [bytes] encoded */
    size_t bytes;
    uint64_t tag;      /* the caller's: a reward worker keeps here to whom it owes the answer */
    uint64_t receiver; /* where it flies, 0: it waits */
    uint32_t sends;
    int64_t added_ms, sent_ms;
};

enum status outbox_create(uint64_t bytes_max, struct outbox **out_outbox);
void outbox_destroy(struct outbox **outbox);

/* Set room aside for work that is about to be taken; STATUS_AGAIN when there is none (keeps no message). */
enum status outbox_reserve(struct outbox *outbox, uint64_t bytes);
void outbox_unreserve(struct outbox *outbox, uint64_t bytes);

/* Keep a frame: takes its memory, and empties take_frame. Release its reservation before. STATUS_AGAIN without room (keeps no
 * message), STATUS_EXISTS when this lease is inside: nothing is taken then. */
enum status outbox_put(struct outbox *outbox, const struct work_key *key, uint64_t lease, uint64_t tag,
                       struct buf *take_frame, int64_t now_ms);

/* The entry of a lease, or NULL. The caller may change its tag. */
struct outbox_entry *outbox_find(struct outbox *outbox, const struct work_key *key, uint64_t lease);
/* Acknowledged or revoked: forget it. false: it was not there, which is fine (an answer may come twice). */
bool outbox_remove(struct outbox *outbox, const struct work_key *key, uint64_t lease);
bool outbox_remove_lease(struct outbox *outbox, uint64_t lease);

/* The oldest entry to send now: waiting, or flying since resend_ms or more; NULL if none. */
struct outbox_entry *outbox_due(struct outbox *outbox, int64_t now_ms, int64_t resend_ms);
/* It was handed to that receiver (not 0). */
void outbox_sent(struct outbox *outbox, struct outbox_entry *entry, uint64_t receiver, int64_t now_ms);
/* That receiver is gone, or forgot us: what flew to it is due again. Returns how many. */
uint32_t outbox_lost(struct outbox *outbox, uint64_t receiver);

/* In the order in which they were added: NULL gives the first; NULL after the last. */
struct outbox_entry *outbox_next(struct outbox *outbox, struct outbox_entry *entry);
/* The end of a drain: drop everything (safe by I7). Returns how many. */
uint32_t outbox_clear(struct outbox *outbox);

uint32_t outbox_count(const struct outbox *outbox);
uint32_t outbox_flying(const struct outbox *outbox);
uint64_t outbox_bytes(const struct outbox *outbox); /* used */
uint64_t outbox_room(const struct outbox *outbox);  /* neither used nor reserved */
/* Age of the oldest entry, 0 when empty. */
int64_t outbox_age_ms(const struct outbox *outbox, int64_t now_ms);
/* Asserts O1 and O3; for tests and the simulator. */
void outbox_check(const struct outbox *outbox);

#endif
