/* AdamW with split masters, the sum of squares, the digest. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

#include "common/compute/digest.h"

#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

static const struct adamw_step steps[] = {
    {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f},
    {1e-6f, 0.9f, 0.95f, 1e-6f, 0.19f, 0.0975f, 0.25f},
};

static void adamw_is_near_the_reference_and_alike_on_every_path(void **state) {
    (void)state;
    enum { COUNT = 1003 };
    for (int s = 0; s < 2; s++) {
        const struct adamw_step *step = &steps[s];
        float *w = random_floats(COUNT), *g = random_floats(COUNT), *m = random_floats(COUNT), *v = floats(COUNT),
              *first[3] = {NULL};
        double *want_w = bytes_of(COUNT * 8), *want_m = bytes_of(COUNT * 8), *want_v = bytes_of(COUNT * 8);
        for (int i = 0; i < COUNT; i++) {
            v[i] = random_uniform();
            double scaled = (double)g[i] * (double)step->grad_scale;
            want_m[i] = (double)step->beta1 * (double)m[i] + (1 - (double)step->beta1) * scaled;
            want_v[i] = (double)step->beta2 * (double)v[i] + (1 - (double)step->beta2) * scaled * scaled;
            double update =
                want_m[i] / (double)step->bias1 / (sqrt(want_v[i] / (double)step->bias2) + (double)step->eps);
            want_w[i] = (double)w[i] - (double)step->lr * update;
        }
        EACH_DEVICE(d) {
            float *w2 = copy_floats(w, COUNT), *m2 = copy_floats(m, COUNT), *v2 = copy_floats(v, COUNT),
                  *g2 = copy_floats(g, COUNT);
            devices[d]->ops->adamw(devices[d], w2, DTYPE_F32, NULL, m2, v2, g2, COUNT, step);
            assert_close(w2, want_w, COUNT, 1e-6, 1e-2, "w");
            assert_close(m2, want_m, COUNT, 1e-6, 1e-2, "m");
            assert_close(v2, want_v, COUNT, 1e-6, 1e-2, "v");
            assert_same_bits(g2, g, COUNT, "g is not changed");
            float *now[3] = {w2, m2, v2};
            for (int i = 0; i < 3; i++) {
                first[i] = first[i] == NULL ? now[i] : first[i];
                assert_same_bits(now[i], first[i], COUNT, devices[d]->name);
            }
        }
        fixture_free_all(NULL);
    }
}

static void split(float value, uint16_t *w, uint16_t *rem) {
    uint32_t bits = bits_of_f32(value);
    *w = (uint16_t)((bits + 0x8000u) >> 16);
    *rem = (uint16_t)(bits - ((uint32_t)*w << 16));
}

/* A split master goes through the steps of an fp32 master: same bits after each. */
static void split_masters_are_fp32_masters(void **state) {
    (void)state;
    enum { COUNT = 777 };
    EACH_DEVICE(d) {
        float *w = random_floats(COUNT), *m = floats(COUNT), *v = floats(COUNT), *m2 = floats(COUNT),
              *v2 = floats(COUNT);
        uint16_t *high = bytes_of(COUNT * 2), *rem = bytes_of(COUNT * 2), want_high, want_rem;
        for (int i = 0; i < COUNT; i++)
            split(w[i], &high[i], &rem[i]);
        for (int s = 0; s < 20; s++) {
            float *g = random_floats(COUNT);
            devices[d]->ops->adamw(devices[d], w, DTYPE_F32, NULL, m, v, g, COUNT, &steps[s % 2]);
            devices[d]->ops->adamw(devices[d], high, DTYPE_BF16, rem, m2, v2, g, COUNT, &steps[s % 2]);
            assert_same_bits(m2, m, COUNT, "m");
            for (int i = 0; i < COUNT; i++) {
                split(w[i], &want_high, &want_rem);
                assert_int_equal(high[i], want_high);
                assert_int_equal(rem[i], want_rem);
            }
        }
        fixture_free_all(NULL);
    }
}

/* One rounded product, on masters of either kind, and nothing beyond count. */
static void decay_multiplies_the_masters(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 16, 777};
    EACH_DEVICE(d)
    for (int c = 0; c < 3; c++) {
        int64_t count = counts[c];
        float *w = random_floats(count + 1), *before = copy_floats(w, count + 1);
        uint16_t *high = bytes_of((size_t)count * 2 + 2), *rem = bytes_of((size_t)count * 2 + 2), want_high, want_rem;
        for (int64_t i = 0; i <= count; i++)
            split(w[i], &high[i], &rem[i]);
        devices[d]->ops->decay(devices[d], w, DTYPE_F32, NULL, count, 0.999f);
        devices[d]->ops->decay(devices[d], high, DTYPE_BF16, rem, count, 0.999f);
        for (int64_t i = 0; i <= count; i++) {
            float want = i < count ? before[i] * 0.999f : before[i];
            assert_true(bits_of_f32(w[i]) == bits_of_f32(want));
            split(want, &want_high, &want_rem);
            assert_true(high[i] == want_high && rem[i] == want_rem);
        }
        fixture_free_all(NULL);
    }
}

