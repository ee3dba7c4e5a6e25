/* AdamW with moments of eight bits: what is coded, that it follows AdamW in fp32, and that no code makes a step explode. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/compute/moments.h"

#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

static struct moment_tables tables;

static struct moments8 moments_of(int64_t count) {
    size_t blocks = (size_t)moment_blocks(count);
    return (struct moments8){bytes_of((size_t)count), bytes_of((size_t)count), floats((int64_t)blocks),
                             floats((int64_t)blocks)};
}

/* The fresh state in bits: 0 is code 127 in m, so all bytes 0 is "0 of nothing". */
static struct moments8 copy_moments(const struct moments8 *from, int64_t count) {
    struct moments8 to = moments_of(count);
    memcpy(to.m, from->m, (size_t)count);
    memcpy(to.v, from->v, (size_t)count);
    memcpy(to.m_most, from->m_most, (size_t)moment_blocks(count) * sizeof(float));
    memcpy(to.v_most, from->v_most, (size_t)moment_blocks(count) * sizeof(float));
    return to;
}

static float m_at(const struct moments8 *moments, int64_t i) {
    return tables.m.share[moments->m[i]] * moments->m_most[i / MOMENT_BLOCK];
}

static float v_at(const struct moments8 *moments, int64_t i) {
    return tables.v.share[moments->v[i]] * moments->v_most[i / MOMENT_BLOCK];
}

/* m becomes g, v becomes g^2, no weight is moved: the codes of numbers that the test chooses. */
static const struct adamw_step store = {0.0f, 0.0f, 0.0f, 1e-8f, 1.0f, 1.0f, 1.0f};

static void put(struct device *device, struct moments8 *moments, const float *g, int64_t count) {
    float *w = floats(count);
    device->ops->adamw8(device, w, DTYPE_F32, NULL, moments, g, count, &store);
}

static void shares_ascend_from_their_ends_to_zero(void **state) {
    (void)state;
    for (int i = 1; i < MOMENT_CODES; i++) {
        assert_true(tables.m.share[i] > tables.m.share[i - 1]);
        assert_true(tables.v.share[i] > tables.v.share[i - 1]);
    }
    assert_true(tables.m.share[MOMENT_ZERO_M] == 0.0f && tables.v.share[MOMENT_ZERO_V] == 0.0f);
    assert_true(tables.m.share[MOMENT_CODES - 1] == 1.0f && tables.v.share[MOMENT_CODES - 1] == 1.0f);
    for (int i = 1; i <= MOMENT_ZERO_M; i++)
        assert_true(tables.m.share[MOMENT_ZERO_M - i] == -tables.m.share[MOMENT_ZERO_M + i]);
}

/* The table of keys stands on this. */
static void a_key_has_one_border_at_most(void **state) {
    (void)state;
    for (uint32_t key = 0; key < MOMENT_KEYS; key++) {
        uint32_t next = key + 1 == MOMENT_KEYS_POSITIVE ? 0 : key + 1;
        bool negative = key >= MOMENT_KEYS_POSITIVE;
        if (next == 0 || next == MOMENT_KEYS)
            continue; /* 1 or -1 alone */
        int m = tables.m.below[negative ? key : next] - tables.m.below[negative ? next : key];
        int v = tables.v.below[negative ? key : next] - tables.v.below[negative ? next : key];
        if (m < 0 || m > 1 || v < 0 || v > 1)
            fail_msg("key %u: %d borders of m, %d of v", key, m, v);
    }
}

/* No other share is nearer; a division and a border are each rounded once, so two may be equally near to 2^-22 of the number. */
static void assert_nearest(const struct moment_codes *codes, int code, double share, const char *what) {
    double got = fabs((double)codes->share[code] - share);
    for (int other = 0; other < MOMENT_CODES; other++)
        if (got > fabs((double)codes->share[other] - share) + 0x1p-22 * fabs(share))
            fail_msg("%s: %.9g has code %d (%.9g), but %d (%.9g) is nearer", what, share, code,
                     (double)codes->share[code], other, (double)codes->share[other]);
}

/* In each block the first number is the greatest, of either sign, the others are borders, their neighbours among floats, and random ones of
 * every size. */
