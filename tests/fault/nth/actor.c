/* A whole actor, client and generation thread: it joins, fetches and loads a version, goes on to the next by a delta, answers a
 * question of each and delivers. Hub and reward worker are a few lines here; time runs ahead, so that what is sent again is. */
#include <poll.h>
#include <unistd.h>

#include "actor/client.h"
#include "actor/engine.h"
#include "common/base/arena.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/model/parameters.h"
#include "common/weights/store.h"
#include "proto/proto.h"
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"
#include "tests/support/actor/whole.h"

#define VERSIONS 2
#define SAMPLES 2
#define RUN 900u
#define FETCHES_MAX 64
#define TURN_MS 20      /* of the client's time, */
#define TURNS_MAX 20000 /* each at most a millisecond of ours */

struct actor {
    /* of all points */
    char root[64], directory[PATH_BYTES], cache[PATH_BYTES];
    uint64_t elements;
    uint16_t *weights[VERSIONS];
    struct message_manifest manifests[VERSIONS], delta;
    struct store *store;
    struct digest want[VERSIONS]; /* of the group of each version; zero: not known yet */
    /* of one */
    struct client *client;
    struct engine *engine;
    struct message_fetch fetches[FETCHES_MAX];
    uint32_t fetch_count;
    uint64_t lease;
    struct digest got[VERSIONS];
    uint32_t version; /* whose group is wanted */
    bool hello, knocked;
    enum status status; /* final */
    char reason[STATUS_MESSAGE_BYTES];
    int64_t now_ms;
};

static void settle(struct actor *a, enum status status) {
    if (status == STATUS_OK || a->status != STATUS_OK)
        return;
    a->status = status;
    snprintf(a->reason, sizeof a->reason, "%s", status_message());
}

/* ---- what the client asks for ---- */

static bool on_control(void *context, const struct message *message) {
    struct actor *a = context;
    if (nth_fails(NTH_SEND))
        return false;
    a->hello = a->hello || message->type == MESSAGE_HELLO;
    return true;
}

static bool on_fetch(void *context, const struct message_fetch *fetch) {
    struct actor *a = context;
    if (nth_fails(NTH_SEND))
        return false;
    assert_true(a->fetch_count < FETCHES_MAX);
    a->fetches[a->fetch_count++] = *fetch;
    return true;
}

/* The reward worker: it notes the group and says at once that it was accepted. */
static bool on_worker_send(void *context, uint32_t slot, const void *frame, size_t bytes) {
    struct actor *a = context;
    (void)slot;
    if (nth_fails(NTH_SEND))
        return false;
    nth_exempt(true);
    struct arena arena;
    struct message message;
    arena_init(&arena, 1u << 24);
    ASSERT_OK(proto_decode(frame, bytes, &arena, &message));
    if (message.type == MESSAGE_KNOCK)
        a->knocked = true;
    if (message.type == MESSAGE_GROUP && message.group.key.step < VERSIONS)
        a->got[message.group.key.step] = group_digest(&message.group);
    arena_deinit(&arena);
    nth_exempt(false);
    return true;
}

static enum status on_model_open(void *context, const char *directory, const struct client_run *run,
                                 uint64_t *out_elements) {
    struct actor *a = context;
    (void)directory;
    *out_elements = a->elements;
    return engine_open(a->engine, &whole_shape, run->positions_max, run->valid_vocab);
}

static void on_generate(void *context, const struct message_lease *lease) {
    struct actor *a = context;
    settle(a, engine_generate(a->engine, lease));
}

static void on_cancel(void *context, uint64_t lease) {
    struct actor *a = context;
    settle(a, engine_cancel(a->engine, lease));
}

static void on_load(void *context, void *take_weights, const struct message_manifest *manifest) {
    struct actor *a = context;
    settle(a, engine_load(a->engine, take_weights, manifest));
}

static void on_stage(void *context, struct chain *take_chain) {
    struct actor *a = context;
    settle(a, engine_stage(a->engine, take_chain));
}

static void on_patch(void *context) {
    struct actor *a = context;
    settle(a, engine_patch(a->engine));
}

/* ---- the hub ---- */

static void say(struct actor *a, const struct message *message) {
    settle(a, client_control(a->client, message, a->now_ms));
}

