/* The hub's thread with its real sockets: a learner publishes two versions, a reader fetches one of them over ipc. */
#include <poll.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/hub/server.h"
#include "common/transport/socket.h"
#include "common/weights/delta.h"
#include "common/weights/fetch.h"
#include "proto/proto.h"
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"
#include "tests/support/hub/fake.h"

#define ELEMENTS 1200000u /* three chunks */
#define HASTE 100         /* the reader's clock: what is lost is asked for again after 2 s of it */
#define SECONDS_MAX 30

struct served {
    char root[64], control[128], weights[128];
    struct run_config *config;
    uint16_t *versions[2];
    struct digest digests[2];
    struct hub_server *server;
    uint32_t published;
    int released;
    struct transport *transport;
    void *socket;
    struct fetch fetch;
};

static void on_release(void *context) {
    ((struct served *)context)->released++;
}

static enum status publish(struct served *s, uint32_t v) {
    struct published published = {.version = v,
                                  .digest = s->digests[v],
                                  .data = s->versions[v],
                                  .elements = ELEMENTS,
                                  .dtype = DTYPE_BF16,
                                  .release = on_release,
                                  .context = s};
    enum status status = STATUS_OK;
    if (v > 0) {
        uint8_t *data;
        published.delta_base = s->digests[v - 1];
        status = delta_encode(s->versions[v - 1], s->versions[v], ELEMENTS, s->digests[v - 1], s->digests[v], 1, &data,
                              &published.delta_bytes, NULL);
        if (status == STATUS_OK)
            published.take_delta = data;
    }
    if (status == STATUS_OK)
        status = hub_server_publish(s->server, &published);
    s->published += status == STATUS_OK;
    return status;
}

/* ---- the reader: it fails by itself, not by the plan ---- */

static bool send_fetch(void *context, const struct message_fetch *fetch) {
    struct served *s = context;
    struct message message = {.type = MESSAGE_FETCH, .fetch = *fetch};
    struct buf frame = {0};
    ASSERT_OK(proto_encode(&message, &frame));
    bool sent = socket_send(s->socket, frame.data, frame.bytes) == STATUS_OK;
    buf_deinit(&frame);
    return sent;
}

static void open_reader(struct served *s) {
    struct socket_settings settings = {
        .name = "reader", .endpoint = s->weights, .frame_bytes_max = FRAME_BYTES_MAX, .messages_max = 100};
    ASSERT_OK(transport_create(&(struct transport_settings){"", "", ""}, &s->transport));
    ASSERT_OK(socket_connect(s->transport, &settings, &s->socket));
}

/* False: nothing more came, from a hub that has no memory any more. */
static bool read_version(struct served *s, uint32_t v) {
    struct message_manifest manifest = content_manifest(v, s->digests[v], ELEMENTS, DTYPE_BF16);
    struct fetch_target target = {.kind = FETCH_SNAPSHOT,
                                  .object = s->digests[v],
                                  .bytes = manifest.payload_bytes,
                                  .chunk_bytes = manifest.chunk_bytes};
    struct socket_frame frame = {0};
    struct arena arena;
    struct message message;
    double begin = clock_seconds();
    arena_init(&arena, 1u << 24);
    ASSERT_OK(fetch_begin(&s->fetch, &target, clock_boot_ms() * HASTE, send_fetch, s));
    while (!fetch_done(&s->fetch) && clock_seconds() < begin + (nth_lasts() ? .1 : SECONDS_MAX)) {
        struct poll_set set = {0};
        poll_add_socket(&set, s->socket);
        poll_wait(&set, 2);
        while (socket_receive(s->socket, &frame) == STATUS_OK) {
            arena_reset(&arena);
            ASSERT_OK(proto_decode(frame.data, frame.bytes, &arena, &message));
            assert_int_equal(message.type, MESSAGE_CHUNK);
            fetch_chunk(&s->fetch, &message.chunk, clock_boot_ms() * HASTE, send_fetch, s);
        }
        fetch_tick(&s->fetch, clock_boot_ms() * HASTE, send_fetch, s);
    }
    bool done = fetch_done(&s->fetch);
    if (done)
        assert_memory_equal(s->fetch.data, s->versions[v], manifest.payload_bytes);
    fetch_deinit(&s->fetch);
    socket_frame_deinit(&frame);
    arena_deinit(&arena);
    return done;
}

static enum status serve(void *context) {
    struct served *s = context;
    struct hub_server_settings settings = {.hub = fake_settings(),
                                           .control = s->control,
                                           .weights = s->weights,
                                           .config = s->config,
                                           .model_directory = ""};
    settings.hub.heartbeat_ms = 50;
    TRY(hub_server_start(&settings, &s->server));
    TRY(publish(s, 0));
    TRY(publish(s, 1));
    nth_exempt(true); /* this thread alone: the hub's goes on being counted */
    open_reader(s);
    bool done = read_version(s, 1);
    nth_exempt(false);
    assert_true(done || nth_lasts());
    if (!done) /* a hub that never has memory sends nothing, and goes on */
        return fail(STATUS_TIMEOUT, "no chunk comes without memory");
    return hub_server_retire(s->server, 0);
}

/* What was published is served. */
static void check_served(void *context, enum status status, bool hit) {
    struct served *s = context;
    (void)hit;
    if (status == STATUS_OK)
        assert_int_equal(s->released, 1);
    if (status == STATUS_OK || !s->server || s->published == 0)
        return;
    if (!s->socket)
        open_reader(s);
    assert_true(read_version(s, s->published - 1));
}

static void check_served_all(void *context, enum status status, bool hit) {
    assert_int_equal(status, STATUS_OK);
    check_served(context, status, hit);
}

static void end_served(void *context) {
    struct served *s = context;
    hub_server_stop(&s->server, 0, "over");
    assert_int_equal(s->released, s->published);
    socket_close(&s->socket);
    transport_destroy(&s->transport);
    s->published = 0;
    s->released = 0;
}

void a_hub_that_serves_weights(void **state) {
    (void)state;
    static struct served s;
    log_init("test", NULL, LOG_ERROR + 1);
    snprintf(s.root, sizeof s.root, "/%s/candor-nth-XXXXXX", access("/dev/shm", W_OK) == 0 ? "dev/shm" : "tmp");
    assert_non_null(mkdtemp(s.root));
    snprintf(s.control, sizeof s.control, "ipc://%s/control", s.root);
    snprintf(s.weights, sizeof s.weights, "ipc://%s/weights", s.root);
    s.config = calloc(1, sizeof *s.config);
    assert_non_null(s.config);
    ASSERT_OK(config_defaults(&run_options, s.config));
    for (uint32_t v = 0; v < 2; v++) {
        s.versions[v] = malloc(ELEMENTS * 2);
        assert_non_null(s.versions[v]);
        for (uint32_t i = 0; i < ELEMENTS; i++)
            s.versions[v][i] = (uint16_t)(i * 7 + (v && i % 90 == 0));
        s.digests[v] = content_digest(s.versions[v], 0, ELEMENTS * 2);
    }
    struct sweep sends = {"a hub, sends", BIT(SEND), NULL, NULL, serve, check_served_all, end_served};
    struct sweep memory = {"a hub, memory", BIT(ALLOC) | BIT(THREAD), NULL, NULL, serve, check_served, end_served};
    sweep(&sends, &s);
    sweep(&memory, &s);
    free(s.versions[0]);
    free(s.versions[1]);
    free(s.config);
    ASSERT_OK(fs_remove_tree(s.root));
}
