/* The hub's thread: server.c (sockets, loop, life) and server_calls.c (what other threads ask of it). Private. */
#ifndef CANDOR_HUB_SERVER_INTERNAL_H
#define CANDOR_HUB_SERVER_INTERNAL_H

#include <pthread.h>

#include "common/base/arena.h"
#include "common/base/queue.h"
#include "common/hub/collect.h"
#include "common/hub/server.h"
#include "common/telemetry/telemetry.h"
#include "common/transport/socket.h"

#define CUT_OFF_MAX 256 /* connections that failed while one message was handled; more of them fail again */

/* Asked by another thread, answered by the hub's. */
struct call {
    enum status (*run)(struct hub_server *server, void *argument);
    void *argument;
    enum status status;
    char message[STATUS_MESSAGE_BYTES];
    bool done;
};

struct hub_server {
    struct transport *transport;
    void *control, *weights;
    struct hub *hub;
    struct store *store;
    struct telemetry *telemetry;
    struct collect *collect;
    /* the thread */
    pthread_t thread;
    void (*beat)(void *context);
    void (*describe)(void *context, struct buf *out);
    void *hook_context;
    struct arena arena; /* of the message at hand */
    struct buf frame;   /* on its way out */
    peer_id cut_off[CUT_OFF_MAX];
    uint32_t cut_off_count;
    int64_t tick_ms, telemetry_ms;
    int32_t heartbeat_ms;
    bool stopping;
    int64_t stop_by_ms, close_ms; /* close_ms: 0 until all was said */
    uint64_t bytes_in, bytes_out;
    struct versions versions;
    char host[256];
    /* calls */
    struct queue *calls;
    pthread_mutex_t mutex;
    pthread_cond_t answered;
};

/* Run on the hub's thread, and wait for it. STATUS_CLOSED when that has ended. */
enum status hub_server_ask(struct hub_server *server, enum status (*run)(struct hub_server *server, void *argument),
                           void *argument);
/* On the hub's thread: what was asked. */
void hub_server_answer(struct hub_server *server);

#endif
