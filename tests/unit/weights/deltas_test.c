/* Store and sync with deltas: which way is taken, what happens to a way that ends, many at once. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/weights/store.h"
#include "common/weights/sync.h"
#include "proto/limits.h"

#define VERSIONS 9
#define ELEMENTS 70001u
#define CHUNK 4096u
#define CLIENTS 10

static uint16_t versions[VERSIONS][ELEMENTS];
static struct message_manifest snapshots[VERSIONS], deltas[VERSIONS]; /* deltas[v] from v - 1 */

static uint32_t below(uint64_t seed, uint32_t position, uint32_t bound) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, position, bound);
}

/* An actor's side, with weights of its own. */
struct client {
    struct store *store;
    struct sync *sync;
    struct message_fetch fetches[64];
    uint32_t fetch_count;
    uint16_t held[ELEMENTS];
    struct digest holds;
    uint32_t snapshots, chains, hops, gone;
    uint64_t fetched; /* bytes */
};

static bool take_fetch(void *context, const struct message_fetch *fetch) {
    struct client *client = context;
    assert_true(client->fetch_count < 64);
    client->fetches[client->fetch_count++] = *fetch;
    return true;
}

static bool take_reply(void *context, const struct message *message) {
    struct client *client = context;
    if (message->type == MESSAGE_GONE) {
        client->gone++;
        sync_gone(client->sync, &message->gone);
        return true;
    }
    client->fetched += message->chunk.bytes;
    sync_chunk(client->sync, &message->chunk, 0);
    return true;
}

/* Answer the oldest fetch. */
static bool serve_one(struct client *client) {
    if (client->fetch_count == 0)
        return false;
    struct message_fetch fetch = client->fetches[0];
    memmove(client->fetches, client->fetches + 1, --client->fetch_count * sizeof fetch);
    store_fetch(client->store, &fetch, take_reply, client);
    return true;
}

static enum status load_chain(struct client *client) {
    struct chain *chain = sync_take_chain(client->sync);
    client->chains++;
    client->hops += chain->hop_count;
    enum status status = chain_apply(chain, client->holds, ELEMENTS, 1, client->held);
    if (status == STATUS_OK)
        client->holds = chain->to;
    else
        sync_refused(client->sync);
    chain_destroy(&chain);
    return status;
}

static void load_snapshot(struct client *client) {
    struct message_manifest manifest;
    void *data = sync_take(client->sync, &manifest);
    memcpy(client->held, data, sizeof client->held);
    client->holds = manifest.weights;
    client->snapshots++;
    free(data);
}

/* What an actor does until it holds the version; false: no way is known. */
static bool go_to(struct client *client, int version) {
    for (int turn = 0; turn < 10000; turn++) {
        bool known;
        if (digest_equal(client->holds, snapshots[version].weights)) {
            assert_memory_equal(client->held, versions[version], sizeof versions[0]);
            return true;
        }
        ASSERT_OK(sync_want(client->sync, snapshots[version].weights, client->holds, 0, &known));
        if (!known)
            return false;
        if (sync_state(client->sync) != SYNC_READY)
            assert_true(serve_one(client));
        else if (sync_has_chain(client->sync))
            load_chain(client);
        else
            load_snapshot(client);
    }
    fail_msg("version %d is never reached", version);
    return false;
}

static void publish_delta(struct store *store, int version) {
    uint8_t *data;
    uint64_t bytes;
    struct digest base = snapshots[version - 1].weights, result = snapshots[version].weights;
    ASSERT_OK(delta_encode(versions[version - 1], versions[version], ELEMENTS, base, result, 1, &data, &bytes, NULL));
    deltas[version] = content_delta_manifest((uint32_t)version, result, base, ELEMENTS, bytes);
    deltas[version].chunk_bytes = 512;
    ASSERT_OK(store_publish_delta(store, &deltas[version], data));
}

static struct store *open_store(int first, int end) {
    struct store *store;
    ASSERT_OK(store_create(&store));
    for (int v = first; v < end; v++)
        ASSERT_OK(store_publish(store, &snapshots[v], versions[v]));
    for (int v = 1; v < VERSIONS; v++)
        publish_delta(store, v);
    return store;
}

static struct client *open_client(struct store *store, int first, int end) {
    struct client *client = calloc(1, sizeof *client);
    assert_non_null(client);
    client->store = store;
    ASSERT_OK(sync_create(ELEMENTS, take_fetch, client, &client->sync));
    for (int v = 1; v < VERSIONS; v++)
        ASSERT_OK(sync_manifest(client->sync, &deltas[v]));
    for (int v = first; v < end; v++)
        ASSERT_OK(sync_manifest(client->sync, &snapshots[v]));
    return client;
}

static void close_client(struct client **client) {
    sync_destroy(&(*client)->sync);
    free(*client);
    *client = NULL;
}

