#include "common/hub/server_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "proto/proto.h"

#define CALLS_MAX 16 /* threads that ask at once */
/* High-water marks for each peer. What it sends waits in its own process beyond 256 messages. What it is sent are answers and leases,
 * fewer than its outbox has groups; a peer that is further behind is cut off, and says hello again. Weights: twice the window of a
 * fetch. */
#define CONTROL_MESSAGES_MAX 256
#define CONTROL_SENDS_MAX 16384
#define WEIGHTS_MESSAGES_MAX 16
/* Messages taken from one socket before the other has its turn. */
#define CONTROL_TURN 256
#define WEIGHTS_TURN 4
#define TELEMETRY_MS 1000
/* How long the sockets stay open behind the byes. libzmq drops what a DEALER has received and its owner has not read when the
 * connection ends (ZMQ_IMMEDIATE): of byes said at the last moment one in five was lost. */
#define BYE_MS 200

/* ---- what the hub sends ---- */

static void cut_off(struct hub_server *server, peer_id peer) {
    for (uint32_t i = 0; i < server->cut_off_count; i++) {
        if (server->cut_off[i] == peer)
            return;
    }
    if (server->cut_off_count < CUT_OFF_MAX)
        server->cut_off[server->cut_off_count++] = peer;
}

static enum status send_on(struct hub_server *server, void *socket, peer_id peer, const struct message *message) {
    buf_reset(&server->frame);
    enum status status = proto_encode(message, &server->frame);
    if (status != STATUS_OK) { /* ours to mend: offers were checked by encoding them */
        LOG_EVERY(10000, LOG_ERROR, "message_not_sent", "error=\"%s\"", status_message());
        return status;
    }
    status = socket_send_to(socket, peer, server->frame.data, server->frame.bytes);
    if (status == STATUS_OK)
        server->bytes_out += server->frame.bytes;
    return status;
}

/* A peer whose pipe is full or gone is cut off once the hub is done with the message at hand. */
static void on_send(void *context, peer_id peer, const struct message *message) {
    struct hub_server *server = context;
    enum status status = send_on(server, server->control, peer, message);
    if (status == STATUS_AGAIN || status == STATUS_CLOSED)
        cut_off(server, peer);
}

static void on_filled(void *context, const struct message_scored *scored) {
    struct hub_server *server = context;
    collect_group(server->collect, scored, &server->arena);
}

static void on_completed(void *context, uint8_t stream, uint32_t step) {
    struct hub_server *server = context;
    collect_completed(server->collect, stream, step);
}

static void on_withdrawn(void *context, uint8_t stream, uint32_t step) {
    struct hub_server *server = context;
    collect_forget(server->collect, stream, step);
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    struct hub_server *server = context;
    if (fatal) {
        char line[STATUS_MESSAGE_BYTES];
        snprintf(line, sizeof line, "%s: %s", name, text);
        log_event(LOG_ERROR, name, "%s", text);
        collect_fail(server->collect, STATUS_RUN_FAILED, line);
    } else if (strcmp(name, "malformed") == 0) { /* what peers can repeat without end */
        LOG_EVERY(10000, LOG_WARNING, "malformed", "%s", text);
    } else if (strcmp(name, "peer_refused") == 0) {
        LOG_EVERY(10000, LOG_WARNING, "peer_refused", "%s", text);
    } else {
        log_event(LOG_WARNING, name, "%s", text);
    }
}

static void on_describe(void *context, struct buf *out) {
    struct hub_server *server = context;
    if (server->describe)
        server->describe(server->hook_context, out);
}

/* ---- what comes in ---- */

