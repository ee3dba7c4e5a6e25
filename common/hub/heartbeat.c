/* What actors say about their leases, their weights and themselves. */
#include "common/hub/internal.h"

#include "common/base/plant.h"
#include "proto/proto.h"

/* ---- canaries (DESIGN section 5.3) ---- */

static bool differ(const struct digest *canary, const struct digest *expected) {
    return !digest_is_zero(*canary) && !digest_is_zero(*expected) && !digest_equal(*canary, *expected);
}

static void say_distrusted(struct hub *hub, const struct peer *peer) {
    hub_refuse(hub, peer->connection, false,
               "its canary differs from the learner's: its weights or its arithmetic are damaged; or, if the lines "
               "\"products\" of the two logs differ, its GPU library multiplies otherwise");
}

static void distrust(struct hub *hub, struct peer *peer, const struct digest *canary, const struct digest *expected,
                     int64_t now_ms) {
    char theirs[DIGEST_HEX_BYTES], ours[DIGEST_HEX_BYTES];
    digest_format(*canary, theirs);
    digest_format(*expected, ours);
    hub->counts.canary_mismatches++;
    hub_alarm(hub, false, "canary_mismatch", "actor=\"%s\" host=\"%s\" canary=%s expected=%s", peer->name, peer->host,
              theirs, ours);
    peer->distrusted = true;
    hub_lose_leases(hub, peer, NULL);
    hub_stand_in_line(hub, peer);
    say_distrusted(hub, peer);
    hub_serve(hub, now_ms);
}

/* One fixed prompt's logits on the version that the actor loaded: within the class they are the learner's to the bit.
 */
static void compare_canary(struct hub *hub, struct peer *peer, int64_t now_ms) {
    const struct version *version = hub_find_version(hub, &peer->weights);
    if (version && peer->same_class && !peer->distrusted && differ(&peer->canary, &version->canary))
        distrust(hub, peer, &peer->canary, &version->canary, now_ms);
}

/* A group takes another way than its actor's heartbeats, and may be here before them. */
bool hub_canary_is_wrong(struct hub *hub, const struct message_group *group, const struct digest *expected,
                         int64_t now_ms) {
    if (!group->same_class || !differ(&group->canary, expected) || PLANTED(CANARY_UNCHECKED))
        return false;
    struct peer *actor = map_get(&hub->by_incarnation, group->actor);
    if (actor && actor->role == ROLE_ACTOR && !actor->distrusted)
        distrust(hub, actor, &group->canary, expected, now_ms);
    return true;
}

/* ---- heartbeats ---- */

static void take_figures(struct peer *peer, const struct message_heartbeat *heartbeat) {
    peer->counter_count = heartbeat->counter_count;
    for (uint32_t i = 0; i < heartbeat->counter_count; i++) {
        hub_copy_text(peer->counters[i].name, sizeof peer->counters[i].name, heartbeat->counters[i].name);
        peer->counters[i].value = heartbeat->counters[i].value;
    }
    hub_copy_text(peer->state, sizeof peer->state, heartbeat->state);
    peer->weights = heartbeat->weights;
    peer->canary = heartbeat->canary;
}

/* What the holder says about its lease. True: tell it (again) to drop the lease. */
static bool take_progress(struct hub *hub, struct lease *lease, const struct lease_progress *held, bool progressed,
                          int64_t now_ms) {
    bool grew = held->tokens_done > lease->tokens_done;
    bool waits = held->state == LEASE_WAITING || held->state == LEASE_PARKED;
    lease->beat = lease->peer->beat;
    lease->confirm = false;
    if (lease->status == LEASE_STATUS_CLOSED) /* one heartbeat may have crossed the revoke, a second one cannot have */
        return lease->peer->beat - lease->closed_beat >= 2;
    if (grew)
        lease->tokens_done = held->tokens_done;
    hub_set_lease_state(hub, lease, held->state);
    if (!grew && !(waits && progressed) && !PLANTED(RENEWED_WITHOUT_PROGRESS))
        return false;
    if (lease->status == LEASE_STATUS_EXPIRED) /* I3: renewed only by progress */
        hub_lease_revived(hub, lease, now_ms);
    else
        lease_table_renew(&hub->table, lease, now_ms + hub->settings.lease_ms);
    return false;
}

