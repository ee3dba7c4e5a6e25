#include "tests/support/test.h"

#include <math.h>

#include "actor/client.h"
#include "common/base/arena.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/weights/store.h"
#include "proto/proto.h"

#define ELEMENTS 1027u
#define RUN 900u
#define HUB 77u
#define OUT_MAX 512

static char root[] = "/tmp/candor-client-test-XXXXXX";
static char model_directory[PATH_BYTES], cache[PATH_BYTES];
static uint16_t versions[3][ELEMENTS];
static struct message_manifest manifests[3];

/* Everything the client asked for. */
static struct fake {
    struct client *client;
    struct store *store;
    struct arena arena;
    struct message control[OUT_MAX];
    uint32_t control_count;
    bool alone; /* no connection to the hub */
    uint64_t generated[OUT_MAX], cancelled[OUT_MAX];
    uint32_t generated_count, cancelled_count, models, weights_opened;
    struct digest load; /* wanted by the load action, not done yet */
    struct digest staged;
    uint32_t loads, stages, patches;
    bool worker_open[4], deaf[4];
    struct message worker[OUT_MAX];
    uint32_t worker_slot[OUT_MAX], worker_count;
    int64_t now_ms;
} fake;

static struct message keep(const void *frame, size_t bytes) {
    struct message message;
    ASSERT_OK(proto_decode(frame, bytes, &fake.arena, &message));
    return message;
}

static bool on_control(void *context, const struct message *message) {
    (void)context;
    struct buf frame = {0};
    if (fake.alone)
        return false;
    ASSERT_OK(proto_encode(message, &frame));
    assert_true(fake.control_count < OUT_MAX);
    fake.control[fake.control_count++] = keep(frame.data, frame.bytes);
    buf_deinit(&frame);
    return true;
}

static void on_weights_open(void *context, const char *endpoint) {
    (void)context;
    assert_string_equal(endpoint, "ipc:///tmp/w");
    fake.weights_opened++;
}

static struct message_fetch fetches[OUT_MAX];
static uint32_t fetch_count;

static bool on_fetch(void *context, const struct message_fetch *fetch) {
    (void)context;
    assert_true(fetch_count < OUT_MAX);
    fetches[fetch_count++] = *fetch;
    return true;
}

static bool on_reply(void *context, const struct message *message) {
    (void)context;
    ASSERT_OK(client_weights(fake.client, message, fake.now_ms));
    return true;
}

static bool on_reply_that_may_fail(void *context, const struct message *message) {
    *(enum status *)context = client_weights(fake.client, message, fake.now_ms);
    return true;
}

static void serve(void) {
    for (uint32_t i = 0; i < fetch_count; i++) /* grows while it runs */
        store_fetch(fake.store, &fetches[i], on_reply, NULL);
    fetch_count = 0;
}

static void on_worker_open(void *context, uint32_t slot, const char *endpoint, const char *key) {
    (void)context;
    (void)endpoint;
    (void)key;
    assert_true(slot < 4 && !fake.worker_open[slot]);
    fake.worker_open[slot] = true;
}

static void on_worker_close(void *context, uint32_t slot) {
    (void)context;
    assert_true(fake.worker_open[slot]);
    fake.worker_open[slot] = false;
}

static bool on_worker_send(void *context, uint32_t slot, const void *frame, size_t bytes) {
    (void)context;
    assert_true(fake.worker_open[slot] && fake.worker_count < OUT_MAX);
    if (fake.deaf[slot])
        return false;
    fake.worker_slot[fake.worker_count] = slot;
    fake.worker[fake.worker_count++] = keep(frame, bytes);
    return true;
}

static enum status on_model_open(void *context, const char *directory, const struct client_run *run,
                                 uint64_t *out_elements) {
    (void)context;
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, "config.json"));
    assert_true(fs_exists(path));
    assert_int_equal(run->valid_vocab, 90);
    assert_int_equal(run->positions_max, 256);
    fake.models++;
    *out_elements = ELEMENTS;
    return STATUS_OK;
}

static enum status on_text(void *context, const int32_t *ids, uint32_t count, struct buf *out_text) {
    (void)context;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == 99)
            for (int j = 0; j < 1000; j++)
                buf_puts(out_text, "\xc3\xa9"); /* an absurdly long token */
        else
            buf_printf(out_text, "%d ", ids[i]);
    }
    return STATUS_OK;
}

