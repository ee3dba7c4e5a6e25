/* The hub's thread with real sockets: an actor, a reward worker and an operator played by raw DEALERs. */
#include "tests/support/test.h"

#include <poll.h>
#include <stdatomic.h>

#include "common/base/fs.h"
#include "common/compute/device.h"
#include "common/hub/server.h"
#include "common/transport/socket.h"
#include "proto/proto.h"
#include "tests/support/hub/fake.h"
#include "tests/support/hub/peer.h"

static char directory[64], control[128], weights[128];
static struct run_config *config;
static struct transport *transport;
static struct hub_server *server;
static struct arena arena;
static uint16_t elements[600000]; /* two chunks */
static atomic_int released;
static void *sockets[8]; /* closed at the end of each test, however it ended: the context waits for them */
static int socket_count;

static int set_up(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/candor-server-XXXXXX");
    config = calloc(1, sizeof *config);
    arena_init(&arena, 256u << 20);
    if (!mkdtemp(directory) || !config || config_defaults(&run_options, config) != STATUS_OK)
        return -1;
    snprintf(control, sizeof control, "ipc://%s/control", directory);
    snprintf(weights, sizeof weights, "ipc://%s/weights", directory);
    struct hub_server_settings settings = {
        .hub = fake_settings(), .control = control, .weights = weights, .config = config, .model_directory = ""};
    settings.hub.heartbeat_ms = 50;
    return hub_server_start(&settings, &server) == STATUS_OK &&
                   transport_create(&(struct transport_settings){"", "", ""}, &transport) == STATUS_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    hub_server_stop(&server, 0, "test over");
    while (socket_count > 0)
        socket_close(&sockets[--socket_count]);
    transport_destroy(&transport);
    arena_deinit(&arena);
    free(config);
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static void *connect_to(const char *endpoint) {
    return sockets[socket_count++] = peer_connect(transport, endpoint);
}

/* The next message of that type; others are passed over. It lies in arena. */
static struct message expect(void *socket, enum message_type type) {
    struct socket_frame frame = {0};
    struct poll_set set = {0};
    struct message message;
    poll_add_socket(&set, socket);
    for (int i = 0; i < 100; i++) {
        while (socket_receive(socket, &frame) == STATUS_OK) {
            char *copy = arena_copy(&arena, frame.data, frame.bytes); /* chunks stay within their frame */
            assert_non_null(copy);
            ASSERT_OK(proto_decode(copy, frame.bytes, &arena, &message));
            if (message.type == type) {
                socket_frame_deinit(&frame);
                return message;
            }
        }
        poll_wait(&set, PEER_WAIT_MS / 100);
    }
    fail_msg("no %s came", message_name(type));
    return message;
}

static void on_release(void *context) {
    (void)context;
    released++;
}

static enum status publish(uint32_t version) {
    struct published published = {.version = version,
                                  .digest = fake_weights(version),
                                  .data = elements,
                                  .elements = sizeof elements / sizeof elements[0],
                                  .dtype = DTYPE_BF16,
                                  .release = on_release};
    return hub_server_publish(server, &published);
}

static enum status offer(uint32_t step, uint32_t slots, uint32_t version) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {FAKE_STOP};
    struct message_lease templates[8];
    for (uint32_t i = 0; i < slots; i++)
        templates[i] = (struct message_lease){.prompt = prompt,
                                              .prompt_count = 3,
                                              .samples = FAKE_SAMPLES,
                                              .temperature = 1,
                                              .max_new_tokens = FAKE_TOKENS,
                                              .stops = stops,
                                              .stop_count = 1};
    struct hub_work work = {.stream = WORK_TRAIN,
                            .step = step,
                            .weights = fake_weights(version),
                            .version = version,
                            .slot_count = slots,
                            .slots = templates};
    return hub_server_offer(server, &work);
}

