#include "common/transport/socket.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/transport/zap.h"
#include "proto/limits.h"
#include "proto/proto.h"

/* Options of transport.md section 1.1, but for ZeroMQ's own heartbeats: in 4.3.4 a heartbeat timer aborts the process ("Assertion
 * failed: !_io_error", "... _input_stopped", libzmq issues 3937 and 4767) when a connection breaks while its receive queue is
 * full, and they end healthy connections whose queue is full. Seen with 1,000 peers under load. Candor's peers beat every second
 * at most, so a dead host is found by unacknowledged data (ZMQ_TCP_MAXRT), an idle one by keep-alive, a frozen process by the
 * hub's own silence rule. */
#define HANDSHAKE_MS 2000 /* how long a peer that has proved nothing may hold memory */
#define LINGER_MS 1000    /* what a closing socket may still send; a bye */
#define CONNECT_MS 5000   /* an address where nobody answers; the name is looked up again at each try */
#define RECONNECT_MS 100
#define RECONNECT_MS_MAX 5000
#define RETRANSMIT_MS 10000 /* ZMQ_TCP_MAXRT */
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3
#define BACKLOG 512 /* 1,000 actors that join at once */

struct transport {
    void *context;
    struct zap *zap;
    bool has_key, has_learner_key, has_allow;
    struct key_pair pair;
    char learner_key[KEY_BYTES];
};

static enum status zmq_failed(const char *what) {
    return fail(STATUS_IO, "%s: %s", what, zmq_strerror(zmq_errno()));
}

/* ---- context ---- */

/* Every connection is a descriptor, and the usual soft limit is 1,024: below 1,000 actors on two sockets. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    rlim_t wanted = 4 * PEERS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

enum status transport_create(const struct transport_settings *settings, struct transport **out_transport) {
    enum status status;
    struct transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return fail(STATUS_NO_MEMORY, "transport: no memory");
    if (settings->key[0]) {
        status = keys_read_pair(settings->key, &transport->pair);
        if (status != STATUS_OK) {
            fail_context(status, "net.key");
            goto failed;
        }
        transport->has_key = true;
    }
    if (settings->learner_key[0]) {
        status = keys_read_public(settings->learner_key, transport->learner_key);
        if (status != STATUS_OK) {
            fail_context(status, "net.learner_key");
            goto failed;
        }
        transport->has_learner_key = true;
    }
    transport->has_allow = settings->allow[0] != '\0';
    raise_descriptor_limit();
    transport->context = zmq_ctx_new();
    if (!transport->context) {
        status = zmq_failed("zmq_ctx_new");
        goto failed;
    }
    zmq_ctx_set(transport->context, ZMQ_MAX_SOCKETS, PEERS_MAX);
    if (transport->has_key)
        TRY_GOTO(zap_start(transport->context, settings->allow, &transport->zap), failed);
    *out_transport = transport;
    return STATUS_OK;
failed:
    transport_destroy(&transport);
    return status;
}

void transport_destroy(struct transport **transport) {
    if (!*transport)
        return;
    zap_stop(&(*transport)->zap);
    if ((*transport)->context)
        zmq_ctx_term((*transport)->context);
    explicit_bzero(&(*transport)->pair, sizeof(*transport)->pair);
    free(*transport);
    *transport = NULL;
}

const char *transport_public_key(const struct transport *transport) {
    return transport->has_key ? transport->pair.public_key : "";
}

const char *transport_learner_key(const struct transport *transport) {
    return transport->has_learner_key ? transport->learner_key : "";
}

/* ---- options ---- */

struct integer_option {
    int option, value;
};

static enum status set_integers(void *socket, const struct integer_option *options, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (zmq_setsockopt(socket, options[i].option, &options[i].value, sizeof options[i].value) != 0)
            return fail(STATUS_IO, "zmq option %d = %d: %s", options[i].option, options[i].value,
                        zmq_strerror(zmq_errno()));
    }
    return STATUS_OK;
}