static void on_generate(void *context, const struct message_lease *lease) {
    (void)context;
    assert_true(digest_is_zero(fake.load)); /* A2 */
    fake.generated[fake.generated_count++] = lease->lease;
}

static void on_cancel(void *context, uint64_t lease) {
    (void)context;
    fake.cancelled[fake.cancelled_count++] = lease;
}

static void on_load(void *context, void *take_weights, const struct message_manifest *manifest) {
    (void)context;
    assert_true(digest_is_zero(fake.load));
    assert_memory_equal(take_weights, versions[manifest->version], sizeof versions[0]);
    fake.load = manifest->weights;
    fake.loads++;
    free(take_weights);
}

static void on_stage(void *context, struct chain *take_chain) {
    (void)context;
    assert_true(digest_is_zero(fake.load));
    fake.staged = take_chain->to;
    fake.stages++;
    chain_destroy(&take_chain);
}

static void on_patch(void *context) {
    (void)context;
    assert_true(digest_is_zero(fake.load));
    assert_false(digest_is_zero(fake.staged));
    fake.load = fake.staged;
    fake.staged = (struct digest){0, 0};
    fake.patches++;
}

static void tick(int64_t by_ms) {
    fake.now_ms += by_ms;
    ASSERT_OK(client_tick(fake.client, fake.now_ms));
    client_check(fake.client);
}

static void swapped(void) {
    struct digest weights = fake.load;
    assert_false(digest_is_zero(weights));
    fake.load = (struct digest){0, 0};
    client_swapped(fake.client, &weights, 5);
    tick(0);
}

static enum status control(const struct message *message) {
    enum status status = client_control(fake.client, message, fake.now_ms);
    client_check(fake.client);
    return status;
}

static void welcome_as(uint64_t hub, uint64_t run) {
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of("run"),
                                               .run_id = run,
                                               .config = {5, 6},
                                               .incarnation = hub,
                                               .heartbeat_ms = 1000,
                                               .weights = text_of("ipc:///tmp/w"),
                                               .same_class = 1,
                                               .valid_vocab = 90,
                                               .positions_max = 256};
    uint32_t count;
    message.welcome.files = (struct model_file *)(uintptr_t)store_files(fake.store, &count);
    message.welcome.file_count = count;
    ASSERT_OK(control(&message));
}

static void publish(int version, bool current) {
    struct message message = {.type = MESSAGE_MANIFEST, .manifest = manifests[version]};
    message.manifest.current = current;
    ASSERT_OK(store_publish(fake.store, &manifests[version], versions[version]));
    ASSERT_OK(control(&message));
}

/* From the version before. */
static void publish_delta(int version) {
    uint8_t *data;
    uint64_t bytes;
    struct digest base = manifests[version - 1].weights;
    ASSERT_OK(delta_encode(versions[version - 1], versions[version], ELEMENTS, base, manifests[version].weights, 1,
                           &data, &bytes, NULL));
    struct message message = {.type = MESSAGE_MANIFEST};
    message.manifest = content_delta_manifest((uint32_t)version, manifests[version].weights, base, ELEMENTS, bytes);
    ASSERT_OK(store_publish_delta(fake.store, &message.manifest, data));
    ASSERT_OK(control(&message));
}

static void workers(uint32_t count, const uint64_t *incarnations) {
    static const char *const endpoints[] = {"ipc:///tmp/a", "ipc:///tmp/b", "ipc:///tmp/c"};
    struct worker_entry entries[3];
    for (uint32_t i = 0; i < count; i++)
        entries[i] =
            (struct worker_entry){text_of("r"), text_of(endpoints[i]), text_of("h"), text_of(""), incarnations[i]};
    struct message message = {.type = MESSAGE_WORKERS, .workers = {entries, count}};
    ASSERT_OK(control(&message));
}

static void credit(uint32_t slot, uint64_t incarnation, uint64_t bytes) {
    struct message message = {.type = MESSAGE_CREDIT, .credit = {incarnation, bytes}};
    client_worker(fake.client, slot, &message, fake.now_ms);
    client_check(fake.client);
}

static void answer(uint32_t slot, uint64_t lease, enum delivery_outcome outcome) {
    struct message message = {.type = MESSAGE_ANSWER};
    message.answer =
        (struct message_answer){{RUN, WORK_TRAIN, 3, (uint32_t)lease}, lease, (uint8_t)outcome, text_of("")};
    client_worker(fake.client, slot, &message, fake.now_ms);
    client_check(fake.client);
}