static void versions_are_reached_by_deltas_in_either_direction(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    struct client *client = open_client(store, 0, VERSIONS);
    assert_true(go_to(client, 2));
    assert_int_equal(client->snapshots, 1);
    for (uint32_t i = 0; i < 60; i++)
        assert_true(go_to(client, (int)below(1, i, VERSIONS)));
    assert_int_equal(client->snapshots, 1);
    assert_true(client->hops > 60);
    close_client(&client);
    store_destroy(&store);
}

static void a_late_joiner_takes_the_snapshot_there_is_and_deltas_from_it(void **state) {
    (void)state;
    for (int wanted = 0; wanted < VERSIONS; wanted++) {
        struct store *store = open_store(4, 5);
        struct client *client = open_client(store, 4, 5);
        assert_true(go_to(client, wanted));
        assert_int_equal(client->snapshots, 1);
        assert_int_equal(client->chains, wanted != 4);
        assert_int_equal(client->hops, wanted > 4 ? wanted - 4 : 4 - wanted);
        close_client(&client);
        store_destroy(&store);
    }
}

static void the_way_is_that_of_the_fewest_bytes(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    struct client *client = open_client(store, 0, VERSIONS);
    assert_true(go_to(client, 0));
    for (int v = 1; v < VERSIONS; v++) { /* a fifth of a snapshot each */
        struct message_manifest large = deltas[v];
        large.payload_bytes = snapshots[0].payload_bytes / 5;
        ASSERT_OK(sync_manifest(client->sync, &large));
    }
    bool known;
    ASSERT_OK(sync_want(client->sync, snapshots[4].weights, client->holds, 0, &known));
    assert_int_equal(client->fetches[0].kind, FETCH_DELTA);
    client->fetch_count = 0;
    ASSERT_OK(sync_want(client->sync, snapshots[6].weights, client->holds, 0, &known));
    assert_int_equal(client->fetches[0].kind, FETCH_SNAPSHOT);
    close_client(&client);
    store_destroy(&store);
}

static void a_pruned_chain_is_healed_by_a_snapshot(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    struct client *client = open_client(store, 0, VERSIONS);
    assert_true(go_to(client, 1));
    store_retire_deltas(store, 5);
    assert_true(go_to(client, 8));
    assert_true(client->gone >= 1);
    assert_int_equal(client->snapshots, 2);
    close_client(&client);
    store_destroy(&store);
}

static void a_foreign_delta_is_refused_before_it_is_applied(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    uint8_t *data;
    uint64_t bytes;
    ASSERT_OK(delta_encode(versions[3], versions[5], ELEMENTS, snapshots[3].weights, snapshots[5].weights, 1, &data,
                           &bytes, NULL));
    struct message_manifest lie =
        content_delta_manifest(2, snapshots[2].weights, snapshots[1].weights, ELEMENTS, bytes);
    ASSERT_OK(store_publish_delta(store, &lie, data));
    struct client *client = open_client(store, 0, VERSIONS);
    ASSERT_OK(sync_manifest(client->sync, &lie));
    assert_true(go_to(client, 1));
    assert_true(go_to(client, 2));
    assert_int_equal(client->chains, 0);
    assert_int_equal(client->snapshots, 2);
    assert_int_equal(sync_refusals(client->sync), 1);
    close_client(&client);
    store_destroy(&store);
}

/* Whole in transit, but made from other weights than its header says: the digest at its end shows it. */
static void a_wrong_delta_is_undone_and_healed_by_a_snapshot(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    uint8_t *data;
    uint64_t bytes;
    ASSERT_OK(delta_encode(versions[3], versions[5], ELEMENTS, snapshots[1].weights, snapshots[2].weights, 1, &data,
                           &bytes, NULL));
    struct message_manifest lie =
        content_delta_manifest(2, snapshots[2].weights, snapshots[1].weights, ELEMENTS, bytes);
    ASSERT_OK(store_publish_delta(store, &lie, data));
    struct client *client = open_client(store, 0, VERSIONS);
    ASSERT_OK(sync_manifest(client->sync, &lie));
    assert_true(go_to(client, 1));
    assert_true(go_to(client, 4)); /* over the wrong one: the first hop of three */
    assert_int_equal(client->chains, 1);
    assert_int_equal(client->snapshots, 2);
    close_client(&client);
    store_destroy(&store);
}

static void weights_that_are_not_the_base_are_left_alone(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    struct client *client = open_client(store, 0, VERSIONS);
    assert_true(go_to(client, 0));
    bool known;
    ASSERT_OK(sync_want(client->sync, snapshots[3].weights, client->holds, 0, &known));
    while (serve_one(client))
        ;
    struct chain *chain = sync_take_chain(client->sync);
    memcpy(client->held, versions[1], sizeof client->held);
    ASSERT_FAILS(STATUS_MISMATCH, chain_apply(chain, snapshots[1].weights, ELEMENTS, 1, client->held));
    assert_memory_equal(client->held, versions[1], sizeof client->held);
    chain->hops[2].data[40]++; /* the last hop: two are applied, and taken back */
    ASSERT_FAILS(STATUS_MISMATCH, (memcpy(client->held, versions[0], sizeof client->held),
                                   chain_apply(chain, snapshots[0].weights, ELEMENTS, 1, client->held)));
    assert_memory_equal(client->held, versions[0], sizeof client->held);
    chain_destroy(&chain);
    close_client(&client);
    store_destroy(&store);
}

