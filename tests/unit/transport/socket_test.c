/* Sockets: who may listen where, what is received, who is let in. */
#include "tests/support/test.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/transport/socket.h"
#include "proto/proto.h"

#define WAIT_MS 5000 /* far above what is needed; nothing is timed */

static char directory[64], path[PATH_BYTES];

static int set_up(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/candor-socket-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static const char *in_directory(const char *prefix, const char *name) {
    static char texts[4][PATH_BYTES];
    static int next;
    char *text = texts[next++ % 4];
    snprintf(text, PATH_BYTES, "%s%s/%s", prefix, directory, name);
    return text;
}

static struct transport *transport_of(const char *key, const char *learner_key, const char *allow) {
    struct transport *transport = NULL;
    ASSERT_OK(transport_create(&(struct transport_settings){key, learner_key, allow}, &transport));
    return transport;
}

static struct socket_settings settings_of(const char *endpoint, const char *server_key) {
    return (struct socket_settings){.name = "hub.control",
                                    .endpoint = endpoint,
                                    .server_key = server_key,
                                    .frame_bytes_max = 4096,
                                    .messages_max = 8};
}

static bool wait_readable(void *socket, int timeout_ms) {
    struct poll_set set = {0};
    int index = poll_add_socket(&set, socket);
    poll_wait(&set, timeout_ms);
    return poll_ready(&set, index);
}

/* A DEALER sends as soon as it is connected. */
static void send_when_connected(void *socket, const char *text) {
    enum status status = STATUS_AGAIN;
    for (int i = 0; i < WAIT_MS && (status = socket_send(socket, text, strlen(text))) == STATUS_AGAIN; i++)
        poll(NULL, 0, 1);
    ASSERT_OK(status);
}

static void expect(void *socket, struct socket_frame *frame, const char *text) {
    assert_true(wait_readable(socket, WAIT_MS));
    ASSERT_OK(socket_receive(socket, frame));
    assert_int_equal(frame->bytes, strlen(text));
    assert_memory_equal(frame->data, text, frame->bytes);
}

static void exchange(struct transport *transport, const char *endpoint) {
    void *router = NULL, *dealer = NULL;
    struct socket_frame frame = {0};
    struct socket_settings settings = settings_of(endpoint, "");
    char bound[ENDPOINT_BYTES_MAX + 1];
    ASSERT_OK(socket_bind(transport, &settings, &router));
    ASSERT_OK(socket_endpoint(router, bound));
    settings.endpoint = bound;
    ASSERT_OK(socket_connect(transport, &settings, &dealer));
    assert_int_equal(socket_receive(router, &frame), STATUS_AGAIN);
    send_when_connected(dealer, "one");
    ASSERT_OK(socket_send(dealer, "two", 3));
    expect(router, &frame, "one");
    expect(router, &frame, "two");
    peer_id peer = frame.peer;
    assert_true(peer != 0);
    assert_int_equal(socket_receive(router, &frame), STATUS_AGAIN);
    ASSERT_OK(socket_send_to(router, peer, "three", 5));
    expect(dealer, &frame, "three");
    assert_int_equal(frame.peer, 0);
    ASSERT_FAILS(STATUS_CLOSED, socket_send_to(router, peer + 1, "x", 1));
    socket_frame_deinit(&frame);
    socket_close(&dealer);
    socket_close(&router);
}

static void frames_go_both_ways_over_each_kind_of_endpoint(void **state) {
    (void)state;
    struct transport *transport = transport_of("", "", "");
    exchange(transport, "inproc://test");
    exchange(transport, in_directory("ipc://", "control"));
    exchange(transport, "tcp://127.0.0.1:*");
    transport_destroy(&transport);
    assert_null(transport);
}

static void a_dealer_finds_a_router_that_comes_later_or_again(void **state) {
    (void)state;
    struct transport *transport = transport_of("", "", "");
    struct socket_settings settings = settings_of(in_directory("ipc://", "later"), "");
    void *router = NULL, *dealer = NULL;
    struct socket_frame frame = {0};
    ASSERT_OK(socket_connect(transport, &settings, &dealer));
    assert_int_equal(socket_send(dealer, "x", 1), STATUS_AGAIN); /* nobody there */
    for (int round = 0; round < 2; round++) {
        ASSERT_OK(socket_bind(transport, &settings, &router));
        send_when_connected(dealer, "hello");
        expect(router, &frame, "hello");
        socket_frame_deinit(&frame);
        socket_close(&router);
        for (int i = 0; i < WAIT_MS && socket_send(dealer, "gone", 4) != STATUS_AGAIN; i++)
            poll(NULL, 0, 1);
    }
    socket_close(&dealer);
    transport_destroy(&transport);
}

/* What only a foreign program sends: raw ZeroMQ sockets here. */
static void messages_of_several_frames_and_chosen_ids_are_dropped(void **state) {
    (void)state;
    struct transport *transport = transport_of("", "", "");
    struct socket_settings settings = settings_of(in_directory("ipc://", "odd"), "");
    void *router = NULL, *context = zmq_ctx_new(), *plain = zmq_socket(context, ZMQ_DEALER),
         *named = zmq_socket(context, ZMQ_DEALER);
    struct socket_frame frame = {0};
    int linger = 0;
    ASSERT_OK(socket_bind(transport, &settings, &router));
    zmq_setsockopt(named, ZMQ_ROUTING_ID, "me", 2);
    zmq_setsockopt(named, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(plain, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_connect(plain, settings.endpoint), 0);
    assert_int_equal(zmq_connect(named, settings.endpoint), 0);
    zmq_send(plain, "a", 1, ZMQ_SNDMORE);
    zmq_send(plain, "b", 1, ZMQ_SNDMORE);
    zmq_send(plain, "c", 1, 0);
    assert_true(wait_readable(router, WAIT_MS));
    ASSERT_FAILS(STATUS_FORMAT, socket_receive(router, &frame));
    assert_true(frame.peer != 0);
    zmq_send(named, "n", 1, 0);
    assert_true(wait_readable(router, WAIT_MS));
    ASSERT_FAILS(STATUS_FORMAT, socket_receive(router, &frame));
    assert_int_equal(frame.peer, 0);
    zmq_send(plain, "", 0, 0);
    expect(router, &frame, "");
    assert_int_equal(socket_receive(router, &frame), STATUS_AGAIN);
    socket_frame_deinit(&frame);
    zmq_close(plain);
    zmq_close(named);
    zmq_ctx_term(context);
    socket_close(&router);
    transport_destroy(&transport);
}

static void a_frame_above_the_limit_ends_its_connection(void **state) {
    (void)state;
    static char large[4097];
    struct transport *transport = transport_of("", "", "");
    struct socket_settings settings = settings_of(in_directory("ipc://", "large"), "");
    void *router = NULL, *good = NULL, *bad = NULL;
    struct socket_frame frame = {0};
    ASSERT_OK(socket_bind(transport, &settings, &router));
    ASSERT_OK(socket_connect(transport, &settings, &bad));
    ASSERT_OK(socket_connect(transport, &settings, &good));
    send_when_connected(bad, "first");
    expect(router, &frame, "first");
    peer_id peer = frame.peer;
    ASSERT_OK(socket_send(bad, large, sizeof large));
    enum status status = STATUS_OK;
    for (int i = 0; i < WAIT_MS && status != STATUS_CLOSED; i++) {
        status = socket_send_to(router, peer, "", 0);
        poll(NULL, 0, 1);
    }
    assert_int_equal(status, STATUS_CLOSED);
    send_when_connected(good, "second");
    expect(router, &frame, "second");
    socket_frame_deinit(&frame);
    socket_close(&bad);
    socket_close(&good);
    socket_close(&router);
    transport_destroy(&transport);
}

static void refuses(struct transport *transport, bool listens, const char *endpoint, const char *message) {
    struct socket_settings settings = settings_of(endpoint, "");
    void *socket = NULL;
    ASSERT_FAILS(STATUS_CONFIG,
                 listens ? socket_bind(transport, &settings, &socket) : socket_connect(transport, &settings, &socket));
    assert_null(socket);
    if (!strstr(status_message(), message) || strncmp(status_message(), "hub.control", 11) != 0)
        fail_msg("%s: \"%s\" where \"hub.control ... %s\" was expected", endpoint, status_message(), message);
}

static void bad_and_unprotected_endpoints_are_refused_with_the_remedy(void **state) {
    (void)state;
    struct transport *transport = transport_of("", "", "");
    char long_path[200] = "ipc:///";
    memset(long_path + 7, 'p', 150);
    refuses(transport, true, "", "not an endpoint");
    refuses(transport, true, "tcp://127.0.0.1", "not an endpoint");
    refuses(transport, true, "tcp://127.0.0.1:99999", "not an endpoint");
    refuses(transport, true, "udp://127.0.0.1:1", "not an endpoint");
    refuses(transport, true, "ipc://relative", "absolute path");
    refuses(transport, true, "ipc://@abstract", "absolute path");
    refuses(transport, true, long_path, "at most 107");
    refuses(transport, true, "ipc:///no/such/directory/x", "no directory /no/such/directory");
    refuses(transport, true, "tcp://0.0.0.0:5555", "needs net.key");
    refuses(transport, true, "tcp://*:5555", "needs net.key");
    refuses(transport, true, "tcp://127.0.0.1.example.com:5555", "needs net.key");
    refuses(transport, false, "tcp://10.0.0.1:5555", "needs net.key");
    transport_destroy(&transport);
}

static void an_endpoint_in_use_is_one_clear_error(void **state) {
    (void)state;
    struct transport *transport = transport_of("", "", "");
    struct socket_settings settings = settings_of(in_directory("ipc://", "used"), "");
    void *router = NULL, *tcp = NULL;
    char bound[ENDPOINT_BYTES_MAX + 1], message[2 * PATH_BYTES];
    ASSERT_OK(socket_bind(transport, &settings, &router));
    refuses(transport, true, settings.endpoint, ": address in use");
    snprintf(message, sizeof message, "hub.control = %s: address in use", settings.endpoint);
    assert_string_equal(status_message(), message);
    settings.endpoint = "tcp://127.0.0.1:*";
    ASSERT_OK(socket_bind(transport, &settings, &tcp));
    ASSERT_OK(socket_endpoint(tcp, bound));
    refuses(transport, true, bound, ": address in use");
    socket_close(&tcp);
    socket_close(&router);
    /* a file that a killed process left is no obstacle */
    settings.endpoint = in_directory("ipc://", "stale");
    ASSERT_OK(fs_write_atomic(settings.endpoint + 6, "", 0));
    ASSERT_OK(socket_bind(transport, &settings, &router));
    socket_close(&router);
    transport_destroy(&transport);
}

/* ---- keys ---- */

static void make_key(const char *name) {
    snprintf(path, sizeof path, "%s/%s", directory, name);
    ASSERT_OK(keys_generate(path));
}

static void keys_are_made_once_and_kept_secret(void **state) {
    (void)state;
    struct key_pair pair;
    char key[KEY_BYTES];
    struct stat info;
    make_key("made");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    ASSERT_OK(keys_read_pair(path, &pair));
    ASSERT_OK(keys_read_public(in_directory("", "made.pub"), key));
    assert_string_equal(key, pair.public_key);
    ASSERT_FAILS(STATUS_EXISTS, keys_generate(path));
    assert_int_equal(chmod(path, 0644), 0);
    ASSERT_FAILS(STATUS_CONFIG, keys_read_pair(path, &pair));
    assert_non_null(strstr(status_message(), "everybody may read"));
    ASSERT_FAILS(STATUS_CONFIG, keys_read_pair(in_directory("", "absent"), &pair));
    assert_non_null(strstr(status_message(), "candor keygen"));
}

static void bad_keys_are_refused(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"", "no line `public = KEY`"},
        {"public = short\n", "not a key"},
        {"public = rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\nsecret = JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6\n",
         "manual"},
        {"public = Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n", "manual"},
    };
    struct key_pair pair;
    const char *file = in_directory("", "bad");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ASSERT_OK(fs_write_atomic(file, texts[i][0], strlen(texts[i][0])));
        chmod(file, 0600);
        ASSERT_FAILS(STATUS_CONFIG, keys_read_pair(file, &pair));
        if (!strstr(status_message(), texts[i][1]))
            fail_msg("\"%s\" where \"%s\" was expected", status_message(), texts[i][1]);
    }
    /* the halves of two pairs */
    struct key_pair a, b;
    char text[256];
    make_key("half-a");
    ASSERT_OK(keys_read_pair(path, &a));
    make_key("half-b");
    ASSERT_OK(keys_read_pair(path, &b));
    snprintf(text, sizeof text, "public = %s\nsecret = %s\n", a.public_key, b.secret_key);
    ASSERT_OK(fs_write_atomic(file, text, strlen(text)));
    chmod(file, 0600);
    ASSERT_FAILS(STATUS_CONFIG, keys_read_pair(file, &pair));
    assert_non_null(strstr(status_message(), "do not belong together"));
}

