/* Life of the hub, peers that come and go, time. See internal.h for the parts. */
#include "common/hub/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/utf8.h"
#include "common/base/plant.h"
#include "proto/proto.h"

/* ---- life ---- */

enum status hub_create(const struct hub_settings *settings, const struct hub_events *events, struct hub **out_hub) {
    ASSERT(settings->heartbeat_ms > 0 && settings->lease_ms > 0 && settings->incarnation > 0);
    struct hub *hub = calloc(1, sizeof *hub);
    if (!hub)
        return fail(STATUS_NO_MEMORY, "hub: no memory");
    hub->settings = *settings;
    hub->events = *events;
    snprintf(hub->run, sizeof hub->run, "%s", settings->run);
    snprintf(hub->weights_endpoint, sizeof hub->weights_endpoint, "%s", settings->weights_endpoint);
    list_init(&hub->works);
    list_init(&hub->by_seen);
    list_init(&hub->hungry);
    past_init(&hub->past);
    hub->last_tick_ms = INT64_MIN;
    enum status status = lease_table_init(&hub->table, settings->incarnation, LEASES_MAX);
    if (status != STATUS_OK) {
        hub_destroy(&hub);
        return status;
    }
    *out_hub = hub;
    return STATUS_OK;
}

void hub_destroy(struct hub **hub) {
    if (!*hub)
        return;
    struct link *next;
    for (struct link *link = (*hub)->works.next; link != &(*hub)->works; link = next) {
        struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        next = link->next;
        work_destroy(&work);
    }
    for (struct link *link = (*hub)->by_seen.next; link != &(*hub)->by_seen; link = next) {
        next = link->next;
        free(LIST_ELEMENT(link, struct peer, by_seen));
    }
    past_deinit(&(*hub)->past);
    map_deinit(&(*hub)->by_connection);
    map_deinit(&(*hub)->by_incarnation);
    lease_table_deinit(&(*hub)->table);
    free(*hub);
    *hub = NULL;
}

void hub_send(struct hub *hub, peer_id connection, const struct message *message) {
    if (connection != 0)
        hub->events.send(hub->events.context, connection, message);
}

void hub_alarm(struct hub *hub, bool fatal, const char *name, const char *format, ...) {
    char text[STATUS_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hub->events.alarm(hub->events.context, fatal, name, text);
}

void hub_copy_text(char *out, size_t capacity, struct text text) {
    size_t bytes = text.bytes < capacity ? text.bytes : utf8_cut(text.data, text.bytes, capacity - 1);
    if (bytes > 0) /* text.data may be NULL then */
        memcpy(out, text.data, bytes);
    out[bytes] = '\0';
}

/* ---- finding ---- */

struct peer *hub_peer(const struct hub *hub, peer_id connection) {
    return map_get(&hub->by_connection, connection);
}

struct work *hub_find_work(const struct hub *hub, uint8_t stream, uint32_t step) {
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next) {
        struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        if ((work->stream == stream || PLANTED(EVAL_IN_TRAIN)) && work->step == step)
            return work;
    }
    return NULL;
}

struct version *hub_find_version(const struct hub *hub, const struct digest *weights) {
    for (uint32_t i = 0; i < hub->version_count; i++) {
        if (digest_equal(hub->versions[i].manifest.weights, *weights))
            return (struct version *)(uintptr_t)&hub->versions[i];
    }
    return NULL;
}

/* ---- work ---- */

enum status hub_offer(struct hub *hub, const struct hub_work *offer, int64_t now_ms) {
    struct work *work;
    hub->now_ms = now_ms;
    if (hub->draining)
        return fail(STATUS_CLOSED, "step %u: the hub drains", offer->step);
    if (hub_find_work(hub, offer->stream, offer->step))
        return fail(STATUS_EXISTS, "step %u: is open already", offer->step);
    if (hub->work_count == WORKS_MAX)
        return fail(STATUS_LIMIT, "step %u: %d pieces of work are open already", offer->step, WORKS_MAX);
    TRY(work_create(offer, hub->settings.run_id, hub->settings.config, now_ms, &work));
    past_remove(&hub->past, offer->stream, offer->step);
    struct link *before = hub->works.previous; /* behind all of the same priority */
    while (before != &hub->works && LIST_ELEMENT(before, struct work, of_hub)->priority > work->priority)
        before = before->previous;
    list_insert_after(before, &work->of_hub);
    hub->work_count++;
    hub_serve(hub, now_ms);
    return STATUS_OK;
}

static void forget_work(struct hub *hub, struct work *work) {
    list_remove(&work->of_hub);
    hub->work_count--;
    work_destroy(&work);
}

void hub_complete_if_done(struct hub *hub, struct work *work) {
    if (work->done < work->slot_count)
        return;
    uint8_t stream = work->stream;
    uint32_t step = work->step;
    const struct version *version = hub_find_version(hub, &work->weights);
    past_add(&hub->past, work, version ? version->canary : (struct digest){0, 0});
    forget_work(hub, work);
    hub->events.completed(hub->events.context, stream, step);
}

