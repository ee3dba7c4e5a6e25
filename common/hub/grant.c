/* Credit and offers: which actor gets which slot, and what becomes of leases that are not answered. */
#include "common/hub/internal.h"

#include "common/base/plant.h"
#include <stdlib.h>
#include <stdio.h>

#include "proto/proto.h"

/* ---- room ---- */

/* Finished samples take no more room for generating; the bytes stay taken until the group has left the outbox. */
static uint32_t samples_taken(const struct lease *lease) {
    return lease->state == LEASE_DONE ? 0 : lease->samples;
}

void hub_set_lease_state(struct hub *hub, struct lease *lease, uint8_t state) {
    (void)hub;
    lease->peer->used_samples -= samples_taken(lease);
    lease->state = state;
    lease->peer->used_samples += samples_taken(lease);
}

/* An actor that generates nothing is given one group, however many samples that has. */
static bool fits(const struct peer *peer, uint32_t samples, uint64_t bytes) {
    bool samples_fit = peer->used_samples == 0 || (peer->used_samples < peer->capacity_samples &&
                                                   samples <= peer->capacity_samples - peer->used_samples);
    return samples_fit && peer->used_bytes <= peer->capacity_bytes && bytes <= peer->capacity_bytes - peer->used_bytes;
}

void hub_stand_in_line(struct hub *hub, struct peer *peer) {
    bool room = peer->used_samples == 0 || peer->used_samples < peer->capacity_samples;
    if (peer->role != ROLE_ACTOR || peer->distrusted || peer->sated || peer->connection == 0 || !room)
        list_remove(&peer->hungry);
    else if (!list_linked(&peer->hungry))
        list_push_back(&hub->hungry, &peer->hungry);
}

/* ---- leases that end ---- */

/* The lease leaves its holder's room, and the table. */
static void release(struct hub *hub, struct lease *lease) {
    struct peer *peer = lease->peer;
    peer->used_samples -= samples_taken(lease);
    peer->used_bytes -= PLANTED(CREDIT_LOST) ? 0 : lease->bytes;
    peer->lease_count--;
    lease_table_free(&hub->table, lease);
}

void hub_release(struct hub *hub, struct lease *lease) {
    ASSERT(lease->status == LEASE_STATUS_CLOSED);
    release(hub, lease);
}

void hub_close_lease(struct hub *hub, struct lease *lease, bool revoke) {
    if (lease->status == LEASE_STATUS_ACTIVE)
        lease->slot->active--;
    lease_table_close(&hub->table, lease);
    lease->closed_beat = lease->peer->beat;
    if (!revoke)
        return;
    struct message message = {.type = MESSAGE_REVOKE, .revoke = {.leases = &lease->number, .lease_count = 1}};
    hub->counts.revoked++;
    hub_send(hub, lease->peer->connection, &message);
}

static void remember_loss(struct slot *slot, const struct peer *holder, const char *reason) {
    if (!slot->losses && !(slot->losses = calloc(LOSSES_MAX, sizeof slot->losses[0])))
        return; /* only the report is poorer */
    struct loss *loss = &slot->losses[slot->lost - 1];
    loss->who = holder->who;
    snprintf(loss->holder, sizeof loss->holder, "%.*s", (int)sizeof loss->holder - 1, holder->name);
    snprintf(loss->reason, sizeof loss->reason, "%.*s", (int)sizeof loss->reason - 1, reason);
}

/* It was none: the holder got on after all. */
static void forget_loss(struct slot *slot, const struct peer *holder) {
    if (slot->lost == 0)
        return;
    slot->lost--;
    uint32_t at = 0;
    while (slot->losses && at < slot->lost && slot->losses[at].who != holder->who)
        at++;
    for (; slot->losses && at < slot->lost; at++)
        slot->losses[at] = slot->losses[at + 1];
}

