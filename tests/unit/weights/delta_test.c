#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/weights/chain.h"
#include "common/weights/content.h"
#include "common/weights/delta.h"
#include "common/weights/delta_block.h"

/* Enough blocks for several threads, and a last one that is neither whole nor of whole words. */
#define ELEMENTS (48u * DELTA_BLOCK + 12345)
#define FEW 1000u

static uint16_t before[ELEMENTS], after[ELEMENTS], work[ELEMENTS];

static uint32_t random_bits(uint64_t seed, uint32_t position) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, position, UINT32_MAX);
}

static struct digest digest_of(const uint16_t *weights, uint64_t elements) {
    return content_digest(weights, 0, elements * sizeof *weights);
}

static void fill(uint64_t elements, uint64_t seed) {
    for (uint32_t i = 0; i < elements; i++)
        before[i] = (uint16_t)random_bits(seed, i);
    memcpy(after, before, elements * sizeof *before);
}

struct coded {
    uint8_t *data;
    uint64_t bytes, changed;
    struct delta delta;
};

static void encode(uint64_t elements, int threads, struct coded *out) {
    ASSERT_OK(delta_encode(before, after, elements, digest_of(before, elements), digest_of(after, elements), threads,
                           &out->data, &out->bytes, &out->changed));
    ASSERT_OK(delta_open(out->data, out->bytes, &out->delta));
    assert_true(out->bytes <= delta_bytes_max(elements));
    assert_true(out->bytes <= DELTA_HEADER_BYTES + 8 + elements * 2 + elements / 50);
}

/* By a chain of this delta alone. */
static enum status apply(const struct coded *coded, enum delta_direction direction, struct digest held,
                         uint64_t elements, int threads) {
    const struct chain chain = {.to = direction == DELTA_BACK ? coded->delta.base : coded->delta.result,
                                .hop_count = 1,
                                .hops = {{coded->data, coded->bytes, direction}}};
    return chain_apply(&chain, held, elements, threads, work);
}

/* Forward gives after, back gives before; returns the delta's bytes. */
static uint64_t round_trip(uint64_t elements) {
    struct coded coded;
    encode(elements, 1, &coded);
    uint64_t bytes = elements * sizeof *work;
    memcpy(work, before, bytes);
    ASSERT_OK(apply(&coded, DELTA_FORWARD, coded.delta.base, elements, 1));
    assert_memory_equal(work, after, bytes);
    ASSERT_OK(apply(&coded, DELTA_BACK, coded.delta.result, elements, 3));
    assert_memory_equal(work, before, bytes);
    free(coded.data);
    return coded.bytes;
}

static void nothing_changed_is_a_header_and_a_table(void **state) {
    (void)state;
    fill(ELEMENTS, 1);
    assert_int_equal(round_trip(ELEMENTS), DELTA_HEADER_BYTES + 49 * 4);
    assert_int_equal(round_trip(0), DELTA_HEADER_BYTES);
}

static void any_pattern_goes_there_and_back(void **state) {
    (void)state;
    for (uint64_t elements = 1; elements < 70; elements++) {
        fill(elements, elements);
        after[elements - 1] ^= 0x8000;
        round_trip(elements);
        after[0]++;
        after[elements / 2]--;
        round_trip(elements);
    }
}

static void all_changed_stays_below_the_bound(void **state) {
    (void)state;
    fill(ELEMENTS, 2);
    for (uint32_t i = 0; i < ELEMENTS; i++)
        after[i] = (uint16_t)random_bits(3, i);
    assert_true(round_trip(ELEMENTS) < 2.02 * ELEMENTS);
    for (uint32_t i = 0; i < ELEMENTS; i++)
        after[i] = (uint16_t)(before[i] + 1);
    assert_true(round_trip(ELEMENTS) < ELEMENTS / 3);
    for (uint32_t i = 0; i < ELEMENTS; i++)
        after[i] = before[i] ^ 0x8000; /* every sign */
    round_trip(ELEMENTS);
}

static void every_pattern_and_every_step_is_a_number(void **state) {
    (void)state;
    static const uint16_t odd[] = {0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81, 0x0001, 0x8001, 0x7FFF};
    enum { ODD = sizeof odd / sizeof *odd };
    fill(65536, 4);
    for (uint32_t i = 0; i < ODD * ODD; i++) { /* infinities, NaN, zeros of both signs, into one another */
        before[i * 7] = odd[i / ODD];
        after[i * 7] = odd[i % ODD];
    }
    round_trip(65536);
    for (uint32_t i = 0; i < 65536; i++) /* all 65536 steps, in blocks where they are rare */
        before[i] = after[i] = 0;
    for (uint32_t i = 0; i < 65536; i += 8)
        for (uint32_t step = i; step < i + 8; step++) {
            after[i + 3] = (uint16_t)step;
        }
    round_trip(65536);
    for (uint32_t i = 0; i < 65536; i++)
        after[i] = (uint16_t)(before[i] + i);
    round_trip(65536);
}

/* Share of changed elements and length of steps over the whole range. */
static void sparse_and_crowded_blocks_go_there_and_back(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 40; trial++) {
        uint64_t elements = 65536 + trial * 1001;
        fill(elements, trial);
        uint32_t every = 1 + (1u << trial % 17), reach = 1 + (1u << trial % 13);
        for (uint32_t i = 0; i < elements; i++)
            if (random_bits(trial + 1000, i) % every == 0)
                after[i] = (uint16_t)(before[i] + random_bits(trial + 2000, i) % reach - reach / 2);
        round_trip(elements);
    }
}