static void take_control(struct hub_server *server, const struct socket_frame *frame, int64_t now_ms) {
    struct message message;
    arena_reset(&server->arena);
    server->bytes_in += frame->bytes;
    enum status status = proto_decode(frame->data, frame->bytes, &server->arena, &message);
    if (status == STATUS_OK)
        hub_message(server->hub, frame->peer, &message, now_ms);
    else
        hub_malformed(server->hub, frame->peer, status_message());
    for (uint32_t i = 0; i < server->cut_off_count; i++)
        hub_disconnected(server->hub, server->cut_off[i], now_ms);
    server->cut_off_count = 0;
}

struct reply_to {
    struct hub_server *server;
    peer_id peer;
};

static bool on_chunk(void *context, const struct message *message) {
    const struct reply_to *to = context;
    return send_on(to->server, to->server->weights, to->peer, message) == STATUS_OK;
}

static void take_weights(struct hub_server *server, const struct socket_frame *frame) {
    struct message message;
    arena_reset(&server->arena);
    server->bytes_in += frame->bytes;
    enum status status = proto_decode(frame->data, frame->bytes, &server->arena, &message);
    if (status == STATUS_OK && message.type != MESSAGE_FETCH)
        status = fail(STATUS_FORMAT, "%s on the weights socket", message_name(message.type));
    if (status != STATUS_OK) {
        hub_malformed(server->hub, 0, status_message());
        return;
    }
    if (message.fetch.kind == FETCH_SNAPSHOT)
        versions_read(&server->versions, &message.fetch, clock_boot_ms());
    struct reply_to to = {.server = server, .peer = frame->peer};
    store_fetch(server->store, &message.fetch, on_chunk, &to);
}

/* Up to `turn` messages; true: more may be there. */
static bool drain_socket(struct hub_server *server, void *socket, struct socket_frame *frame, int turn) {
    for (int i = 0; i < turn; i++) {
        enum status status = socket_receive(socket, frame);
        if (status == STATUS_AGAIN)
            return false;
        if (status == STATUS_FORMAT)
            hub_malformed(server->hub, frame->peer, status_message());
        else if (status != STATUS_OK)
            return false;
        else if (socket == server->control)
            take_control(server, frame, clock_boot_ms());
        else
            take_weights(server, frame);
    }
    return true;
}

/* ---- the thread ---- */

static void send_peer_telemetry(void *context, const struct hub_peer_view *peer) {
    struct hub_server *server = context;
    struct telemetry_pair pairs[COUNTERS_MAX];
    for (uint32_t i = 0; i < peer->counter_count; i++)
        pairs[i] = (struct telemetry_pair){.name = peer->counters[i].name,
                                           .name_bytes = strlen(peer->counters[i].name),
                                           .value = peer->counters[i].value};
    struct telemetry_process process = {.name = peer->name,
                                        .role = peer->role == ROLE_ACTOR ? "actor" : "reward",
                                        .host = peer->host,
                                        .state = peer->state};
    telemetry_process(server->telemetry, &process, pairs, peer->counter_count);
}

static void send_own_telemetry(struct hub_server *server, int64_t now_ms) {
    const struct hub_counts *counts = hub_counted(server->hub);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"actors", hub_actor_count(server->hub)}, {"reward_workers", hub_worker_count(server->hub)},
                {"leases_granted", counts->granted},      {"groups_accepted", counts->accepted},
                {"duplicates", counts->duplicates},       {"duplicate_mismatches", counts->mismatches},
                {"leases_expired", counts->expired},      {"leases_lost", counts->lost},
                {"bytes_in", server->bytes_in},           {"bytes_out", server->bytes_out},
                {"canary_mismatches", counts->canary_mismatches}};
    enum { ROWS = sizeof rows / sizeof rows[0] };
    struct telemetry_pair pairs[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        pairs[i] = (struct telemetry_pair){rows[i].name, strlen(rows[i].name), (double)rows[i].value};
    struct buf line = {0};
    hub_status_line(server->hub, now_ms, &line);
    struct telemetry_process process = {
        .name = "learner", .role = "learner", .host = server->host, .state = line.data ? line.data : ""};
    telemetry_process(server->telemetry, &process, pairs, ROWS);
    buf_deinit(&line);
}

