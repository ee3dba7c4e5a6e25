/* Joining the hub, heartbeats, and the way from messages to the other client_*.c files. */
#include "actor/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/client_internal.h"
#include "common/base/log.h"
#include "proto/proto.h"

/* ---- creation ---- */

/* A copy of the settings and of the strings that they point to. */
static enum status copy_settings(struct client *client, const struct client_settings *settings) {
    struct text *texts[] = {&client->settings.name,
                            &client->settings.host,
                            &client->settings.fingerprint.build,
                            &client->settings.fingerprint.backend,
                            &client->settings.fingerprint.device,
                            &client->settings.fingerprint.arithmetic};
    client->settings = *settings;
    size_t bytes = strlen(settings->cache) + 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bytes += texts[i]->bytes + 1;
    char *at = client->texts = calloc(1, bytes);
    if (!at)
        return fail(STATUS_NO_MEMORY, "no memory: client settings");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        memcpy(at, texts[i]->data, texts[i]->bytes);
        texts[i]->data = at;
        at += texts[i]->bytes + 1;
    }
    strcpy(at, settings->cache);
    client->settings.cache = at;
    return STATUS_OK;
}

enum status client_create(const struct client_settings *settings, const struct client_actions *actions, int64_t now_ms,
                          struct client **out_client) {
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return fail(STATUS_NO_MEMORY, "no memory: client");
    client->actions = *actions;
    client->hello_ms = now_ms;
    enum status status;
    TRY_GOTO(copy_settings(client, settings), failed);
    TRY_GOTO(outbox_create(settings->outbox_bytes, &client->outbox), failed);
    *out_client = client;
    return STATUS_OK;
failed:
    client_destroy(&client);
    return status;
}

void client_destroy(struct client **client) {
    struct client *self = *client;
    *client = NULL;
    if (!self)
        return;
    for (uint32_t i = 0; i < self->held_count; i++) {
        arena_deinit(&self->held[i]->arena);
        free(self->held[i]);
    }
    files_destroy(&self->files);
    sync_destroy(&self->sync);
    outbox_destroy(&self->outbox);
    free(self->texts);
    free(self);
}

/* ---- joining ---- */

void client_say_hello(struct client *client, int64_t now_ms) {
    const struct client_settings *settings = &client->settings;
    struct message message = {.type = MESSAGE_HELLO};
    message.hello = (struct message_hello){
        .protocol = PROTOCOL_VERSION,
        .role = ROLE_ACTOR,
        .name = settings->name,
        .host = settings->host,
        .incarnation = settings->incarnation,
        .pid = settings->pid,
        .fingerprint = settings->fingerprint,
        .capacity_samples = settings->capacity_samples,
        .capacity_bytes = settings->outbox_bytes,
        .endpoint = text_of(""),
        .key = text_of(""),
    };
    client->hello_ms = now_ms + CLIENT_HELLO_MS;
    client->actions.control(client->actions.context, &message);
}

static void join_again(struct client *client, int64_t now_ms, const char *why) {
    if (client->phase == CLIENT_JOINED)
        log_event(LOG_INFO, "hub_lost", "reason=\"%s\"", why);
    client->phase = CLIENT_JOINING;
    client->hello_ms = now_ms;
}

static enum status welcome(struct client *client, const struct message_welcome *welcome, int64_t now_ms) {
    if (welcome->protocol != PROTOCOL_VERSION)
        return fail(STATUS_CONFIG,
                    "net.learner: it speaks protocol %u, this actor %u: install the same release on both",
                    welcome->protocol, PROTOCOL_VERSION);
    if (welcome->incarnation != client->hub || welcome->run_id != client->run_id)
        leases_void(client); /* another hub's leases mean nothing to it; finished groups may still be wanted */
    if (welcome->run_id != client->run_id)
        outbox_clear(client->outbox);
    snprintf(client->run, sizeof client->run, "%s", welcome->run.data);
    client->hub = welcome->incarnation;
    client->run_id = welcome->run_id;
    client->config = welcome->config;
    client->same_class = welcome->same_class;
    client->heartbeat_interval_ms = welcome->heartbeat_ms ? welcome->heartbeat_ms : 1000;
    client->heartbeat_ms = now_ms;
    client->unheard = false;
    bool again = client->phase == CLIENT_JOINED;
    client->phase = CLIENT_JOINED;
    if (!again)
        log_event(LOG_INFO, "joined", "run=%s same_class=%s", client->run, client->same_class ? "yes" : "no");
    if (strcmp(client->weights_endpoint, welcome->weights.data) != 0 || !client->files) {
        snprintf(client->weights_endpoint, sizeof client->weights_endpoint, "%s", welcome->weights.data);
        client->actions.weights_open(client->actions.context, client->weights_endpoint);
    }
    return weights_welcome(client, welcome, now_ms);
}