static void withdraw(struct hub *hub, struct work *work) {
    for (uint32_t i = 0; i < work->slot_count; i++) {
        struct slot *slot = &work->slots[i];
        while (!list_empty(&slot->leases))
            hub_close_lease(hub, LIST_ELEMENT(slot->leases.next, struct lease, of_slot), true);
    }
    uint8_t stream = work->stream;
    uint32_t step = work->step;
    forget_work(hub, work);
    hub->events.withdrawn(hub->events.context, stream, step);
}

void hub_withdraw(struct hub *hub, uint8_t stream, uint32_t step) {
    struct work *work = hub_find_work(hub, stream, step);
    if (work)
        withdraw(hub, work);
}

/* ---- versions ---- */

struct version *hub_keep_version(struct hub *hub, struct digest weights) {
    struct version *version = hub_find_version(hub, &weights);
    if (!version && hub->version_count < MANIFESTS_MAX) {
        version = &hub->versions[hub->version_count++];
        *version = (struct version){.manifest = {.weights = weights}};
    }
    return version;
}

static void tell_actors(struct hub *hub, const struct message_manifest *manifest) {
    struct message message = {.type = MESSAGE_MANIFEST, .manifest = *manifest};
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        if (peer->role == ROLE_ACTOR)
            hub_send(hub, peer->connection, &message);
    }
}

/* The one that leads to the lowest version makes room. */
static void keep_delta(struct hub *hub, const struct message_manifest *manifest) {
    uint32_t at = 0, lowest = 0;
    for (; at < hub->delta_count; at++) {
        const struct message_manifest *delta = &hub->deltas[at];
        if (digest_equal(delta->weights, manifest->weights) && digest_equal(delta->base, manifest->base))
            break;
        if (delta->version < hub->deltas[lowest].version)
            lowest = at;
    }
    if (at == DELTAS_MAX)
        at = lowest;
    else if (at == hub->delta_count)
        hub->delta_count++;
    hub->deltas[at] = *manifest;
}

void hub_retire_deltas(struct hub *hub, uint32_t version) {
    for (uint32_t i = hub->delta_count; i-- > 0;)
        if (hub->deltas[i].version < version)
            hub->deltas[i] = hub->deltas[--hub->delta_count];
}

enum status hub_publish(struct hub *hub, const struct message_manifest *manifest, int64_t now_ms) {
    hub->now_ms = now_ms;
    if (manifest->form == FORM_DELTA) {
        keep_delta(hub, manifest);
        tell_actors(hub, manifest);
        return STATUS_OK;
    }
    struct version *version = hub_keep_version(hub, manifest->weights);
    if (!version)
        return fail(STATUS_LIMIT, "version %u: %d versions are published already", manifest->version, MANIFESTS_MAX);
    for (uint32_t i = 0; manifest->current && i < hub->version_count; i++)
        hub->versions[i].manifest.current = 0;
    version->manifest = *manifest;
    version->published = true;
    tell_actors(hub, manifest);
    hub_serve(hub, now_ms);
    return STATUS_OK;
}

void hub_retire(struct hub *hub, const struct digest *weights) {
    struct digest retired = *weights;
    struct version *version = hub_find_version(hub, &retired);
    if (!version)
        return;
    *version = hub->versions[--hub->version_count];
    struct link *next;
    for (struct link *link = hub->works.next; link != &hub->works; link = next) {
        struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        next = link->next;
        if (digest_equal(work->weights, retired))
            withdraw(hub, work);
    }
}

/* ---- what comes in ---- */

void hub_malformed(struct hub *hub, peer_id connection, const char *reason) {
    struct peer *peer = hub_peer(hub, connection);
    hub->counts.malformed++;
    hub_alarm(hub, false, "malformed", "peer=\"%s\" reason=\"%s\"", peer ? peer->name : "", reason);
}

static void on_status_request(struct hub *hub, peer_id connection, int64_t now_ms) {
    struct buf json = {0};
    hub_status_json(hub, now_ms, &json);
    struct message message = {.type = MESSAGE_STATUS_REPLY};
    if (buf_ok(&json)) {
        message.status_reply.json = (struct text){.data = json.data, .bytes = (uint32_t)json.bytes};
        hub_send(hub, connection, &message);
    }
    buf_deinit(&json);
}

/* Does this role send this? */
static bool is_expected(uint8_t role, enum message_type type) {
    switch (type) {
    case MESSAGE_HEARTBEAT:
    case MESSAGE_BYE:
        return true;
    case MESSAGE_GIVE_BACK:
        return role == ROLE_ACTOR;
    case MESSAGE_SCORED:
        return role == ROLE_REWARD;
    default:
        return false;
    }
}

