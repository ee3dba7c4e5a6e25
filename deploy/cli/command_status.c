/* candor status: ask a running learner what it does. It needs no Redis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/transport/daemon.h"
#include "common/transport/socket.h"
#include "deploy/cli/commands.h"
#include "proto/proto.h"

#define FRAMES_MAX 8
#define POLL_MS 100

/* A scalar, for people. */
static void print_value(const json_t *value) {
    if (json_is_string(value))
        printf("%s", json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        printf("%.4g", json_real_value(value));
    else
        printf("%s", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-");
}

static bool is_tree(const json_t *value) {
    return json_is_object(value) || json_is_array(value);
}

/* An object's scalars on one line. */
static void print_row(json_t *object) {
    const char *name;
    json_t *field;
    json_object_foreach(object, name, field) {
        if (is_tree(field))
            continue;
        printf("%s ", name);
        print_value(field);
        printf("  ");
    }
    printf("\n");
}

/* Objects as indented names and values; an array's objects as one line each. */
static void print_tree(json_t *tree, int depth) {
    const char *name;
    json_t *member;
    size_t index;
    json_array_foreach(tree, index, member) {
        printf("%*s- ", depth * 2, "");
        print_row(member);
    }
    json_object_foreach(tree, name, member) {
        printf("%*s%s%s", depth * 2, "", name, is_tree(member) ? ":\n" : " ");
        if (is_tree(member)) {
            print_tree(member, depth + 1);
        } else {
            print_value(member);
            printf("\n");
        }
    }
}

static enum status show(const struct message *reply, bool as_json) {
    const struct text *text = &reply->status_reply.json;
    if (as_json) {
        printf("%s\n", text->data);
        return STATUS_OK;
    }
    json_t *status = NULL;
    TRY(json_parse(text->data, text->bytes, "the learner's status", &status));
    print_tree(status, 0);
    json_decref(status);
    return STATUS_OK;
}

static enum status send_message(void *socket, const struct message *message) {
    struct buf frame = {0};
    enum status status = proto_encode(message, &frame);
    if (status == STATUS_OK)
        status = socket_send(socket, frame.data, frame.bytes);
    buf_deinit(&frame);
    return status;
}

/* Asks until something comes back: the connection may be made only now. */
static enum status ask(void *socket, const char *endpoint, int64_t timeout_ms, bool as_json) {
    int64_t deadline = clock_boot_ms() + timeout_ms;
    struct socket_frame frame = {.held = false};
    bool sent = false;
    enum status status = STATUS_TIMEOUT;
    while (status == STATUS_TIMEOUT && clock_boot_ms() < deadline && !command_interrupted()) {
        if (!sent)
            sent = send_message(socket, &(struct message){.type = MESSAGE_STATUS_REQUEST}) == STATUS_OK;
        struct poll_set set = {.count = 0};
        poll_add_socket(&set, socket);
        poll_wait(&set, POLL_MS);
        while (status == STATUS_TIMEOUT && socket_receive(socket, &frame) == STATUS_OK) {
            struct arena arena;
            struct message message;
            arena_init(&arena, proto_arena_bytes(frame.bytes));
            status = proto_decode(frame.data, frame.bytes, &arena, &message);
            if (status == STATUS_OK)
                status = message.type == MESSAGE_STATUS_REPLY ? show(&message, as_json) : STATUS_TIMEOUT;
            arena_deinit(&arena);
        }
    }
    socket_frame_deinit(&frame);
    return status == STATUS_TIMEOUT
               ? fail(STATUS_TIMEOUT, "%s: no learner answers within %lld s", endpoint, (long long)timeout_ms / 1000)
               : status;
}

enum status command_status(int argc, char **argv) {
    const char *run = "", *learner = "", *key = "", *learner_key = "";
    int64_t seconds = 5;
    bool as_json = false;
    const struct arg args[] = {
        {"run", ARG_TEXT, &run, "DIR", "the run's directory, on this machine"},
        {"learner", ARG_TEXT, &learner, "ENDPOINT", "or the learner's control endpoint"},
        {"key", ARG_TEXT, &key, "FILE", "this host's key pair"},
        {"learner-key", ARG_TEXT, &learner_key, "FILE", "the learner's public key"},
        {"timeout", ARG_INT, &seconds, "SECONDS", "how long to wait (5)"},
        {"json", ARG_FLAG, &as_json, "", "the answer as it came"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor status --run DIR | --learner ENDPOINT",
                  "What the learner, its actors and reward workers do now.", args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (*run == 0 && *learner == 0)
        return fail(STATUS_USAGE, "--run DIR or --learner ENDPOINT is missing");
    char endpoint[ENDPOINT_BYTES];
    TRY(daemon_endpoint(learner, run, "control", false, endpoint));
    struct transport *transport = NULL;
    TRY(transport_create(&(struct transport_settings){.key = key, .learner_key = learner_key, .allow = ""},
                         &transport));
    void *socket = NULL;
    enum status status = socket_connect(transport,
                                        &(struct socket_settings){.name = "--learner",
                                                                  .endpoint = endpoint,
                                                                  .server_key = transport_learner_key(transport),
                                                                  .frame_bytes_max = FRAME_BYTES_MAX,
                                                                  .messages_max = FRAMES_MAX},
                                        &socket);
    if (status == STATUS_OK)
        status = ask(socket, endpoint, seconds * 1000, as_json);
    socket_close(&socket);
    transport_destroy(&transport);
    return status;
}