static void work_goes_out_and_comes_back_in_slot_order(void **state) {
    (void)state;
    struct completed_work *work = NULL;
    void *actor = connect_to(control), *worker = connect_to(control);
    struct message message = fake_hello(ROLE_REWARD, 900, 0), lease[3];
    peer_send(worker, &message);
    expect(worker, MESSAGE_WELCOME);
    ASSERT_OK(publish(0));
    ASSERT_OK(offer(0, 3, 0));
    ASSERT_FAILS(STATUS_EXISTS, offer(0, 3, 0));
    assert_int_equal(hub_server_take(server, WORK_TRAIN, 0, 0, &work), STATUS_TIMEOUT);
    message = fake_hello(ROLE_ACTOR, 1, 100);
    peer_send(actor, &message);
    for (int i = 0; i < 3; i++)
        lease[i] = expect(actor, MESSAGE_LEASE);
    for (int i = 2; i >= 0; i--) { /* the last one first */
        struct message_group group = fake_group(&lease[i].lease, 1, &arena);
        message = fake_scored(&group, 900, &arena);
        peer_send(worker, &message);
        peer_send(worker, &message);
        assert_int_equal(expect(worker, MESSAGE_ANSWER).answer.outcome, OUTCOME_ACCEPTED);
        assert_int_equal(expect(worker, MESSAGE_ANSWER).answer.outcome, OUTCOME_DUPLICATE);
        assert_int_equal(hub_server_filled(server, WORK_TRAIN, 0), 3 - i);
    }
    ASSERT_OK(hub_server_take(server, WORK_TRAIN, 0, PEER_WAIT_MS, &work));
    assert_int_equal(work->group_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct message_group group = fake_group(&lease[i].lease, 1, &arena);
        assert_int_equal(work->groups[i]->group.key.slot, i);
        assert_true(digest_equal(group_digest(&work->groups[i]->group), group_digest(&group)));
    }
    completed_work_free(&work);
    assert_null(work);
    ASSERT_FAILS(STATUS_NOT_FOUND, hub_server_take(server, WORK_TRAIN, 0, 0, &work));
}

static void weights_are_served_until_retired(void **state) {
    (void)state;
    void *fetcher = connect_to(weights);
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++)
        elements[i] = (uint16_t)(i * 7);
    released = 0;
    ASSERT_OK(publish(1));
    struct message fetch = {.type = MESSAGE_FETCH,
                            .fetch = {.kind = FETCH_SNAPSHOT, .object = fake_weights(1), .count = 2}};
    peer_send(fetcher, &fetch);
    for (uint32_t i = 0; i < 2; i++) {
        struct message message = expect(fetcher, MESSAGE_CHUNK);
        assert_int_equal(message.chunk.index, i);
        assert_int_equal(message.chunk.total_bytes, sizeof elements);
        assert_true(message.chunk.hash == hash64(message.chunk.data, message.chunk.bytes));
        assert_memory_equal(message.chunk.data, (const char *)elements + i * CHUNK_BYTES_MAX, message.chunk.bytes);
    }
    ASSERT_OK(publish(2));
    ASSERT_OK(hub_server_retire_below(server, 2));
    assert_int_equal(released, 1);
    peer_send(fetcher, &fetch);
    assert_true(digest_equal(expect(fetcher, MESSAGE_GONE).gone.object, fake_weights(1)));
}

static void a_snapshot_that_is_read_outlives_its_retirement(void **state) {
    (void)state;
    void *fetcher = connect_to(weights);
    released = 0;
    ASSERT_OK(publish(1));
    struct message fetch = {.type = MESSAGE_FETCH,
                            .fetch = {.kind = FETCH_SNAPSHOT, .object = fake_weights(1), .count = 1}};
    peer_send(fetcher, &fetch);
    assert_int_equal(expect(fetcher, MESSAGE_CHUNK).chunk.index, 0);
    ASSERT_OK(publish(2));
    ASSERT_OK(hub_server_retire_below(server, 2));
    assert_int_equal(released, 0);
    fetch.fetch.first = 1;
    peer_send(fetcher, &fetch);
    assert_int_equal(expect(fetcher, MESSAGE_CHUNK).chunk.index, 1);
    fetch.fetch.object = fake_weights(2); /* one at a time */
    fetch.fetch.first = 0;
    peer_send(fetcher, &fetch);
    expect(fetcher, MESSAGE_CHUNK);
    ASSERT_OK(publish(3));
    ASSERT_OK(hub_server_retire_below(server, 3));
    assert_int_equal(released, 1);
    hub_server_stop(&server, 0, "test over");
    assert_int_equal(released, 3);
}