/* I8: five losses. The run ends, or the slot is given up and that is recorded. */
static void slot_stuck(struct hub *hub, struct work *work, struct slot *slot) {
    char losses[LOSSES_MAX * 140] = "";
    size_t used = 0;
    uint32_t index = work_slot_index(work, slot);
    for (uint32_t i = 0; slot->losses && i < slot->lost; i++)
        used += (size_t)snprintf(losses + used, sizeof losses - used, "%s%s: %s", i ? "; " : "", slot->losses[i].holder,
                                 slot->losses[i].reason);
    hub_alarm(hub, !hub->settings.skip_stuck, "slot_stuck",
              "stream=%u step=%u slot=%u question_id=\"%s\" losses=\"%s\"%s", work->stream, work->step, index,
              work->templates[index].grading.question_id.data, losses,
              hub->settings.skip_stuck ? " skipped=1" : " hint=\"run.skip_stuck = yes skips it\"");
    if (!hub->settings.skip_stuck)
        return;
    while (!list_empty(&slot->leases))
        hub_close_lease(hub, LIST_ELEMENT(slot->leases.next, struct lease, of_slot), true);
    work_finish(work, slot, SLOT_SKIPPED);
    hub->counts.skipped++;
    hub_complete_if_done(hub, work);
}

/* Copies that die together are one loss: the first of two may leave another at work and is spared, the second counts
 * whoever is left. A question that kills its holders one after another, each given a copy before the last one's end was
 * noticed, so counts every second time. True when the slot is finished by it, and the work perhaps too. */
static bool count_loss(struct hub *hub, struct work *work, struct slot *slot, const struct peer *holder,
                       const char *reason) {
    bool spared = slot->active > 0 && !slot->spared;
    slot->spared = spared;
    if (spared || slot->lost == LOSSES_MAX || PLANTED(LOSS_UNCOUNTED)) /* LOSSES_MAX: the run is ending */
        return false;
    slot->lost++;
    slot->lost_ms = hub->now_ms;
    remember_loss(slot, holder, reason);
    if (slot->lost < LOSSES_MAX)
        return false;
    slot_stuck(hub, work, slot);
    return hub->settings.skip_stuck;
}

void hub_lease_lost(struct hub *hub, struct lease *lease, const char *reason) {
    struct work *work = lease->work;
    struct slot *slot = lease->slot;
    struct peer *holder = lease->peer;
    bool counts = reason && lease->status == LEASE_STATUS_ACTIVE; /* an EXPIRED one was counted then */
    if (lease->status == LEASE_STATUS_ACTIVE)
        slot->active--;
    release(hub, lease);
    if (reason) {
        hub->counts.lost++;
        holder->lost++;
    }
    if ((counts && count_loss(hub, work, slot, holder, reason)) || PLANTED(NOT_REOFFERED))
        return;
    work_reopen(work, slot);
}

/* A finished group that waits for a reward worker is not the question's fault: it does not count. */
void hub_lease_expired(struct hub *hub, struct lease *lease) {
    struct work *work = lease->work;
    struct slot *slot = lease->slot;
    hub->counts.expired++;
    lease_table_expire(&hub->table, lease);
    slot->active--;
    if (lease->state != LEASE_DONE) {
        uint8_t lost = slot->lost;
        if (count_loss(hub, work, slot, lease->peer, "no progress until the deadline"))
            return;
        lease->counted = slot->lost > lost;
    }
    work_reopen(work, slot);
}

void hub_lease_revived(struct hub *hub, struct lease *lease, int64_t now_ms) {
    struct slot *slot = lease->slot;
    hub->counts.revived++;
    lease_table_renew(&hub->table, lease, now_ms + hub->settings.lease_ms);
    slot->active++;
    if (lease->counted)
        forget_loss(slot, lease->peer);
    lease->counted = false;
    if (slot->state == SLOT_OPEN) {
        list_remove(&slot->open);
        lease->work->open_count--;
        slot->state = SLOT_LEASED;
    }
}

/* ---- granting ---- */

enum grant { GRANT_DONE, GRANT_NO_WORK, GRANT_NO_ROOM };

static bool holds(const struct peer *peer, const struct slot *slot) {
    for (struct link *link = slot->leases.next; link != &slot->leases; link = link->next) {
        if (LIST_ELEMENT(link, struct lease, of_slot)->peer == peer)
            return true;
    }
    return false;
}

