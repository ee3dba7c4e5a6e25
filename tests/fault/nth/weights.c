/* Weights on their way: published, fetched as a snapshot and as deltas, applied forward and back; the model's small files. What goes
 * over the network is played here, so a send that fails is a callback that says so. */
#include <unistd.h>

#include "common/base/fs.h"
#include "common/hub/versions.h"
#include "common/weights/files.h"
#include "common/weights/sync.h"
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"
#include "tests/support/hub/fake.h"

#define VERSIONS 3
#define ELEMENTS 70001u
#define SNAPSHOT_CHUNK 16384u
#define DELTA_CHUNK 512u
#define FETCHES_MAX 256
#define TURNS_MAX 2000

static uint16_t versions[VERSIONS][ELEMENTS];
static struct message_manifest snapshots[VERSIONS];

static void make_versions(void) {
    for (uint32_t v = 0; v < VERSIONS; v++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            versions[v][i] = (uint16_t)(i * 31 + (v && i % 150 == v ? 1 : 0) + (v == 2 && i % 150 == 1));
        struct digest digest = content_digest(versions[v], 0, sizeof versions[v]);
        snapshots[v] = content_manifest(v, digest, ELEMENTS, DTYPE_BF16);
        snapshots[v].chunk_bytes = SNAPSHOT_CHUNK;
    }
}

/* ---- from store to sync ---- */

struct line {
    struct store *store;
    struct sync *sync;
    struct message_manifest deltas[VERSIONS];
    struct message_fetch fetches[FETCHES_MAX];
    uint32_t fetch_count;
    uint16_t held[ELEMENTS];
    struct digest holds;
    int64_t now_ms;
};

static bool take_fetch(void *context, const struct message_fetch *fetch) {
    struct line *line = context;
    if (nth_fails(NTH_SEND))
        return false;
    assert_true(line->fetch_count < FETCHES_MAX);
    line->fetches[line->fetch_count++] = *fetch;
    return true;
}

static bool take_reply(void *context, const struct message *message) {
    struct line *line = context;
    if (nth_fails(NTH_SEND))
        return false;
    if (message->type == MESSAGE_GONE)
        sync_gone(line->sync, &message->gone);
    else
        sync_chunk(line->sync, &message->chunk, line->now_ms);
    return true;
}

static enum status load_staged(struct line *line) {
    if (!sync_has_chain(line->sync)) {
        struct message_manifest manifest;
        void *data = sync_take(line->sync, &manifest);
        memcpy(line->held, data, sizeof line->held);
        line->holds = manifest.weights;
        free(data);
        return STATUS_OK;
    }
    struct chain *chain = sync_take_chain(line->sync);
    enum status status = chain_apply(chain, line->holds, ELEMENTS, 2, line->held);
    if (status == STATUS_OK)
        line->holds = chain->to;
    chain_destroy(&chain);
    return status;
}

/* What an actor does until it holds the version. */
static enum status go_to(struct line *line, uint32_t version) {
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        bool known;
        if (digest_equal(line->holds, snapshots[version].weights)) {
            assert_memory_equal(line->held, versions[version], sizeof versions[0]);
            return STATUS_OK;
        }
        TRY(sync_want(line->sync, snapshots[version].weights, line->holds, line->now_ms, &known));
        assert_true(known);
        if (sync_state(line->sync) == SYNC_FAILED)
            return fail(STATUS_AGAIN, "%s", sync_reason(line->sync));
        if (sync_state(line->sync) == SYNC_READY) {
            TRY(load_staged(line));
        } else if (line->fetch_count > 0) {
            struct message_fetch fetch = line->fetches[0];
            memmove(line->fetches, line->fetches + 1, --line->fetch_count * sizeof fetch);
            store_fetch(line->store, &fetch, take_reply, line);
        } else {
            line->now_ms += 1000;
            sync_tick(line->sync, line->now_ms);
        }
    }
    fail_msg("version %u is never reached", version);
    return STATUS_OK;
}

