/* The hub seen from outside: after every event its leases and slots are compared with those before it. What changed
 * must be a row of the transition tables of lease_table.h and work.h, for the reason that the row gives. */
#include <stdlib.h>
#include <string.h>

#include "common/hub/internal.h"
#include "tests/fault/sim.h"

enum { PLACES = 512, ATTEMPTS_MAX = 60 };

_Static_assert(HUB_STOOD_HEARTBEATS *HEARTBEAT_MS >= HUB_STOOD_MS_LEAST, "the heartbeats decide");
#define STOOD_MS (HUB_STOOD_HEARTBEATS * HEARTBEAT_MS)

struct seen_lease {
    uint64_t number, tokens_done;
    struct peer *peer;
    int64_t deadline_ms;
    uint8_t status;
};

struct observer {
    const struct peer *sender; /* of the message; compared, never read */
    struct seen_lease leases[PLACES];
    uint32_t used;
    uint8_t slots[WORK_GENERATE + 1][STEPS + 1][SLOTS];
    struct hub_counts counts;
    int64_t tick_ms;
    /* the event */
    const struct message *message;
    uint64_t progress; /* of the sender, before */
    bool stood;        /* the hub itself stood still until now */
};

struct observer *observer_create(void) {
    struct observer *observer = calloc(1, sizeof *observer);
    if (!observer)
        abort();
    return observer;
}

void observer_destroy(struct observer **observer) {
    free(*observer);
    *observer = NULL;
}

void observer_new_hub(struct observer *observer) {
    memset(observer, 0, sizeof *observer);
}

void observer_withdrawn(struct observer *observer, uint8_t stream, uint32_t step) {
    memset(observer->slots[stream][step], SLOT_OPEN, sizeof observer->slots[stream][step]);
}

void observer_before(struct sim *sim, struct observer *observer, const struct hub *hub, peer_id connection,
                     const struct message *message) {
    (void)sim;
    const struct peer *peer = hub_peer(hub, connection);
    observer->message = message;
    observer->sender = peer;
    observer->progress = peer ? peer->progress : 0;
    observer->tick_ms = hub->last_tick_ms;
}

/* ---- leases ---- */

/* I3: did the holder say that it got on? */
static bool got_on(const struct observer *observer, const struct seen_lease *before) {
    const struct message *message = observer->message;
    if (!message || message->type != MESSAGE_HEARTBEAT || message->heartbeat.incarnation != before->peer->incarnation)
        return false;
    for (uint32_t i = 0; i < message->heartbeat.held_count; i++) {
        const struct lease_progress *held = &message->heartbeat.held[i];
        bool waits = held->state == LEASE_WAITING || held->state == LEASE_PARKED;
        if (held->lease == before->number)
            return held->tokens_done > before->tokens_done ||
                   (waits && message->heartbeat.progress > observer->progress);
    }
    return false;
}

/* Credit belongs to (peer, incarnation): nobody lets go of another's lease. */
static void watch_freed(struct sim *sim, const struct observer *observer, const struct hub *hub,
                        const struct seen_lease *before) {
    uint8_t from = before->status;
    static const enum row rows[3][3] = {
        {ROW_LEASE_ACTIVE_GIVEN_BACK, ROW_LEASE_ACTIVE_NOT_HELD, ROW_LEASE_ACTIVE_GONE},
        {ROW_LEASE_EXPIRED_GIVEN_BACK, ROW_LEASE_EXPIRED_NOT_HELD, ROW_LEASE_EXPIRED_GONE},
        {ROW_LEASE_CLOSED_GIVEN_BACK, ROW_LEASE_CLOSED_NOT_HELD, ROW_LEASE_CLOSED_GONE}};
    const enum row *row = rows[from - LEASE_STATUS_ACTIVE];
    int type = observer->message ? (int)observer->message->type : -1;
    bool is_delivery = type == MESSAGE_SCORED;
    if ((type == MESSAGE_GIVE_BACK || type == MESSAGE_HEARTBEAT) && before->peer != observer->sender)
        sim_fail(sim, "section 3: a lease is let go of by another peer than its holder");
    if (hub->counts.given_back > observer->counts.given_back)
        sim_row(sim, row[0]);
    else if (observer->message && observer->message->type == MESSAGE_HEARTBEAT)
        sim_row(sim, row[1]);
    else if (!is_delivery) /* which frees a lease whose group nobody can use */
        sim_row(sim, row[2]);
}

