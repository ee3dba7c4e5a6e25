#include "tests/support/test.h"

#include "common/base/rng.h"
#include "learner/microbatch.h"

static void groups_are_packed_greedily_in_order(void **state) {
    (void)state;
    static const struct microbatch_weight weights[] = {{4, 3}, {4, 3}, {4, 3}, {12, 11}, {1, 1}, {9, 9}};
    struct microbatch batches[6];
    assert_int_equal(microbatch_cut(weights, 6, 10, batches), 4);
    static const struct microbatch want[] = {{0, 2}, {2, 1}, {3, 1}, {4, 2}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(batches[i].first, want[i].first);
        assert_int_equal(batches[i].count, want[i].count);
    }
}

static void targets_are_limited_too(void **state) {
    (void)state;
    /* many answers of one token: no rows of their own, but each a target */
    static const struct microbatch_weight weights[] = {{3, 8}, {3, 8}};
    struct microbatch batches[2];
    assert_int_equal(microbatch_cut(weights, 2, 10, batches), 2);
}

static void every_group_is_in_exactly_one_batch_within_the_limit(void **state) {
    (void)state;
    struct rng_key key = {.seed = 3, .stream = RNG_TEST};
    for (uint32_t round = 0; round < 200; round++) {
        struct microbatch_weight weights[40];
        struct microbatch batches[40];
        key.step = round;
        uint32_t count = rng_below(&key, 100, 41), limit = 1 + rng_below(&key, 101, 100);
        for (uint32_t g = 0; g < count; g++)
            weights[g] = (struct microbatch_weight){rng_below(&key, 2 * g, 60), rng_below(&key, 2 * g + 1, 60)};
        uint32_t cut = microbatch_cut(weights, count, limit, batches), next = 0;
        for (uint32_t b = 0; b < cut; b++) {
            uint32_t rows = 0, targets = 0;
            assert_int_equal(batches[b].first, next);
            assert_true(batches[b].count > 0);
            for (uint32_t g = next; g < next + batches[b].count; g++) {
                rows += weights[g].rows;
                targets += weights[g].targets;
            }
            assert_true(batches[b].count == 1 || (rows <= limit && targets <= limit));
            struct microbatch_weight most = microbatch_most((struct microbatch_weight){60, 60}, limit);
            assert_true(rows <= most.rows && targets <= most.targets);
            next += batches[b].count;
        }
        assert_int_equal(next, count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_packed_greedily_in_order),
        cmocka_unit_test(targets_are_limited_too),
        cmocka_unit_test(every_group_is_in_exactly_one_batch_within_the_limit),
    };
    return cmocka_run_group_tests_name("microbatch", tests, NULL, NULL);
}