static enum status publish(struct line *line, uint32_t v) {
    TRY(store_publish(line->store, &snapshots[v], versions[v]));
    if (v == 0)
        return STATUS_OK;
    uint8_t *data;
    uint64_t bytes;
    struct digest base = snapshots[v - 1].weights, result = snapshots[v].weights;
    TRY(delta_encode(versions[v - 1], versions[v], ELEMENTS, base, result, 2, &data, &bytes, NULL));
    line->deltas[v] = content_delta_manifest(v, result, base, ELEMENTS, bytes);
    line->deltas[v].chunk_bytes = DELTA_CHUNK;
    return store_publish_delta(line->store, &line->deltas[v], data);
}

/* 0 as a snapshot, 2 by two deltas, back to 1 by one. */
static enum status walk(struct line *line) {
    TRY(go_to(line, 0));
    TRY(go_to(line, 2));
    return go_to(line, 1);
}

static enum status transfer(void *context) {
    struct line *line = context;
    TRY(store_create(&line->store));
    for (uint32_t v = 0; v < VERSIONS; v++)
        TRY(publish(line, v));
    TRY(sync_create(ELEMENTS, take_fetch, line, &line->sync));
    for (uint32_t v = 0; v < VERSIONS; v++) {
        TRY(sync_manifest(line->sync, &snapshots[v]));
        if (v > 0)
            TRY(sync_manifest(line->sync, &line->deltas[v]));
    }
    return walk(line);
}

/* Who goes on after a failure gets there, unless it was final: exit code 75. */
static void check_transfer(void *context, enum status status, bool hit) {
    struct line *line = context;
    (void)hit;
    assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY || status == STATUS_AGAIN);
    if (status != STATUS_AGAIN && line->sync && sync_find(line->sync, snapshots[2].weights))
        ASSERT_OK(walk(line));
}

static void check_sends(void *context, enum status status, bool hit) {
    assert_int_equal(status, STATUS_OK); /* what was not sent is asked for again */
    check_transfer(context, status, hit);
}

static void end_transfer(void *context) {
    struct line *line = context;
    sync_destroy(&line->sync);
    store_destroy(&line->store);
    memset(line, 0, sizeof *line);
}

void versions_that_go_from_a_store_to_a_sync(void **state) {
    (void)state;
    static struct line line;
    make_versions();
    struct sweep memory = {
        "transfer versions, memory", BIT(ALLOC) | BIT(THREAD), NULL, NULL, transfer, check_transfer, end_transfer};
    struct sweep sends = {"transfer versions, sends", BIT(SEND), NULL, NULL, transfer, check_sends, end_transfer};
    sweep(&memory, &line);
    sweep(&sends, &line);
}

/* ---- the model's small files ---- */

static const char *const names[] = {"config.json", "tokenizer.json", "vocab.json"};
static char contents[3][100000];

struct files_line {
    char root[64], model[PATH_BYTES], cache[PATH_BYTES];
    struct store *store;
    struct files *files;
    struct message_fetch fetches[FETCHES_MAX];
    uint32_t count, served;
    int64_t now_ms;
    enum status status;
};

static bool take_file_fetch(void *context, const struct message_fetch *fetch) {
    struct files_line *line = context;
    if (nth_fails(NTH_SEND))
        return false;
    assert_true(line->count < FETCHES_MAX);
    line->fetches[line->count++] = *fetch;
    return true;
}

static bool take_file_reply(void *context, const struct message *message) {
    struct files_line *line = context;
    if (nth_fails(NTH_SEND))
        return false;
    line->status = message->type == MESSAGE_CHUNK ? files_chunk(line->files, &message->chunk, line->now_ms)
                                                  : files_gone(line->files, &message->gone);
    return line->status == STATUS_OK;
}

static void begin_files(void *context) {
    struct files_line *line = context;
    ASSERT_OK(fs_remove_tree(line->cache));
    line->count = line->served = 0;
    line->now_ms = 0;
    line->status = STATUS_OK;
}