static void welcome(struct actor *a) {
    struct message message = whole_welcome(a->store, 1, RUN);
    say(a, &message);
    say(a, &(struct message){.type = MESSAGE_MANIFEST, .manifest = a->delta});
    for (uint32_t v = 0; v < VERSIONS; v++)
        say(a, &(struct message){.type = MESSAGE_MANIFEST, .manifest = a->manifests[v]});
    struct worker_entry worker = {text_of("r"), text_of("ipc:///tmp/r"), text_of("h"), text_of(""), 51};
    say(a, &(struct message){.type = MESSAGE_WORKERS, .workers = {&worker, 1}});
}

/* A lease that is not held any more is given out again, as after a heartbeat without it. */
static void give_lease(struct actor *a) {
    static int32_t prompt[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    struct message message = {.type = MESSAGE_LEASE, .lease = whole_lease(RUN, 0, &a->manifests[a->version])};
    message.lease.lease = ++a->lease;
    message.lease.prompt = prompt;
    message.lease.prompt_count = 10;
    message.lease.shared_count = 6;
    message.lease.samples = SAMPLES;
    message.lease.max_new_tokens = 6;
    say(a, &message);
}

static void acknowledge(struct actor *a) {
    struct message message = {.type = MESSAGE_ANSWER};
    message.answer = (struct message_answer){{RUN, WORK_TRAIN, a->version, 0}, a->lease, OUTCOME_ACCEPTED, text_of("")};
    client_worker(a->client, 0, &message, a->now_ms);
}

static bool on_reply(void *context, const struct message *message) {
    struct actor *a = context;
    if (nth_fails(NTH_SEND))
        return false;
    settle(a, client_weights(a->client, message, a->now_ms));
    return true;
}

/* ---- its main loop, as in actor/main.c ---- */

static void take_event(struct actor *a, const struct engine_event *event) {
    if (event->type == ENGINE_GENERATED)
        client_generated(a->client, &event->group, event->generation_ms, a->now_ms);
    else if (event->type == ENGINE_REFUSED)
        client_refused(a->client, event->lease, event->reason, a->now_ms);
    else if (event->type == ENGINE_PROGRESS)
        client_progress(a->client, event->progress, event->progress_count, &event->counters);
    else if (event->type == ENGINE_SWAPPED)
        client_swapped(a->client, &event->weights, event->pause_ms);
    else if (event->type == ENGINE_CANARY)
        client_canary(a->client, &event->weights, &event->canary, a->now_ms);
    else if (event->type == ENGINE_UNPATCHED)
        client_patch_refused(a->client, &event->weights, event->reason);
    else
        settle(a, fail(event->status, "%s", event->reason));
}

static void turn(struct actor *a) {
    a->now_ms += TURN_MS;
    if (a->hello) {
        a->hello = false;
        welcome(a);
    }
    for (uint32_t i = 0; i < a->fetch_count; i++) /* grows while it runs */
        store_fetch(a->store, &a->fetches[i], on_reply, a);
    a->fetch_count = 0;
    struct engine_event *event;
    while ((event = engine_next(a->engine))) {
        take_event(a, event);
        free(event);
    }
    if (a->knocked) {
        a->knocked = false;
        client_worker(a->client, 0, &(struct message){.type = MESSAGE_CREDIT, .credit = {51, 1u << 30}}, a->now_ms);
    }
    settle(a, client_tick(a->client, a->now_ms));
    client_check(a->client);
    struct pollfd wait = {.fd = engine_fd(a->engine), .events = POLLIN};
    poll(&wait, 1, 1);
}

static enum status open_actor(struct actor *a) {
    struct engine_settings engine = {.device = "cpu", .threads = 1, .in_flight = 4, .kv_tokens = 256, .groups_max = 8};
    TRY(engine_start(&engine, &a->engine));
    struct client_settings settings = {.name = text_of("a"),
                                       .host = text_of("h"),
                                       .incarnation = 3,
                                       .pid = 1,
                                       .fingerprint = engine_fingerprint(a->engine),
                                       .capacity_samples = 8,
                                       .outbox_bytes = 1u << 20,
                                       .cache = a->cache};
    struct client_actions actions = {a,
                                     on_control,
                                     whole_weights_open,
                                     on_fetch,
                                     whole_worker_open,
                                     whole_worker_close,
                                     on_worker_send,
                                     on_model_open,
                                     whole_text,
                                     on_generate,
                                     on_cancel,
                                     on_load,
                                     on_stage,
                                     on_patch};
    return client_create(&settings, &actions, a->now_ms, &a->client);
}

static enum status answer_both(void *context) {
    struct actor *a = context;
    TRY(open_actor(a));
    for (int i = 0; i < TURNS_MAX && a->version < VERSIONS && a->status == STATUS_OK; i++) {
        turn(a);
        if (!digest_is_zero(a->got[a->version])) {
            acknowledge(a);
            a->version++;
        } else if (client_ready(a->client) && client_held(a->client) == 0) {
            give_lease(a);
        }
    }
    if (a->status != STATUS_OK)
        return fail(a->status, "%s", a->reason);
    if (a->version < VERSIONS)
        fail_msg("the group of version %u never comes", a->version);
    return STATUS_OK;
}

static void begin_actor(void *context) {
    struct actor *a = context;
    a->fetch_count = 0;
    a->lease = 0;
    memset(a->got, 0, sizeof a->got);
    a->version = 0;
    a->hello = a->knocked = false;
    a->status = STATUS_OK;
    a->now_ms = 1000;
}

static void check_actor(void *context, enum status status, bool hit) {
    struct actor *a = context;
    (void)hit;
    for (uint32_t v = 0; v < VERSIONS; v++) {
        assert_true(status != STATUS_OK || !digest_is_zero(a->got[v]));
        if (!digest_is_zero(a->got[v]))
            assert_true(digest_equal(a->got[v], a->want[v]));
    }
}

/* What was not sent is sent again. */
static void check_actor_sends(void *context, enum status status, bool hit) {
    assert_int_equal(status, STATUS_OK);
    check_actor(context, status, hit);
}

static void end_actor(void *context) {
    struct actor *a = context;
    engine_stop(&a->engine);
    client_destroy(&a->client);
}

/* ---- */

static void make_weights(struct actor *a) {
    struct device *device;
    struct model *model;
    ASSERT_OK(device_open("cpu", 1, &device));
    ASSERT_OK(model_create(device, &whole_shape, DTYPE_BF16, WHOLE_POSITIONS, 0, &model));
    ASSERT_OK(model_initialise(model, 100, 0.05));
    a->elements = (uint64_t)model->layout->total;
    for (uint32_t v = 0; v < VERSIONS; v++) {
        a->weights[v] = malloc(a->elements * 2);
        assert_non_null(a->weights[v]);
        memcpy(a->weights[v], model->data, a->elements * 2);
        for (uint64_t i = 0; v && i < a->elements; i += 50)
            a->weights[v][i] = (uint16_t)(a->weights[v][i] + 64);
        struct digest digest = content_digest(a->weights[v], 0, a->elements * 2);
        a->manifests[v] = content_manifest(v, digest, a->elements, DTYPE_BF16);
        a->manifests[v].current = v == 0;
        ASSERT_OK(store_publish(a->store, &a->manifests[v], a->weights[v]));
    }
    model_destroy(&model);
    device_close(&device);
    uint8_t *data;
    uint64_t bytes;
    struct digest base = a->manifests[0].weights, result = a->manifests[1].weights;
    ASSERT_OK(delta_encode(a->weights[0], a->weights[1], a->elements, base, result, 1, &data, &bytes, NULL));
    a->delta = content_delta_manifest(1, result, base, a->elements, bytes);
    ASSERT_OK(store_publish_delta(a->store, &a->delta, data));
}

void an_actor_that_joins_and_answers(void **state) {
    (void)state;
    static struct actor a;
    log_init("test", NULL, LOG_ERROR + 1);
    snprintf(a.root, sizeof a.root, "/%s/candor-nth-XXXXXX", access("/dev/shm", W_OK) == 0 ? "dev/shm" : "tmp");
    assert_non_null(mkdtemp(a.root));
    ASSERT_OK(fs_join(a.directory, a.root, "model"));
    ASSERT_OK(fs_join(a.cache, a.root, "cache"));
    ASSERT_OK(fs_make_directories(a.directory));
    ASSERT_OK(model_config_write(&whole_shape, a.directory));
    ASSERT_OK(store_create(&a.store));
    ASSERT_OK(store_open_files(a.store, a.directory));
    make_weights(&a);
    begin_actor(&a);
    ASSERT_OK(answer_both(&a));
    memcpy(a.want, a.got, sizeof a.want);
    end_actor(&a);
    struct sweep memory = {"an actor, memory", BIT(ALLOC) | BIT(THREAD), NULL, begin_actor, answer_both, check_actor,
                           end_actor};
    struct sweep sends = {"an actor, sends", BIT(SEND), NULL, begin_actor, answer_both, check_actor_sends, end_actor};
    sweep(&sends, &a);
    sweep(&memory, &a);
    store_destroy(&a.store);
    for (uint32_t v = 0; v < VERSIONS; v++)
        free(a.weights[v]);
    ASSERT_OK(fs_remove_tree(a.root));
}
