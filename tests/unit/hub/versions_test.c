#include "tests/support/test.h"

#include "common/compute/device.h"
#include "common/hub/versions.h"
#include "proto/limits.h"
#include "tests/support/hub/fake.h"

#define ELEMENTS 1000 /* two chunks of 1024 bytes */
#define SILENT_MS 10000
#define READER_MS (10 * 60 * 1000)

static struct fake fake;
static struct versions versions;
static uint16_t elements[ELEMENTS];
static uint32_t released, chunks, gone;

static void on_release(void *context) {
    (void)context;
    released++;
}

static bool on_reply(void *context, const struct message *message) {
    (void)context;
    chunks += message->type == MESSAGE_CHUNK;
    gone += message->type == MESSAGE_GONE;
    return true;
}

static int set_up(void **state) {
    (void)state;
    struct hub_settings settings = fake_settings();
    fake_create(&fake, &settings);
    versions = (struct versions){.hub = fake.hub, .chunk_bytes = 1024};
    released = chunks = gone = 0;
    return store_create(&versions.store);
}

static int tear_down(void **state) {
    (void)state;
    versions_deinit(&versions);
    store_destroy(&versions.store);
    fake_destroy(&fake);
    return 0;
}

static void publish(uint32_t version) {
    struct published published = {.version = version,
                                  .digest = fake_weights(version),
                                  .data = elements,
                                  .elements = ELEMENTS,
                                  .dtype = DTYPE_BF16,
                                  .release = on_release};
    ASSERT_OK(versions_publish(&versions, &published, 0));
}

/* As the hub's thread does. */
static void fetch(uint32_t version, uint32_t first, int64_t now_ms) {
    struct message_fetch message = {
        .kind = FETCH_SNAPSHOT, .object = fake_weights(version), .first = first, .count = 1};
    versions_read(&versions, &message, now_ms);
    store_fetch(versions.store, &message, on_reply, NULL);
}

static void who_reads_in_time_reads_on_after_the_retirement(void **state) {
    (void)state;
    publish(1);
    fetch(1, 0, 1000);
    publish(2);
    ASSERT_OK(versions_retire(&versions, 0, 2, 2000));
    for (int64_t now_ms = 2000; now_ms < 60000; now_ms += SILENT_MS - 1) {
        versions_tick(&versions, now_ms);
        fetch(1, 0, now_ms);
    }
    assert_int_equal(released, 0);
    assert_int_equal(gone, 0);
    fetch(1, 1, 60000); /* the last chunk; nobody asks on */
    versions_tick(&versions, 60000 + SILENT_MS);
    assert_int_equal(released, 1);
    fetch(1, 0, 60000 + SILENT_MS);
    assert_int_equal(gone, 1);
}

static void a_silent_reader_holds_nothing(void **state) {
    (void)state;
    publish(1);
    publish(2);
    fetch(1, 0, 1000);
    ASSERT_OK(versions_retire(&versions, 0, 2, 1000 + SILENT_MS)); /* silent before */
    assert_int_equal(released, 1);
    fetch(2, 0, 20000);
    publish(3);
    ASSERT_OK(versions_retire(&versions, 0, 3, 20000));
    versions_tick(&versions, 20000 + SILENT_MS - 1);
    assert_int_equal(released, 1);
    versions_tick(&versions, 20000 + SILENT_MS); /* silent since */
    assert_int_equal(released, 2);
}

static void the_slowest_reader_has_a_deadline(void **state) {
    (void)state;
    const int64_t begin_ms = 1000;
    int64_t now_ms = begin_ms;
    publish(1);
    fetch(1, 0, now_ms);
    publish(2);
    ASSERT_OK(versions_retire(&versions, 0, 2, now_ms));
    for (; now_ms < begin_ms + READER_MS; now_ms += 1000) {
        versions_tick(&versions, now_ms);
        assert_int_equal(released, 0);
        fetch(1, 0, now_ms);
    }
    versions_tick(&versions, now_ms);
    assert_int_equal(released, 1);
}

static void one_retired_version_at_a_time_is_held(void **state) {
    (void)state;
    publish(1);
    publish(2);
    publish(3);
    fetch(1, 0, 10);
    fetch(2, 0, 10);
    ASSERT_OK(versions_retire(&versions, 0, 3, 20));
    assert_int_equal(released, 1);
    fetch(1, 0, 30);
    assert_int_equal(gone, 0);
    fetch(2, 0, 30);
    assert_int_equal(gone, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_reads_in_time_reads_on_after_the_retirement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_reader_holds_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_slowest_reader_has_a_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_retired_version_at_a_time_is_held, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