static enum status fetch_files(void *context) {
    struct files_line *line = context;
    uint32_t count;
    TRY(store_create(&line->store));
    TRY(store_open_files(line->store, line->model));
    const struct model_file *list = store_files(line->store, &count);
    TRY(files_create(line->cache, list, count, 0, take_file_fetch, line, &line->files));
    for (int turn = 0; !files_done(line->files) && turn < TURNS_MAX; turn++) {
        if (line->served < line->count)
            store_fetch(line->store, &line->fetches[line->served++], take_file_reply, line);
        TRY(line->status);
        line->now_ms += 500;
        files_tick(line->files, line->now_ms);
    }
    return STATUS_OK;
}

static void end_files(void *context) {
    struct files_line *line = context;
    files_destroy(&line->files);
    store_destroy(&line->store);
}

/* Nothing in the cache is anything but whole, and whoever comes next completes it. */
static void check_files(void *context, enum status status, bool hit) {
    struct files_line *line = context;
    (void)hit;
    struct fs_list list = {0}, directories = {0};
    char directory[PATH_BYTES];
    if (status == STATUS_OK)
        assert_true(files_done(line->files));
    end_files(line);
    line->count = line->served = 0;
    line->status = STATUS_OK;
    ASSERT_OK(fetch_files(line));
    assert_true(files_done(line->files));
    ASSERT_OK(fs_list_directory(line->cache, &directories));
    assert_int_equal(directories.count, 1);
    ASSERT_OK(fs_join(directory, line->cache, directories.names[0]));
    ASSERT_OK(fs_list_directory(directory, &list));
    assert_int_equal(list.count, 3);
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        struct buf text = {0};
        assert_string_equal(list.names[i], names[i]);
        ASSERT_OK(fs_join(path, directory, list.names[i]));
        ASSERT_OK(fs_read(path, sizeof contents[0], &text));
        assert_int_equal(text.bytes, sizeof contents[0]);
        assert_memory_equal(text.data, contents[i], sizeof contents[0]);
        buf_deinit(&text);
    }
    fs_list_free(&list);
    fs_list_free(&directories);
}

static void check_file_sends(void *context, enum status status, bool hit) {
    assert_int_equal(status, STATUS_OK);
    check_files(context, status, hit);
}

void model_files_that_go_to_a_cache(void **state) {
    (void)state;
    static struct files_line line;
    snprintf(line.root, sizeof line.root, "/%s/candor-nth-XXXXXX", access("/dev/shm", W_OK) == 0 ? "dev/shm" : "tmp");
    assert_non_null(mkdtemp(line.root));
    ASSERT_OK(fs_join(line.model, line.root, "model"));
    ASSERT_OK(fs_join(line.cache, line.root, "cache"));
    ASSERT_OK(fs_make_directories(line.model));
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES];
        memset(contents[i], 'a' + (int)i, sizeof contents[i]);
        ASSERT_OK(fs_join(path, line.model, names[i]));
        ASSERT_OK(fs_write_atomic(path, contents[i], sizeof contents[i]));
    }
    struct sweep files = {"transfer files", BIT(WRITE) | BIT(SYNC) | BIT(RENAME) | BIT(OPEN) | BIT(READ),
                          line.root,        begin_files,
                          fetch_files,      check_files,
                          end_files};
    struct sweep memory = {
        "transfer files, memory", BIT(ALLOC), NULL, begin_files, fetch_files, check_files, end_files};
    struct sweep sends = {"transfer files, sends", BIT(SEND), NULL, begin_files, fetch_files,
                          check_file_sends,        end_files};
    sweep(&files, &line);
    sweep(&memory, &line);
    sweep(&sends, &line);
    ASSERT_OK(fs_remove_tree(line.root));
}

/* ---- publishing ---- */

struct publishing {
    struct hub *hub;
    struct store *store;
    struct versions versions;
    int released;
    uint32_t published; /* versions that were said to be */
};

static void on_send(void *context, peer_id peer, const struct message *message) {
    (void)context;
    (void)peer;
    (void)message;
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    (void)context;
    (void)fatal;
    (void)name;
    (void)text;
}