static enum status refused(struct client *client, const struct message_refuse *refuse, int64_t now_ms) {
    if (!refuse->again)
        return fail(STATUS_CONFIG, "net.learner: the learner refuses this actor: %s", refuse->reason.data);
    join_again(client, now_ms, refuse->reason.data);
    return client_tick(client, now_ms);
}

/* ---- heartbeats ---- */

static uint32_t counters_of(const struct client *client, int64_t now_ms, struct counter *out_counters) {
    uint64_t here = 0, total = 0, ever = 0;
    if (client->sync)
        sync_progress(client->sync, &here, &total, &ever);
    const struct {
        const char *name;
        double value;
    } list[] = {
        {"tokens", (double)client->generated.tokens},
        {"forwards", (double)client->generated.forwards},
        {"rows", (double)client->generated.rows},
        {"live_samples", client->generated.live},
        {"parked_samples", (double)client->generated.parked},
        {"groups_accepted", (double)client->accepted},
        {"groups_duplicate", (double)client->duplicate},
        {"groups_not_wanted", (double)client->not_wanted},
        {"messages_dropped", (double)client->dropped},
        {"outbox_groups", outbox_count(client->outbox)},
        {"outbox_bytes", (double)outbox_bytes(client->outbox)},
        {"outbox_age_ms", (double)outbox_age_ms(client->outbox, now_ms)},
        {"weights_bytes", (double)ever},
        {"swaps", (double)client->swaps},
        {"swaps_by_delta", (double)client->patches},
        {"deltas_refused", client->sync ? (double)sync_refusals(client->sync) : 0},
        {"swap_pause_ms", (double)client->pause_ms},
    };
    uint32_t count = sizeof list / sizeof *list;
    for (uint32_t i = 0; i < count; i++)
        out_counters[i] = (struct counter){text_of(list[i].name), list[i].value};
    return count;
}

void client_beat(struct client *client, int64_t now_ms) {
    struct lease_progress held[HELD_MAX];
    struct counter counters[COUNTERS_MAX];
    char state[REASON_BYTES_MAX + 1];
    uint64_t here = 0, total = 0, ever = 0;
    for (uint32_t i = 0; i < client->held_count; i++)
        held[i] = (struct lease_progress){client->held[i]->lease.lease, client->held[i]->work, client->held[i]->state};
    if (client->sync)
        sync_progress(client->sync, &here, &total, &ever);
    client_state(client, now_ms, state, sizeof state);
    struct message message = {.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){
        .incarnation = client->settings.incarnation,
        .last_lease = client->last_lease,
        .held = held,
        .held_count = client->held_count,
        .progress = client->generated.rows + ever,
        .weights = client->loaded,
        .canary = client->canary,
        .counters = counters,
        .counter_count = counters_of(client, now_ms, counters),
        .state = text_of(state),
    };
    client->heartbeat_ms = now_ms + client->heartbeat_interval_ms;
    client->unheard = !client->actions.control(client->actions.context, &message);
}

enum status client_tick(struct client *client, int64_t now_ms) {
    if (client->leaving)
        return STATUS_OK;
    if (client->phase == CLIENT_JOINING && !client->draining && now_ms >= client->hello_ms)
        client_say_hello(client, now_ms);
    if (client->phase == CLIENT_JOINED && now_ms >= client->heartbeat_ms)
        client_beat(client, now_ms);
    if (client->files)
        files_tick(client->files, now_ms);
    if (client->sync)
        sync_tick(client->sync, now_ms);
    delivery_tick(client, now_ms);
    return weights_pump(client, now_ms);
}

/* ---- what the hub says ---- */

