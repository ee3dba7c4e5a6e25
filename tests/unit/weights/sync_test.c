#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/weights/store.h"
#include "common/weights/sync.h"
#include "proto/limits.h"

/* Not a multiple of a chunk, nor of a 64-bit word: the last element stands alone. */
#define ELEMENTS (3u * 4096 / 2 * 5 + 1027)
#define CHUNK 4096u

static uint32_t below(uint64_t seed, uint32_t position, uint32_t bound) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, position, bound);
}

static uint16_t versions[2][ELEMENTS];
static struct message_manifest manifests[2];

/* The line between client and server: fetches wait in a list, and chunks may be lost, doubled, late or damaged. */
struct line {
    struct store *store;
    struct sync *sync;
    struct message_fetch fetches[4096];
    uint32_t fetch_count;
    struct message_chunk chunks[4096];
    uint32_t chunk_count, gone;
    uint64_t seed;
    uint32_t dice, loss, damage, window_most;
    bool deaf;
    struct digest held;
};

static bool take_fetch(void *context, const struct message_fetch *fetch) {
    struct line *line = context;
    if (line->deaf)
        return false;
    assert_true(line->fetch_count < 4096);
    line->fetches[line->fetch_count++] = *fetch;
    return true;
}

static bool take_reply(void *context, const struct message *message) {
    struct line *line = context;
    if (message->type == MESSAGE_GONE) {
        sync_gone(line->sync, &message->gone);
        line->gone++;
        return true;
    }
    assert_int_equal(message->type, MESSAGE_CHUNK);
    if (below(line->seed, line->dice++, 100) < line->loss)
        return true;
    struct message_chunk *chunk = &line->chunks[line->chunk_count++];
    *chunk = message->chunk;
    uint8_t *copy = malloc(chunk->bytes);
    assert_non_null(copy);
    memcpy(copy, chunk->data, chunk->bytes);
    if (below(line->seed, line->dice++, 100) < line->damage)
        copy[below(line->seed, line->dice++, chunk->bytes)] ^= 1;
    chunk->data = copy;
    return true;
}

static void serve(struct line *line) {
    uint32_t count = line->fetch_count, window = line->chunk_count;
    for (uint32_t i = 0; i < count; i++) {
        window += line->fetches[i].count;
        store_fetch(line->store, &line->fetches[i], take_reply, line);
    }
    line->fetch_count -= count;
    if (window > line->window_most)
        line->window_most = window;
}

static void deliver(struct line *line, int64_t now_ms) {
    if (line->chunk_count == 0)
        return;
    uint32_t at = below(line->seed, line->dice++, line->chunk_count);
    struct message_chunk chunk = line->chunks[at];
    line->chunks[at] = line->chunks[--line->chunk_count];
    sync_chunk(line->sync, &chunk, now_ms);
    if (below(line->seed, line->dice++, 10) == 0)
        sync_chunk(line->sync, &chunk, now_ms); /* twice */
    free((void *)(uintptr_t)chunk.data);
}

static void open_line(struct line *line, uint64_t seed) {
    memset(line, 0, sizeof *line);
    line->seed = seed;
    ASSERT_OK(store_create(&line->store));
    ASSERT_OK(sync_create(ELEMENTS, take_fetch, line, &line->sync));
    for (int v = 0; v < 2; v++) {
        ASSERT_OK(store_publish(line->store, &manifests[v], versions[v]));
        ASSERT_OK(sync_manifest(line->sync, &manifests[v]));
    }
}

static void close_line(struct line *line) {
    while (line->chunk_count)
        free((void *)(uintptr_t)line->chunks[--line->chunk_count].data);
    store_destroy(&line->store);
    sync_destroy(&line->sync);
}

static int64_t run_line(struct line *line, int64_t now_ms) {
    for (int i = 0; i < 100000 && sync_state(line->sync) == SYNC_FETCHING; i++) {
        serve(line);
        deliver(line, now_ms);
        now_ms += 10;
        sync_tick(line->sync, now_ms);
    }
    return now_ms;
}

static void want(struct line *line, int version, int64_t now_ms) {
    bool known;
    ASSERT_OK(sync_want(line->sync, manifests[version].weights, line->held, now_ms, &known));
    assert_true(known);
}

