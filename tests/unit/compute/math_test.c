/* exp, log, rsqrt against libm in double; scalar and vector twins bit for bit (through softmax-like operations of each
 * path). */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

/* Distance in units of the last place of the wanted value. */
static double ulps(float got, double want) {
    float near = (float)want;
    double unit = (double)nextafterf(fabsf(near), INFINITY) - (double)fabsf(near);
    return fabs((double)got - want) / unit;
}

/* Every 97th float of the range in which e^x is a normal number. */
static void exp_is_near_and_never_falls(void **state) {
    (void)state;
    double worst = 0;
    float before = 0;
    for (uint32_t bits = bits_of_f32(87.3f); bits > 97; bits -= 97) {
        float x = -f32_of_bits(bits), y = exp_f32(x);
        worst = fmax(worst, ulps(y, exp((double)x)));
        assert_true(y >= before && y <= 1.0f);
        before = y;
    }
    for (uint32_t bits = 0; bits < bits_of_f32(88.7f); bits += 97) {
        float x = f32_of_bits(bits), y = exp_f32(x);
        worst = fmax(worst, ulps(y, exp((double)x)));
        assert_true(y >= before);
        before = y;
    }
    if (worst > 1.1)
        fail_msg("exp_f32 is %.3f ulp away somewhere", worst);
}

static void exp_at_the_ends(void **state) {
    (void)state;
    assert_true(exp_f32(0.0f) == 1.0f && exp_f32(-0.0f) == 1.0f);
    assert_true(exp_f32(-INFINITY) == 0.0f && exp_f32(-1e30f) == 0.0f && exp_f32(-88.0f) == 0.0f);
    assert_true(exp_f32(INFINITY) == INFINITY && exp_f32(89.0f) == INFINITY && exp_f32(1e30f) == INFINITY);
    assert_true(isnan(exp_f32(NAN)) && isfinite(exp_f32(88.72f)) && exp_f32(-87.3f) > 0.0f);
}

static void log_is_near_and_never_falls(void **state) {
    (void)state;
    double worst = 0;
    float before = -INFINITY;
    for (uint32_t bits = 1; bits < 0x7f800000u; bits += bits < 0x3f000000u || bits > 0x40000000u ? 997 : 13) {
        float x = f32_of_bits(bits), y = log_f32(x);
        worst = fmax(worst, fabs((double)y) < 1e-3 ? 0 : ulps(y, log((double)x)));
        if (y < before)
            fail_msg("log_f32(%.9g) = %.9g falls below %.9g", (double)x, (double)y, (double)before);
        before = y;
    }
    if (worst > 1.0)
        fail_msg("log_f32 is %.3f ulp away somewhere", worst);
    assert_true(log_f32(1.0f) == 0.0f && log_f32(0.0f) == -INFINITY && log_f32(INFINITY) == INFINITY);
    if (!isnan(log_f32(-1.0f)) || !isnan(log_f32(NAN)) || !isnan(log_f32(-INFINITY)))
        fail_msg("log_f32 outside its domain is not a NaN");
}

static void rsqrt_is_the_rounded_quotient(void **state) {
    (void)state;
    for (int i = 0; i < 10000; i++) {
        float x = random_uniform() * 100.0f;
        assert_true(ulps(rsqrt_f32(x), 1.0 / sqrt((double)x)) <= 1.5);
    }
    assert_true(rsqrt_f32(4.0f) == 0.5f && rsqrt_f32(INFINITY) == 0.0f);
}

/* p of a row of logits with lse 0 and dlp -1 is v16_exp of each logit: the vector twin of every path, element by
 * element. */
static void vector_exp_has_the_bits_of_the_scalar(void **state) {
    (void)state;
    enum { V = 4096 };
    float *x = floats(V), *y = floats(V), *want = floats(V), zero = 0.0f, minus = -1.0f;
    int32_t target = V - 1;
    for (uint32_t chunk = 0; chunk < 128; chunk++) {
        for (uint32_t i = 0; i < V; i++) {
            x[i] = f32_of_bits((chunk * V + i) * 8191u);
            want[i] = exp_f32(x[i]);
        }
        x[V - 1] = -INFINITY;
        want[V - 1] = -1.0f;
        for (int d = 0; d < device_count; d += 2) {
            devices[d]->ops->logprob_backward(devices[d], y, x, &zero, &minus, &target, 1, V, V, 1.0f);
            assert_same_bits(y, want, V, devices[d]->name);
        }
    }
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    assert_int_equal(bf16_of_f32(1.0f), 0x3f80);
    assert_int_equal(bf16_of_f32(f32_of_bits(0x3f808000)), 0x3f80);
    assert_int_equal(bf16_of_f32(f32_of_bits(0x3f818000)), 0x3f82);
    assert_int_equal(bf16_of_f32(f32_of_bits(0x3f808001)), 0x3f81);
    assert_int_equal(bf16_of_f32(INFINITY), 0x7f80);
    assert_int_equal(bf16_of_f32(f32_of_bits(0x7f7fffff)), 0x7f80);
    assert_true((bf16_of_f32(f32_of_bits(0x7f800001)) & 0x7fff) > 0x7f80);
    for (uint32_t i = 0; i < 65536; i++)
        if ((i & 0x7fff) <= 0x7f80)
            assert_int_equal(bf16_of_f32(f32_of_bf16((uint16_t)i)), i);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(exp_is_near_and_never_falls),           TEST(exp_at_the_ends),
        TEST(log_is_near_and_never_falls),           TEST(rsqrt_is_the_rounded_quotient),
        TEST(vector_exp_has_the_bits_of_the_scalar), TEST(bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests_name("math", tests, devices_open, devices_close);
}
