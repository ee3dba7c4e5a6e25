/* The table of leases alone. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/hub/lease_table.h"

/* Every lease is in a list of its peer and of its slot: one list each stands for all. */
static struct link held, slot;

static struct lease *grant(struct lease_table *table, int64_t now_ms) {
    struct lease *lease = lease_table_grant(table, now_ms, now_ms + 100);
    if (lease) {
        list_push_back(&held, &lease->of_peer);
        list_push_back(&slot, &lease->of_slot);
    }
    return lease;
}

static void numbers_rise_and_are_never_used_again(void **state) {
    (void)state;
    struct lease_table table;
    list_init(&held);
    list_init(&slot);
    ASSERT_OK(lease_table_init(&table, UINT64_MAX, 3));
    uint64_t last = 0, first = 0;
    for (int i = 0; i < 1000; i++) {
        struct lease *lease = grant(&table, i);
        assert_true(lease->number > last);
        first = first ? first : lease->number;
        assert_true(lease_table_knows(&table, lease->number));
        assert_ptr_equal(lease_table_find(&table, lease->number), lease);
        last = lease->number;
        lease_table_free(&table, lease);
        assert_null(lease_table_find(&table, last)); /* also while its place is used again */
    }
    assert_false(lease_table_knows(&table, 0));
    assert_false(lease_table_knows(&table, UINT64_MAX));
    assert_true(lease_table_knows(&table, first));
    lease_table_deinit(&table);
}

static void capacity_is_a_limit(void **state) {
    (void)state;
    struct lease_table table;
    list_init(&held);
    list_init(&slot);
    ASSERT_OK(lease_table_init(&table, 1, 2));
    struct lease *first = grant(&table, 0);
    assert_non_null(grant(&table, 0));
    assert_null(grant(&table, 0));
    lease_table_free(&table, first);
    assert_non_null(grant(&table, 0));
    assert_null(grant(&table, 0));
    lease_table_check(&table);
    lease_table_deinit(&table);
}

static void leases_expire_in_the_order_of_their_last_renewal(void **state) {
    (void)state;
    struct lease_table table;
    list_init(&held);
    list_init(&slot);
    ASSERT_OK(lease_table_init(&table, 1, 10));
    struct lease *a = grant(&table, 0), *b = grant(&table, 10), *c = grant(&table, 20);
    lease_table_renew(&table, a, 150);
    lease_table_check(&table);
    assert_null(lease_table_due(&table, 109));
    assert_ptr_equal(lease_table_due(&table, 110), b);
    lease_table_expire(&table, b);
    assert_ptr_equal(lease_table_due(&table, 120), c);
    lease_table_shift(&table, 1000, 1030, 100); /* the hub stood still from 30 to 1030 */
    assert_null(lease_table_due(&table, 1119));
    assert_int_equal(a->deadline_ms, 1130); /* as if granted now: it was renewed for later */
    assert_int_equal(c->granted_ms, 1020);
    lease_table_renew(&table, b, 500); /* alive after all; never before those that wait already */
    lease_table_check(&table);
    assert_true(b->deadline_ms >= a->deadline_ms);
    assert_ptr_equal(lease_table_due(&table, 1120), c);
    assert_ptr_equal(lease_table_by_age(&table, NULL), a);
    lease_table_close(&table, a);
    lease_table_check(&table);
    assert_ptr_equal(lease_table_by_age(&table, NULL), c);
    lease_table_deinit(&table);
}

static void any_order_of_events_keeps_the_lists_right(void **state) {
    (void)state;
    struct lease_table table;
    struct rng_key rng = {.seed = 5, .stream = RNG_TEST};
    uint64_t numbers[64] = {0};
    list_init(&held);
    list_init(&slot);
    ASSERT_OK(lease_table_init(&table, 77, 40));
    for (uint32_t i = 0; i < 20000; i++) {
        uint64_t *number = &numbers[rng_below(&rng, 2 * i, 64)];
        struct lease *lease = lease_table_find(&table, *number);
        int64_t now_ms = i;
        if (!lease) {
            lease = grant(&table, now_ms);
            if (lease)
                *number = lease->number;
        } else {
            uint32_t event = rng_below(&rng, 2 * i + 1, 4);
            if (event == 0 || lease->status == LEASE_STATUS_CLOSED)
                lease_table_free(&table, lease);
            else if (event == 1)
                lease_table_close(&table, lease);
            else if (event == 2 && lease->status == LEASE_STATUS_ACTIVE)
                lease_table_expire(&table, lease);
            else
                lease_table_renew(&table, lease, now_ms + 100);
        }
        lease_table_check(&table);
    }
    lease_table_deinit(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_rise_and_are_never_used_again),
        cmocka_unit_test(capacity_is_a_limit),
        cmocka_unit_test(leases_expire_in_the_order_of_their_last_renewal),
        cmocka_unit_test(any_order_of_events_keeps_the_lists_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