static void tick(struct hub_server *server, int64_t now_ms) {
    if (now_ms >= server->tick_ms) {
        hub_tick(server->hub, now_ms);
        for (uint32_t i = 0; i < server->cut_off_count; i++)
            hub_disconnected(server->hub, server->cut_off[i], now_ms);
        server->cut_off_count = 0;
        server->tick_ms = now_ms + server->heartbeat_ms / 2 + 1;
        versions_tick(&server->versions, now_ms);
    }
    if (server->telemetry && now_ms >= server->telemetry_ms) {
        send_own_telemetry(server, now_ms);
        hub_each_peer(server->hub, send_peer_telemetry, server);
        server->telemetry_ms = now_ms + TELEMETRY_MS;
    }
}

/* Whether to go round once more; *out_wait_ms: at most so long for something to come. */
static bool goes_on(struct hub_server *server, int64_t *out_wait_ms) {
    int64_t now_ms = clock_boot_ms(), until_ms = server->tick_ms;
    if (server->stopping && (hub_drained(server->hub) || now_ms >= server->stop_by_ms)) {
        bool heard = hub_actor_count(server->hub) + hub_worker_count(server->hub) > 0;
        if (server->close_ms == 0)
            server->close_ms = heard ? now_ms + BYE_MS : now_ms;
        if (now_ms >= server->close_ms)
            return false;
        until_ms = until_ms < server->close_ms ? until_ms : server->close_ms;
    }
    *out_wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    return true;
}

static void *serve(void *argument) {
    struct hub_server *server = argument;
    struct socket_frame frame = {0};
    static _Thread_local struct poll_set set;
    set.count = 0;
    poll_add_socket(&set, server->control);
    poll_add_socket(&set, server->weights);
    poll_add_fd(&set, queue_fd(server->calls));
    bool more = false;
    int64_t wait_ms;
    while (goes_on(server, &wait_ms)) {
        poll_wait(&set, more ? 0 : wait_ms);
        more = drain_socket(server, server->control, &frame, CONTROL_TURN);
        more |= drain_socket(server, server->weights, &frame, WEIGHTS_TURN);
        hub_server_answer(server);
        tick(server, clock_boot_ms());
        if (server->beat)
            server->beat(server->hook_context);
    }
    queue_close(server->calls);
    hub_server_answer(server);
    socket_frame_deinit(&frame);
    socket_close(&server->control); /* what was said last still goes out (ZMQ_LINGER) */
    socket_close(&server->weights);
    return NULL;
}

/* ---- life ---- */

/* Actors that come over the network fetch weights over the network. */
static enum status check_reach(const char *control, const char *weights, const char *advertise) {
    const char *name = *advertise ? "hub.advertise" : "hub.weights", *told = *advertise ? advertise : weights;
    enum endpoint_kind control_kind, told_kind;
    TRY(endpoint_parse(control, &control_kind));
    if (endpoint_parse(told, &told_kind) != STATUS_OK) {
        char reason[STATUS_MESSAGE_BYTES];
        snprintf(reason, sizeof reason, "%s", status_message());
        return fail(STATUS_CONFIG, "%s = %s", name, reason);
    }
    if (control_kind == ENDPOINT_NETWORK && told_kind != ENDPOINT_NETWORK)
        return fail(STATUS_CONFIG,
                    "%s = %s: hub.control = %s is for other hosts, and they need the weights: tcp://*:PORT", name, told,
                    control);
    return STATUS_OK;
}