static void open_fake(uint64_t outbox_bytes) {
    arena_deinit(&fake.arena);
    memset(&fake, 0, sizeof fake);
    fetch_count = 0;
    arena_init(&fake.arena, 64u << 20);
    ASSERT_OK(store_create(&fake.store));
    ASSERT_OK(store_open_files(fake.store, model_directory));
    struct client_settings settings = {.name = text_of("actor-1"),
                                       .host = text_of("here"),
                                       .incarnation = 31,
                                       .pid = 1,
                                       .fingerprint = {text_of("b"), text_of("cpu"), text_of(""), text_of("a")},
                                       .capacity_samples = 64,
                                       .outbox_bytes = outbox_bytes,
                                       .cache = cache};
    struct client_actions actions = {
        NULL,          on_control, on_weights_open, on_fetch,  on_worker_open, on_worker_close, on_worker_send,
        on_model_open, on_text,    on_generate,     on_cancel, on_load,        on_stage,
        on_patch};
    ASSERT_OK(client_create(&settings, &actions, 0, &fake.client));
}

static void close_fake(void) {
    client_destroy(&fake.client);
    store_destroy(&fake.store);
}

/* Joined, version 0 loaded, one worker with credit. */
static void open_ready(void) {
    open_fake(1u << 20);
    tick(0);
    welcome_as(HUB, RUN);
    serve();
    publish(0, true);
    serve();
    swapped();
    assert_true(client_ready(fake.client));
    workers(1, (uint64_t[]){51});
    credit(0, 51, 1u << 20);
    fake.control_count = fake.worker_count = 0;
}

static void lease(uint64_t number, int version, uint32_t priority) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {7};
    struct text aliases[] = {{"Paris", 5}};
    struct message message = {.type = MESSAGE_LEASE};
    message.lease = (struct message_lease){.lease = number,
                                           .key = {RUN, WORK_TRAIN, 3, (uint32_t)number},
                                           .deadline_ms = 60000,
                                           .priority = priority,
                                           .weights = manifests[version].weights,
                                           .version = (uint32_t)version,
                                           .config = {5, 6},
                                           .prompt = prompt,
                                           .prompt_count = 3,
                                           .samples = 2,
                                           .temperature = 1,
                                           .max_new_tokens = 20,
                                           .stops = stops,
                                           .stop_count = 1,
                                           .seed = 9,
                                           .grading = {.question_id = text_of("q"),
                                                       .question = text_of("Where?"),
                                                       .set = text_of("s"),
                                                       .class_label = text_of(""),
                                                       .aliases = aliases,
                                                       .alias_count = 1,
                                                       .answerable = 1,
                                                       .rule = text_of("both"),
                                                       .known_k = -1}};
    ASSERT_OK(control(&message));
}

static void finish(uint64_t number, float logprob) {
    int32_t ids[2][3] = {{4, 5, 7}, {4, 6, 99}};
    float logprobs[3] = {-1, logprob, -2};
    struct generated_sample samples[2] = {{ids[0], logprobs, 3, true}, {ids[1], logprobs, 3, false}};
    struct generated_group group = {number, 2, samples, 6, isfinite(logprob)};
    client_generated(fake.client, &group, 12, fake.now_ms);
    client_check(fake.client);
}

static uint32_t count_control(enum message_type type) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fake.control_count; i++)
        count += fake.control[i].type == type;
    return count;
}

static const struct message *last_control(enum message_type type) {
    for (uint32_t i = fake.control_count; i-- > 0;)
        if (fake.control[i].type == type)
            return &fake.control[i];
    assert_true(false);
    return NULL;
}

static uint32_t groups_sent(uint32_t slot) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fake.worker_count; i++)
        count += fake.worker[i].type == MESSAGE_GROUP && fake.worker_slot[i] == slot;
    return count;
}

/* ---- joining ---- */

static void says_hello_until_welcomed(void **state) {
    (void)state;
    open_fake(1u << 20);
    tick(0);
    tick(CLIENT_HELLO_MS - 1);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    tick(1);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    assert_int_equal(last_control(MESSAGE_HELLO)->hello.capacity_samples, 64);
    assert_int_equal(last_control(MESSAGE_HELLO)->hello.capacity_bytes, 1u << 20);
    welcome_as(HUB, RUN);
    tick(5000);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    assert_int_equal(count_control(MESSAGE_HEARTBEAT), 1);
    close_fake();
}