static enum status set_common(void *socket, const struct socket_settings *settings) {
    const struct integer_option options[] = {
        {ZMQ_SNDHWM, (int)(settings->sends_max ? settings->sends_max : settings->messages_max)},
        {ZMQ_RCVHWM, (int)settings->messages_max},
        {ZMQ_LINGER, LINGER_MS},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S},
        {ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S},
        {ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_MS},
        {ZMQ_RECONNECT_IVL, RECONNECT_MS},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MS_MAX},
        {ZMQ_TCP_MAXRT, RETRANSMIT_MS},
        {ZMQ_BACKLOG, BACKLOG},
        {ZMQ_IPV6, strchr(settings->endpoint, '[') != NULL}, /* else a name that has both would not be found on IPv4 */
    };
    int64_t bytes = settings->frame_bytes_max;
    TRY(set_integers(socket, options, sizeof options / sizeof options[0]));
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &bytes, sizeof bytes) != 0)
        return zmq_failed("ZMQ_MAXMSGSIZE");
    return STATUS_OK;
}

static enum status set_text(void *socket, int option, const char *text) {
    if (zmq_setsockopt(socket, option, text, strlen(text)) != 0)
        return fail(STATUS_IO, "zmq option %d: %s", option, zmq_strerror(zmq_errno()));
    return STATUS_OK;
}

/* ---- opening ---- */

/* ZeroMQ replaces a socket file without asking, so a second learner would take the first one's actors: ask first. */
static enum status check_ipc_free(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[PATH_BYTES];
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (directory[0] && !fs_is_directory(directory))
        return fail(STATUS_CONFIG, "no directory %s", directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno("socket");
    int connected = connect(fd, (const struct sockaddr *)&address, sizeof address);
    close(fd);
    return connected == 0 ? fail(STATUS_CONFIG, "address in use") : STATUS_OK;
}

static enum status check_listener(const struct transport *transport, enum endpoint_kind kind, const char *endpoint) {
    if (kind == ENDPOINT_IPC)
        return check_ipc_free(endpoint + strlen("ipc://"));
    if (kind != ENDPOINT_NETWORK)
        return STATUS_OK;
    if (!transport->has_key)
        return fail(STATUS_CONFIG, "listening beyond loopback needs net.key, a key pair of `candor keygen`");
    if (!transport->has_allow)
        return fail(STATUS_CONFIG,
                    "listening beyond loopback needs net.allow, a directory with the clients' public keys");
    return STATUS_OK;
}

static enum status prepare_router(struct transport *transport, enum endpoint_kind kind, void *socket) {
    const struct integer_option options[] = {{ZMQ_ROUTER_MANDATORY, 1}, {ZMQ_ROUTER_HANDOVER, 1}};
    TRY(set_integers(socket, options, 2));
    if (!transport->has_key || (kind != ENDPOINT_LOOPBACK && kind != ENDPOINT_NETWORK))
        return STATUS_OK;
    TRY(set_integers(socket, &(struct integer_option){ZMQ_CURVE_SERVER, 1}, 1));
    TRY(set_text(socket, ZMQ_CURVE_SECRETKEY, transport->pair.secret_key));
    return set_text(socket, ZMQ_ZAP_DOMAIN, "candor");
}

static enum status prepare_dealer(struct transport *transport, const struct socket_settings *settings,
                                  enum endpoint_kind kind, void *socket) {
    const char *server_key = settings->server_key ? settings->server_key : "";
    if (kind != ENDPOINT_LOOPBACK && kind != ENDPOINT_NETWORK)
        return STATUS_OK;
    if (kind == ENDPOINT_NETWORK && (!transport->has_key || !server_key[0]))
        return fail(STATUS_CONFIG, "beyond loopback needs %s",
                    transport->has_key ? "the other side's public key (net.learner_key)"
                                       : "net.key, a key pair of `candor keygen`");
    if (!transport->has_key || !server_key[0])
        return STATUS_OK;
    TRY(keys_check("server key", server_key));
    TRY(set_text(socket, ZMQ_CURVE_SERVERKEY, server_key));
    TRY(set_text(socket, ZMQ_CURVE_PUBLICKEY, transport->pair.public_key));
    return set_text(socket, ZMQ_CURVE_SECRETKEY, transport->pair.secret_key);
}

static enum status bind_failed(void) {
    return fail(STATUS_CONFIG, "%s", zmq_errno() == EADDRINUSE ? "address in use" : zmq_strerror(zmq_errno()));
}

static enum status open_socket(struct transport *transport, const struct socket_settings *settings, bool listens,
                               void **out_socket) {
    enum endpoint_kind kind;
    enum status status = endpoint_parse(settings->endpoint, &kind);
    if (status != STATUS_OK)
        return fail_context(status, "%s", settings->name);
    void *socket = zmq_socket(transport->context, listens ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!socket)
        return zmq_failed(settings->name);
    ASSERT(settings->messages_max > 0 && settings->messages_max <= INT_MAX && settings->frame_bytes_max > 0);
    TRY_GOTO(set_common(socket, settings), failed);
    if (listens) {
        TRY_GOTO(check_listener(transport, kind, settings->endpoint), failed);
        TRY_GOTO(prepare_router(transport, kind, socket), failed);
        if (zmq_bind(socket, settings->endpoint) != 0)
            TRY_GOTO(bind_failed(), failed);
    } else {
        TRY_GOTO(prepare_dealer(transport, settings, kind, socket), failed);
        if (zmq_connect(socket, settings->endpoint) != 0)
            TRY_GOTO(fail(STATUS_CONFIG, "%s", zmq_strerror(zmq_errno())), failed);
    }
    *out_socket = socket;
    return STATUS_OK;
failed:
    zmq_close(socket);
    return fail_context(status, "%s = %s", settings->name, settings->endpoint);
}

enum status socket_bind(struct transport *transport, const struct socket_settings *settings, void **out_socket) {
    return open_socket(transport, settings, true, out_socket);
}

enum status socket_connect(struct transport *transport, const struct socket_settings *settings, void **out_socket) {
    return open_socket(transport, settings, false, out_socket);
}

void socket_close(void **socket) {
    if (*socket)
        zmq_close(*socket);
    *socket = NULL;
}

enum status socket_endpoint(void *socket, char out_endpoint[ENDPOINT_BYTES_MAX + 1]) {
    char endpoint[ENDPOINT_BYTES_MAX + 1];
    size_t bytes = sizeof endpoint;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &bytes) != 0)
        return zmq_failed("ZMQ_LAST_ENDPOINT");
    memcpy(out_endpoint, endpoint, bytes);
    return STATUS_OK;
}

