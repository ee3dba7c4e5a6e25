/* Peers that come, come back, and go. */
#include "common/hub/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"

void hub_refuse(struct hub *hub, peer_id connection, bool again, const char *reason) {
    struct message message = {.type = MESSAGE_REFUSE, .refuse = {.reason = text_of(reason), .again = again}};
    hub_send(hub, connection, &message);
}

/* The reward workers that this actor can reach: ipc endpoints are paths of one host. */
static void send_workers(struct hub *hub, const struct peer *actor) {
    struct worker_entry entries[WORKERS_MAX];
    uint32_t count = 0;
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen && count < WORKERS_MAX; link = link->next) {
        const struct peer *worker = LIST_ELEMENT(link, struct peer, by_seen);
        bool is_ipc = strncmp(worker->endpoint, "ipc:", 4) == 0;
        if (worker->role != ROLE_REWARD || (is_ipc && strcmp(worker->host, actor->host) != 0))
            continue;
        entries[count++] = (struct worker_entry){.name = text_of(worker->name),
                                                 .endpoint = text_of(worker->endpoint),
                                                 .host = text_of(worker->host),
                                                 .key = text_of(worker->key),
                                                 .incarnation = worker->incarnation};
    }
    struct message message = {.type = MESSAGE_WORKERS, .workers = {.workers = entries, .worker_count = count}};
    hub_send(hub, actor->connection, &message);
    if (count == 0 && hub->worker_count > 0)
        hub_alarm(
            hub, false, "no_worker_in_reach",
            "actor=\"%s\" host=\"%s\" every reward worker listens on ipc of another host: reward.bind = tcp://...",
            actor->name, actor->host);
}

static void announce_workers(struct hub *hub) {
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        if (peer->role == ROLE_ACTOR)
            send_workers(hub, peer);
    }
}

/* Every lease of the peer is over; reason as for hub_lease_lost. */
void hub_lose_leases(struct hub *hub, struct peer *peer, const char *reason) {
    while (!list_empty(&peer->leases)) {
        struct lease *lease = LIST_ELEMENT(peer->leases.next, struct lease, of_peer);
        if (lease->status == LEASE_STATUS_CLOSED)
            hub_release(hub, lease);
        else /* what is finished and undelivered is not the question's fault */
            hub_lease_lost(hub, lease, lease->state == LEASE_DONE ? NULL : reason);
    }
}

void hub_remove_peer(struct hub *hub, struct peer *peer, const char *reason) {
    bool was_worker = peer->role == ROLE_REWARD;
    hub_lose_leases(hub, peer, reason);
    if (peer->connection)
        map_remove(&hub->by_connection, peer->connection);
    map_remove(&hub->by_incarnation, peer->incarnation);
    list_remove(&peer->by_seen);
    list_remove(&peer->hungry);
    hub->peer_count--;
    hub->actor_count -= peer->role == ROLE_ACTOR;
    hub->worker_count -= was_worker;
    free(peer);
    if (was_worker)
        announce_workers(hub);
}

/* The first field in which an actor is not of the learner's class; NULL: it is. */
static const char *class_difference(const struct fingerprint *peer, const struct fingerprint *ours,
                                    struct text *out_peer, struct text *out_ours) {
    static const char *const names[] = {"build", "backend", "device", "arithmetic"};
    const struct text *theirs[] = {&peer->build, &peer->backend, &peer->device, &peer->arithmetic};
    const struct text *mine[] = {&ours->build, &ours->backend, &ours->device, &ours->arithmetic};
    for (int i = 0; i < 4; i++) {
        if (text_equal(*theirs[i], *mine[i]))
            continue;
        *out_peer = *theirs[i];
        *out_ours = *mine[i];
        return names[i];
    }
    return NULL;
}

static void welcome(struct hub *hub, peer_id connection, bool same_class) {
    const struct hub_settings *settings = &hub->settings;
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of(hub->run),
                                               .run_id = settings->run_id,
                                               .config = settings->config,
                                               .incarnation = settings->incarnation,
                                               .heartbeat_ms = settings->heartbeat_ms,
                                               .weights = text_of(hub->weights_endpoint),
                                               .same_class = same_class,
                                               .valid_vocab = settings->valid_vocab,
                                               .positions_max = settings->positions_max,
                                               .file_count = settings->file_count};
    message.welcome.files = (struct model_file *)(uintptr_t)settings->files; /* read only */
    hub_send(hub, connection, &message);
}

/* Why a hello is not welcome, written to reason; false: it is. */
static bool is_refused(struct hub *hub, const struct message_hello *hello, bool *out_same_class, char *reason,
                       size_t capacity) {
    struct text theirs, ours;
    if (hello->protocol != PROTOCOL_VERSION) {
        snprintf(reason, capacity, "protocol %u, this hub speaks %u: build both from one version", hello->protocol,
                 PROTOCOL_VERSION);
        return true;
    }
    if (hello->role == ROLE_REWARD && hello->endpoint.bytes == 0) {
        snprintf(reason, capacity, "a reward worker without endpoint: reward.advertise");
        return true;
    }
    const char *differs = hello->role == ROLE_ACTOR
                              ? class_difference(&hello->fingerprint, &hub->settings.fingerprint, &theirs, &ours)
                              : NULL;
    *out_same_class = differs == NULL;
    if (differs && hub->settings.strict) {
        snprintf(reason, capacity, "run.determinism = strict: %s is \"%s\", the learner's is \"%s\"; auto admits it",
                 differs, theirs.data, ours.data);
        return true;
    }
    struct peer *known = map_get(&hub->by_incarnation, hello->incarnation);
    uint32_t workers_max = WORKERS_MAX;
    if (!known && (hub->peer_count == PEERS_MAX || (hello->role == ROLE_REWARD && hub->worker_count == workers_max))) {
        snprintf(reason, capacity, "the hub is full: %u peers, %u reward workers", hub->peer_count, hub->worker_count);
        return true;
    }
    if (known && (known->distrusted || known->role != hello->role)) {
        snprintf(reason, capacity, known->distrusted ? "its canary was wrong" : "this incarnation had another role");
        return true;
    }
    return false;
}