static void fetches_files_then_the_current_version(void **state) {
    (void)state;
    open_fake(1u << 20);
    tick(0);
    welcome_as(HUB, RUN);
    assert_int_equal(fake.weights_opened, 1);
    publish(0, false); /* early: the model is not known yet */
    publish(1, true);
    assert_int_equal(fake.models, 0);
    serve();
    assert_int_equal(fake.models, 1);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    assert_false(client_ready(fake.client));
    swapped();
    assert_true(client_ready(fake.client));
    tick(1000);
    assert_true(digest_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.weights, manifests[1].weights));
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary));
    assert_int_equal(fake.loads, 1);
    close_fake();
}

static void refusals(void **state) {
    (void)state;
    open_ready();
    struct message refuse = {.type = MESSAGE_REFUSE, .refuse = {text_of("I was restarted"), 1}};
    ASSERT_OK(control(&refuse));
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    refuse.refuse = (struct message_refuse){text_of("device: cpu; strict admits cuda"), 0};
    ASSERT_FAILS(STATUS_CONFIG, control(&refuse));
    assert_non_null(strstr(status_message(), "strict admits cuda"));
    close_fake();
}

static void another_model_needs_another_process(void **state) {
    (void)state;
    open_ready();
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of("other"),
                                               .run_id = RUN + 1,
                                               .incarnation = HUB + 1,
                                               .weights = text_of("ipc:///tmp/w"),
                                               .valid_vocab = 90,
                                               .positions_max = 512};
    ASSERT_FAILS(STATUS_AGAIN, control(&message));
    close_fake();
}

/* ---- leases and delivery ---- */

static void a_group_is_kept_until_answered(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    assert_int_equal(fake.generated[0], 1);
    tick(1000);
    const struct message_heartbeat *beat = &last_control(MESSAGE_HEARTBEAT)->heartbeat;
    assert_int_equal(beat->held_count, 1);
    assert_int_equal(beat->last_lease, 1);
    assert_int_equal(beat->held[0].state, LEASE_WAITING);
    struct client_progress progress = {1, {40, 30, true, false}};
    struct generator_counters counters = {.rows = 40};
    client_progress(fake.client, &progress, 1, &counters);
    tick(1000);
    beat = &last_control(MESSAGE_HEARTBEAT)->heartbeat;
    assert_int_equal(beat->held[0].tokens_done, 40);
    assert_int_equal(beat->held[0].state, LEASE_GENERATING);
    finish(1, -0.5f);
    tick(1); /* room got free: at once */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.held[0].state, LEASE_DONE);
    assert_int_equal(groups_sent(0), 1);
    const struct message_group *group = &fake.worker[fake.worker_count - 1].group;
    assert_int_equal(group->actor, 31);
    assert_int_equal(group->generation_ms, 12);
    assert_int_equal(group->samples[0].finish, FINISH_STOP);
    assert_int_equal(group->samples[1].finish, FINISH_LENGTH);
    assert_string_equal(group->samples[0].text.data, "4 5 7 ");
    assert_true(group->samples[1].text.bytes <= ANSWER_TEXT_BYTES_MAX(3)); /* cut, at a character */
    assert_string_equal(group->grading.aliases[0].data, "Paris");
    assert_int_equal(client_held(fake.client), 1);
    answer(0, 1, OUTCOME_ACCEPTED);
    answer(0, 1, OUTCOME_DUPLICATE); /* twice is fine */
    assert_int_equal(client_held(fake.client), 0);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 1);
    close_fake();
}

static void delivery_waits_for_credit_and_prefers_most(void **state) {
    (void)state;
    open_ready();
    workers(2, (uint64_t[]){52, 53}); /* another incarnation at the first endpoint */
    assert_true(fake.worker_open[0] && fake.worker_open[1]);
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(0) + groups_sent(1), 0);
    credit(1, 53, 10); /* too little */
    assert_int_equal(groups_sent(0) + groups_sent(1), 0);
    credit(1, 53, 5000);
    assert_int_equal(groups_sent(1), 1);
    credit(0, 52, 100000);
    finish(2, -1);
    assert_int_equal(groups_sent(0), 1);
    close_fake();
}