static void watch_kept(struct sim *sim, const struct observer *observer, const struct seen_lease *before,
                       const struct lease *lease) {
    bool later = lease->deadline_ms > before->deadline_ms, on = later && got_on(observer, before);
    if (lease->status == LEASE_STATUS_ACTIVE && later && !on && !observer->stood)
        sim_fail(sim, "I3: a lease is renewed without progress");
    if (before->status == lease->status) {
        if (lease->status == LEASE_STATUS_ACTIVE && on)
            sim_row(sim, ROW_LEASE_RENEWED);
        return;
    }
    bool is_delivery = observer->message && observer->message->type == MESSAGE_SCORED;
    bool was_active = before->status == LEASE_STATUS_ACTIVE, was_expired = before->status == LEASE_STATUS_EXPIRED;
    if (was_active && lease->status == LEASE_STATUS_EXPIRED && sim_clock(sim, LEARNER) >= before->deadline_ms &&
        !observer->stood)
        sim_row(sim, ROW_LEASE_EXPIRED);
    else if (was_expired && lease->status == LEASE_STATUS_ACTIVE)
        sim_row(sim, ROW_LEASE_REVIVED);
    else if (lease->status == LEASE_STATUS_CLOSED && (was_active || was_expired))
        sim_row(sim, !is_delivery ? ROW_LEASE_WITHDRAWN
                     : was_active ? ROW_LEASE_ACTIVE_FILLED
                                  : ROW_LEASE_EXPIRED_FILLED);
    else
        sim_fail(sim, "a lease went from status %u to %u, which no row of lease_table.h allows%s", before->status,
                 lease->status, observer->stood ? " while the hub stood still" : "");
}

static void watch_leases(struct sim *sim, struct observer *observer, const struct hub *hub) {
    if (hub->table.ever_used > PLACES)
        sim_fail(sim, "I4: %u leases are out", hub->table.count);
    for (uint32_t i = 0; i < hub->table.ever_used; i++) {
        struct seen_lease *before = &observer->leases[i];
        const struct lease *lease = &hub->table.leases[i];
        bool is_new = lease->status != LEASE_STATUS_FREE && lease->number != before->number;
        bool was = before->status != LEASE_STATUS_FREE;
        if (was && (is_new || lease->status == LEASE_STATUS_FREE))
            watch_freed(sim, observer, hub, before);
        else if (was)
            watch_kept(sim, observer, before, lease);
        if (is_new && lease->status == LEASE_STATUS_ACTIVE)
            sim_row(sim, lease->slot->active > 1 ? ROW_LEASE_COPIED : ROW_LEASE_GRANTED);
        *before =
            (struct seen_lease){lease->number, lease->tokens_done, lease->peer, lease->deadline_ms, lease->status};
    }
}

/* ---- slots ---- */

static void watch_slot(struct sim *sim, const struct observer *observer, const struct hub *hub, const struct slot *slot,
                       uint8_t from) {
    if (slot->attempts > ATTEMPTS_MAX)
        sim_fail(sim, "I8: a slot was leased %u times", slot->attempts);
    if (slot->state == from)
        return;
    if (from == SLOT_FILLED || from == SLOT_SKIPPED)
        sim_fail(sim, "I2: a finished slot changes");
    if (slot->state == SLOT_LEASED)
        sim_row(sim, ROW_SLOT_LEASED);
    else if (slot->state == SLOT_FILLED)
        sim_row(sim, from == SLOT_OPEN ? ROW_SLOT_OPEN_FILLED : ROW_SLOT_LEASED_FILLED);
    else if (slot->state == SLOT_SKIPPED)
        sim_row(sim, ROW_SLOT_SKIPPED);
    else if (hub->counts.expired > observer->counts.expired)
        sim_row(sim, ROW_SLOT_REOPENED_EXPIRED);
    else if (hub->counts.given_back > observer->counts.given_back)
        sim_row(sim, ROW_SLOT_REOPENED_GIVEN_BACK);
    else
        sim_row(sim, ROW_SLOT_REOPENED_LOST);
}

static void watch_slots(struct sim *sim, struct observer *observer, const struct hub *hub) {
    const struct message *message = observer->message;
    bool is_open = false;
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next) {
        const struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        for (uint32_t i = 0; i < work->slot_count; i++) {
            uint8_t *from = &observer->slots[work->stream][work->step][i];
            watch_slot(sim, observer, hub, &work->slots[i], *from);
            *from = work->slots[i].state;
        }
        is_open |= message && message->type == MESSAGE_SCORED && message->scored.group.key.stream == work->stream &&
                   message->scored.group.key.step == work->step;
    }
    if (hub->counts.duplicates > observer->counts.duplicates)
        sim_row(sim, is_open ? ROW_SLOT_DUPLICATE : ROW_SLOT_LATE_DUPLICATE);
    if (hub->counts.skipped > observer->counts.skipped)
        sim_row(sim, ROW_SLOT_SKIPPED);
}

/* I4: who went silent is forgotten. */
static void watch_peers(struct sim *sim, const struct hub *hub) {
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        if (sim_clock(sim, LEARNER) - peer->seen_ms >= hub_silent_ms(hub))
            sim_fail(sim, "I4: %s was silent for %lld ms, and is kept", peer->name,
                     (long long)(sim_clock(sim, LEARNER) - peer->seen_ms));
    }
}

void observer_after(struct sim *sim, struct observer *observer, const struct hub *hub) {
    bool ticked = hub->last_tick_ms != observer->tick_ms && observer->tick_ms != INT64_MIN;
    observer->stood = ticked && hub->last_tick_ms - observer->tick_ms > STOOD_MS;
    if (observer->stood && (hub->counts.expired > observer->counts.expired || hub->counts.gone > observer->counts.gone))
        sim_fail(sim, "section 3: the hub stood still, and peers are judged for it");
    if (ticked && !observer->stood)
        watch_peers(sim, hub);
    watch_leases(sim, observer, hub);
    watch_slots(sim, observer, hub);
    observer->counts = hub->counts;
}