static void on_peer_message(struct hub *hub, struct peer *peer, const struct message *message, int64_t now_ms) {
    switch (message->type) {
    case MESSAGE_HEARTBEAT:
        hub_heartbeat(hub, peer, &message->heartbeat, now_ms);
        break;
    case MESSAGE_GIVE_BACK:
        hub_give_back(hub, peer, &message->give_back, now_ms);
        break;
    case MESSAGE_SCORED:
        hub_scored(hub, peer, &message->scored, now_ms);
        hub_serve(hub, now_ms);
        break;
    default: /* MESSAGE_BYE: it goes by itself, which counts against nothing */
        hub_remove_peer(hub, peer, NULL);
        hub_serve(hub, now_ms);
    }
}

void hub_message(struct hub *hub, peer_id connection, const struct message *message, int64_t now_ms) {
    hub->now_ms = now_ms;
    struct peer *peer = hub_peer(hub, connection);
    if (message->type == MESSAGE_HELLO) {
        hub_hello(hub, connection, &message->hello, now_ms);
    } else if (message->type == MESSAGE_STATUS_REQUEST) {
        on_status_request(hub, connection, now_ms);
    } else if (!peer) {
        if (message->type != MESSAGE_BYE)
            hub_refuse(hub, connection, true, "this hub does not know this connection");
    } else if (!is_expected(peer->role, message->type)) {
        hub_malformed(hub, connection, "a message that its role does not send");
    } else if (message->type == MESSAGE_HEARTBEAT && message->heartbeat.incarnation != peer->incarnation) {
        hub_refuse(hub, connection, true, "this connection said hello as another incarnation");
    } else {
        hub_seen(hub, peer, now_ms);
        on_peer_message(hub, peer, message, now_ms);
    }
}

/* It may come back over another connection: until it was silent for too long, its leases are its own. */
void hub_disconnected(struct hub *hub, peer_id connection, int64_t now_ms) {
    hub->now_ms = now_ms;
    struct peer *peer = map_remove(&hub->by_connection, connection);
    if (!peer)
        return;
    peer->connection = 0;
    hub_stand_in_line(hub, peer);
}

/* ---- time ---- */

int64_t hub_silent_ms(const struct hub *hub) {
    int64_t ms = (int64_t)PEER_SILENT_HEARTBEATS * hub->settings.heartbeat_ms;
    return ms > PEER_SILENT_MS_LEAST ? ms : PEER_SILENT_MS_LEAST;
}

/* A suspended host or a stopped process: what looks overdue had no chance to be heard in that time. */
static void forgive_standstill(struct hub *hub, int64_t now_ms) {
    int64_t stood_ms = hub->last_tick_ms == INT64_MIN ? 0 : now_ms - hub->last_tick_ms;
    int64_t least_ms = (int64_t)HUB_STOOD_HEARTBEATS * hub->settings.heartbeat_ms;
    hub->last_tick_ms = now_ms;
    if (stood_ms <= (least_ms > HUB_STOOD_MS_LEAST ? least_ms : HUB_STOOD_MS_LEAST) || PLANTED(STANDSTILL_JUDGED))
        return;
    lease_table_shift(&hub->table, stood_ms, now_ms, hub->settings.lease_ms);
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        peer->seen_ms = peer->seen_ms + stood_ms < now_ms ? peer->seen_ms + stood_ms : now_ms;
    }
}

static void remove_silent(struct hub *hub, int64_t now_ms) {
    while (!list_empty(&hub->by_seen)) {
        struct peer *peer = LIST_ELEMENT(hub->by_seen.next, struct peer, by_seen);
        if (now_ms - peer->seen_ms < hub_silent_ms(hub) || (PLANTED(SILENT_KEPT) && peer->lease_count == 0))
            return;
        hub->counts.gone++;
        hub_alarm(hub, false, "peer_gone", "peer=\"%s\" host=\"%s\" silent_ms=%lld leases=%u", peer->name, peer->host,
                  (long long)(now_ms - peer->seen_ms), peer->lease_count);
        hub_remove_peer(hub, peer, "its actor went silent");
    }
}

static void finish_drain(struct hub *hub, int64_t now_ms) {
    if (!hub->draining || hub->said_bye || (hub->table.active > 0 && now_ms < hub->drain_until_ms))
        return;
    hub->said_bye = true;
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next)
        hub_say_bye(hub, LIST_ELEMENT(link, struct peer, by_seen)->connection);
}

void hub_drain(struct hub *hub, int64_t now_ms, int64_t drain_ms, const char *reason) {
    hub->draining = true;
    hub->drain_until_ms = now_ms + drain_ms;
    snprintf(hub->drain_reason, sizeof hub->drain_reason, "%s", reason);
    finish_drain(hub, now_ms);
}

void hub_tick(struct hub *hub, int64_t now_ms) {
    struct lease *lease;
    hub->now_ms = now_ms;
    forgive_standstill(hub, now_ms);
    remove_silent(hub, now_ms);
    while ((lease = lease_table_due(&hub->table, now_ms)))
        hub_lease_expired(hub, lease);
    hub_serve(hub, now_ms);
    hub_speculate(hub, now_ms);
    finish_drain(hub, now_ms);
}
