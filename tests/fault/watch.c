/* An actor seen from outside: after every event its leases, outbox and weight sync are compared with those before it. */
#include "tests/fault/actor.h"

#include <string.h>

#include "common/transport/outbox.h"

static void look(const struct actor *actor, struct seen *out_seen) {
    const struct client *client = actor->client;
    struct outbox_entry *entry = NULL;
    uint64_t total, ever;
    memset(out_seen, 0, offsetof(struct seen, held));
    out_seen->held_count = out_seen->outbox_count = 0;
    out_seen->phase = client->phase;
    out_seen->hub = client->hub;
    if (client->sync) {
        out_seen->sync = sync_state(client->sync);
        out_seen->version = sync_version(client->sync);
        out_seen->refusals = sync_refusals(client->sync);
        sync_progress(client->sync, &out_seen->here, &total, &ever);
    }
    if (client->held_count > HELD_MAX_SEEN || outbox_count(client->outbox) > HELD_MAX_SEEN)
        sim_fail(actor->sim, "I4: %s holds %u leases", sim_name(actor->index), client->held_count);
    for (; out_seen->held_count < client->held_count; out_seen->held_count++) {
        const struct held_lease *held = client->held[out_seen->held_count];
        out_seen->held[out_seen->held_count].lease = held->lease.lease;
        out_seen->held[out_seen->held_count].state = held->state;
    }
    while ((entry = outbox_next(client->outbox, entry))) {
        out_seen->outbox[out_seen->outbox_count].lease = entry->lease;
        out_seen->outbox[out_seen->outbox_count].receiver = entry->receiver;
        out_seen->outbox[out_seen->outbox_count++].sends = entry->sends;
    }
}

static void watch_held(struct sim *sim, const struct actor *actor, const struct seen *now, int type) {
    for (uint32_t i = 0; i < actor->seen.held_count; i++) {
        uint8_t from = actor->seen.held[i].state;
        uint32_t j = 0;
        while (j < now->held_count && now->held[j].lease != actor->seen.held[i].lease)
            j++;
        if (j < now->held_count && now->held[j].state != from) {
            uint8_t to = now->held[j].state;
            if (to == LEASE_GENERATING)
                sim_row(sim, from == LEASE_PARKED ? ROW_HELD_UNPARKED : ROW_HELD_BEGUN);
            else if (to == LEASE_PARKED)
                sim_row(sim, ROW_HELD_PARKED);
            else if (to == LEASE_DONE)
                sim_row(sim, ROW_HELD_DONE);
            if (from == LEASE_DONE)
                sim_fail(sim, "%s: a finished lease is unfinished again", sim_name(actor->index));
        } else if (j == now->held_count) {
            if (type == MESSAGE_ANSWER)
                sim_row(sim, ROW_HELD_ANSWERED);
            else if (type == MESSAGE_REVOKE)
                sim_row(sim, ROW_HELD_REVOKED);
            else if (actor->gave_back)
                sim_row(sim, ROW_HELD_GIVEN_BACK);
            else if (type == MESSAGE_WELCOME || type == MESSAGE_BYE)
                sim_row(sim, ROW_HELD_VOID);
            else
                sim_fail(sim, "A3: %s lets go of a lease without an answer or a revoke", sim_name(actor->index));
        }
    }
}

static void watch_outbox(struct sim *sim, const struct actor *actor, const struct seen *now, int type) {
    for (uint32_t i = 0; i < actor->seen.outbox_count; i++) {
        uint32_t j = 0;
        while (j < now->outbox_count && now->outbox[j].lease != actor->seen.outbox[i].lease)
            j++;
        bool flew = actor->seen.outbox[i].receiver != 0;
        if (j == now->outbox_count) {
            if (type == MESSAGE_ANSWER)
                sim_row(sim, ROW_OUTBOX_ANSWERED);
            else if (type == MESSAGE_REVOKE)
                sim_row(sim, ROW_OUTBOX_REVOKED);
            else
                sim_fail(sim, "O2: %s's outbox lost a group", sim_name(actor->index));
        } else if (now->outbox[j].sends > actor->seen.outbox[i].sends) {
            sim_row(sim, flew ? ROW_OUTBOX_RESENT : ROW_OUTBOX_SENT);
        } else if (flew && now->outbox[j].receiver == 0) {
            sim_row(sim, ROW_OUTBOX_LOST);
        }
    }
}