enum status client_control(struct client *client, const struct message *message, int64_t now_ms) {
    if (message->type == MESSAGE_WELCOME) {
        TRY(welcome(client, &message->welcome, now_ms));
        return weights_pump(client, now_ms);
    }
    if (message->type == MESSAGE_REFUSE)
        return refused(client, &message->refuse, now_ms);
    if (client->phase != CLIENT_JOINED) {
        client->dropped++; /* from before we lost it */
        return STATUS_OK;
    }
    switch (message->type) {
    case MESSAGE_WORKERS:
        delivery_workers(client, &message->workers, now_ms);
        break;
    case MESSAGE_LEASE:
        leases_take(client, &message->lease);
        break;
    case MESSAGE_REVOKE:
        leases_revoke(client, &message->revoke);
        break;
    case MESSAGE_MANIFEST:
        weights_manifest(client, &message->manifest);
        break;
    case MESSAGE_BYE:
        leases_void(client);
        join_again(client, now_ms + CLIENT_HELLO_MS, message->bye.reason.data);
        break;
    default:
        client->dropped++;
    }
    return weights_pump(client, now_ms);
}

void client_malformed(struct client *client) {
    client->dropped++;
}

/* ---- stopping ---- */

void client_drain(struct client *client, int64_t now_ms) {
    client->draining = true;
    leases_give_back_unfinished(client, NULL, "the actor is stopping");
    delivery_pump(client, now_ms);
}

bool client_drained(const struct client *client) {
    return client->draining && (outbox_count(client->outbox) == 0 || client->phase != CLIENT_JOINED);
}

uint32_t client_leave(struct client *client, const char *reason) {
    client->leaving = true;
    delivery_close(client);
    struct message message = {.type = MESSAGE_BYE, .bye = {text_of(reason)}};
    if (client->phase == CLIENT_JOINED)
        client->actions.control(client->actions.context, &message);
    return outbox_clear(client->outbox);
}

/* ---- queries ---- */

bool client_ready(const struct client *client) {
    return client->phase == CLIENT_JOINED && !digest_is_zero(client->loaded);
}

bool client_in_touch(const struct client *client) {
    return client->phase == CLIENT_JOINED && !client->unheard;
}

uint32_t client_held(const struct client *client) {
    return client->held_count;
}

static bool any_credit(const struct client *client) {
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        if (client->workers[i].open && client->workers[i].credit)
            return true;
    return false;
}

void client_state(const struct client *client, int64_t now_ms, char *out_text, size_t bytes) {
    uint64_t here = 0, total = 0, ever;
    if (client->sync)
        sync_progress(client->sync, &here, &total, &ever);
    uint32_t unfinished = 0;
    for (uint32_t i = 0; i < client->held_count; i++)
        unfinished += client->held[i]->state != LEASE_DONE;
    if (client->draining)
        snprintf(out_text, bytes, "stopping: %u groups to deliver", outbox_count(client->outbox));
    else if (!client_in_touch(client))
        snprintf(out_text, bytes, "waiting for the learner");
    else if (!client->sync)
        snprintf(out_text, bytes, "fetching the model's files");
    else if (client->loading)
        snprintf(out_text, bytes, "loading version %u", client->loading_version);
    else if (digest_is_zero(client->loaded) || (unfinished && total && !client->generated.live))
        snprintf(out_text, bytes, total ? "waiting for weights: %.1f of %.1f MB" : "waiting for weights",
                 (double)here / 1e6, (double)total / 1e6);
    else if (unfinished)
        snprintf(out_text, bytes, "version %u: %u questions, %u answers under way", client->loaded_version, unfinished,
                 client->generated.live);
    else if (outbox_count(client->outbox) && !any_credit(client))
        snprintf(out_text, bytes, "waiting for a reward worker: %u groups to deliver", outbox_count(client->outbox));
    else if (outbox_count(client->outbox))
        snprintf(out_text, bytes, "%u groups unacknowledged, oldest %.1f s", outbox_count(client->outbox),
                 (double)outbox_age_ms(client->outbox, now_ms) / 1e3);
    else
        snprintf(out_text, bytes, "waiting for work");
}

void client_check(const struct client *client) {
    uint64_t reserved = 0;
    outbox_check(client->outbox);
    for (uint32_t i = 0; i < client->held_count; i++) {
        const struct held_lease *held = client->held[i];
        reserved += held->room;
        ASSERT((held->state == LEASE_DONE) == (held->room == 0)); /* A1 */
        ASSERT(held->state != LEASE_DONE || !held->given);
        ASSERT(held->state != LEASE_DONE || outbox_find(client->outbox, &held->lease.key, held->lease.lease)); /* A3 */
    }
    ASSERT(reserved + outbox_bytes(client->outbox) + outbox_room(client->outbox) == client->settings.outbox_bytes);
}