/* Leases that reached the holder, or never will, and are not in its list are not held. */
static void free_unlisted(struct hub *hub, struct peer *peer, uint64_t last_lease) {
    struct link *next;
    for (struct link *link = peer->leases.next; link != &peer->leases; link = next) {
        struct lease *lease = LIST_ELEMENT(link, struct lease, of_peer);
        next = link->next; /* losing this one may close others, but frees none of this peer's */
        if (lease->beat == peer->beat || (lease->number > last_lease && !lease->confirm))
            continue;
        if (lease->status == LEASE_STATUS_CLOSED) {
            hub_release(hub, lease);
        } else { /* it got lost on the way, here or there: the question has nothing to do with it */
            hub->counts.dropped++;
            hub_lease_lost(hub, lease, NULL);
        }
    }
}

void hub_heartbeat(struct hub *hub, struct peer *peer, const struct message_heartbeat *heartbeat, int64_t now_ms) {
    uint64_t revoked[HELD_MAX];
    uint32_t revoked_count = 0;
    bool progressed = heartbeat->progress > peer->progress;
    take_figures(peer, heartbeat);
    if (peer->role != ROLE_ACTOR)
        return;
    if (peer->distrusted) { /* the first word may have been lost */
        say_distrusted(hub, peer);
        return;
    }
    peer->beat++;
    peer->sated = false;
    compare_canary(hub, peer, now_ms);
    if (progressed)
        peer->progress = heartbeat->progress;
    for (uint32_t i = 0; i < heartbeat->held_count; i++) {
        const struct lease_progress *held = &heartbeat->held[i];
        struct lease *lease = lease_table_find(&hub->table, held->lease);
        if (lease && lease->peer == peer ? take_progress(hub, lease, held, progressed, now_ms) : true)
            revoked[revoked_count++] = held->lease;
    }
    /* The last one of another incarnation says nothing about ours. */
    free_unlisted(hub, peer, lease_table_knows(&hub->table, heartbeat->last_lease) ? heartbeat->last_lease : 0);
    if (revoked_count > 0) {
        struct message message = {.type = MESSAGE_REVOKE, .revoke = {.leases = revoked, .lease_count = revoked_count}};
        hub_send(hub, peer->connection, &message);
    }
    hub_stand_in_line(hub, peer);
    hub_serve(hub, now_ms);
}

void hub_give_back(struct hub *hub, struct peer *peer, const struct message_give_back *give_back, int64_t now_ms) {
    for (uint32_t i = 0; i < give_back->lease_count; i++) {
        struct lease *lease = lease_table_find(&hub->table, give_back->leases[i]);
        if (!lease || (lease->peer != peer && !PLANTED(LEASE_OF_ANOTHER)))
            continue;
        hub->counts.given_back++;
        if (lease->status == LEASE_STATUS_CLOSED)
            hub_release(hub, lease);
        else
            hub_lease_lost(hub, lease, give_back->fault ? give_back->reason.data : NULL);
    }
    peer->sated = true; /* it would get the same again, and give it back, as fast as messages go */
    list_remove(&peer->hungry);
    hub_serve(hub, now_ms);
}

void hub_canary(struct hub *hub, const struct digest *weights, const struct digest *canary, int64_t now_ms) {
    struct version *version = hub_keep_version(hub, *weights);
    hub->now_ms = now_ms;
    if (!version)
        return; /* publishing it will say so */
    version->canary = *canary;
    struct link *next;
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = next) {
        struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        next = link->next;
        if (peer->role == ROLE_ACTOR && digest_equal(peer->weights, *weights))
            compare_canary(hub, peer, now_ms);
    }
}