/* A step that changed nothing publishes the same content again: it stays until its last number is retired. */
static void equal_versions_share_their_content(void **state) {
    (void)state;
    struct published published = {
        .digest = fake_weights(5), .data = elements, .elements = 8, .dtype = DTYPE_BF16, .release = on_release};
    void *fetcher = connect_to(weights);
    released = 0;
    for (published.version = 5; published.version <= 6; published.version++)
        ASSERT_OK(hub_server_publish(server, &published));
    ASSERT_OK(hub_server_retire_below(server, 6));
    assert_int_equal(released, 1);
    struct message fetch = {.type = MESSAGE_FETCH, .fetch = {.object = fake_weights(5), .count = 1}};
    peer_send(fetcher, &fetch);
    assert_int_equal(expect(fetcher, MESSAGE_CHUNK).chunk.bytes, 16);
}

static void rubbish_is_counted_and_status_is_answered(void **state) {
    (void)state;
    struct buf text = {0};
    void *operator= connect_to(control);
    struct message message = {.type = MESSAGE_STATUS_REQUEST};
    peer_send(operator, & message);
    ASSERT_OK(socket_send(operator, "\xdd\x05\xf5\xe1\x00", 5));
    assert_non_null(strstr(expect(operator, MESSAGE_STATUS_REPLY).status_reply.json.data, "\"run\":\"test\""));
    peer_send(operator, & message);
    assert_non_null(strstr(expect(operator, MESSAGE_STATUS_REPLY).status_reply.json.data, "\"malformed\":1"));
    struct hub_counts counts;
    ASSERT_OK(hub_server_counters(server, &counts, &text));
    assert_int_equal(counts.malformed, 1);
    assert_non_null(strstr(text.data, "\"actors\":0"));
    buf_reset(&text);
    hub_server_status_line(server, &text);
    assert_string_equal(text.data, "no open work, 0 actors, 0 reward workers");
    buf_deinit(&text);
}

static void a_question_that_nobody_survives_ends_the_run(void **state) {
    (void)state;
    struct completed_work *work = NULL;
    void *actor = connect_to(control);
    ASSERT_OK(publish(0));
    ASSERT_OK(offer(0, 1, 0));
    for (uint64_t i = 1; i <= 5; i++) {
        char name[] = {'a', (char)('0' + i), '\0'};
        struct message message = fake_hello(ROLE_ACTOR, i, 100);
        message.hello.name = text_of(name);
        peer_send(actor, &message);
        uint64_t lease = expect(actor, MESSAGE_LEASE).lease.lease;
        message = (struct message){
            .type = MESSAGE_GIVE_BACK,
            .give_back = {.leases = &lease, .lease_count = 1, .reason = text_of("too long"), .fault = 1}};
        peer_send(actor, &message);
    }
    ASSERT_FAILS(STATUS_RUN_FAILED, hub_server_take(server, WORK_TRAIN, 0, PEER_WAIT_MS, &work));
    assert_non_null(strstr(status_message(), "slot_stuck: stream=1 step=0 slot=0"));
}

static void withdrawn_work_and_an_interrupt_end_a_wait(void **state) {
    (void)state;
    struct completed_work *work = NULL;
    ASSERT_OK(publish(0));
    ASSERT_OK(offer(0, 1, 0));
    ASSERT_OK(offer(1, 1, 0));
    hub_server_withdraw(server, WORK_TRAIN, 0);
    ASSERT_FAILS(STATUS_NOT_FOUND, hub_server_take(server, WORK_TRAIN, 0, PEER_WAIT_MS, &work));
    hub_server_interrupt(server);
    ASSERT_FAILS(STATUS_INTERRUPTED, hub_server_take(server, WORK_TRAIN, 1, PEER_WAIT_MS, &work));
}

