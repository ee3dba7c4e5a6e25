/* candor-stranger: a peer that speaks another protocol, for tests/integration/edges_protocol.sh.
 *
 *   candor-stranger hello CONTROL ROLE PROTOCOL    says hello to a hub (ROLE 0: actor, 1: reward worker)
 *   candor-stranger knock GROUPS PROTOCOL          knocks at a reward worker
 *   candor-stranger refuse CONTROL PROTOCOL        a hub of that protocol, which refuses others as ours does
 *   candor-stranger welcome CONTROL PROTOCOL       a hub of that protocol, which lets everybody in
 *
 * The first two print why they are refused, and end with 0; or with 1 when nobody answers. The others go on until they are killed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/transport/socket.h"
#include "proto/proto.h"

#define WAIT_MS 10000

static void give_up(const char *what) {
    fprintf(stderr, "candor-stranger: %s: %s\n", what, status_message());
    exit(1);
}

static void on_malformed(void *context) {
    (void)context;
}

static void *open_socket(struct transport *transport, const char *endpoint, bool listens) {
    void *socket = NULL;
    const struct socket_settings settings = {
        .name = "the endpoint", .endpoint = endpoint, .frame_bytes_max = FRAME_BYTES_MAX, .messages_max = 64};
    if ((listens ? socket_bind : socket_connect)(transport, &settings, &socket) != STATUS_OK)
        give_up(endpoint);
    return socket;
}

static bool readable(void *socket, int64_t timeout_ms) {
    struct poll_set set = {0};
    int index = poll_add_socket(&set, socket);
    poll_wait(&set, timeout_ms);
    return poll_ready(&set, index);
}

static struct message hello(const char *role, const char *protocol) {
    struct message message = {.type = MESSAGE_HELLO};
    message.hello = (struct message_hello){.protocol = (uint32_t)atoi(protocol),
                                           .role = (uint8_t)atoi(role),
                                           .name = text_of("stranger"),
                                           .host = text_of("elsewhere"),
                                           .incarnation = 77,
                                           .fingerprint = {text_of(""), text_of(""), text_of(""), text_of("")},
                                           .capacity_samples = 64,
                                           .capacity_bytes = 1 << 20,
                                           .endpoint = text_of("ipc:///tmp/stranger"),
                                           .key = text_of("")};
    return message;
}

static struct message knock(const char *protocol) {
    struct message message = {.type = MESSAGE_KNOCK};
    message.knock = (struct message_knock){(uint32_t)atoi(protocol), 77, text_of("stranger")};
    return message;
}

/* Say it until something comes back: the connection is made only now. */
static int call(struct transport *transport, const char *endpoint, const struct message *message) {
    struct inbox inbox = {.malformed = on_malformed};
    struct message answer;
    struct buf frame = {0};
    void *socket = open_socket(transport, endpoint, false);
    int result = 1;
    if (proto_encode(message, &frame) != STATUS_OK)
        give_up("the message");
    for (int waited_ms = 0; waited_ms < WAIT_MS && result != 0; waited_ms += 10) {
        if (waited_ms % 1000 == 0 && socket_send(socket, frame.data, frame.bytes) != STATUS_OK)
            waited_ms -= 10; /* no connection yet */
        if (!readable(socket, 10) || !inbox_take(&inbox, socket, &answer))
            continue;
        printf("%s: %s again=%d\n", message_name(answer.type),
               answer.type == MESSAGE_REFUSE ? answer.refuse.reason.data : "",
               answer.type == MESSAGE_REFUSE && answer.refuse.again);
        result = 0;
    }
    buf_deinit(&frame);
    inbox_deinit(&inbox);
    socket_close(&socket);
    return result;
}

static struct message answer_to(const struct message_hello *hello_, bool welcomes, uint32_t protocol, char *text,
                                size_t bytes) {
    struct message message = {.type = MESSAGE_REFUSE};
    snprintf(text, bytes, "protocol %u, this hub speaks %u: build both from one version", hello_->protocol, protocol);
    message.refuse.reason = text_of(text);
    if (!welcomes)
        return message;
    message = (struct message){.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = protocol,
                                               .run = text_of("another"),
                                               .run_id = 5,
                                               .incarnation = 6,
                                               .heartbeat_ms = 100,
                                               .weights = text_of("ipc:///tmp/stranger-weights"),
                                               .valid_vocab = 10,
                                               .positions_max = 10};
    return message;
}

static void serve(struct transport *transport, const char *endpoint, bool welcomes, const char *protocol) {
    struct inbox inbox = {.malformed = on_malformed};
    struct message message;
    char text[256];
    void *socket = open_socket(transport, endpoint, true);
    for (;;) {
        struct buf frame = {0};
        readable(socket, -1);
        if (!inbox_take(&inbox, socket, &message) || message.type != MESSAGE_HELLO)
            continue;
        message = answer_to(&message.hello, welcomes, (uint32_t)atoi(protocol), text, sizeof text);
        if (proto_encode(&message, &frame) != STATUS_OK)
            give_up("the answer");
        socket_send_to(socket, inbox.frame.peer, frame.data, frame.bytes);
        buf_deinit(&frame);
    }
}

int main(int argc, char **argv) {
    struct transport *transport;
    if (argc < 4 || (strcmp(argv[1], "hello") == 0 && argc < 5)) {
        fprintf(stderr, "candor-stranger: usage: see tests/support/edges/stranger.c\n");
        return 64;
    }
    if (transport_create(&(struct transport_settings){.key = "", .learner_key = "", .allow = ""}, &transport) !=
        STATUS_OK)
        give_up("transport");
    struct message message = strcmp(argv[1], "hello") == 0 ? hello(argv[3], argv[4]) : knock(argv[3]);
    if (strcmp(argv[1], "hello") == 0 || strcmp(argv[1], "knock") == 0) {
        int result = call(transport, argv[2], &message);
        transport_destroy(&transport);
        return result;
    }
    serve(transport, argv[2], strcmp(argv[1], "welcome") == 0, argv[3]);
}
