/* A peer of a hub's server, by its socket. */
#ifndef CANDOR_TESTS_SUPPORT_HUB_PEER_H
#define CANDOR_TESTS_SUPPORT_HUB_PEER_H

#include "tests/support/test.h"

#include <unistd.h>

#include "common/transport/socket.h"
#include "proto/proto.h"

#define PEER_WAIT_MS 20000 /* far above what is needed; nothing is timed */

static inline void *peer_connect(struct transport *transport, const char *endpoint) {
    void *socket = NULL;
    struct socket_settings settings = {
        .name = "test", .endpoint = endpoint, .frame_bytes_max = FRAME_BYTES_MAX, .messages_max = 100};
    ASSERT_OK(socket_connect(transport, &settings, &socket));
    return socket;
}

static inline void peer_send(void *socket, const struct message *message) {
    struct buf frame = {0};
    enum status status = STATUS_AGAIN;
    ASSERT_OK(proto_encode(message, &frame));
    for (int i = 0; i < PEER_WAIT_MS && (status = socket_send(socket, frame.data, frame.bytes)) == STATUS_AGAIN; i++)
        usleep(1000);
    ASSERT_OK(status);
    buf_deinit(&frame);
}

#endif