static bool holds_suspect(const struct peer *peer) {
    for (struct link *link = peer->leases.next; link != &peer->leases; link = link->next) {
        const struct lease *lease = LIST_ELEMENT(link, struct lease, of_peer);
        if (lease->slot && lease->slot->lost >= SUSPECT_LOSSES)
            return true;
    }
    return false;
}

static bool has_lost(const struct peer *peer, const struct slot *slot) {
    for (uint32_t i = 0; slot->losses && i < slot->lost; i++) {
        if (slot->losses[i].who == peer->who)
            return true;
    }
    return false;
}

/* An actor is there that has not lost this slot and has the room for it, now or later. */
static bool others_could(const struct hub *hub, const struct work *work, const struct slot *slot) {
    uint64_t bytes = lease_weigh(&work->templates[work_slot_index(work, slot)]);
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *other = LIST_ELEMENT(link, struct peer, by_seen);
        if (other->role == ROLE_ACTOR && other->connection != 0 && !other->distrusted &&
            other->capacity_bytes >= bytes && !has_lost(other, slot))
            return true;
    }
    return false;
}

/* I8: whoever lost it is not the one to say that it is the question. It may try again when the others did not come to it either for as
 * long as a lease lasts, or, where there are none, when one had the time to come (back). */
static bool is_for_others(const struct hub *hub, const struct work *work, const struct slot *slot,
                          const struct peer *peer) {
    if (slot->lost == 0 || !has_lost(peer, slot) || PLANTED(LOSER_AGAIN))
        return false;
    int64_t silent_ms = hub_silent_ms(hub), lease_ms = hub->settings.lease_ms, since_ms = hub->now_ms - slot->lost_ms;
    return since_ms < silent_ms || (since_ms < lease_ms && others_could(hub, work, slot));
}

/* The first open slot that this actor may have. Suspects stand last. */
static struct slot *pick_open(const struct hub *hub, const struct work *work, const struct peer *peer) {
    for (struct link *link = work->open.next; link != &work->open; link = link->next) {
        struct slot *slot = LIST_ELEMENT(link, struct slot, open);
        if (slot->lost >= SUSPECT_LOSSES && holds_suspect(peer))
            return NULL;
        if (!holds(peer, slot) && !is_for_others(hub, work, slot, peer))
            return slot;
    }
    return NULL;
}

static void tell_too_small(struct hub *hub, struct peer *peer, const struct work *work, uint64_t bytes) {
    if (peer->told_too_small)
        return;
    peer->told_too_small = true;
    hub_alarm(hub, false, "no_room",
              "actor=\"%s\" a group of step %u can weigh %llu bytes, this actor takes %llu: actor.outbox_bytes",
              peer->name, work->step, (unsigned long long)bytes, (unsigned long long)peer->capacity_bytes);
}

static void send_lease(struct hub *hub, const struct lease *lease) {
    struct message message = {.type = MESSAGE_LEASE,
                              .lease = lease->work->templates[work_slot_index(lease->work, lease->slot)]};
    message.lease.lease = lease->number;
    message.lease.attempt = lease->slot->attempts - 1;
    message.lease.deadline_ms = hub->settings.lease_ms;
    hub_send(hub, lease->peer->connection, &message);
}

static enum grant grant(struct hub *hub, struct peer *peer, struct work *work, struct slot *slot, int64_t now_ms) {
    const struct message_lease *offer = &work->templates[work_slot_index(work, slot)];
    uint64_t bytes = lease_weigh(offer);
    if (!fits(peer, offer->samples, bytes)) {
        if (bytes > peer->capacity_bytes)
            tell_too_small(hub, peer, work, bytes);
        return GRANT_NO_ROOM;
    }
    struct lease *lease = lease_table_grant(&hub->table, now_ms, now_ms + hub->settings.lease_ms);
    if (!lease)
        return GRANT_NO_ROOM; /* I4: LEASES_MAX are out */
    lease->samples = offer->samples;
    lease->bytes = bytes;
    lease->peer = peer;
    lease->work = work;
    lease->slot = slot;
    lease->state = LEASE_WAITING;
    list_push_back(&peer->leases, &lease->of_peer);
    list_push_back(&slot->leases, &lease->of_slot);
    peer->lease_count++;
    peer->used_samples += lease->samples;
    peer->used_bytes += bytes;
    if (slot->state == SLOT_OPEN) {
        list_remove(&slot->open);
        work->open_count--;
        slot->state = SLOT_LEASED;
    }
    slot->active++;
    slot->attempts++;
    hub->counts.granted++;
    send_lease(hub, lease);
    hub_stand_in_line(hub, peer);
    return GRANT_DONE;
}