static void what_flew_to_a_lost_worker_is_sent_again(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(0), 1);
    workers(2, (uint64_t[]){51, 53});
    credit(1, 53, 1u << 20);
    workers(0, NULL);
    assert_int_equal(groups_sent(0) + groups_sent(1), 1);
    workers(1, (uint64_t[]){54});
    credit(0, 54, 1u << 20);
    assert_int_equal(groups_sent(0), 2);
    tick(CLIENT_RESEND_MS - 1);
    assert_int_equal(groups_sent(0), 2);
    tick(1); /* no answer */
    assert_int_equal(groups_sent(0), 3);
    credit(0, 55, 1u << 20); /* the worker was restarted and says so */
    assert_int_equal(groups_sent(0), 4);
    struct message refuse = {.type = MESSAGE_REFUSE, .refuse = {text_of("knock first"), 1}};
    client_worker(fake.client, 0, &refuse, fake.now_ms);
    assert_int_equal(fake.worker[fake.worker_count - 1].type, MESSAGE_KNOCK);
    credit(0, 55, 1u << 20);
    assert_int_equal(groups_sent(0), 5);
    answer(0, 1, OUTCOME_NOT_WANTED);
    assert_int_equal(client_held(fake.client), 0);
    close_fake();
}

static void knocks_until_credit_comes(void **state) {
    (void)state;
    open_ready();
    workers(2, (uint64_t[]){51, 53});
    fake.deaf[1] = true; /* not connected yet */
    tick(CLIENT_KNOCK_MS);
    fake.deaf[1] = false;
    uint32_t before = fake.worker_count;
    tick(CLIENT_KNOCK_MS);
    assert_int_equal(fake.worker_count, before + 1);
    assert_int_equal(fake.worker[before].type, MESSAGE_KNOCK);
    assert_int_equal(fake.worker[before].knock.incarnation, 31);
    close_fake();
}

static void a_lease_without_room_is_given_back(void **state) {
    (void)state;
    open_ready();
    uint32_t taken = 0;
    for (uint64_t i = 1; i < 400; i++)
        lease(i, 0, 3);
    taken = fake.generated_count;
    assert_true(taken > 100 && taken < 399);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 399 - taken);
    assert_int_equal(last_control(MESSAGE_GIVE_BACK)->give_back.fault, 0);
    finish(1, -1);
    answer(0, 1, OUTCOME_ACCEPTED);
    lease(400, 0, 3);
    assert_int_equal(fake.generated_count, taken + 1);
    close_fake();
}

static void work_that_cannot_be_done_here_is_a_fault(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    client_refused(fake.client, 1, "request: one answer needs 9000 tokens", fake.now_ms);
    assert_int_equal(last_control(MESSAGE_GIVE_BACK)->give_back.fault, 1);
    assert_non_null(strstr(last_control(MESSAGE_GIVE_BACK)->give_back.reason.data, "9000"));
    lease(2, 0, 3);
    finish(2, NAN);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 2);
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(groups_sent(0), 0);
    close_fake();
}

static void revoked_leases_are_gone_wherever_they_are(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    credit(0, 56, 1); /* nothing more can be sent */
    finish(2, -1);
    uint64_t numbers[] = {1, 2, 99};
    struct message message = {.type = MESSAGE_REVOKE, .revoke = {numbers, 3}};
    ASSERT_OK(control(&message));
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(fake.cancelled_count, 1);
    finish(1, -1); /* the generation had it already */
    credit(0, 56, 1u << 20);
    assert_int_equal(groups_sent(0), 0);
    close_fake();
}

static void another_hub_voids_leases_and_keeps_finished_groups(void **state) {
    (void)state;
    open_ready();
    lease(5, 0, 3);
    lease(6, 0, 3);
    finish(6, -1);
    welcome_as(HUB, RUN); /* the same one */
    assert_int_equal(client_held(fake.client), 2);
    welcome_as(HUB + 1, RUN);
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(fake.cancelled[0], 5);
    assert_int_equal(groups_sent(0), 1);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2); /* still to be delivered */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.last_lease, 0);
    welcome_as(HUB + 2, RUN + 1); /* another run: nobody wants it */
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void foreign_and_repeated_leases_are_dropped(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(1, 0, 3);
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(client_held(fake.client), 1);
    close_fake();
}

/* ---- weights ---- */