/* A step of learning rate 0 joins and splits: nothing may change. Patterns of every exponent, sign, and of the ties. */
static void split_and_join_lose_nothing(void **state) {
    (void)state;
    enum { COUNT = 2 * 256 * 64 };
    static const uint32_t tails[8] = {0x7fff, 0x8000, 0x8001, 0x17fff, 0x18000, 0x18001, 0, 0xffff};
    EACH_DEVICE(d) {
        struct adamw_step still = {0.0f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f};
        float *m = floats(COUNT), *v = floats(COUNT), *g = floats(COUNT);
        uint16_t *high = bytes_of(COUNT * 2), *rem = bytes_of(COUNT * 2), *high0, *rem0;
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t bits = (i / 64) << 23 | (uint32_t)(random_below(128) << 16);
            bits = (bits & ~0x1ffffu) | (i % 64 < 8 ? tails[i % 8] : (uint32_t)random_below(0x20000));
            if ((bits & 0x7fffffff) >= 0x7f7f8000) /* would round to infinity */
                bits = 0;
            split(f32_of_bits(bits), &high[i], &rem[i]);
            float near = f32_of_bf16(high[i]), exact = f32_of_bits(bits);
            float other = f32_of_bits((bits & 0xffff0000u) == (uint32_t)high[i] << 16 ? ((uint32_t)high[i] + 1) << 16
                                                                                      : bits & 0xffff0000u);
            if (fabs((double)near - (double)exact) > fabs((double)other - (double)exact))
                fail_msg("%08x is held as %04x: the other neighbour is nearer", bits, high[i]);
        }
        high0 = bytes_of(COUNT * 2);
        rem0 = bytes_of(COUNT * 2);
        memcpy(high0, high, COUNT * 2);
        memcpy(rem0, rem, COUNT * 2);
        devices[d]->ops->adamw(devices[d], high, DTYPE_BF16, rem, m, v, g, COUNT, &still);
        for (int i = 0; i < COUNT; i++)
            if (high[i] != high0[i] || rem[i] != rem0[i]) {
                bool zero = (high0[i] & 0x7fff) == 0 && rem0[i] == 0; /* -0 - 0*u may become 0 */
                if (!zero)
                    fail_msg("%04x+%04x became %04x+%04x", high0[i], rem0[i], high[i], rem[i]);
            }
        fixture_free_all(NULL);
    }
}

static void sum_of_squares_is_exact_and_passes_on_what_is_not_finite(void **state) {
    (void)state;
    enum { COUNT = 200003 };
    float *g = random_integers(COUNT, 1000);
    double want = 0, got;
    for (int i = 0; i < COUNT; i++)
        want += (double)g[i] * (double)g[i];
    float *h = random_floats(COUNT);
    double first = 0;
    EACH_DEVICE(d) {
        devices[d]->ops->sum_squares(devices[d], &got, g, COUNT);
        assert_true(got == want);
        devices[d]->ops->sum_squares(devices[d], &got, h, COUNT);
        first = d == 0 ? got : first;
        assert_true(got == first);
        devices[d]->ops->sum_squares(devices[d], &got, g, 0);
        assert_true(got == 0);
        h[COUNT - 1] = INFINITY;
        devices[d]->ops->sum_squares(devices[d], &got, h, COUNT);
        assert_true(got == (double)INFINITY);
        h[70000] = NAN;
        devices[d]->ops->sum_squares(devices[d], &got, h, COUNT);
        if (!isnan(got))
            fail_msg("a NaN is lost: %g", got);
        h[COUNT - 1] = h[70000] = 0.5f;
        devices[d]->ops->sum_squares(devices[d], &got, h, COUNT);
        first = got;
        h[COUNT - 1] = h[70000] = 0.5f;
    }
}

static void assert_digest(struct digest got, struct digest want) {
    if (!digest_equal(got, want))
        fail_msg("digest %016llx%016llx, want %016llx%016llx", (unsigned long long)got.high,
                 (unsigned long long)got.low, (unsigned long long)want.high, (unsigned long long)want.low);
}

