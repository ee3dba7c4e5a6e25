/* Ten actors join a learner at once: its whole snapshot is fetched by ten processes, two of them slow, while an eleventh asks for more
 * than it ever reads. Steps go on meanwhile, and the learner's memory stays within what the sockets may hold. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/rng.h"
#include "common/hub/server.h"
#include "common/transport/socket.h"
#include "common/weights/sync.h"
#include "proto/proto.h"
#include "tests/support/hub/fake.h"
#include "tests/support/hub/peer.h"

#define READERS 10
#define SLOW 2
#define CHUNKS 12
#define ELEMENTS ((CHUNKS - 1) * (CHUNK_BYTES_MAX / 2) + 4321)
#define STEPS 30
#define GREEDY_FETCHES 60 /* each of all chunks: 720 MB */
/* What one peer's pipe holds (server.c), and a chunk in the making. */
#define PEER_BYTES_MAX (17ull << 20)

static char directory[64], control[128], weights[128];
static uint16_t elements[ELEMENTS];
static struct digest content;
static struct hub_server *server;
static struct transport *transport;
static struct arena arena;
static void *actor, *worker; /* as the learner's peers: control sockets */
static int begun[2];         /* a byte from each reader that has its first chunk */

/* ---- a process that reads ---- */

struct reader {
    void *socket;
    struct sync *sync;
};

static bool send_fetch(void *context, const struct message_fetch *fetch) {
    struct reader *reader = context;
    struct buf frame = {0};
    struct message message = {.type = MESSAGE_FETCH, .fetch = *fetch};
    bool sent = proto_encode(&message, &frame) == STATUS_OK &&
                socket_send(reader->socket, frame.data, frame.bytes) == STATUS_OK;
    buf_deinit(&frame);
    return sent;
}

static void must(bool right) {
    if (!right)
        _exit(1);
}

static void *open_weights_socket(void) {
    struct transport *own;
    void *socket;
    struct socket_settings settings = {
        .name = "reader", .endpoint = weights, .frame_bytes_max = CHUNK_FRAME_BYTES_MAX, .messages_max = 16};
    must(transport_create(&(struct transport_settings){"", "", ""}, &own) == STATUS_OK);
    must(socket_connect(own, &settings, &socket) == STATUS_OK);
    return socket;
}

/* A slow reader takes a chunk for each byte in its pipe, and is free when the pipe is closed. */
static void read_all(int pipe_fd) {
    struct reader reader = {.socket = open_weights_socket()};
    struct message_manifest manifest = content_manifest(0, content, ELEMENTS, DTYPE_BF16);
    struct socket_frame frame = {0};
    struct arena own;
    bool known, any = false;
    char byte;
    arena_init(&own, 16u << 20);
    must(sync_create(ELEMENTS, send_fetch, &reader, &reader.sync) == STATUS_OK);
    must(sync_manifest(reader.sync, &manifest) == STATUS_OK);
    while (sync_state(reader.sync) != SYNC_READY) {
        struct message message;
        must(sync_want(reader.sync, content, (struct digest){0, 0}, clock_boot_ms(), &known) == STATUS_OK && known);
        sync_tick(reader.sync, clock_boot_ms());
        if (socket_receive(reader.socket, &frame) != STATUS_OK) {
            usleep(1000);
            continue;
        }
        if (!any)
            must(write(begun[1], "", 1) == 1);
        any = true;
        if (pipe_fd >= 0 && read(pipe_fd, &byte, 1) <= 0)
            pipe_fd = -1;
        arena_reset(&own);
        must(proto_decode(frame.data, frame.bytes, &own, &message) == STATUS_OK && message.type == MESSAGE_CHUNK);
        sync_chunk(reader.sync, &message.chunk, clock_boot_ms());
    }
    void *data = sync_take(reader.sync, &manifest);
    _exit(memcmp(data, elements, sizeof elements) != 0);
}

static void ask_without_reading(void) {
    struct reader reader = {.socket = open_weights_socket()};
    struct message_fetch fetch = {.kind = FETCH_SNAPSHOT, .object = content, .count = CHUNKS};
    for (int sent = 0; sent < GREEDY_FETCHES; sent += send_fetch(&reader, &fetch))
        usleep(100);
    for (;;)
        pause();
}

/* ---- the learner ---- */

/* The next message of that type; it lies in arena. */
static struct message expect(void *socket, enum message_type type) {
    struct socket_frame frame = {0};
    struct message message = {.type = MESSAGE_TYPE_COUNT};
    for (int i = 0; i < PEER_WAIT_MS && message.type != type; i++) {
        if (socket_receive(socket, &frame) != STATUS_OK) {
            usleep(1000);
            continue;
        }
        char *copy = arena_copy(&arena, frame.data, frame.bytes);
        assert_non_null(copy);
        ASSERT_OK(proto_decode(copy, frame.bytes, &arena, &message));
    }
    socket_frame_deinit(&frame);
    assert_int_equal(message.type, type);
    return message;
}

static enum status publish(uint32_t version) {
    struct published published = {.version = version,
                                  .digest = version ? fake_weights(version) : content,
                                  .data = elements,
                                  .elements = version ? 8 : ELEMENTS,
                                  .dtype = DTYPE_BF16};
    return hub_server_publish(server, &published);
}