static void the_next_version_is_fetched_ahead_and_loaded_when_its_turn_comes(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish(1, true);
    lease(2, 1, 4);
    serve();
    assert_true(digest_is_zero(fake.load)); /* version 0 has work that is more urgent */
    assert_int_equal(fake.generated_count, 1);
    finish(1, -1);
    tick(1);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    lease(3, 1, 4);
    lease(4, 0, 5); /* of the version that is going */
    tick(1);
    assert_int_equal(fake.generated_count, 1); /* A2 */
    assert_int_equal(fake.loads, 2);
    swapped();
    assert_int_equal(fake.generated_count, 3);
    close_fake();
}

static void an_older_step_parks_newer_work(void **state) {
    (void)state;
    open_ready();
    publish(1, true);
    serve();
    swapped();
    lease(2, 1, 4);
    assert_int_equal(fake.generated_count, 1);
    lease(3, 0, 3); /* somebody lost it */
    assert_true(digest_is_zero(fake.load));
    serve();
    assert_true(digest_equal(fake.load, manifests[0].weights));
    swapped();
    assert_int_equal(fake.generated[1], 3);
    struct client_progress progress[] = {{2, {9, 5, true, true}}, {3, {5, 2, true, false}}};
    struct generator_counters counters = {.rows = 14};
    client_progress(fake.client, progress, 2, &counters);
    tick(1000);
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.held[0].state, LEASE_PARKED);
    finish(3, -1);
    tick(1);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 2); /* it is inside already */
    finish(2, -1);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void a_lease_of_a_version_whose_manifest_was_lost_asks_for_it(void **state) {
    (void)state;
    open_ready();
    lease(1, 2, 4);
    tick(500);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    tick(100);
    assert_int_equal(count_control(MESSAGE_HELLO), 1); /* not at each tick */
    welcome_as(HUB, RUN);
    publish(2, true);
    serve();
    swapped();
    assert_int_equal(fake.generated_count, 1);
    tick(5000);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    close_fake();
}

static void leases_of_a_retired_version_are_given_back(void **state) {
    (void)state;
    open_ready();
    publish(2, false);
    store_retire(fake.store, manifests[2].weights);
    lease(1, 2, 4);
    serve();
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 1);
    assert_int_equal(client_held(fake.client), 0);
    lease(2, 0, 4);
    assert_int_equal(fake.generated_count, 1);
    close_fake();
}

static void wrong_weights_twice_end_the_process(void **state) {
    (void)state;
    open_ready();
    publish(1, true);
    ASSERT_OK(store_publish(fake.store, &manifests[1], versions[2]));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < fetch_count; i++)
        store_fetch(fake.store, &fetches[i], on_reply_that_may_fail, &status);
    ASSERT_FAILS(STATUS_AGAIN, status);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

static void deltas_lead_there_and_back(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    publish(1, false);
    publish_delta(2);
    publish(2, true);
    serve();
    assert_true(digest_equal(fake.load, manifests[2].weights));
    swapped();
    assert_int_equal(fake.patches, 1); /* both in one */
    lease(1, 1, 4);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(fake.patches, 2);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

/* The pause is the patch alone: what it takes is made ready while the loaded version has work. */
static void deltas_are_staged_while_the_loaded_version_has_work(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish_delta(1);
    publish(1, true);
    lease(2, 1, 4);
    serve();
    assert_true(digest_equal(fake.staged, manifests[1].weights));
    assert_int_equal(fake.patches, 0);
    lease(3, 0, 3); /* goes on with what is loaded */
    assert_int_equal(fake.generated_count, 2);
    tick(1000);
    assert_int_equal(fake.stages, 1);
    finish(1, -1);
    finish(3, -1);
    tick(1);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 3);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

/* Refused while it waits; and refused late, when the version came another way. */
static void a_staged_version_that_is_refused_comes_as_a_snapshot(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish_delta(1);
    publish(1, true);
    serve();
    assert_int_equal(fake.stages, 1);
    client_patch_refused(fake.client, &manifests[1].weights, "a test");
    tick(1);
    serve();
    assert_int_equal(fake.stages, 1);
    finish(1, -1);
    tick(1);
    assert_int_equal(fake.patches, 0);
    assert_int_equal(fake.loads, 2);
    client_patch_refused(fake.client, &manifests[1].weights, "late");
    swapped();
    lease(2, 1, 3);
    assert_int_equal(fake.generated_count, 2);
    close_fake();
}

static void the_canary_goes_with_every_heartbeat(void **state) {
    (void)state;
    struct digest canary = {3, 4};
    open_ready();
    uint32_t beats = count_control(MESSAGE_HEARTBEAT);
    client_canary(fake.client, &manifests[0].weights, &canary, fake.now_ms);
    assert_int_equal(count_control(MESSAGE_HEARTBEAT), beats + 1); /* at once */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary.low, 3);
    tick(1000);
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary.low, 3); /* the first one may be lost */
    publish(1, true);
    serve();
    swapped();
    tick(1000);
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary)); /* another version's */
    client_canary(fake.client, &manifests[0].weights, &canary, fake.now_ms);
    tick(1000);
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary));
    close_fake();
}