static enum status open_all(struct hub_server *server, const struct hub_server_settings *settings) {
    const struct run_config *config = settings->config;
    const struct transport_settings keys = {config->net_key, config->net_learner_key, config->net_allow};
    char weights_endpoint[ENDPOINT_BYTES_MAX + 1];
    TRY(check_reach(settings->control, settings->weights, config->hub_advertise));
    TRY(collect_create(&server->collect));
    TRY(queue_create(CALLS_MAX, &server->calls));
    TRY(store_create(&server->store));
    if (settings->model_directory && settings->model_directory[0])
        TRY(store_open_files(server->store, settings->model_directory));
    TRY(transport_create(&keys, &server->transport));
    struct socket_settings control = {.name = "hub.control",
                                      .endpoint = settings->control,
                                      .frame_bytes_max = FRAME_BYTES_MAX,
                                      .messages_max = CONTROL_MESSAGES_MAX,
                                      .sends_max = CONTROL_SENDS_MAX};
    TRY(socket_bind(server->transport, &control, &server->control));
    struct socket_settings weights = {.name = "hub.weights",
                                      .endpoint = settings->weights,
                                      .frame_bytes_max = CHUNK_FRAME_BYTES_MAX,
                                      .messages_max = WEIGHTS_MESSAGES_MAX};
    TRY(socket_bind(server->transport, &weights, &server->weights));
    TRY(socket_endpoint(server->weights, weights_endpoint));
    struct hub_settings hub = settings->hub;
    hub.weights_endpoint = config->hub_advertise[0] ? config->hub_advertise : weights_endpoint;
    hub.files = store_files(server->store, &hub.file_count);
    const struct hub_events events = {server, on_send, on_filled, on_completed, on_withdrawn, on_alarm, on_describe};
    TRY(hub_create(&hub, &events, &server->hub));
    server->versions = (struct versions){.hub = server->hub, .store = server->store};
    return telemetry_start(config->telemetry_redis, settings->hub.run, &server->telemetry);
}

static void close_all(struct hub_server *server) {
    telemetry_stop(&server->telemetry);
    hub_destroy(&server->hub);
    versions_deinit(&server->versions);
    store_destroy(&server->store);
    socket_close(&server->control);
    socket_close(&server->weights);
    transport_destroy(&server->transport);
    queue_destroy(&server->calls);
    collect_destroy(&server->collect);
    arena_deinit(&server->arena);
    buf_deinit(&server->frame);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->answered);
    free(server);
}

enum status hub_server_start(const struct hub_server_settings *settings, struct hub_server **out_server) {
    sigset_t all, before;
    struct hub_server *server = calloc(1, sizeof *server);
    if (!server)
        return fail(STATUS_NO_MEMORY, "hub: no memory");
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->answered, NULL);
    arena_init(&server->arena, proto_arena_bytes(FRAME_BYTES_MAX));
    server->beat = settings->beat;
    server->describe = settings->describe;
    server->hook_context = settings->hook_context;
    server->heartbeat_ms = (int32_t)settings->hub.heartbeat_ms;
    gethostname(server->host, sizeof server->host - 1);
    enum status status = open_all(server, settings);
    if (status != STATUS_OK)
        goto failed;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&server->thread, NULL, serve, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        status = fail(STATUS_IO, "hub: no thread: %s", strerror(error));
        goto failed;
    }
    log_event(LOG_INFO, "hub_listens", "control=%s weights=%s", settings->control, settings->weights);
    *out_server = server;
    return STATUS_OK;
failed:
    close_all(server);
    return status;
}

struct stop {
    int drain_ms;
    const char *reason;
};

static enum status run_stop(struct hub_server *server, void *argument) {
    const struct stop *stop = argument;
    int64_t now_ms = clock_boot_ms();
    hub_drain(server->hub, now_ms, stop->drain_ms, stop->reason);
    server->stopping = true;
    server->stop_by_ms = now_ms + stop->drain_ms + server->heartbeat_ms;
    return STATUS_OK;
}

void hub_server_stop(struct hub_server **server, int drain_ms, const char *reason) {
    if (!*server)
        return;
    hub_server_ask(*server, run_stop, &(struct stop){drain_ms, reason});
    pthread_join((*server)->thread, NULL);
    close_all(*server);
    *server = NULL;
}