static void a_second_hub_at_the_same_endpoint_is_refused(void **state) {
    (void)state;
    struct hub_server *second = NULL;
    struct hub_server_settings settings = {
        .hub = fake_settings(), .control = control, .weights = weights, .config = config, .model_directory = ""};
    ASSERT_FAILS(STATUS_CONFIG, hub_server_start(&settings, &second));
    assert_non_null(strstr(status_message(), "hub.control = ipc://"));
    assert_non_null(strstr(status_message(), "address in use"));
    assert_null(second);
}

static void weights_must_be_in_reach_of_those_who_come_over_the_network(void **state) {
    (void)state;
    struct hub_server *second = NULL;
    struct hub_server_settings settings = {
        .hub = fake_settings(), .control = "tcp://*:5555", .weights = weights, .config = config, .model_directory = ""};
    ASSERT_FAILS(STATUS_CONFIG, hub_server_start(&settings, &second));
    assert_int_equal(strncmp(status_message(), "hub.weights = ipc://", 20), 0);
}

/* Behind a NAT, in a container: the weights are reached by another address than the one that is bound. */
static void actors_are_told_the_advertised_address_of_the_weights(void **state) {
    (void)state;
    struct hub_server *second = NULL;
    char other_control[160], other_weights[160];
    snprintf(other_control, sizeof other_control, "%s2", control);
    snprintf(other_weights, sizeof other_weights, "%s2", weights);
    struct run_config own = *config;
    struct hub_server_settings settings = {.hub = fake_settings(),
                                           .control = other_control,
                                           .weights = other_weights,
                                           .config = &own,
                                           .model_directory = ""};
    snprintf(own.hub_advertise, sizeof own.hub_advertise, "tcp//learner:5556");
    ASSERT_FAILS(STATUS_CONFIG, hub_server_start(&settings, &second));
    assert_int_equal(strncmp(status_message(), "hub.advertise = tcp//learner:5556: ", 35), 0);
    snprintf(own.hub_advertise, sizeof own.hub_advertise, "tcp://*:15556");
    ASSERT_OK(hub_server_start(&settings, &second));
    void *actor = connect_to(other_control);
    struct message hello = fake_hello(ROLE_ACTOR, 1, 100);
    peer_send(actor, &hello);
    assert_string_equal(expect(actor, MESSAGE_WELCOME).welcome.weights.data, "tcp://*:15556");
    hub_server_stop(&second, 0, "test over");
}

static void peers_are_told_bye_at_the_end(void **state) {
    (void)state;
    void *actor = connect_to(control);
    struct message message = fake_hello(ROLE_ACTOR, 1, 100);
    peer_send(actor, &message);
    expect(actor, MESSAGE_WELCOME);
    released = 0;
    ASSERT_OK(publish(3));
    hub_server_stop(&server, 1000, "the run is over");
    assert_null(server);
    assert_int_equal(released, 1);
    assert_string_equal(expect(actor, MESSAGE_BYE).bye.reason.data, "the run is over");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(work_goes_out_and_comes_back_in_slot_order),
        TEST(weights_are_served_until_retired),
        TEST(a_snapshot_that_is_read_outlives_its_retirement),
        TEST(equal_versions_share_their_content),
        TEST(rubbish_is_counted_and_status_is_answered),
        TEST(a_question_that_nobody_survives_ends_the_run),
        TEST(withdrawn_work_and_an_interrupt_end_a_wait),
        TEST(a_second_hub_at_the_same_endpoint_is_refused),
        TEST(weights_must_be_in_reach_of_those_who_come_over_the_network),
        TEST(actors_are_told_the_advertised_address_of_the_weights),
        TEST(peers_are_told_bye_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