static void a_number_has_the_nearest_code(void **state) {
    (void)state;
    enum { BLOCKS = 16, COUNT = BLOCKS * MOMENT_BLOCK };
    float *g = floats(COUNT);
    for (int b = 0; b < BLOCKS; b++) {
        float most = b < 4 ? 1.0f : ldexpf(1.0f + random_uniform(), random_below(40) - 20);
        for (int i = 0; i < MOMENT_BLOCK; i++) {
            float border = tables.m.border[i % (MOMENT_CODES - 1)];
            float size = powf(10.0f, -8.0f * random_uniform());
            float chosen[4] = {border, nextafterf(border, 2.0f), nextafterf(border, -2.0f),
                               random_below(2) ? size : -size};
            g[b * MOMENT_BLOCK + i] = i == 0 ? (b % 2 ? -most : most) : most * (b < 3 ? chosen[b] : chosen[3]);
        }
    }
    EACH_DEVICE(d) {
        struct moments8 moments = moments_of(COUNT);
        put(devices[d], &moments, g, COUNT);
        for (int i = 0; i < COUNT; i++) {
            int block = i / MOMENT_BLOCK;
            float most = fabsf(g[block * MOMENT_BLOCK]);
            double m_share = (double)g[i] / (double)most, v_share = m_share * m_share;
            assert_true(moments.m_most[block] == most);
            assert_nearest(&tables.m, moments.m[i], m_share, "m");
            if (v_share > 5.5e-7) /* below it, see the test on small v */
                assert_nearest(&tables.v, moments.v[i], v_share, "v");
        }
    }
}

static void small_v_never_becomes_zero_and_zero_stays(void **state) {
    (void)state;
    float g[MOMENT_BLOCK] = {[0] = 1.0f, [1] = 1e-4f, [2] = -1e-10f, [3] = 1e-18f};
    EACH_DEVICE(d) {
        struct moments8 moments = moments_of(MOMENT_BLOCK);
        put(devices[d], &moments, g, MOMENT_BLOCK);
        for (int i = 1; i < 4; i++)
            assert_true(moments.v[i] == 1 && v_at(&moments, i) > 3e-7f);
        for (int i = 4; i < MOMENT_BLOCK; i++)
            assert_true(moments.v[i] == MOMENT_ZERO_V && moments.m[i] == MOMENT_ZERO_M);
        float nothing[MOMENT_BLOCK] = {0};
        put(devices[d], &moments, nothing, MOMENT_BLOCK);
        for (int i = 0; i < MOMENT_BLOCK; i++)
            assert_true(m_at(&moments, i) == 0.0f && v_at(&moments, i) == 0.0f);
        assert_true(moments.m_most[0] == 0.0f && moments.v_most[0] == 0.0f);
    }
}

static const struct adamw_step steps[] = {
    {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.001f, 1.0f},
    {1e-2f, 0.9f, 0.95f, 1e-6f, 0.19f, 0.0975f, 0.25f},
};

/* From nothing the step is AdamW's to the bit, since w is moved before anything is coded; and all paths, thread counts and cuts
 * at blocks give the same codes. A number behind the end is not touched. */
static void all_paths_and_cuts_have_the_same_bits(void **state) {
    (void)state;
    enum { COUNT = 7 * MOMENT_BLOCK + 77, CUT = 3 * MOMENT_BLOCK, ROUNDS = 5 };
    float *start = random_floats(COUNT + 1), *g[ROUNDS], *first_w = NULL;
    struct moments8 first = {0};
    for (int r = 0; r < ROUNDS; r++)
        g[r] = random_floats(COUNT);
    EACH_DEVICE(d)
    for (int cut = 0; cut < 2; cut++) {
        const struct ops *ops = devices[d]->ops;
        float *w = copy_floats(start, COUNT + 1), *plain = copy_floats(start, COUNT + 1), *m = floats(COUNT),
              *v = floats(COUNT);
        struct moments8 all = moments_of(COUNT + 1);
        all.m[COUNT] = all.v[COUNT] = 99;
        struct moments8 rest = {all.m + CUT, all.v + CUT, all.m_most + CUT / MOMENT_BLOCK,
                                all.v_most + CUT / MOMENT_BLOCK};
        for (int r = 0; r < ROUNDS; r++) {
            ops->adamw8(devices[d], w, DTYPE_F32, NULL, &all, g[r], cut ? CUT : COUNT, &steps[r % 2]);
            if (cut)
                ops->adamw8(devices[d], w + CUT, DTYPE_F32, NULL, &rest, g[r] + CUT, COUNT - CUT, &steps[r % 2]);
            if (r == 0) {
                ops->adamw(devices[d], plain, DTYPE_F32, NULL, m, v, g[r], COUNT, &steps[r % 2]);
                assert_same_bits(w, plain, COUNT, "the first step");
            }
        }
        assert_true(w[COUNT] == start[COUNT] && all.m[COUNT] == 99 && all.v[COUNT] == 99);
        if (first_w == NULL) {
            first_w = w;
            first = all;
        }
        assert_same_bits(w, first_w, COUNT, devices[d]->name);
        assert_memory_equal(all.m, first.m, COUNT);
        assert_memory_equal(all.v, first.v, COUNT);
        assert_same_bits(all.m_most, first.m_most, moment_blocks(COUNT), devices[d]->name);
        assert_same_bits(all.v_most, first.v_most, moment_blocks(COUNT), devices[d]->name);
    }
}