/* A question out and its group back, and the next version published in place of the one before. */
static void train_step(uint32_t step) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {FAKE_STOP};
    struct message_lease template = {.prompt = prompt,
                                     .prompt_count = 3,
                                     .samples = FAKE_SAMPLES,
                                     .temperature = 1,
                                     .max_new_tokens = FAKE_TOKENS,
                                     .stops = stops,
                                     .stop_count = 1};
    struct hub_work work = {.stream = WORK_TRAIN,
                            .step = step,
                            .weights = fake_weights(step + 1),
                            .version = step + 1,
                            .slot_count = 1,
                            .slots = &template};
    arena_reset(&arena);
    ASSERT_OK(publish(step + 1));
    ASSERT_OK(hub_server_retire_below(server, step + 1));
    ASSERT_OK(hub_server_offer(server, &work));
    struct message lease = expect(actor, MESSAGE_LEASE);
    struct message_group group = fake_group(&lease.lease, 1, &arena);
    struct message scored = fake_scored(&group, 900, &arena);
    peer_send(worker, &scored);
    assert_int_equal(expect(worker, MESSAGE_ANSWER).answer.outcome, OUTCOME_ACCEPTED);
    struct completed_work *completed;
    ASSERT_OK(hub_server_take(server, WORK_TRAIN, step, PEER_WAIT_MS, &completed));
    completed_work_free(&completed);
}

static uint64_t resident_bytes(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &pages, &resident), 2);
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void start_server(const struct run_config *config) {
    struct hub_server_settings settings = {
        .hub = fake_settings(), .control = control, .weights = weights, .config = config, .model_directory = ""};
    settings.hub.heartbeat_ms = 50;
    ASSERT_OK(hub_server_start(&settings, &server));
    ASSERT_OK(transport_create(&(struct transport_settings){"", "", ""}, &transport));
}

static pid_t readers[READERS], greedy;
static int pipes[SLOW][2];

/* Before there are threads. They connect when there is somebody. */
static void start_readers(void) {
    assert_int_equal(pipe2(begun, O_CLOEXEC), 0);
    for (int i = 0; i < SLOW; i++)
        assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
    for (int i = 0; i <= READERS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            for (int p = 0; p < SLOW; p++)
                close(pipes[p][1]); /* its end shows only when nobody has it open */
            if (i == READERS)
                ask_without_reading();
            read_all(i < SLOW ? pipes[i][0] : -1);
        }
        *(i < READERS ? &readers[i] : &greedy) = pid;
    }
}

static uint32_t wait_for_readers(int flags) {
    uint32_t ended = 0;
    for (int i = 0; i < READERS; i++) {
        int code = 0;
        if (readers[i] > 0 && waitpid(readers[i], &code, flags) == readers[i]) {
            assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
            readers[i] = 0;
        }
        ended += readers[i] == 0;
    }
    return ended;
}

static void ten_join_and_training_goes_on(void **state) {
    (void)state;
    struct run_config *config = calloc(1, sizeof *config);
    assert_non_null(config);
    ASSERT_OK(config_defaults(&run_options, config));
    start_readers();
    start_server(config);
    ASSERT_OK(publish(0));
    actor = peer_connect(transport, control);
    worker = peer_connect(transport, control);
    struct message hello = fake_hello(ROLE_REWARD, 900, 0);
    peer_send(worker, &hello);
    expect(worker, MESSAGE_WELCOME);
    hello = fake_hello(ROLE_ACTOR, 1, 100);
    peer_send(actor, &hello);
    expect(actor, MESSAGE_WELCOME);
    uint64_t before = resident_bytes(), most = before;
    char byte;
    for (int i = 0; i < READERS; i++)
        assert_int_equal(read(begun[0], &byte, 1), 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        train_step(step);
        if (step % 8 == 0) /* slow: four chunks of twelve until the last step */
            for (int i = 0; i < SLOW; i++)
                assert_int_equal(write(pipes[i][1], "", 1), 1);
        most = resident_bytes() > most ? resident_bytes() : most;
    }
    assert_true(wait_for_readers(WNOHANG) <= READERS - SLOW); /* they were there all the time */
    for (int i = 0; i < SLOW; i++)
        close(pipes[i][1]);
    assert_int_equal(wait_for_readers(0), READERS); /* though their version was retired at the first step */
    most = resident_bytes() > most ? resident_bytes() : most;
    printf("%d steps, %.0f MB grown\n", STEPS, (double)(most - before) / 1e6);
    assert_true(most - before < (READERS + 1) * PEER_BYTES_MAX);
    kill(greedy, SIGKILL);
    waitpid(greedy, NULL, 0);
    greedy = 0;
    free(config);
}

static int set_up(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/candor-joiners-XXXXXX");
    arena_init(&arena, 16u << 20);
    if (!mkdtemp(directory))
        return -1;
    snprintf(control, sizeof control, "ipc://%s/control", directory);
    snprintf(weights, sizeof weights, "ipc://%s/weights", directory);
    struct rng_key key = {.seed = 3, .stream = RNG_TEST};
    for (uint32_t i = 0; i < ELEMENTS; i++)
        elements[i] = (uint16_t)rng_below(&key, i, 65536);
    content = content_digest(elements, 0, sizeof elements);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < READERS; i++)
        if (readers[i] > 0)
            kill(readers[i], SIGKILL);
    if (greedy > 0)
        kill(greedy, SIGKILL);
    hub_server_stop(&server, 0, "test over");
    socket_close(&actor);
    socket_close(&worker);
    transport_destroy(&transport);
    arena_deinit(&arena);
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ten_join_and_training_goes_on, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
