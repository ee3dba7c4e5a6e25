/* The rotary table agrees with libm in long double. */
#include "tests/support/test.h"

#include <math.h>

#include "common/model/rope.h"

static void check_position(const float *table, int32_t row, int64_t position, int32_t head_dim, double theta) {
    for (int32_t i = 0; i < head_dim / 2; i++) {
        long double angle = (long double)position * powl((long double)theta, -2.0L * i / head_dim);
        const float *pair = table + ((int64_t)row * (head_dim / 2) + i) * 2;
        /* half an ulp of fp32 below 1, and 1e-9 for the angle's own rounding */
        if (fabsl(pair[0] - cosl(angle)) > 3.1e-8L || fabsl(pair[1] - sinl(angle)) > 3.1e-8L)
            fail_msg("position %lld, pair %d: %.9g %.9g, not %.9Lg %.9Lg", (long long)position, i, (double)pair[0],
                     (double)pair[1], cosl(angle), sinl(angle));
    }
}

static void the_table_holds_cos_and_sin(void **state) {
    (void)state;
    for (int32_t head_dim = 64; head_dim <= 128; head_dim *= 2) {
        enum { POSITIONS = 40000 };
        float *table = malloc((size_t)POSITIONS * (size_t)head_dim * sizeof *table);
        rope_table_fill(table, POSITIONS, head_dim, 1e6);
        for (int32_t p = 0; p < POSITIONS; p += p < 200 ? 1 : 997)
            check_position(table, p, p, head_dim, 1e6);
        check_position(table, POSITIONS - 1, POSITIONS - 1, head_dim, 1e6);
        free(table);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_table_holds_cos_and_sin)};
    return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