static void assert_takes(struct line *line, int version) {
    assert_int_equal(sync_state(line->sync), SYNC_READY);
    struct message_manifest manifest;
    void *data = sync_take(line->sync, &manifest);
    assert_int_equal(manifest.version, manifests[version].version);
    assert_memory_equal(data, versions[version], sizeof versions[version]);
    free(data);
    assert_int_equal(sync_state(line->sync), SYNC_IDLE);
}

static void the_digest_is_that_of_the_elements(void **state) {
    (void)state;
    uint16_t few[7] = {1, 2, 3, 4, 5, 6, 7};
    struct digest whole = content_digest(few, 0, sizeof few);
    few[6] ^= 1;
    assert_false(digest_equal(whole, content_digest(few, 0, sizeof few)));
    few[6] ^= 1;
    few[1] = 3;
    few[2] = 2;
    assert_false(digest_equal(whole, content_digest(few, 0, sizeof few)));
}

static void a_version_arrives_whole(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 1);
    want(&line, 0, 0);
    want(&line, 0, 0); /* asking again asks for nothing */
    run_line(&line, 0);
    assert_int_equal(line.window_most, FETCH_WINDOW);
    assert_takes(&line, 0);
    close_line(&line);
}

static void losses_doubles_and_disorder_do_no_harm(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct line line;
        open_line(&line, seed);
        line.loss = below(seed, 90000, 40);
        want(&line, 0, 0);
        int64_t now_ms = run_line(&line, 0);
        assert_takes(&line, 0);
        want(&line, 1, now_ms);
        run_line(&line, now_ms);
        assert_takes(&line, 1);
        close_line(&line);
    }
}

static void a_damaged_chunk_is_asked_for_again(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 3);
    line.damage = 30;
    want(&line, 1, 0);
    run_line(&line, 0);
    assert_takes(&line, 1);
    close_line(&line);
}

static void another_version_replaces_the_one_under_way(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 4);
    want(&line, 0, 0);
    serve(&line);
    deliver(&line, 1);
    want(&line, 1, 2);
    run_line(&line, 2);
    assert_takes(&line, 1);
    close_line(&line);
}

static void a_wrong_digest_is_tried_once_more_and_then_fatal(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 5);
    ASSERT_OK(store_publish(line.store, &manifests[0], versions[1])); /* the learner's memory is bad */
    want(&line, 0, 0);
    run_line(&line, 0);
    assert_int_equal(sync_state(line.sync), SYNC_FAILED);
    assert_non_null(strstr(sync_reason(line.sync), "twice"));
    close_line(&line);

    open_line(&line, 6); /* bad once */
    ASSERT_OK(store_publish(line.store, &manifests[0], versions[1]));
    want(&line, 0, 0);
    uint64_t here = 0, all = 1, ever = 0, last = 0;
    do {
        serve(&line);
        deliver(&line, 1);
        sync_progress(line.sync, &here, &all, &ever);
        assert_true(ever >= last);
        last = ever;
    } while (ever < sizeof versions[0]);
    ASSERT_OK(store_publish(line.store, &manifests[0], versions[0]));
    line.fetch_count = 0; /* the first asking for bad data is lost */
    while (line.chunk_count)
        deliver(&line, 1);
    run_line(&line, 1);
    assert_takes(&line, 0);
    close_line(&line);
}

static void a_retired_version_is_gone(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 7);
    want(&line, 0, 0);
    store_retire(line.store, manifests[0].weights);
    store_retire(line.store, manifests[0].weights);
    run_line(&line, 0);
    assert_int_equal(sync_state(line.sync), SYNC_IDLE);
    assert_int_equal(line.gone, 1);
    bool known;
    ASSERT_OK(sync_want(line.sync, manifests[0].weights, line.held, 0, &known));
    assert_false(known);
    want(&line, 1, 0);
    run_line(&line, 0);
    assert_takes(&line, 1);
    close_line(&line);
}

static void hostile_chunks_are_dropped(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 8);
    want(&line, 0, 0);
    uint8_t data[CHUNK] = {0};
    struct message_chunk good = {.kind = FETCH_SNAPSHOT,
                                 .object = manifests[0].weights,
                                 .index = 0,
                                 .total_bytes = sizeof versions[0],
                                 .hash = hash64(data, CHUNK),
                                 .data = data,
                                 .bytes = CHUNK};
    struct message_chunk bad[6] = {good, good, good, good, good, good};
    bad[0].index = 1u << 30;
    bad[1].total_bytes = UINT64_MAX;
    bad[2].bytes = CHUNK - 8;
    bad[3].hash++;
    bad[4].object.low++;
    bad[5].kind = FETCH_FILE;
    for (size_t i = 0; i < 6; i++)
        sync_chunk(line.sync, &bad[i], 0);
    uint64_t here, all, ever;
    sync_progress(line.sync, &here, &all, &ever);
    assert_int_equal(here, 0);
    run_line(&line, 0);
    assert_takes(&line, 0);
    close_line(&line);
}

