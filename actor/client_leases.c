/* Leases held, from the hub's message to freedom. */
#include "actor/client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "proto/proto.h"

struct held_lease *leases_find(struct client *client, uint64_t lease) {
    for (uint32_t i = 0; i < client->held_count; i++)
        if (client->held[i]->lease.lease == lease)
            return client->held[i];
    return NULL;
}

static void held_destroy(struct held_lease *held) {
    arena_deinit(&held->arena);
    free(held);
}

void leases_free(struct client *client, uint64_t lease) {
    struct held_lease *held = leases_find(client, lease);
    if (!held)
        return;
    if (held->given && held->state != LEASE_DONE)
        client->actions.cancel(client->actions.context, lease);
    if (held->room)
        outbox_unreserve(client->outbox, held->room);
    for (uint32_t i = 0; i < client->held_count; i++)
        if (client->held[i] == held)
            client->held[i] = client->held[--client->held_count];
    held_destroy(held);
    client->heartbeat_ms = 0; /* the hub hears of free room at once */
}

/* A deep copy: the message's memory is the receiver's. */
static enum status held_create(const struct message_lease *lease, struct held_lease **out_held) {
    struct message message = {.type = MESSAGE_LEASE, .lease = *lease}, copy;
    struct buf frame = {0};
    struct held_lease *held = calloc(1, sizeof *held);
    enum status status = held ? proto_encode(&message, &frame) : fail(STATUS_NO_MEMORY, "no memory: a lease");
    if (status == STATUS_OK) {
        arena_init(&held->arena, proto_arena_bytes(frame.bytes));
        status = proto_decode(frame.data, frame.bytes, &held->arena, &copy);
    }
    buf_deinit(&frame);
    if (status != STATUS_OK) {
        if (held)
            held_destroy(held);
        return status;
    }
    held->lease = copy.lease;
    *out_held = held;
    return STATUS_OK;
}

static void give_back(struct client *client, uint64_t lease, const char *reason, bool fault) {
    struct message message = {.type = MESSAGE_GIVE_BACK};
    message.give_back = (struct message_give_back){&lease, 1, text_of(reason), fault};
    client->actions.control(client->actions.context, &message);
}

void leases_take(struct client *client, const struct message_lease *lease) {
    if (lease->key.run_id != client->run_id || !digest_equal(lease->config, client->config) ||
        leases_find(client, lease->lease)) {
        client->dropped++;
        return;
    }
    if (lease->lease > client->last_lease)
        client->last_lease = lease->lease;
    if (client->draining) {
        give_back(client, lease->lease, "the actor is stopping", false);
        return;
    }
    uint64_t room = lease_weigh(lease);
    struct held_lease *held;
    if (client->held_count == HELD_MAX || outbox_reserve(client->outbox, room) != STATUS_OK) {
        give_back(client, lease->lease, "no room for its answers: actor.outbox_bytes", false);
        return;
    }
    if (held_create(lease, &held) != STATUS_OK) {
        outbox_unreserve(client->outbox, room);
        give_back(client, lease->lease, status_message(), false);
        return;
    }
    held->room = room; /* A1 */
    held->state = LEASE_WAITING;
    client->held[client->held_count++] = held;
}

void leases_give_back(struct client *client, uint64_t lease, const char *reason, bool fault) {
    leases_free(client, lease);
    give_back(client, lease, reason, fault);
}

void leases_revoke(struct client *client, const struct message_revoke *revoke) {
    for (uint32_t i = 0; i < revoke->lease_count; i++) {
        leases_free(client, revoke->leases[i]);
        outbox_remove_lease(client->outbox, revoke->leases[i]);
    }
}

void leases_void(struct client *client) {
    while (client->held_count)
        leases_free(client, client->held[0]->lease.lease);
    client->last_lease = 0;
}

void leases_give_back_unfinished(struct client *client, const struct digest *version, const char *reason) {
    for (uint32_t i = client->held_count; i-- > 0;) {
        const struct held_lease *held = client->held[i];
        if (held->state != LEASE_DONE && (!version || digest_equal(held->lease.weights, *version)))
            leases_give_back(client, held->lease.lease, reason, false);
    }
}

const struct held_lease *leases_first(const struct client *client, const struct digest *except) {
    const struct held_lease *first = NULL;
    for (uint32_t i = 0; i < client->held_count; i++) {
        const struct held_lease *held = client->held[i];
        if (held->state == LEASE_DONE || (except && digest_equal(held->lease.weights, *except)))
            continue;
        if (!first || held->lease.priority < first->lease.priority ||
            (held->lease.priority == first->lease.priority && held->lease.lease < first->lease.lease))
            first = held;
    }
    return first;
}

/* ---- what the generation says ---- */

void client_refused(struct client *client, uint64_t lease, const char *reason, int64_t now_ms) {
    (void)now_ms;
    struct held_lease *held = leases_find(client, lease);
    if (!held || held->state == LEASE_DONE)
        return;
    held->given = false; /* it is not inside */
    log_event(LOG_WARNING, "lease_refused", "lease=%llu reason=\"%s\"", (unsigned long long)lease, reason);
    leases_give_back(client, lease, reason, true);
}

void client_progress(struct client *client, const struct client_progress *list, uint32_t count,
                     const struct generator_counters *counters) {
    client->generated = *counters;
    for (uint32_t i = 0; i < count; i++) {
        struct held_lease *held = leases_find(client, list[i].lease);
        if (!held || held->state == LEASE_DONE)
            continue;
        if (list[i].progress.work > held->work)
            held->work = list[i].progress.work;
        held->state = list[i].progress.standing ? LEASE_PARKED
                      : list[i].progress.begun  ? LEASE_GENERATING
                                                : LEASE_WAITING;
    }
}
