/* ZeroMQ as Candor uses it: one context a process, ROUTER and DEALER sockets with every option of reference page transport.md
 * section 1.1 set before bind or connect, one frame a message, never blocking.
 *
 * Rules: a socket belongs to one thread. Listeners are ipc or loopback, or have CURVE keys and an allow-list of clients: any other
 * bind is refused. tcp is encrypted on both sides when the process has a key. Reconnecting never gives up. Child processes are
 * started before the context exists, or by posix_spawn. */
#ifndef CANDOR_TRANSPORT_SOCKET_H
#define CANDOR_TRANSPORT_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/transport/endpoint.h"
#include "common/transport/keys.h"
#include "proto/messages.h"

struct transport;

/* ---- the process's context ---- */
struct transport_settings {
    const char *key;         /* net.key: file of this process's key pair, or "" */
    const char *learner_key; /* net.learner_key: file of the learner's public key, or "" */
    const char *allow;       /* net.allow: directory of client keys, or "" */
};

/* STATUS_CONFIG naming key and file. */
enum status transport_create(const struct transport_settings *settings, struct transport **out_transport);
/* Every socket must be closed. */
void transport_destroy(struct transport **transport);
/* Z85, or "" without a key: for HELLO. */
const char *transport_public_key(const struct transport *transport);
/* Z85 of the learner, or "". */
const char *transport_learner_key(const struct transport *transport);

/* ---- sockets ---- */
struct socket_settings {
    const char *name; /* the setting that errors name: "hub.control" */
    const char *endpoint;
    const char *server_key; /* connecting: the other side's public key, Z85; "" or NULL: none is known */
    uint32_t frame_bytes_max;
    uint32_t messages_max; /* high-water mark of each direction and peer: bytes are bounded by credit (I4) */
    uint32_t sends_max;    /* another one for what is sent; 0: the same */
};

/* A ROUTER that listens. STATUS_CONFIG when the endpoint needs keys, is malformed, or is in use ("hub.control = ipc:///...: address
 * in use"). */
enum status socket_bind(struct transport *transport, const struct socket_settings *settings, void **out_socket);
/* A DEALER that connects, now or as soon as there is somebody. */
enum status socket_connect(struct transport *transport, const struct socket_settings *settings, void **out_socket);
void socket_close(void **socket);
// Where it listens: with the port that was given for "tcp://host:*".
enum status socket_endpoint(void *socket, char out_endpoint[ENDPOINT_BYTES_MAX + 1]);

/* ---- messages ---- */
/* Never wait. STATUS_AGAIN (keeps no message): no room, or a DEALER without a connection; STATUS_CLOSED: no such peer.
 */
enum status socket_send(void *socket, const void *frame, size_t bytes);
enum status socket_send_to(void *socket, peer_id peer, const void *frame, size_t bytes);

/* A received frame; its memory is ZeroMQ's. Zeros are valid; the same struct may be used again and again. */
struct socket_frame {
    peer_id peer;     /* of a ROUTER's sender; 0 for a DEALER */
    const void *data; /* valid until the next receive into this struct, or frame_deinit */
    size_t bytes;
    zmq_msg_t memory;
    bool held;
};

/* Never waits. STATUS_AGAIN (keeps no message) when everything was taken: call until then before polling again. STATUS_FORMAT: not
 * one frame of a peer that ZeroMQ named: dropped; out_frame->peer is set if it is known. */
enum status socket_receive(void *socket, struct socket_frame *frame);
void socket_frame_deinit(struct socket_frame *frame);

/* Where a peer takes its messages from, one at a time. */
struct inbox {
    struct socket_frame frame;
    struct arena arena; /* of the message at hand */
    void (*malformed)(void *context);
    void *context;
};

/* The next message of a socket, decoded, and valid until the next one is taken; false: none is there. What is malformed is dropped,
 * logged, and told to inbox->malformed, which counts it (I5). */
bool inbox_take(struct inbox *inbox, void *socket, struct message *out_message);
void inbox_deinit(struct inbox *inbox);

/* ---- waiting ---- */
#define POLL_ITEMS_MAX 512 /* WORKERS_MAX DEALERs of an actor, and the rest */

struct poll_set {
    zmq_pollitem_t items[POLL_ITEMS_MAX];
    int count;
};
/* Index of the item; the set must have room. */
int poll_add_socket(struct poll_set *set, void *socket);
int poll_add_fd(struct poll_set *set, int fd);
/* Wait until one is readable or timeout_ms (-1: for ever) is over; a signal ends it early. Returns how many are ready.
 */
int poll_wait(struct poll_set *set, int64_t timeout_ms);
bool poll_ready(const struct poll_set *set, int index);

#endif
