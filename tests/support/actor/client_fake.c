#include "tests/support/actor/client_fake.h"

#include <math.h>

#include "common/base/log.h"
#include "tests/support/actor/whole.h"

static char root[] = "/tmp/candor-client-test-XXXXXX";
static char model_directory[PATH_BYTES], cache[PATH_BYTES];
uint16_t versions[3][ELEMENTS];
struct message_manifest manifests[3];

struct client_fake fake;

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

struct message_fetch fetches[OUT_MAX];
uint32_t fetch_count;

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

bool on_reply_that_may_fail(void *context, const struct message *message) {
    *(enum status *)context = client_weights(fake.client, message, fake.now_ms);
    return true;
}

void serve(void) {
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

void tick(int64_t by_ms) {
    fake.now_ms += by_ms;
    ASSERT_OK(client_tick(fake.client, fake.now_ms));
    client_check(fake.client);
}

void swapped(void) {
    struct digest weights = fake.load;
    assert_false(digest_is_zero(weights));
    fake.load = (struct digest){0, 0};
    client_swapped(fake.client, &weights, 5);
    tick(0);
}

enum status control(const struct message *message) {
    enum status status = client_control(fake.client, message, fake.now_ms);
    client_check(fake.client);
    return status;
}

void welcome_as(uint64_t hub, uint64_t run) {
    struct message message = whole_welcome(fake.store, hub, run);
    message.welcome.valid_vocab = 90;
    message.welcome.positions_max = 256;
    ASSERT_OK(control(&message));
}

void publish(int version, bool current) {
    struct message message = {.type = MESSAGE_MANIFEST, .manifest = manifests[version]};
    message.manifest.current = current;
    ASSERT_OK(store_publish(fake.store, &manifests[version], versions[version]));
    ASSERT_OK(control(&message));
}

/* From the version before. */
void publish_delta(int version) {
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

void workers(uint32_t count, const uint64_t *incarnations) {
    static const char *const endpoints[] = {"ipc:///tmp/a", "ipc:///tmp/b", "ipc:///tmp/c"};
    struct worker_entry entries[3];
    for (uint32_t i = 0; i < count; i++)
        entries[i] =
            (struct worker_entry){text_of("r"), text_of(endpoints[i]), text_of("h"), text_of(""), incarnations[i]};
    struct message message = {.type = MESSAGE_WORKERS, .workers = {entries, count}};
    ASSERT_OK(control(&message));
}

void credit(uint32_t slot, uint64_t incarnation, uint64_t bytes) {
    struct message message = {.type = MESSAGE_CREDIT, .credit = {incarnation, bytes}};
    client_worker(fake.client, slot, &message, fake.now_ms);
    client_check(fake.client);
}

void answer(uint32_t slot, uint64_t lease, enum delivery_outcome outcome) {
    struct message message = {.type = MESSAGE_ANSWER};
    message.answer =
        (struct message_answer){{RUN, WORK_TRAIN, 3, (uint32_t)lease}, lease, (uint8_t)outcome, text_of("")};
    client_worker(fake.client, slot, &message, fake.now_ms);
    client_check(fake.client);
}

void open_fake(uint64_t outbox_bytes) {
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
        on_model_open, on_text,    on_generate,     on_cancel, on_load,        on_stage,        on_patch};
    ASSERT_OK(client_create(&settings, &actions, 0, &fake.client));
}

void close_fake(void) {
    client_destroy(&fake.client);
    store_destroy(&fake.store);
}

/* Joined, version 0 loaded, one worker with credit. */
void open_ready(void) {
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

void lease(uint64_t number, int version, uint32_t priority) {
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

void finish(uint64_t number, float logprob) {
    int32_t ids[2][3] = {{4, 5, 7}, {4, 6, 99}};
    float logprobs[3] = {-1, logprob, -2};
    struct generated_sample samples[2] = {{ids[0], logprobs, 3, true}, {ids[1], logprobs, 3, false}};
    struct generated_group group = {number, 2, samples, 6, isfinite(logprob)};
    client_generated(fake.client, &group, 12, fake.now_ms);
    client_check(fake.client);
}

uint32_t count_control(enum message_type type) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fake.control_count; i++)
        count += fake.control[i].type == type;
    return count;
}

const struct message *last_control(enum message_type type) {
    for (uint32_t i = fake.control_count; i-- > 0;)
        if (fake.control[i].type == type)
            return &fake.control[i];
    assert_true(false);
    return NULL;
}

uint32_t groups_sent(uint32_t slot) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fake.worker_count; i++)
        count += fake.worker[i].type == MESSAGE_GROUP && fake.worker_slot[i] == slot;
    return count;
}

/* ---- the process ---- */

bool client_fake_begin(void) {
    log_init("client_test", NULL, LOG_ERROR);
    if (!mkdtemp(root))
        return false;
    snprintf(model_directory, sizeof model_directory, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    char path[PATH_BYTES];
    if (fs_make_directories(model_directory) != STATUS_OK ||
        fs_join(path, model_directory, "config.json") != STATUS_OK || fs_write_atomic(path, "{}", 2) != STATUS_OK)
        return false;
    for (int v = 0; v < 3; v++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            versions[v][i] = (uint16_t)(i * 2654435761u + (uint32_t)v);
        manifests[v] =
            content_manifest((uint32_t)v, content_digest(versions[v], 0, sizeof versions[v]), ELEMENTS, DTYPE_BF16);
    }
    return true;
}

void client_fake_end(void) {
    arena_deinit(&fake.arena);
    fs_remove_tree(root);
}