/* One process plays all: the learner with its context, clients with theirs. */
static void only_clients_on_the_allow_list_get_in(void **state) {
    (void)state;
    char learner_key[PATH_BYTES], actor_key[PATH_BYTES], stranger_key[PATH_BYTES], learner_pub[PATH_BYTES];
    const char *allow = in_directory("", "allow");
    ASSERT_OK(fs_make_directories(allow));
    make_key("learner");
    snprintf(learner_key, sizeof learner_key, "%s", path);
    snprintf(learner_pub, sizeof learner_pub, "%s/learner.pub", directory);
    make_key("stranger");
    snprintf(stranger_key, sizeof stranger_key, "%s", path);
    make_key("actor");
    snprintf(actor_key, sizeof actor_key, "%s", path);
    assert_int_equal(rename(in_directory("", "actor.pub"), in_directory("", "allow/actor.pub")), 0);

    struct transport *learner = transport_of(learner_key, "", allow), *actor = transport_of(actor_key, learner_pub, ""),
                     *stranger = transport_of(stranger_key, learner_pub, ""), *plain = transport_of("", "", "");
    void *router = NULL, *good = NULL, *bad = NULL, *open = NULL;
    struct socket_frame frame = {0};
    char bound[ENDPOINT_BYTES_MAX + 1];
    struct socket_settings settings = settings_of("tcp://127.0.0.1:*", transport_learner_key(actor));
    ASSERT_OK(socket_bind(learner, &settings, &router));
    ASSERT_OK(socket_endpoint(router, bound));
    settings.endpoint = bound;
    ASSERT_OK(socket_connect(stranger, &settings, &bad));
    ASSERT_OK(socket_connect(plain, &settings, &open));
    ASSERT_OK(socket_connect(actor, &settings, &good));
    send_when_connected(good, "actor");
    expect(router, &frame, "actor");
    assert_false(wait_readable(router, 300));
    assert_int_equal(socket_send(bad, "x", 1), STATUS_AGAIN);
    assert_int_equal(socket_send(open, "x", 1), STATUS_AGAIN);
    /* allowed later, without a restart */
    assert_int_equal(rename(in_directory("", "stranger.pub"), in_directory("", "allow/stranger.pub")), 0);
    send_when_connected(bad, "known now");
    expect(router, &frame, "known now");
    socket_frame_deinit(&frame);
    socket_close(&good);
    socket_close(&bad);
    socket_close(&open);
    socket_close(&router);
    transport_destroy(&actor);
    transport_destroy(&stranger);
    transport_destroy(&plain);
    transport_destroy(&learner);
}