static void small_steps_of_few_elements_take_ten_bits(void **state) {
    (void)state;
    fill(ELEMENTS, 5);
    uint64_t changed = 0;
    for (uint32_t i = 0; i < ELEMENTS; i++)
        if (random_bits(6, i) % 65 == 0) {
            after[i] = (uint16_t)(before[i] + (random_bits(7, i) & 1 ? 1 : -1));
            changed++;
        }
    assert_true(round_trip(ELEMENTS) * 8 < changed * 10);
}

static void the_bytes_do_not_depend_on_threads(void **state) {
    (void)state;
    fill(ELEMENTS, 8);
    for (uint32_t i = 0; i < ELEMENTS; i++)
        if (random_bits(9, i) % (i < ELEMENTS / 2 ? 50 : 2) == 0)
            after[i] = (uint16_t)random_bits(10, i);
    struct coded one, more;
    encode(ELEMENTS, 1, &one);
    for (int threads = 2; threads <= 5; threads++) {
        encode(ELEMENTS, threads, &more);
        assert_int_equal(more.bytes, one.bytes);
        assert_int_equal(more.changed, one.changed);
        assert_memory_equal(more.data, one.data, one.bytes);
        free(more.data);
        memcpy(work, before, sizeof work);
        ASSERT_OK(apply(&one, DELTA_FORWARD, one.delta.base, ELEMENTS, threads));
        assert_memory_equal(work, after, sizeof work);
    }
    free(one.data);
}

static void another_base_is_refused(void **state) {
    (void)state;
    struct coded coded;
    fill(FEW, 11);
    after[5]++;
    encode(FEW, 1, &coded);
    memcpy(work, after, FEW * sizeof *work);
    ASSERT_FAILS(STATUS_MISMATCH, apply(&coded, DELTA_FORWARD, coded.delta.result, FEW, 1)); /* is there already */
    ASSERT_FAILS(STATUS_MISMATCH, apply(&coded, DELTA_FORWARD, coded.delta.base, FEW - 1, 1));
    assert_memory_equal(work, after, FEW * sizeof *work);
    free(coded.data);
}

/* Seen before the first weight is touched. */
static void a_wrong_result_changes_nothing(void **state) {
    (void)state;
    struct coded coded;
    fill(ELEMENTS, 12);
    for (uint32_t i = 0; i < ELEMENTS; i += 100)
        after[i]++;
    encode(ELEMENTS, 2, &coded);
    coded.data[32]++; /* its result digest */
    ASSERT_OK(delta_open(coded.data, coded.bytes, &coded.delta));
    memcpy(work, before, sizeof work);
    ASSERT_FAILS(STATUS_MISMATCH, apply(&coded, DELTA_FORWARD, coded.delta.base, ELEMENTS, 2));
    assert_memory_equal(work, before, sizeof work);
    free(coded.data);
}

static void a_damaged_delta_changes_nothing(void **state) {
    (void)state;
    enum { SMALL = DELTA_BLOCK + 77 };
    struct coded coded;
    fill(SMALL, 13);
    for (uint32_t i = 0; i < SMALL; i++)
        if (i < DELTA_BLOCK ? i % 3000 == 0 : true)
            after[i] = (uint16_t)random_bits(14, i);
    encode(SMALL, 1, &coded);
    uint32_t refused = 0, bits = (uint32_t)coded.bytes * 8;
    uint8_t *copy = malloc(coded.bytes);
    assert_non_null(copy);
    for (uint32_t bit = 0; bit < bits; bit += 1 + bit % 3) {
        memcpy(copy, coded.data, coded.bytes);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const struct coded damaged = {.data = copy, .bytes = coded.bytes, .delta = coded.delta};
        memcpy(work, before, SMALL * sizeof *work);
        assert_int_not_equal(apply(&damaged, DELTA_FORWARD, coded.delta.base, SMALL, 1), STATUS_OK);
        refused++;
        assert_memory_equal(work, before, SMALL * sizeof *work);
    }
    for (uint64_t bytes = 0; bytes < coded.bytes; bytes += 1 + bytes / 7) { /* cut off */
        memcpy(copy, coded.data, bytes);
        struct delta delta;
        ASSERT_FAILS(STATUS_FORMAT, delta_open(copy, bytes, &delta));
    }
    assert_true(refused > 1000);
    free(copy);
    free(coded.data);
}

static void find_gives_places_and_steps(void **state) {
    (void)state;
    static struct delta_changes changes;
    for (uint32_t elements = 1; elements < 300; elements++) {
        fill(elements, elements);
        for (uint32_t i = 0; i < elements; i++)
            after[i] ^= (uint16_t)(random_bits(elements + 500, i) % (1 + elements % 70) == 0);
        delta_find(before, after, elements, &changes);
        uint32_t at = 0;
        for (uint32_t i = 0; i < elements; i++)
            if (before[i] != after[i]) {
                assert_int_equal(changes.at[at], i);
                assert_int_equal(changes.step[at++], (uint16_t)(after[i] - before[i]));
            }
        assert_int_equal(changes.count, at);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed_is_a_header_and_a_table),
        cmocka_unit_test(any_pattern_goes_there_and_back),
        cmocka_unit_test(all_changed_stays_below_the_bound),
        cmocka_unit_test(every_pattern_and_every_step_is_a_number),
        cmocka_unit_test(sparse_and_crowded_blocks_go_there_and_back),
        cmocka_unit_test(small_steps_of_few_elements_take_ten_bits),
        cmocka_unit_test(the_bytes_do_not_depend_on_threads),
        cmocka_unit_test(another_base_is_refused),
        cmocka_unit_test(a_wrong_result_changes_nothing),
        cmocka_unit_test(a_damaged_delta_changes_nothing),
        cmocka_unit_test(find_gives_places_and_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