static bool leasable(const struct hub *hub, const struct work *work) {
    const struct version *version = hub_find_version(hub, &work->weights);
    return version && version->published;
}

/* The lowest priority first; within it the work offered first. */
static enum grant grant_open(struct hub *hub, struct peer *peer, int64_t now_ms) {
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next) {
        struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        struct slot *slot = work->open_count > 0 && leasable(hub, work) ? pick_open(hub, work, peer) : NULL;
        if (slot)
            return grant(hub, peer, work, slot, now_ms);
    }
    return GRANT_NO_WORK;
}

static bool any_open(const struct hub *hub) {
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next) {
        const struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        if (work->open_count > 0 && leasable(hub, work))
            return true;
    }
    return false;
}

/* One lease for each in turn, so that few slots are spread over many actors. */
void hub_serve(struct hub *hub, int64_t now_ms) {
    struct peer *first_without = NULL; /* the one since which nobody got anything */
    while (!hub->draining && !list_empty(&hub->hungry) && any_open(hub)) {
        struct peer *peer = LIST_ELEMENT(hub->hungry.next, struct peer, hungry);
        if (peer == first_without)
            return;
        list_remove(&peer->hungry);
        list_push_back(&hub->hungry, &peer->hungry);
        enum grant outcome = grant_open(hub, peer, now_ms);
        if (outcome == GRANT_NO_ROOM)
            list_remove(&peer->hungry); /* it comes back when a heartbeat shows that something was freed */
        if (outcome == GRANT_DONE)
            first_without = NULL;
        else if (outcome == GRANT_NO_WORK && !first_without)
            first_without = peer;
    }
}

/* ---- copies of old leases (I3) ---- */

/* Old: out for twice as long as a lease takes on the average. A finished one waits for nothing that a copy could give.
 */
static bool worth_a_copy(const struct hub *hub, const struct lease *lease, int64_t now_ms) {
    int64_t age_ms = now_ms - lease->granted_ms, least_ms = 2 * (int64_t)hub->settings.heartbeat_ms;
    if (lease->state != LEASE_WAITING && 2 * hub->mean_ms > (double)least_ms)
        least_ms = (int64_t)(2 * hub->mean_ms);
    return age_ms >= least_ms && lease->state != LEASE_DONE && lease->slot->active < COPIES_MAX;
}

/* slot: not held by it; NULL: any. */
static struct peer *idle_actor(const struct hub *hub, const struct slot *slot) {
    for (struct link *link = hub->hungry.next; link != &hub->hungry; link = link->next) {
        struct peer *peer = LIST_ELEMENT(link, struct peer, hungry);
        if (peer->used_samples > 0)
            continue;
        if (!slot ||
            (!holds(peer, slot) && !has_lost(peer, slot) && (slot->lost < SUSPECT_LOSSES || !holds_suspect(peer))))
            return peer;
    }
    return NULL;
}

void hub_speculate(struct hub *hub, int64_t now_ms) {
    if (hub->draining || any_open(hub))
        return;
    struct lease *lease = lease_table_by_age(&hub->table, NULL);
    for (int looked = 0; lease && looked < SPECULATE_SCAN && idle_actor(hub, NULL); looked++) {
        struct peer *peer = worth_a_copy(hub, lease, now_ms) ? idle_actor(hub, lease->slot) : NULL;
        if (peer && grant(hub, peer, lease->work, lease->slot, now_ms) == GRANT_DONE)
            hub->counts.speculative++;
        else if (peer)
            list_remove(&peer->hungry);
        lease = lease_table_by_age(&hub->table, lease);
    }
}
