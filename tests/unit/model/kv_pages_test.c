/* kv_pages: invariants P1 to P3 under a random life of sequences. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/model/kv_pages.h"

static void a_fork_shares_full_pages_and_copies_the_last(void **state) {
    (void)state;
    struct kv_pages kv;
    int32_t parent, child, from, to;
    ASSERT_OK(kv_pages_init(&kv, 8, 4, 4));
    ASSERT_OK(kv_pages_open(&kv, &parent));
    struct kv_sequence *p = &kv.sequences[parent];
    kv_pages_grow(&kv, p, 70);
    p->length = 70;
    assert_int_equal(kv.free_count, 5);
    ASSERT_OK(kv_pages_fork(&kv, parent, 70, &child, &from, &to));
    const struct kv_sequence *c = &kv.sequences[child];
    assert_int_equal(kv.free_count, 4);
    assert_int_equal(c->pages[0], p->pages[0]);
    assert_int_equal(c->pages[1], p->pages[1]);
    assert_int_equal(from, p->pages[2]);
    assert_int_equal(to, c->pages[2]);
    assert_int_not_equal(from, to);
    kv_pages_check(&kv);
    kv_pages_close(&kv, parent);
    assert_int_equal(kv.free_count, 5); /* the shared ones live on */
    kv_pages_check(&kv);
    ASSERT_OK(kv_pages_fork(&kv, child, 64, &parent, &from, &to));
    assert_int_equal(from, -1); /* at a page's end there is nothing to copy */
    assert_int_equal(kv.free_count, 5);
    kv_pages_check(&kv);
    kv_pages_deinit(&kv);
}

static void shortage_changes_nothing(void **state) {
    (void)state;
    struct kv_pages kv;
    int32_t a, b, from, to;
    ASSERT_OK(kv_pages_init(&kv, 1, 2, 4));
    ASSERT_OK(kv_pages_open(&kv, &a));
    kv_pages_grow(&kv, &kv.sequences[a], 5);
    kv.sequences[a].length = 5;
    ASSERT_FAILS(STATUS_AGAIN, kv_pages_fork(&kv, a, 5, &b, &from, &to));
    ASSERT_OK(kv_pages_fork(&kv, a, 0, &b, &from, &to)); /* nothing to hold: no page */
    ASSERT_FAILS(STATUS_AGAIN, kv_pages_open(&kv, &b));
    kv_pages_check(&kv);
    kv_pages_deinit(&kv);
}

/* Opens, forks, appends and closes at random; P1 to P3 hold after every step and nothing leaks. */
static void invariants_hold_under_random_use(void **state) {
    (void)state;
    enum { SEQUENCES = 12, PAGES = 40, STEPS = 20000 };
    struct kv_pages kv;
    ASSERT_OK(kv_pages_init(&kv, PAGES, SEQUENCES, 8));
    const struct rng_key key = {.seed = 7, .stream = RNG_TEST};
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t words[4];
        rng_words(&key, step, words);
        int32_t s = (int32_t)(words[0] % SEQUENCES), made, from, to;
        struct kv_sequence *sequence = &kv.sequences[s];
        if (!sequence->open)
            kv_pages_open(&kv, &made);
        else if (words[1] % 8 == 0)
            kv_pages_close(&kv, s);
        else if (words[1] % 8 < 3)
            kv_pages_fork(&kv, s, sequence->length ? (int32_t)(words[2] % (uint32_t)sequence->length) : 0, &made, &from,
                          &to);
        else {
            int32_t more = (int32_t)(words[2] % 20);
            if (sequence->length + more <= 8 * KV_PAGE_TOKENS && kv_pages_missing(sequence, more) <= kv.free_count) {
                kv_pages_grow(&kv, sequence, more);
                sequence->length += more;
            }
        }
        kv_pages_check(&kv);
    }
    for (int32_t s = 0; s < SEQUENCES; s++) {
        if (kv.sequences[s].open)
            kv_pages_close(&kv, s);
    }
    assert_int_equal(kv.free_count, PAGES);
    assert_int_equal(kv.free_handles, SEQUENCES);
    kv_pages_deinit(&kv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_shares_full_pages_and_copies_the_last),
        cmocka_unit_test(shortage_changes_nothing),
        cmocka_unit_test(invariants_hold_under_random_use),
    };
    return cmocka_run_group_tests_name("kv_pages", tests, NULL, NULL);
}