/* Deltas, then snapshots, the current one first: an actor that joins fetches what new leases name, by the shortest way. */
static void send_manifests(struct hub *hub, const struct peer *peer) {
    for (uint32_t i = 0; i < hub->delta_count; i++) {
        struct message message = {.type = MESSAGE_MANIFEST, .manifest = hub->deltas[i]};
        hub_send(hub, peer->connection, &message);
    }
    for (int current = 1; current >= 0; current--) {
        for (uint32_t i = 0; i < hub->version_count; i++) {
            const struct version *version = &hub->versions[i];
            if (!version->published || version->manifest.current != current)
                continue;
            struct message message = {.type = MESSAGE_MANIFEST, .manifest = version->manifest};
            hub_send(hub, peer->connection, &message);
        }
    }
}

/* A known incarnation over a new connection goes on with its leases; those of the old connection's last moments never
 * arrived. */
static void reconnect(struct hub *hub, struct peer *peer) {
    hub->counts.reconnects++;
    if (peer->connection)
        map_remove(&hub->by_connection, peer->connection);
    for (struct link *link = peer->leases.next; link != &peer->leases; link = link->next)
        LIST_ELEMENT(link, struct lease, of_peer)->confirm = true;
}

static struct peer *new_peer(struct hub *hub, const struct message_hello *hello, int64_t now_ms) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer || map_put(&hub->by_incarnation, hello->incarnation, peer) != STATUS_OK) {
        free(peer);
        return NULL;
    }
    peer->incarnation = hello->incarnation;
    peer->role = hello->role;
    peer->joined_ms = now_ms;
    list_init(&peer->leases);
    list_init(&peer->hungry);
    list_push_back(&hub->by_seen, &peer->by_seen);
    hub->peer_count++;
    hub->actor_count += peer->role == ROLE_ACTOR;
    hub->worker_count += peer->role == ROLE_REWARD;
    return peer;
}

static void take_hello(struct peer *peer, const struct message_hello *hello) {
    hub_copy_text(peer->name, sizeof peer->name, hello->name);
    hub_copy_text(peer->host, sizeof peer->host, hello->host);
    peer->who = hash64(peer->host, strlen(peer->host)) * 31 + hash64(peer->name, strlen(peer->name));
    hub_copy_text(peer->endpoint, sizeof peer->endpoint, hello->endpoint);
    hub_copy_text(peer->key, sizeof peer->key, hello->key);
    peer->pid = hello->pid;
    peer->capacity_samples = hello->capacity_samples;
    peer->capacity_bytes = hello->capacity_bytes;
}

void hub_seen(struct hub *hub, struct peer *peer, int64_t now_ms) {
    peer->seen_ms = now_ms;
    list_remove(&peer->by_seen);
    list_push_back(&hub->by_seen, &peer->by_seen);
}

void hub_say_bye(struct hub *hub, peer_id connection) {
    struct message message = {.type = MESSAGE_BYE, .bye = {.reason = text_of(hub->drain_reason)}};
    hub_send(hub, connection, &message);
}

void hub_hello(struct hub *hub, peer_id connection, const struct message_hello *hello, int64_t now_ms) {
    char reason[REASON_BYTES_MAX + 1];
    bool same_class = false;
    hub->counts.hellos++;
    if (hub->draining) {
        hub_say_bye(hub, connection);
        return;
    }
    if (is_refused(hub, hello, &same_class, reason, sizeof reason)) {
        hub->counts.refused++;
        hub_alarm(hub, false, "peer_refused", "peer=\"%s\" host=\"%s\" reason=\"%s\"", hello->name.data,
                  hello->host.data, reason);
        hub_refuse(hub, connection, false, reason);
        return;
    }
    if (hello->role == ROLE_OPERATOR) { /* it asks and goes: nothing to keep */
        welcome(hub, connection, false);
        return;
    }
    struct peer *peer = map_get(&hub->by_incarnation, hello->incarnation), *other = hub_peer(hub, connection);
    if (other && other != peer) /* a new process cannot have an old one's connection: whoever it was is gone */
        hub_remove_peer(hub, other, "said hello as another process");
    if (peer)
        reconnect(hub, peer);
    else
        peer = new_peer(hub, hello, now_ms);
    if (!peer || map_put(&hub->by_connection, connection, peer) != STATUS_OK) {
        hub_refuse(hub, connection, true, "the hub is out of memory");
        return;
    }
    peer->connection = connection;
    peer->same_class = same_class;
    take_hello(peer, hello);
    hub_seen(hub, peer, now_ms);
    welcome(hub, connection, same_class);
    if (peer->role == ROLE_REWARD) {
        announce_workers(hub);
        return;
    }
    send_manifests(hub, peer);
    send_workers(hub, peer);
    hub_stand_in_line(hub, peer);
    hub_serve(hub, now_ms);
}