static void listening_beyond_loopback_needs_key_and_allow_list(void **state) {
    (void)state;
    make_key("server");
    struct transport *transport = transport_of(path, "", "");
    refuses(transport, true, "tcp://0.0.0.0:*", "needs net.allow");
    refuses(transport, false, "tcp://10.0.0.1:5555", "needs the other side's public key (net.learner_key)");
    transport_destroy(&transport);
    ASSERT_FAILS(STATUS_CONFIG, transport_create(&(struct transport_settings){path, "", "/no/such"}, &transport));
    assert_non_null(strstr(status_message(), "net.allow = /no/such"));
    ASSERT_OK(fs_make_directories(in_directory("", "allowed")));
    transport = transport_of(path, "", in_directory("", "allowed"));
    struct socket_settings settings = settings_of("tcp://0.0.0.0:*", "");
    void *router = NULL;
    ASSERT_OK(socket_bind(transport, &settings, &router));
    socket_close(&router);
    transport_destroy(&transport);
}

static void count(void *context) {
    ++*(int *)context;
}

static void an_inbox_passes_over_what_is_malformed(void **state) {
    (void)state;
    int malformed = 0;
    struct transport *transport = transport_of("", "", "");
    struct inbox inbox = {.malformed = count, .context = &malformed};
    struct message message = {.type = MESSAGE_BYE, .bye = {.reason = {"so long", 7}}};
    struct buf frame = {0};
    struct socket_settings settings = settings_of("inproc://inbox", "");
    void *router = NULL, *dealer = NULL;
    ASSERT_OK(socket_bind(transport, &settings, &router));
    ASSERT_OK(socket_connect(transport, &settings, &dealer));
    assert_false(inbox_take(&inbox, router, &message));
    ASSERT_OK(proto_encode(&message, &frame));
    send_when_connected(dealer, "not a message");
    ASSERT_OK(socket_send(dealer, frame.data, frame.bytes));
    ASSERT_OK(socket_send(dealer, frame.data, frame.bytes - 1));
    message = (struct message){0};
    assert_true(inbox_take(&inbox, router, &message));
    assert_int_equal(message.type, MESSAGE_BYE);
    assert_string_equal(message.bye.reason.data, "so long");
    assert_int_equal(malformed, 1);
    assert_false(inbox_take(&inbox, router, &message));
    assert_int_equal(malformed, 2);
    buf_deinit(&frame);
    inbox_deinit(&inbox);
    socket_close(&dealer);
    socket_close(&router);
    transport_destroy(&transport);
}

