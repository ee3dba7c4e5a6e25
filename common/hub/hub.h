/* The hub: the state machine that turns offered work into leases and scored groups into filled slots (DESIGN sections 3, 4).
 *
 * It owns no socket and no clock: messages and time go in, messages and events come out through the sink. Whoever holds it (the
 * learner, a driver such as eval) offers work and takes completed work; it knows nothing of training, lag or files. Who trains at
 * which lag is decided by what is offered when: step k is offered as soon as the version it samples from is published.
 *
 * What is kept where: lease_table.h the leases (and their transition table), work.h the slots (and theirs), internal.h peers.
 *
 * One thread; the events must not call back into the hub. Invariants I1 to I8 of DESIGN section 3 are cited by number in the code. */
#ifndef CANDOR_HUB_HUB_H
#define CANDOR_HUB_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "proto/messages.h"

/* One slot of offered work: everything of a lease but its number, attempt and deadline. Owned by the caller until the work is
 * completed or withdrawn. */
struct hub_work {
    uint8_t stream; /* enum work_stream */
    uint32_t step;
    uint32_t priority;     /* lower is offered first: training of version v, then evaluation of v, then v+1 */
    struct digest weights; /* leases are granted only to actors that hold or can fetch it: it must be published */
    uint32_t version;
    uint32_t slot_count;
    const struct message_lease *slots; /* [slot_count] templates */
};

struct hub_events {
    void *context;
    /* What cannot be sent is dropped: everything is asked for again. */
    void (*send)(void *context, peer_id peer, const struct message *message);
    /* A slot was filled, for the first and only time (I1). scored is borrowed for the call: copy it, or keep its
     * memory. */
    void (*filled)(void *context, const struct message_scored *scored);
    /* Every slot of offered work is filled or skipped; the work is forgotten. A slot without filled() before was
     * skipped (I8). */
    void (*completed)(void *context, uint8_t stream, uint32_t step);
    /* Open work was withdrawn, or its version retired: no group of it comes any more. */
    void (*withdrawn)(void *context, uint8_t stream, uint32_t step);
    /* duplicate_mismatch, slot_stuck, canary_mismatch, refused peers, lost leases ...: name, and key=value text. fatal: the run
     * cannot go on (I8). */
    void (*alarm)(void *context, bool fatal, const char *name, const char *text);
    /* What the holder does, in words, appended for the status reply; may be NULL. */
    void (*describe)(void *context, struct buf *out);
};

struct hub_settings {
    uint64_t run_id, incarnation, seed;
    const char *run;
    struct digest config;
    struct fingerprint fingerprint; /* the learner's: the class */
    bool strict;                    /* refuse other classes */
    bool skip_stuck;
    uint32_t heartbeat_ms, lease_ms;
    const char *weights_endpoint;
    int32_t valid_vocab, positions_max;
    const struct model_file *files;
    uint32_t file_count;
};

struct hub;

/* The texts and arrays of settings are borrowed for the life of the hub. */
enum status hub_create(const struct hub_settings *settings, const struct hub_events *events, struct hub **out_hub);
void hub_destroy(struct hub **hub);

/* ---- what the holder does ---- */
/* STATUS_EXISTS while work of this stream and step is open; STATUS_LIMIT and STATUS_FORMAT naming the slot that could
 * not be leased. */
enum status hub_offer(struct hub *hub, const struct hub_work *work, int64_t now_ms);
/* Forget open work: its leases are revoked, its groups not wanted. Absent is fine. */
void hub_withdraw(struct hub *hub, uint8_t stream, uint32_t step);
/* Tell actors of a version: how to get it. Kept for late joiners until retired. STATUS_LIMIT when too many are kept. A delta
 * (FORM_DELTA) is another way to a version and told before its snapshot, so that no actor sets out to fetch that. */
enum status hub_publish(struct hub *hub, const struct message_manifest *manifest, int64_t now_ms);
/* Nobody can get it any more: open work of this version is withdrawn. */
void hub_retire(struct hub *hub, const struct digest *weights);
/* Deltas that lead to versions below are no longer told to those who join. */
void hub_retire_deltas(struct hub *hub, uint32_t version);
/* The learner's own canary of a version, published or about to be; actors of the class must agree (DESIGN section 5.3). One that
 * does not is refused, its leases are offered to others, and its groups are not wanted. */
void hub_canary(struct hub *hub, const struct digest *weights, const struct digest *canary, int64_t now_ms);
/* No new leases; peers are told bye as soon as no lease is out, or drain_ms later. */
void hub_drain(struct hub *hub, int64_t now_ms, int64_t drain_ms, const char *reason);

/* ---- what comes in ---- */
void hub_message(struct hub *hub, peer_id peer, const struct message *message, int64_t now_ms);
void hub_malformed(struct hub *hub, peer_id peer, const char *reason); /* counted (I5) */
void hub_disconnected(struct hub *hub, peer_id peer, int64_t now_ms);
/* Call at least each heartbeat_ms: expiry, re-offer, liveness. */
void hub_tick(struct hub *hub, int64_t now_ms);

/* ---- queries ---- */
struct hub_counts {
    uint64_t granted, speculative;                                  /* leases; of them, copies for idle actors */
    uint64_t accepted, duplicates, mismatches, not_wanted, invalid; /* groups that came; invalid are among not_wanted */
    uint64_t expired, revived, lost, dropped, given_back,
        revoked;                                           /* leases; dropped: not held any more, or never arrived */
    uint64_t skipped;                                      /* slots */
    uint64_t malformed, refused, hellos, reconnects, gone; /* messages; peers */
    uint64_t canary_mismatches;                            /* actors */
};
const struct hub_counts *hub_counted(const struct hub *hub);
/* One object of the counts by name. */
void hub_counts_json(const struct hub_counts *counts, struct buf *out);

/* A figure that a peer sent in its heartbeat. */
struct hub_counter {
    char name[40];
    double value;
};
struct hub_peer_view {
    uint8_t role;
    const char *name, *host, *state;
    const struct hub_counter *counters;
    uint32_t counter_count;
};
void hub_each_peer(const struct hub *hub, void (*each)(void *context, const struct hub_peer_view *peer), void *context);
uint32_t hub_actor_count(const struct hub *hub);
uint32_t hub_worker_count(const struct hub *hub);
/* Slots of open work that are filled or skipped; 0 when there is none such. */
uint32_t hub_filled(const struct hub *hub, uint8_t stream, uint32_t step);

/* Peers, leases, slots, queue depths, counters and what is awaited, as one JSON object (candor status, telemetry). */
void hub_status_json(const struct hub *hub, int64_t now_ms, struct buf *out);
/* One line: "waiting for an actor", "step 3: 12 of 64 groups, 3 actors". */
void hub_status_line(const struct hub *hub, int64_t now_ms, struct buf *out);
/* No open work, and no lease out. */
bool hub_idle(const struct hub *hub);
/* Drained: every peer was told bye. */
bool hub_drained(const struct hub *hub);
/* Asserts the invariants; for tests and the simulator. */
void hub_check(const struct hub *hub);

#endif