static void digest_is_the_sum_of_the_mixes_wherever_it_is_cut(void **state) {
    (void)state;
    enum { COUNT = 70001 };
    uint16_t *w = to_bf16(random_floats(COUNT), COUNT);
    float *wide = random_floats(COUNT);
    struct digest want = {0, 0}, want32 = {0, 0}, got;
    for (int i = 0; i < COUNT; i++) {
        want = digest_add(want, digest_mix16((uint64_t)i, w[i]));
        want32 = digest_add(want32, digest_mix32((uint64_t)i, bits_of_f32(wide[i])));
    }
    EACH_DEVICE(d) {
        devices[d]->ops->digest(devices[d], &got, w, DTYPE_BF16, 0, COUNT);
        assert_digest(got, want);
        devices[d]->ops->digest(devices[d], &got, wide, DTYPE_F32, 0, COUNT);
        assert_digest(got, want32);
        for (int64_t cut = 0; cut < 13; cut++) {
            struct digest a, b, c;
            devices[d]->ops->digest(devices[d], &a, w, DTYPE_BF16, 0, cut);
            devices[d]->ops->digest(devices[d], &b, w + cut, DTYPE_BF16, cut, 65538);
            devices[d]->ops->digest(devices[d], &c, w + cut + 65538, DTYPE_BF16, cut + 65538, COUNT - cut - 65538);
            assert_digest(digest_add(digest_add(a, b), c), want);
            devices[d]->ops->digest(devices[d], &a, wide, DTYPE_F32, 0, cut);
            devices[d]->ops->digest(devices[d], &b, wide + cut, DTYPE_F32, cut, COUNT - cut);
            assert_digest(digest_add(a, b), want32);
        }
    }
}

static void a_delta_updates_the_digest_alone(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    uint16_t *w = to_bf16(random_floats(COUNT), COUNT);
    struct digest before, after, delta;
    devices[0]->ops->digest(devices[0], &before, w, DTYPE_BF16, 0, COUNT);
    delta = before;
    for (int i = 0; i < 300; i++) {
        uint64_t at = (uint64_t)random_below(COUNT);
        uint16_t now = (uint16_t)random_below(65536);
        delta = digest_add(digest_subtract(delta, digest_mix16(at, w[at])), digest_mix16(at, now));
        w[at] = now;
    }
    devices[0]->ops->digest(devices[0], &after, w, DTYPE_BF16, 0, COUNT);
    assert_digest(delta, after);
    assert_false(digest_equal(before, after));
}

/* One flipped bit, or two elements that changed places, are another digest. */
static void small_changes_change_the_digest(void **state) {
    (void)state;
    enum { COUNT = 400 };
    uint16_t *w = to_bf16(random_floats(COUNT), COUNT);
    struct digest before, after;
    devices[0]->ops->digest(devices[0], &before, w, DTYPE_BF16, 0, COUNT);
    for (int i = 0; i < COUNT; i++) {
        for (int bit = 0; bit < 16; bit++) {
            w[i] ^= (uint16_t)(1 << bit);
            devices[0]->ops->digest(devices[0], &after, w, DTYPE_BF16, 0, COUNT);
            assert_false(digest_equal(before, after));
            w[i] ^= (uint16_t)(1 << bit);
        }
        int j = (i + 1 + random_below(COUNT - 1)) % COUNT;
        uint16_t held = w[i];
        if (w[i] == w[j])
            continue;
        w[i] = w[j];
        w[j] = held;
        devices[0]->ops->digest(devices[0], &after, w, DTYPE_BF16, 0, COUNT);
        assert_false(digest_equal(before, after));
        w[j] = w[i];
        w[i] = held;
    }
}

static void memory_is_zeroed_aligned_and_copied(void **state) {
    (void)state;
    struct device *device = devices[0];
    for (size_t bytes = 0; bytes < 5000000; bytes = bytes * 7 + 1) {
        void *a, *b;
        assert_int_equal(device->ops->allocate(device, bytes, &a), STATUS_OK);
        assert_int_equal(device->ops->allocate(device, bytes, &b), STATUS_OK);
        assert_true((uintptr_t)a % 64 == 0);
        unsigned char *host = bytes_of(bytes), *back = bytes_of(bytes);
        for (size_t i = 0; i < bytes; i++) {
            host[i] = (unsigned char)(i * 7);
            assert_true(((unsigned char *)a)[i] == 0);
        }
        device->ops->upload(device, a, host, bytes);
        device->ops->copy(device, b, a, bytes);
        device->ops->zero(device, a, bytes);
        device->ops->download(device, back, b, bytes);
        assert_int_equal(device->ops->synchronize(device), STATUS_OK);
        if (bytes > 0)
            assert_memory_equal(back, host, bytes);
        device->ops->release(device, a);
        device->ops->release(device, b);
    }
    void *never = NULL;
    assert_int_equal(device->ops->allocate(device, SIZE_MAX - 10, &never), STATUS_NO_MEMORY);
    assert_null(never);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(adamw_is_near_the_reference_and_alike_on_every_path),
        TEST(split_masters_are_fp32_masters),
        TEST(decay_multiplies_the_masters),
        TEST(split_and_join_lose_nothing),
        TEST(sum_of_squares_is_exact_and_passes_on_what_is_not_finite),
        TEST(digest_is_the_sum_of_the_mixes_wherever_it_is_cut),
        TEST(a_delta_updates_the_digest_alone),
        TEST(small_changes_change_the_digest),
        TEST(memory_is_zeroed_aligned_and_copied),
    };
    return cmocka_run_group_tests_name("flat buffers", tests, devices_open, devices_close);
}
