/* What was made and not yet acknowledged. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/transport/outbox.h"

static struct work_key key_of(uint32_t slot) {
    return (struct work_key){.run_id = 5, .stream = WORK_TRAIN, .step = 1, .slot = slot};
}

static enum status put(struct outbox *outbox, uint64_t lease, size_t bytes, int64_t now_ms) {
    struct buf frame = {0};
    memset(buf_reserve(&frame, bytes), (int)lease, bytes);
    frame.bytes = bytes;
    struct work_key key = key_of((uint32_t)lease);
    enum status status = outbox_put(outbox, &key, lease, 0, &frame, now_ms);
    buf_deinit(&frame);
    return status;
}

static bool answered(struct outbox *outbox, uint64_t lease) {
    struct work_key key = key_of((uint32_t)lease);
    return outbox_remove(outbox, &key, lease);
}

static void bytes_are_bounded_and_reserved_before(void **state) {
    (void)state;
    struct outbox *outbox = NULL;
    ASSERT_OK(outbox_create(100, &outbox));
    ASSERT_OK(outbox_reserve(outbox, 60));
    assert_int_equal(outbox_reserve(outbox, 41), STATUS_AGAIN);
    assert_int_equal(put(outbox, 1, 41, 0), STATUS_AGAIN);
    ASSERT_OK(put(outbox, 1, 40, 0));
    assert_int_equal(outbox_room(outbox), 0);
    outbox_unreserve(outbox, 60);
    ASSERT_OK(put(outbox, 2, 60, 0));
    assert_int_equal(put(outbox, 2, 0, 0), STATUS_EXISTS);
    outbox_check(outbox);
    assert_true(answered(outbox, 1));
    assert_false(answered(outbox, 1)); /* an answer that comes twice is fine */
    assert_int_equal(outbox_room(outbox), 40);
    outbox_check(outbox);
    outbox_destroy(&outbox);
    assert_null(outbox);
    outbox_destroy(&outbox);
}

static void an_entry_stays_until_it_is_answered(void **state) {
    (void)state;
    struct outbox *outbox = NULL;
    ASSERT_OK(outbox_create(1000, &outbox));
    ASSERT_OK(put(outbox, 7, 3, 10));
    struct outbox_entry *entry = outbox_due(outbox, 10, 100);
    assert_non_null(entry);
    assert_memory_equal(entry->frame, "\7\7\7", 3);
    outbox_sent(outbox, entry, 50, 20);
    assert_null(outbox_due(outbox, 119, 100));
    assert_ptr_equal(outbox_due(outbox, 120, 100), entry); /* no answer for too long */
    outbox_sent(outbox, entry, 51, 120);
    assert_int_equal(entry->sends, 2);
    assert_int_equal(outbox_lost(outbox, 50), 0);
    assert_null(outbox_due(outbox, 121, 100));
    assert_int_equal(outbox_lost(outbox, 51), 1);
    assert_ptr_equal(outbox_due(outbox, 121, 100), entry);
    struct work_key other = key_of(8);
    assert_false(outbox_remove(outbox, &other, 7)); /* another slot's answer */
    assert_int_equal(outbox_age_ms(outbox, 130), 120);
    assert_true(answered(outbox, 7));
    assert_int_equal(outbox_age_ms(outbox, 130), 0);
    outbox_check(outbox);
    outbox_destroy(&outbox);
}

static void the_oldest_is_due_first_also_after_a_loss(void **state) {
    (void)state;
    struct outbox *outbox = NULL;
    ASSERT_OK(outbox_create(1000, &outbox));
    for (uint64_t lease = 1; lease <= 6; lease++)
        ASSERT_OK(put(outbox, lease, 1, (int64_t)lease));
    for (uint64_t lease = 1; lease <= 4; lease++) {
        struct outbox_entry *entry = outbox_due(outbox, 9, 100);
        assert_int_equal(entry->lease, lease);
        outbox_sent(outbox, entry, 100 + lease % 2, 9);
    }
    assert_int_equal(outbox_lost(outbox, 101), 2); /* leases 1 and 3 */
    outbox_check(outbox);
    static const uint64_t expected[] = {1, 3, 5, 6};
    for (size_t i = 0; i < 4; i++) {
        struct outbox_entry *entry = outbox_due(outbox, 10, 100);
        assert_int_equal(entry->lease, expected[i]);
        outbox_sent(outbox, entry, 103, 10);
    }
    struct outbox_entry *entry = NULL;
    for (uint64_t lease = 1; lease <= 6; lease++) {
        entry = outbox_next(outbox, entry);
        assert_int_equal(entry->lease, lease);
    }
    assert_null(outbox_next(outbox, entry));
    assert_true(outbox_remove_lease(outbox, 3));
    assert_false(outbox_remove_lease(outbox, 3));
    assert_int_equal(outbox_clear(outbox), 5);
    assert_int_equal(outbox_bytes(outbox), 0);
    outbox_check(outbox);
    outbox_destroy(&outbox);
}

/* Sends, losses and answers in random order: every entry is answered in the end, none is sent after its answer. */
static void nothing_is_lost_in_any_order(void **state) {
    (void)state;
    struct rng_key rng = {.seed = 3, .stream = RNG_TEST};
    struct outbox *outbox = NULL;
    ASSERT_OK(outbox_create(500, &outbox));
    bool gone[400] = {false};
    uint64_t next = 1;
    uint32_t position = 0;
    for (int64_t now = 0; now < 60000; now++) {
        switch (rng_below(&rng, position++, 4)) {
        case 0:
            if (next < 400 && put(outbox, next, 1 + next % 20, now) == STATUS_OK)
                next++;
            break;
        case 1:
            outbox_lost(outbox, 1 + rng_below(&rng, position++, 3));
            break;
        case 2: {
            struct outbox_entry *entry = NULL;
            for (uint32_t steps = rng_below(&rng, position++, outbox_count(outbox) + 1); steps > 0; steps--)
                entry = outbox_next(outbox, entry);
            if (entry && entry->receiver) {
                uint64_t lease = entry->lease;
                gone[lease] = answered(outbox, lease);
            }
            break;
        }
        default: {
            struct outbox_entry *entry = outbox_due(outbox, now, 50);
            if (entry) {
                assert_false(gone[entry->lease]);
                outbox_sent(outbox, entry, 1 + rng_below(&rng, position++, 3), now);
            }
        }
        }
        outbox_check(outbox);
    }
    uint32_t left = outbox_count(outbox), answers = 0;
    for (uint64_t lease = 1; lease < next; lease++)
        answers += gone[lease];
    assert_int_equal(answers + left, next - 1);
    assert_int_equal(next, 400);
    outbox_destroy(&outbox);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_bounded_and_reserved_before),
        cmocka_unit_test(an_entry_stays_until_it_is_answered),
        cmocka_unit_test(the_oldest_is_due_first_also_after_a_loss),
        cmocka_unit_test(nothing_is_lost_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