static void a_wildcard_is_reached_by_the_host_known_already(void **state) {
    (void)state;
    char out[ENDPOINT_BYTES_MAX + 1];
    ASSERT_OK(endpoint_resolve("tcp://0.0.0.0:5556", "tcp://learner.lan:5555", out));
    assert_string_equal(out, "tcp://learner.lan:5556");
    ASSERT_OK(endpoint_resolve("tcp://[::]:5556", "tcp://[fe80::1]:5555", out));
    assert_string_equal(out, "tcp://[fe80::1]:5556");
    ASSERT_OK(endpoint_resolve("tcp://10.1.1.1:5556", "tcp://learner.lan:5555", out));
    assert_string_equal(out, "tcp://10.1.1.1:5556");
    ASSERT_OK(endpoint_resolve("ipc:///x/weights", "ipc:///x/control", out));
    assert_string_equal(out, "ipc:///x/weights");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_go_both_ways_over_each_kind_of_endpoint),
        cmocka_unit_test(a_dealer_finds_a_router_that_comes_later_or_again),
        cmocka_unit_test(messages_of_several_frames_and_chosen_ids_are_dropped),
        cmocka_unit_test(a_frame_above_the_limit_ends_its_connection),
        cmocka_unit_test(bad_and_unprotected_endpoints_are_refused_with_the_remedy),
        cmocka_unit_test(an_endpoint_in_use_is_one_clear_error),
        cmocka_unit_test(keys_are_made_once_and_kept_secret),
        cmocka_unit_test(bad_keys_are_refused),
        cmocka_unit_test(only_clients_on_the_allow_list_get_in),
        cmocka_unit_test(listening_beyond_loopback_needs_key_and_allow_list),
        cmocka_unit_test(an_inbox_passes_over_what_is_malformed),
        cmocka_unit_test(a_wildcard_is_reached_by_the_host_known_already),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