/* A split master goes through the steps of an fp32 master. */
static void split_masters_are_fp32_masters(void **state) {
    (void)state;
    enum { COUNT = 2 * MOMENT_BLOCK + 5 };
    EACH_DEVICE(d) {
        const struct ops *ops = devices[d]->ops;
        float *w = floats(COUNT);
        uint16_t *high = bytes_of(COUNT * 2), *rem = bytes_of(COUNT * 2);
        struct moments8 moments = moments_of(COUNT), same = moments_of(COUNT);
        for (int s = 0; s < 20; s++) {
            float *g = random_floats(COUNT);
            ops->adamw8(devices[d], w, DTYPE_F32, NULL, &moments, g, COUNT, &steps[s % 2]);
            ops->adamw8(devices[d], high, DTYPE_BF16, rem, &same, g, COUNT, &steps[s % 2]);
            for (int i = 0; i < COUNT; i++)
                assert_true(((uint32_t)high[i] << 16) + (uint32_t)(int32_t)(int16_t)rem[i] == bits_of_f32(w[i]));
            assert_memory_equal(same.m, moments.m, COUNT);
            assert_memory_equal(same.v, moments.v, COUNT);
        }
    }
}

/* ---- against fp32 ---- */

struct race { /* the same gradients, or gradients of each one's own weights, for both kinds of moments */
    float *w, *w8, *m, *v;
    struct moments8 moments;
    int64_t count;
    double beta1_power, beta2_power;
};

static struct race race_begin(int64_t count) {
    struct race race = {.w = floats(count),
                        .w8 = floats(count),
                        .m = floats(count),
                        .v = floats(count),
                        .moments = moments_of(count),
                        .count = count,
                        .beta1_power = 1,
                        .beta2_power = 1};
    return race;
}

static void race_step(struct race *race, const float *g, const float *g8, float lr) {
    const struct ops *ops = devices[0]->ops;
    race->beta1_power *= 0.9;
    race->beta2_power *= 0.999;
    struct adamw_step step = {lr,  0.9f, 0.999f, 1e-8f, (float)(1 - race->beta1_power), (float)(1 - race->beta2_power),
                              1.0f};
    ops->adamw(devices[0], race->w, DTYPE_F32, NULL, race->m, race->v, g, race->count, &step);
    ops->adamw8(devices[0], race->w8, DTYPE_F32, NULL, &race->moments, g8, race->count, &step);
}

static double rms(const float *a, const float *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)count);
}

static float gaussian(void) { /* nearly: the sum of twelve uniform numbers, its mean taken off */
    float sum = -6.0f;
    for (int i = 0; i < 12; i++)
        sum += random_uniform();
    return sum;
}

/* Noisy least squares with curvatures over a factor of 10, 500 steps. Where a share is above 0.1, as it is here for the most
 * part, m is off by 7 % at most and the root of v by 2 %, in steps that do not depend on each other; so the ways differ by less
 * than a tenth of their length, and the losses, at the noise floor that both have reached, by less than a tenth. */
static void it_follows_adamw_in_fp32(void **state) {
    (void)state;
    enum { COUNT = 8 * MOMENT_BLOCK, STEPS = 500 };
    struct race race = race_begin(COUNT);
    float *target = random_floats(COUNT), *curvature = floats(COUNT), *g = floats(COUNT), *g8 = floats(COUNT);
    for (int i = 0; i < COUNT; i++)
        curvature[i] = powf(10.0f, random_uniform() - 0.5f);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < COUNT; i++) {
            float noise = 0.3f * gaussian();
            g[i] = curvature[i] * (race.w[i] - target[i] + noise);
            g8[i] = curvature[i] * (race.w8[i] - target[i] + noise);
        }
        race_step(&race, g, g8, 5e-3f);
        if (s == 60) { /* on the way */
            float *zero = floats(COUNT);
            double apart = rms(race.w, race.w8, COUNT), way = rms(race.w, zero, COUNT);
            if (!(apart < 0.1 * way && way > 0.1))
                fail_msg("after 60 steps: %.4g apart after %.4g", apart, way);
        }
    }
    double loss = rms(race.w, target, COUNT), loss8 = rms(race.w8, target, COUNT);
    printf("distance from the optimum: fp32 %.5f, 8 bits %.5f\n", loss, loss8);
    if (!(loss < 0.1 && fabs(loss8 - loss) < 0.1 * loss))
        fail_msg("distance from the optimum: fp32 %.5f, 8 bits %.5f", loss, loss8);
}