static void a_slow_reader_keeps_its_snapshot_when_a_new_version_comes(void **state) {
    (void)state;
    struct store *store = open_store(0, VERSIONS);
    struct client *client = open_client(store, 0, VERSIONS);
    bool known;
    for (int v = 3; v < VERSIONS; v++) { /* a few chunks a version: slower than training */
        ASSERT_OK(sync_want(client->sync, snapshots[v].weights, client->holds, 0, &known));
        serve_one(client);
    }
    assert_true(go_to(client, VERSIONS - 1));
    assert_int_equal(client->snapshots, 1);
    assert_int_equal(client->hops, VERSIONS - 1 - 3);
    assert_true(client->fetched < 3 * sizeof versions[0] / 2);
    close_client(&client);
    store_destroy(&store);
}

/* Ten join at once while versions come and go: fetches of all are answered in turn. */
static void ten_join_at_once(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct store *store = open_store(0, VERSIONS);
        struct client *clients[CLIENTS];
        for (uint32_t c = 0; c < CLIENTS; c++)
            clients[c] = open_client(store, 0, VERSIONS);
        for (uint32_t turn = 0; turn < 600; turn++) {
            struct client *client = clients[below(seed, 4 * turn, CLIENTS)];
            int low = (int)turn / 100, wanted = low + (int)below(seed, 4 * turn + 1, 3);
            bool known;
            if (turn % 100 == 99) {
                store_retire(store, snapshots[low].weights);
                store_retire_deltas(store, (uint32_t)low);
            }
            ASSERT_OK(sync_want(client->sync, snapshots[wanted].weights, client->holds, 0, &known));
            if (below(seed, 4 * turn + 2, 2))
                serve_one(client);
            if (sync_state(client->sync) == SYNC_READY && sync_has_chain(client->sync))
                ASSERT_OK(load_chain(client));
            else if (sync_state(client->sync) == SYNC_READY)
                load_snapshot(client);
        }
        for (uint32_t c = 0; c < CLIENTS; c++) {
            assert_true(go_to(clients[c], VERSIONS - 1));
            close_client(&clients[c]);
        }
        store_destroy(&store);
    }
}

static void the_store_keeps_the_newest_deltas(void **state) {
    (void)state;
    struct store *store;
    ASSERT_OK(store_create(&store));
    for (uint32_t v = 1; v < STORE_DELTAS_MAX + 10; v++) {
        struct message_manifest manifest =
            content_delta_manifest(v, (struct digest){v, 1}, (struct digest){v - 1, 1}, ELEMENTS, DELTA_HEADER_BYTES);
        void *data = calloc(1, DELTA_HEADER_BYTES);
        assert_non_null(data);
        ASSERT_OK(store_publish_delta(store, &manifest, data));
    }
    struct client *client = open_client(store, 0, 0);
    struct message_fetch fetch = {.kind = FETCH_DELTA, .object = {9, 1}, .base = {8, 1}, .count = 1};
    store_fetch(store, &fetch, take_reply, client);
    assert_int_equal(client->gone, 1);
    fetch.object.low = 10;
    fetch.base.low = 9;
    store_fetch(store, &fetch, take_reply, client);
    assert_int_equal(client->fetched, DELTA_HEADER_BYTES);
    fetch.base.low = 8; /* of another base */
    store_fetch(store, &fetch, take_reply, client);
    assert_int_equal(client->gone, 2);
    close_client(&client);
    store_destroy(&store);
}

int main(void) {
    for (uint32_t v = 0; v < VERSIONS; v++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            versions[v][i] = v == 0                       ? (uint16_t)below(100, i, 65536)
                             : below(100 + v, i, 60) == 0 ? (uint16_t)(versions[v - 1][i] + below(200 + v, i, 5) - 2)
                                                          : versions[v - 1][i];
        snapshots[v] = content_manifest(v, content_digest(versions[v], 0, sizeof versions[v]), ELEMENTS, DTYPE_BF16);
        snapshots[v].chunk_bytes = CHUNK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_reached_by_deltas_in_either_direction),
        cmocka_unit_test(a_late_joiner_takes_the_snapshot_there_is_and_deltas_from_it),
        cmocka_unit_test(the_way_is_that_of_the_fewest_bytes),
        cmocka_unit_test(a_pruned_chain_is_healed_by_a_snapshot),
        cmocka_unit_test(a_foreign_delta_is_refused_before_it_is_applied),
        cmocka_unit_test(a_wrong_delta_is_undone_and_healed_by_a_snapshot),
        cmocka_unit_test(weights_that_are_not_the_base_are_left_alone),
        cmocka_unit_test(a_slow_reader_keeps_its_snapshot_when_a_new_version_comes),
        cmocka_unit_test(ten_join_at_once),
        cmocka_unit_test(the_store_keeps_the_newest_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
