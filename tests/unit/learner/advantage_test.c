#include "tests/support/test.h"

#include <math.h>

#include "learner/advantage.h"

static void near(float got, double want) {
    if (fabs((double)got - want) > 1e-6 * (1 + fabs(want)))
        fail_msg("got %.9g, want %.9g", (double)got, want);
}

static void group_std_is_bessel_and_eps_is_added_after_the_root(void **state) {
    (void)state;
    /* objective reference 1.10 */
    static const float rewards[] = {1, 0, 0, 0, 1, .5f, 0, 0};
    static const uint32_t counts[] = {4, 4};
    static const double want[] = {1.499700, -.499900, -.499900, -.499900, 1.305310, .261062, -.783186, -.783186};
    float advantages[8];
    bool dead[2];
    struct advantage_stats stats;
    advantage_compute(SCALE_GROUP, 1e-4, rewards, counts, 2, advantages, dead, &stats);
    for (int i = 0; i < 8; i++)
        near(advantages[i], want[i]);
    assert_false(dead[0] || dead[1]);
    assert_int_equal(stats.scored, 8);
    near((float)stats.group_std_mean, (.5 + .478714) / 2);
}

static void one_right_of_twenty(void **state) {
    (void)state;
    float rewards[20] = {1}, advantages[20];
    uint32_t count = 20;
    bool dead;
    struct advantage_stats stats;
    advantage_compute(SCALE_GROUP, 1e-4, rewards, &count, 1, advantages, &dead, &stats);
    near(advantages[0], 4.246630);
    near(advantages[19], -.223507);
}

static void equal_rewards_give_exactly_zero_at_every_scale(void **state) {
    (void)state;
    /* .95 has no exact sum: subtracting a mean would leave noise, and dividing by its std make it large. */
    float rewards[] = {.95f, .95f, .95f, .95f, .95f, 1, 0, 0, 0, 0}, advantages[10];
    static const uint32_t counts[] = {5, 5};
    static const enum advantage_scale scales[] = {SCALE_GROUP, SCALE_BATCH, SCALE_NONE};
    for (int s = 0; s < 3; s++) {
        bool dead[2];
        struct advantage_stats stats;
        advantage_compute(scales[s], 1e-4, rewards, counts, 2, advantages, dead, &stats);
        for (int i = 0; i < 5; i++)
            assert_true(advantages[i] == 0.0f);
        assert_true(dead[0]);
        assert_false(dead[1]);
        assert_int_equal(stats.dead_groups, 1);
        assert_true(advantages[5] > 0 && advantages[6] < 0);
    }
}

static void unscorable_rows_are_left_out_and_get_zero(void **state) {
    (void)state;
    float rewards[] = {1, NAN, 0, 0, 0, INFINITY}, advantages[6];
    uint32_t count = 6;
    bool dead;
    struct advantage_stats stats;
    advantage_compute(SCALE_GROUP, 1e-4, rewards, &count, 1, advantages, &dead, &stats);
    near(advantages[0], 1.499700);
    near(advantages[4], -.499900);
    assert_true(advantages[1] == 0.0f && advantages[5] == 0.0f);
    assert_int_equal(stats.unscorable, 2);
    assert_int_equal(stats.scored, 4);
}

static void a_group_without_a_scored_row_or_without_rows_is_dead(void **state) {
    (void)state;
    float rewards[] = {NAN, NAN, 1, 0}, advantages[4];
    static const uint32_t counts[] = {2, 0, 2};
    bool dead[3];
    struct advantage_stats stats;
    advantage_compute(SCALE_BATCH, 1e-4, rewards, counts, 3, advantages, dead, &stats);
    assert_true(dead[0] && dead[1] && !dead[2]);
    assert_true(advantages[0] == 0.0f && advantages[1] == 0.0f);
    near(advantages[2], .5 / (.707106781 + 1e-4));
}

static void batch_scale_takes_one_std_over_all_rewards(void **state) {
    (void)state;
    /* mean of each group, std of (1,0,0,0,1,1,1,0) = .534522 */
    float rewards[] = {1, 0, 0, 0, 1, 1, 1, 0}, advantages[8];
    static const uint32_t counts[] = {4, 4};
    bool dead[2];
    struct advantage_stats stats;
    advantage_compute(SCALE_BATCH, 1e-4, rewards, counts, 2, advantages, dead, &stats);
    near(advantages[0], .75 / (.53452248 + 1e-4));
    near(advantages[4], .25 / (.53452248 + 1e-4));
    advantage_compute(SCALE_NONE, 1e-4, rewards, counts, 2, advantages, dead, &stats);
    near(advantages[0], .75);
    near(advantages[7], -.75);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_std_is_bessel_and_eps_is_added_after_the_root),
        cmocka_unit_test(one_right_of_twenty),
        cmocka_unit_test(equal_rewards_give_exactly_zero_at_every_scale),
        cmocka_unit_test(unscorable_rows_are_left_out_and_get_zero),
        cmocka_unit_test(a_group_without_a_scored_row_or_without_rows_is_dead),
        cmocka_unit_test(batch_scale_takes_one_std_over_all_rewards),
    };
    return cmocka_run_group_tests_name("advantage", tests, NULL, NULL);
}
