#include "deploy/cli/learner_status.h"

#include "common/base/json.h"
#include "proto/proto.h"

#define FRAMES_MAX 8

enum status learner_status_open(const char *endpoint, const struct transport_settings *keys,
                                struct learner_status *out_status) {
    struct learner_status status = {.asked = false};
    TRY(transport_create(keys, &status.transport));
    const struct socket_settings settings = {.name = "--learner",
                                             .endpoint = endpoint,
                                             .server_key = transport_learner_key(status.transport),
                                             .frame_bytes_max = FRAME_BYTES_MAX,
                                             .messages_max = FRAMES_MAX};
    enum status result = socket_connect(status.transport, &settings, &status.socket);
    if (result != STATUS_OK) {
        learner_status_close(&status);
        return result;
    }
    *out_status = status;
    return STATUS_OK;
}

void learner_status_close(struct learner_status *status) {
    socket_close(&status->socket);
    transport_destroy(&status->transport);
}

static enum status send_request(void *socket) {
    const struct message request = {.type = MESSAGE_STATUS_REQUEST};
    struct buf frame = {0};
    enum status status = proto_encode(&request, &frame);
    if (status == STATUS_OK)
        status = socket_send(socket, frame.data, frame.bytes);
    buf_deinit(&frame);
    return status;
}

static enum status read_answer(const struct socket_frame *frame, json_t **out_answer) {
    struct arena arena;
    struct message message;
    arena_init(&arena, proto_arena_bytes(frame->bytes));
    enum status status = proto_decode(frame->data, frame->bytes, &arena, &message);
    if (status == STATUS_OK && message.type != MESSAGE_STATUS_REPLY)
        status = STATUS_TIMEOUT; /* a bye, say */
    if (status == STATUS_OK)
        status = json_parse(message.status_reply.json.data, message.status_reply.json.bytes, "the learner's status",
                            out_answer);
    arena_deinit(&arena);
    return status;
}

enum status learner_status_ask(struct learner_status *status, int wait_ms, json_t **out_answer) {
    if (!status->asked)
        status->asked = send_request(status->socket) == STATUS_OK;
    struct poll_set set = {.count = 0};
    poll_add_socket(&set, status->socket);
    poll_wait(&set, wait_ms);
    struct socket_frame frame = {.held = false};
    enum status result = STATUS_TIMEOUT;
    while (result == STATUS_TIMEOUT && socket_receive(status->socket, &frame) == STATUS_OK)
        result = read_answer(&frame, out_answer);
    socket_frame_deinit(&frame);
    status->asked = status->asked && result == STATUS_TIMEOUT;
    return result;
}