static void refused_deltas_are_followed_by_a_snapshot(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    publish(1, true);
    serve();
    assert_int_equal(fake.patches, 1);
    fake.load = (struct digest){0, 0};
    client_patch_refused(fake.client, &manifests[1].weights, "a test");
    tick(1);
    serve();
    assert_int_equal(fake.loads, 2);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    lease(1, 0, 3); /* back: of deltas refused once none is used again */
    serve();
    assert_int_equal(fake.loads, 3);
    swapped();
    publish_delta(2);
    publish(2, true);
    close_fake();
}

static void a_retired_delta_takes_no_lease_away(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    store_retire_deltas(fake.store, UINT32_MAX);
    publish(1, true);
    lease(1, 1, 3);
    serve();
    assert_int_equal(fake.patches, 0);
    assert_int_equal(fake.loads, 2);
    swapped();
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 0);
    close_fake();
}

/* ---- stopping ---- */

static void a_drain_gives_back_and_waits_for_answers(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(2, -1);
    client_drain(fake.client, fake.now_ms);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 1);
    assert_int_equal(fake.cancelled[0], 1);
    assert_false(client_drained(fake.client));
    lease(3, 0, 3);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 2);
    answer(0, 2, OUTCOME_ACCEPTED);
    assert_true(client_drained(fake.client));
    assert_int_equal(client_leave(fake.client, "stopped"), 0);
    assert_int_equal(fake.control[fake.control_count - 1].type, MESSAGE_BYE);
    assert_int_equal(fake.worker[fake.worker_count - 1].type, MESSAGE_BYE);
    close_fake();
}

static void a_hub_that_says_bye_is_waited_for(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(2, -1);
    struct message bye = {.type = MESSAGE_BYE, .bye = {text_of("checkpointed")}};
    ASSERT_OK(control(&bye));
    assert_int_equal(fake.cancelled[0], 1);
    assert_false(client_ready(fake.client));
    tick(CLIENT_HELLO_MS);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    welcome_as(HUB + 1, RUN);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void the_state_says_what_is_awaited(void **state) {
    (void)state;
    char text[256];
    open_fake(1u << 20);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for the learner");
    close_fake();
    open_ready();
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for work");
    workers(0, NULL);
    lease(1, 0, 3);
    finish(1, -1);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for a reward worker: 1 groups to deliver");
    fake.alone = true;
    tick(1000);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for the learner");
    assert_false(client_in_touch(fake.client));
    fake.alone = false; /* the same hub, over another connection */
    tick(2000);
    assert_true(client_in_touch(fake.client));
    close_fake();
}

/* ---- anything in any order ---- */

static uint32_t dice(uint64_t seed, uint32_t *position, uint32_t bound) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, (*position)++, bound);
}

