/* Philox4x32-10 and what is drawn from it. The determinism contract rests on these bits: a change here changes every run. */
#include "tests/support/test.h"

#include "common/base/rng.h"

static void philox_gives_the_vectors_of_random123(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } vectors[] = {
        /* Random123 1.14, tests/kat_vectors, philox4x32 10 */
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t words[4];
        philox4x32_10(vectors[i].counter, vectors[i].key, words);
        assert_memory_equal(words, vectors[i].words, sizeof words);
    }
}

static void every_coordinate_matters(void **state) {
    (void)state;
    const struct rng_key key = {.seed = 1, .step = 2, .slot = 3, .sample = 4, .stream = RNG_SAMPLE};
    uint32_t base[4], other[4];
    rng_words(&key, 5, base);
    struct rng_key changed[6] = {key, key, key, key, key, key};
    changed[0].seed ^= 1;
    changed[1].seed ^= (uint64_t)1 << 32;
    changed[2].step ^= 1;
    changed[3].slot ^= 1;
    changed[4].sample ^= 1;
    changed[5].stream = RNG_EVAL;
    for (size_t i = 0; i < 6; i++) {
        rng_words(&changed[i], 5, other);
        assert_memory_not_equal(base, other, sizeof base);
    }
    rng_words(&key, 6, other);
    assert_memory_not_equal(base, other, sizeof base);
    rng_words(&key, 5, other);
    assert_memory_equal(base, other, sizeof base);
}

static void uniforms_are_inside_and_even(void **state) {
    (void)state;
    const struct rng_key key = {.seed = 11, .stream = RNG_TEST};
    double sum = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        float u = rng_uniform(&key, i);
        assert_true(u > 0 && u < 1);
        sum += (double)u;
    }
    assert_true(sum > 49700 && sum < 50300); /* 3.3 standard deviations of a sum of 1e5 uniforms is 301 */
}

static void below_stays_below(void **state) {
    (void)state;
    const struct rng_key key = {.seed = 12, .stream = RNG_TEST};
    uint32_t counts[7] = {0};
    for (uint32_t i = 0; i < 70000; i++) {
        uint32_t value = rng_below(&key, i, 7);
        assert_true(value < 7);
        counts[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9600, 10400); /* 4.3 standard deviations */
    assert_int_equal(rng_below(&key, 0, 1), 0);
}

static void a_shuffle_is_a_permutation_that_the_key_fixes(void **state) {
    (void)state;
    const struct rng_key key = {.seed = 13, .stream = RNG_TEST};
    uint32_t items[100], again[100], seen[100] = {0};
    for (uint32_t i = 0; i < 100; i++)
        items[i] = again[i] = i;
    rng_shuffle(&key, items, 100);
    rng_shuffle(&key, again, 100);
    assert_memory_equal(items, again, sizeof items);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 100; i++) {
        seen[items[i]]++;
        moved += items[i] != i;
    }
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 90);
    rng_shuffle(&key, items, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_vectors_of_random123),
        cmocka_unit_test(every_coordinate_matters),
        cmocka_unit_test(uniforms_are_inside_and_even),
        cmocka_unit_test(below_stays_below),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_the_key_fixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