static void on_release(void *context) {
    ((struct publishing *)context)->released++;
}

/* Version 2 is 1 again, as after a skipped step. */
static const struct message_manifest *content_of(uint32_t version) {
    return &snapshots[version < 2 ? version : version - 1];
}

static enum status publish_one(struct publishing *p, uint32_t version) {
    const struct message_manifest *content = content_of(version);
    struct published published = {.version = version,
                                  .digest = content->weights,
                                  .data = versions[content->version],
                                  .elements = ELEMENTS,
                                  .dtype = DTYPE_BF16,
                                  .release = on_release,
                                  .context = p};
    enum status status = STATUS_OK;
    if (version > 0 && !digest_equal(content->weights, content_of(version - 1)->weights)) {
        uint8_t *data;
        published.delta_base = content_of(version - 1)->weights;
        status = delta_encode(versions[content->version - 1], versions[content->version], ELEMENTS,
                              published.delta_base, published.digest, 1, &data, &published.delta_bytes, NULL);
        if (status == STATUS_OK)
            published.take_delta = data;
    }
    if (status == STATUS_OK)
        status = versions_publish(&p->versions, &published, 0);
    free(published.take_delta);
    p->published += status == STATUS_OK;
    return status;
}

static void begin_publishing(void *context) {
    struct publishing *p = context;
    struct hub_settings settings = fake_settings();
    memset(p, 0, sizeof *p);
    const struct hub_events events = {p, on_send, NULL, NULL, NULL, on_alarm, NULL};
    struct message hello = fake_hello(ROLE_ACTOR, 7, 64);
    ASSERT_OK(hub_create(&settings, &events, &p->hub));
    ASSERT_OK(store_create(&p->store));
    p->versions = (struct versions){.hub = p->hub, .store = p->store};
    hub_message(p->hub, 7, &hello, 0);
    ASSERT_OK(publish_one(p, 0));
    ASSERT_OK(publish_one(p, 1));
}

static enum status publish_and_retire(void *context) {
    struct publishing *p = context;
    TRY(publish_one(p, 2));
    TRY(publish_one(p, 3));
    return versions_retire(&p->versions, 0, 2, 0);
}

static bool served;
static bool on_served(void *context, const struct message *message) {
    (void)context;
    served = message->type == MESSAGE_CHUNK;
    return false;
}

static bool is_served(struct publishing *p, uint32_t version) {
    struct message_fetch fetch = {.kind = FETCH_SNAPSHOT, .object = content_of(version)->weights, .count = 1};
    store_fetch(p->store, &fetch, on_served, NULL);
    return served;
}

/* What was published and not retired is served, whatever failed behind it; and what failed can be done again. */
static void check_publishing(void *context, enum status status, bool hit) {
    struct publishing *p = context;
    (void)hit;
    if (status != STATUS_OK) {
        for (uint32_t v = 0; v < p->published; v++)
            assert_true(is_served(p, v));
        assert_int_equal(p->versions.count, p->published);
        assert_int_equal(p->released, 0);
        for (uint32_t v = p->published; v < 4; v++)
            ASSERT_OK(publish_one(p, v));
        ASSERT_OK(versions_retire(&p->versions, 0, 2, 0));
    }
    assert_true(!is_served(p, 0) && is_served(p, 2) && is_served(p, 3));
    assert_int_equal(p->released, 2);
    ASSERT_OK(versions_retire(&p->versions, 0, 3, 0));
    assert_true(!is_served(p, 2) && is_served(p, 3));
}

static void end_publishing(void *context) {
    struct publishing *p = context;
    versions_deinit(&p->versions);
    assert_int_equal(p->released, 4);
    store_destroy(&p->store);
    hub_destroy(&p->hub);
}

void versions_that_a_hub_publishes_and_retires(void **state) {
    (void)state;
    static struct publishing p;
    make_versions();
    struct sweep memory = {"publish and retire, memory", BIT(ALLOC),       NULL,          begin_publishing,
                           publish_and_retire,           check_publishing, end_publishing};
    sweep(&memory, &p);
}