static void watch_sync(struct sim *sim, const struct actor *actor, const struct seen *now, int type) {
    const struct seen *old = &actor->seen;
    bool same = digest_equal(old->version, now->version);
    if (old->sync == SYNC_IDLE && now->sync == SYNC_FETCHING)
        sim_row(sim, ROW_SYNC_WANTED);
    if (old->sync == SYNC_FETCHING && now->sync == SYNC_READY)
        sim_row(sim, ROW_SYNC_COMPLETE);
    if (old->sync == SYNC_FETCHING && now->sync == SYNC_FETCHING && same && now->here < old->here &&
        now->refusals == old->refusals && type == MESSAGE_CHUNK)
        sim_row(sim, ROW_SYNC_AGAIN);
    if (now->refusals > old->refusals && !actor->refused)
        sim_row(sim, ROW_SYNC_DELTA_REFUSED);
    if (type == MESSAGE_GONE && actor->gone_delta)
        sim_row(sim, ROW_SYNC_DELTA_GONE);
    if (now->sync == SYNC_FETCHING && (old->sync == SYNC_FETCHING || old->sync == SYNC_READY) && !same)
        sim_row(sim, ROW_SYNC_OTHER);
    if (old->sync == SYNC_FETCHING && now->sync == SYNC_FAILED)
        sim_row(sim, ROW_SYNC_FAILED_TWICE);
    if (old->sync == SYNC_FETCHING && now->sync != SYNC_READY && type == MESSAGE_GONE && !actor->gone_delta)
        sim_row(sim, ROW_SYNC_GONE);
}

/* Who is refused for good knows why. */
static void check_refused(const struct actor *actor) {
    struct sim *sim = actor->sim;
    const char *why = actor->old_build ? "protocol"
                      : actor->damaged ? "canary"
                      : actor->other_class && sim->is_strict
                          ? "arithmetic is \"y\", the learner's is \"x\"; auto admits"
                          : NULL;
    if (!why || !strstr(status_message(), why))
        sim_fail(sim, "%s ends: %s", sim_name(actor->index), status_message());
    sim_row(sim, ROW_CLIENT_REFUSED_FOR_GOOD);
    sim->fault_counts[FAULT_CLASS] += actor->other_class;
}

void actor_watch(struct actor *actor, int type, enum status status) {
    struct sim *sim = actor->sim;
    struct seen now;
    client_check(actor->client);
    look(actor, &now);
    if (actor->seen.phase == CLIENT_JOINING && now.phase == CLIENT_JOINED)
        sim_row(sim, ROW_CLIENT_WELCOMED);
    if (actor->seen.phase == CLIENT_JOINED && now.phase == CLIENT_JOINING)
        sim_row(sim, type == MESSAGE_BYE ? ROW_CLIENT_BYE : ROW_CLIENT_REFUSED);
    watch_held(sim, actor, &now, type);
    watch_outbox(sim, actor, &now, type);
    watch_sync(sim, actor, &now, type);
    actor->seen = now;
    actor->gave_back = actor->refused = actor->gone_delta = false;
    if (status == STATUS_OK)
        return;
    if (status == STATUS_CONFIG)
        check_refused(actor);
    else if (status != STATUS_AGAIN) /* weights wrong twice: exit 75, and the supervisor starts it anew */
        sim_fail(sim, "%s ends: %s", sim_name(actor->index), status_message());
    sim_log(sim, "%s exits: %s", sim_name(actor->index), status_message());
    faults_kill(sim, actor->index);
}

void actor_watch_begin(struct actor *actor) {
    look(actor, &actor->seen);
}