/* ---- messages ---- */

/* Routing ids that ZeroMQ makes are a zero byte and a number of 32 bits; peers never choose theirs. */
#define ROUTING_ID_BYTES 5

enum status socket_send(void *socket, const void *frame, size_t bytes) {
    if (zmq_send(socket, frame, bytes, ZMQ_DONTWAIT) >= 0)
        return STATUS_OK;
    return zmq_errno() == EAGAIN ? STATUS_AGAIN : zmq_failed("send");
}

enum status socket_send_to(void *socket, peer_id peer, const void *frame, size_t bytes) {
    uint8_t id[ROUTING_ID_BYTES] = {0, (uint8_t)(peer >> 24), (uint8_t)(peer >> 16), (uint8_t)(peer >> 8),
                                    (uint8_t)peer};
    if (zmq_send(socket, id, sizeof id, ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0) {
        if (zmq_send(socket, frame, bytes, ZMQ_DONTWAIT) >= 0)
            return STATUS_OK;
        return zmq_failed("send");
    }
    if (zmq_errno() == EHOSTUNREACH)
        return fail(STATUS_CLOSED, "no such peer");
    return zmq_errno() == EAGAIN ? STATUS_AGAIN : zmq_failed("send");
}

/* Pass over the parts that are left of a message. */
static void skip_parts(void *socket, zmq_msg_t *part) {
    while (zmq_msg_more(part)) {
        zmq_msg_close(part);
        zmq_msg_init(part);
        if (zmq_msg_recv(part, socket, 0) < 0)
            return;
    }
}

static peer_id read_routing_id(zmq_msg_t *part) {
    const uint8_t *id = zmq_msg_data(part);
    if (zmq_msg_size(part) != ROUTING_ID_BYTES || id[0] != 0)
        return 0;
    /* 2^32 keeps number 0 apart from "none". */
    return (peer_id)1 << 32 | (peer_id)id[1] << 24 | (peer_id)id[2] << 16 | (peer_id)id[3] << 8 | id[4];
}

enum status socket_receive(void *socket, struct socket_frame *frame) {
    int type = 0;
    size_t size = sizeof type;
    zmq_getsockopt(socket, ZMQ_TYPE, &type, &size);
    socket_frame_deinit(frame);
    zmq_msg_init(&frame->memory);
    frame->held = true;
    frame->peer = 0;
    if (zmq_msg_recv(&frame->memory, socket, ZMQ_DONTWAIT) < 0)
        return zmq_errno() == EAGAIN || zmq_errno() == EINTR ? STATUS_AGAIN : zmq_failed("receive");
    if (type == ZMQ_ROUTER) {
        frame->peer = read_routing_id(&frame->memory);
        if (frame->peer == 0 || !zmq_msg_more(&frame->memory)) {
            skip_parts(socket, &frame->memory);
            return fail(STATUS_FORMAT, "a routing id of its own, or an empty message");
        }
        zmq_msg_close(&frame->memory);
        zmq_msg_init(&frame->memory);
        if (zmq_msg_recv(&frame->memory, socket, 0) < 0) /* parts of a message arrive together */
            return zmq_failed("receive");
    }
    if (zmq_msg_more(&frame->memory)) {
        skip_parts(socket, &frame->memory);
        return fail(STATUS_FORMAT, "a message of several frames");
    }
    frame->data = zmq_msg_data(&frame->memory);
    frame->bytes = zmq_msg_size(&frame->memory);
    return STATUS_OK;
}

void socket_frame_deinit(struct socket_frame *frame) {
    if (frame->held)
        zmq_msg_close(&frame->memory);
    frame->held = false;
    frame->data = NULL;
    frame->bytes = 0;
}

static enum status take_one(struct inbox *inbox, void *socket, struct message *out_message) {
    TRY(socket_receive(socket, &inbox->frame));
    arena_reset(&inbox->arena);
    inbox->arena.bytes_max = proto_arena_bytes(inbox->frame.bytes);
    return proto_decode(inbox->frame.data, inbox->frame.bytes, &inbox->arena, out_message);
}

bool inbox_take(struct inbox *inbox, void *socket, struct message *out_message) {
    for (;;) {
        enum status status = take_one(inbox, socket, out_message);
        if (status == STATUS_OK || status == STATUS_AGAIN)
            return status == STATUS_OK;
        inbox->malformed(inbox->context);
        LOG_EVERY(10000, LOG_WARNING, "malformed", "reason=\"%s\"", status_message());
        if (status != STATUS_FORMAT)
            return false;
    }
}

void inbox_deinit(struct inbox *inbox) {
    socket_frame_deinit(&inbox->frame);
    arena_deinit(&inbox->arena);
}

/* ---- waiting ---- */

int poll_add_socket(struct poll_set *set, void *socket) {
    ASSERT(set->count < POLL_ITEMS_MAX);
    set->items[set->count] = (zmq_pollitem_t){.socket = socket, .events = ZMQ_POLLIN};
    return set->count++;
}

int poll_add_fd(struct poll_set *set, int fd) {
    ASSERT(set->count < POLL_ITEMS_MAX);
    set->items[set->count] = (zmq_pollitem_t){.fd = fd, .events = ZMQ_POLLIN};
    return set->count++;
}

int poll_wait(struct poll_set *set, int64_t timeout_ms) {
    int ready = zmq_poll(set->items, set->count, (long)timeout_ms);
    if (ready >= 0)
        return ready;
    for (int i = 0; i < set->count; i++)
        set->items[i].revents = 0;
    return 0;
}

bool poll_ready(const struct poll_set *set, int index) {
    return set->items[index].revents != 0;
}