/* v cannot fall by less than half the distance of two codes in a step, which the long memory of beta2 = 0.999 asks of it: where
 * gradients become smaller and their block's greatest does not, v stalls, as it does in bf16. Steps are then too short, not too
 * long: after 500 steps the gradient of every second element is a tenth, and of the 1,500 after them the last 500 count. */
static void where_gradients_shrink_unevenly_steps_are_too_short(void **state) {
    (void)state;
    enum { COUNT = 2 * MOMENT_BLOCK, STEPS = 2000, FROM = 1500 };
    struct race race = race_begin(COUNT);
    float *scale = floats(COUNT), *g = floats(COUNT), *from = floats(COUNT), *from8 = floats(COUNT);
    for (int i = 0; i < COUNT; i++)
        scale[i] = powf(10.0f, random_uniform() - 0.5f);
    for (int s = 0; s < STEPS; s++) {
        if (s == FROM) {
            memcpy(from, race.w, COUNT * sizeof *from);
            memcpy(from8, race.w8, COUNT * sizeof *from8);
        }
        for (int i = 0; i < COUNT; i++)
            g[i] = scale[i] * (s >= 500 && i % 2 ? 0.1f : 1.0f) * (2.0f * random_uniform() - 0.5f);
        race_step(&race, g, g, 1e-3f);
    }
    double ways[2] = {0}, ways8[2] = {0};
    for (int i = 0; i < COUNT; i++) {
        ways[i % 2] += fabs((double)race.w[i] - (double)from[i]);
        ways8[i % 2] += fabs((double)race.w8[i] - (double)from8[i]);
    }
    printf("way in eight bits, of that in fp32: %.3f where gradients shrank, %.3f elsewhere\n", ways8[1] / ways[1],
           ways8[0] / ways[0]);
    assert_true(ways8[1] < ways[1] && fabs(ways8[0] - ways[0]) < 0.05 * ways[0]);
}

/* Gradients in one block that differ by many powers of ten: AdamW's steps are about lr long, and never longer than a few. With v
 * coded as 0 they were m / eps. */
static void no_step_explodes_beside_large_gradients(void **state) {
    (void)state;
    enum { COUNT = 4 * MOMENT_BLOCK, STEPS = 300 };
    struct race race = race_begin(COUNT);
    float *scale = floats(COUNT), *g = floats(COUNT), *before = floats(COUNT);
    for (int i = 0; i < COUNT; i++)
        scale[i] = expf(3.0f * gaussian());
    double most = 0;
    for (int s = 0; s < STEPS; s++) {
        memcpy(before, race.w8, COUNT * sizeof *before);
        for (int i = 0; i < COUNT; i++)
            g[i] = scale[i] * (0.3f + gaussian());
        race_step(&race, g, g, 1.0f);
        for (int i = 0; i < COUNT; i++)
            most = fmax(most, fabs((double)race.w8[i] - (double)before[i]));
    }
    printf("the longest step: %.3f learning rates\n", most);
    assert_true(most > 0.5 && most < 5);
}

static void a_huge_gradient_leaves_a_finite_state(void **state) {
    (void)state;
    EACH_DEVICE(d) {
        float *g = random_floats(2 * MOMENT_BLOCK), *w = floats(2 * MOMENT_BLOCK);
        struct moments8 moments = moments_of(2 * MOMENT_BLOCK);
        for (int s = 0; s < 3; s++) {
            g[7] = s == 0 ? 3e38f : 0.5f;
            devices[d]->ops->adamw8(devices[d], w, DTYPE_F32, NULL, &moments, g, 2 * MOMENT_BLOCK, &steps[0]);
            for (int i = 0; i < 2 * MOMENT_BLOCK; i++)
                assert_true(isfinite(w[i]) && isfinite(m_at(&moments, i)) && isfinite(v_at(&moments, i)));
        }
        struct moments8 same = copy_moments(&moments, 2 * MOMENT_BLOCK);
        g[300] = NAN; /* never given (the norm is asked before), but no reason to read past a table */
        devices[d]->ops->adamw8(devices[d], w, DTYPE_F32, NULL, &same, g, 2 * MOMENT_BLOCK, &steps[0]);
    }
}

int main(void) {
    moment_tables_fill(&tables);
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(shares_ascend_from_their_ends_to_zero),
        TEST(a_key_has_one_border_at_most),
        TEST(a_number_has_the_nearest_code),
        TEST(small_v_never_becomes_zero_and_zero_stays),
        TEST(all_paths_and_cuts_have_the_same_bits),
        TEST(split_masters_are_fp32_masters),
        TEST(it_follows_adamw_in_fp32),
        TEST(where_gradients_shrink_unevenly_steps_are_too_short),
        TEST(no_step_explodes_beside_large_gradients),
        TEST(a_huge_gradient_leaves_a_finite_state),
    };
    return cmocka_run_group_tests_name("moments", tests, devices_open, devices_close);
}