static void manifests_of_another_model_are_refused(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 9);
    struct message_manifest bad = manifests[0];
    bad.form = FORM_DELTA; /* longer than the longest delta */
    bad.payload_bytes = delta_bytes_max(ELEMENTS) + 1;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad.payload_bytes = DELTA_HEADER_BYTES - 1;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad.payload_bytes = DELTA_HEADER_BYTES;
    bad.base = bad.weights;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad.base.low++;
    bad.dtype = DTYPE_F32;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad = manifests[0];
    bad.form = 2;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad = manifests[0];
    bad.elements++;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad = manifests[0];
    bad.dtype = DTYPE_F32; /* the sizes no longer agree */
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad = manifests[0];
    bad.chunk_bytes = 0;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad.chunk_bytes = CHUNK_BYTES_MAX + 8;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    bad = manifests[0];
    bad.payload_bytes--;
    ASSERT_FAILS(STATUS_MISMATCH, sync_manifest(line.sync, &bad));
    close_line(&line);
}

static void old_versions_make_room_for_new_ones(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 10);
    for (uint32_t v = 2; v < SYNC_VERSIONS_MAX + 2; v++) {
        struct message_manifest manifest = manifests[0];
        manifest.version = v;
        manifest.weights.high ^= (uint64_t)v << 32;
        ASSERT_OK(sync_manifest(line.sync, &manifest));
        assert_non_null(sync_find(line.sync, manifest.weights));
    }
    assert_null(sync_find(line.sync, manifests[0].weights));
    assert_null(sync_find(line.sync, manifests[1].weights));
    close_line(&line);
}

static void a_socket_without_a_connection_is_tried_at_each_tick(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 12);
    line.deaf = true;
    want(&line, 0, 0);
    sync_tick(line.sync, 10);
    line.deaf = false;
    sync_tick(line.sync, 20);
    assert_int_equal(line.fetch_count, 1);
    run_line(&line, 20);
    assert_takes(&line, 0);
    close_line(&line);
}

static void silence_is_asked_into_with_back_off(void **state) {
    (void)state;
    struct line line;
    open_line(&line, 11);
    want(&line, 0, 0);
    uint32_t before = line.fetch_count;
    sync_tick(line.sync, FETCH_AGAIN_MS - 1);
    assert_int_equal(line.fetch_count, before);
    sync_tick(line.sync, FETCH_AGAIN_MS);
    assert_int_equal(line.fetch_count, 2 * before);
    sync_tick(line.sync, 2 * FETCH_AGAIN_MS);
    assert_int_equal(line.fetch_count, 2 * before);
    sync_tick(line.sync, 3 * FETCH_AGAIN_MS);
    assert_int_equal(line.fetch_count, 3 * before);
    close_line(&line);
}

int main(void) {
    for (int v = 0; v < 2; v++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            versions[v][i] = (uint16_t)below(100 + (uint64_t)v, i, 65536);
        manifests[v] =
            content_manifest((uint32_t)v, content_digest(versions[v], 0, sizeof versions[v]), ELEMENTS, DTYPE_BF16);
        manifests[v].chunk_bytes = CHUNK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_digest_is_that_of_the_elements),
        cmocka_unit_test(a_version_arrives_whole),
        cmocka_unit_test(losses_doubles_and_disorder_do_no_harm),
        cmocka_unit_test(a_damaged_chunk_is_asked_for_again),
        cmocka_unit_test(another_version_replaces_the_one_under_way),
        cmocka_unit_test(a_wrong_digest_is_tried_once_more_and_then_fatal),
        cmocka_unit_test(a_retired_version_is_gone),
        cmocka_unit_test(hostile_chunks_are_dropped),
        cmocka_unit_test(manifests_of_another_model_are_refused),
        cmocka_unit_test(old_versions_make_room_for_new_ones),
        cmocka_unit_test(a_socket_without_a_connection_is_tried_at_each_tick),
        cmocka_unit_test(silence_is_asked_into_with_back_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