static void one_event(uint64_t seed, uint32_t *position) {
    uint64_t number = 1 + dice(seed, position, 30);
    uint32_t slot = dice(seed, position, 4);
    switch (dice(seed, position, 16)) {
    case 0:
        welcome_as(HUB + dice(seed, position, 2), RUN + (dice(seed, position, 20) == 0));
        break;
    case 1:
        publish((int)dice(seed, position, 3), dice(seed, position, 2));
        break;
    case 2:
        workers(dice(seed, position, 4), (uint64_t[]){50 + dice(seed, position, 2), 60, 70 + dice(seed, position, 2)});
        break;
    case 3:
        credit(slot, 50 + 10 * slot, dice(seed, position, 1u << 16));
        break;
    case 4:
        answer(slot, number, (enum delivery_outcome)dice(seed, position, 3));
        break;
    case 5: {
        struct message message = {.type = MESSAGE_REVOKE, .revoke = {&number, 1}};
        ASSERT_OK(control(&message));
        break;
    }
    case 6: {
        struct message message = {.type = MESSAGE_REFUSE, .refuse = {text_of("again"), 1}};
        client_worker(fake.client, slot, &message, fake.now_ms);
        if (dice(seed, position, 4) == 0)
            ASSERT_OK(control(&message));
        break;
    }
    case 7:
        serve();
        break;
    case 8:
        if (!digest_is_zero(fake.load))
            swapped();
        break;
    case 9:
        client_refused(fake.client, number, "cannot", fake.now_ms);
        break;
    case 10: {
        struct message message = {.type = MESSAGE_GONE};
        message.gone = (struct message_gone){FETCH_SNAPSHOT, manifests[dice(seed, position, 3)].weights, text_of("")};
        ASSERT_OK(client_weights(fake.client, &message, fake.now_ms));
        break;
    }
    case 11:
    case 12:
        finish(number, -1);
        break;
    case 13:
        tick(dice(seed, position, 3000));
        break;
    default:
        lease(number, (int)dice(seed, position, 3), dice(seed, position, 4));
    }
    client_check(fake.client);
}

static void anything_in_any_order_keeps_the_invariants(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        uint32_t position = 0;
        if (seed % 2)
            open_ready();
        else
            open_fake(20000);
        for (uint32_t i = 0; i < 400; i++) {
            fake.control_count = fake.worker_count = fake.generated_count = fake.cancelled_count = 0;
            one_event(seed, &position);
        }
        close_fake();
    }
}

int main(void) {
    log_init("client_test", NULL, LOG_ERROR);
    if (!mkdtemp(root))
        return 1;
    snprintf(model_directory, sizeof model_directory, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    char path[PATH_BYTES];
    if (fs_make_directories(model_directory) != STATUS_OK ||
        fs_join(path, model_directory, "config.json") != STATUS_OK || fs_write_atomic(path, "{}", 2) != STATUS_OK)
        return 1;
    for (int v = 0; v < 3; v++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            versions[v][i] = (uint16_t)(i * 2654435761u + (uint32_t)v);
        manifests[v] =
            content_manifest((uint32_t)v, content_digest(versions[v], 0, sizeof versions[v]), ELEMENTS, DTYPE_BF16);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_hello_until_welcomed),
        cmocka_unit_test(fetches_files_then_the_current_version),
        cmocka_unit_test(refusals),
        cmocka_unit_test(another_model_needs_another_process),
        cmocka_unit_test(a_group_is_kept_until_answered),
        cmocka_unit_test(delivery_waits_for_credit_and_prefers_most),
        cmocka_unit_test(what_flew_to_a_lost_worker_is_sent_again),
        cmocka_unit_test(knocks_until_credit_comes),
        cmocka_unit_test(a_lease_without_room_is_given_back),
        cmocka_unit_test(work_that_cannot_be_done_here_is_a_fault),
        cmocka_unit_test(revoked_leases_are_gone_wherever_they_are),
        cmocka_unit_test(another_hub_voids_leases_and_keeps_finished_groups),
        cmocka_unit_test(foreign_and_repeated_leases_are_dropped),
        cmocka_unit_test(the_next_version_is_fetched_ahead_and_loaded_when_its_turn_comes),
        cmocka_unit_test(an_older_step_parks_newer_work),
        cmocka_unit_test(a_lease_of_a_version_whose_manifest_was_lost_asks_for_it),
        cmocka_unit_test(leases_of_a_retired_version_are_given_back),
        cmocka_unit_test(wrong_weights_twice_end_the_process),
        cmocka_unit_test(deltas_lead_there_and_back),
        cmocka_unit_test(deltas_are_staged_while_the_loaded_version_has_work),
        cmocka_unit_test(a_staged_version_that_is_refused_comes_as_a_snapshot),
        cmocka_unit_test(the_canary_goes_with_every_heartbeat),
        cmocka_unit_test(refused_deltas_are_followed_by_a_snapshot),
        cmocka_unit_test(a_retired_delta_takes_no_lease_away),
        cmocka_unit_test(a_drain_gives_back_and_waits_for_answers),
        cmocka_unit_test(a_hub_that_says_bye_is_waited_for),
        cmocka_unit_test(the_state_says_what_is_awaited),
        cmocka_unit_test(anything_in_any_order_keeps_the_invariants),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_deinit(&fake.arena);
    fs_remove_tree(root);
    return failed;
}
