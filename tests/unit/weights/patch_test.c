#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/weights/content.h"
#include "common/weights/delta_block.h"
#include "common/weights/patch.h"

/* Enough blocks for two threads, and a last one that is not whole. */
#define ELEMENTS (32u * DELTA_BLOCK + 777)
#define VERSIONS 5
#define BYTES (ELEMENTS * sizeof(uint16_t))

static uint16_t versions[VERSIONS][ELEMENTS], work[ELEMENTS];
static struct digest digests[VERSIONS];
static struct chain_hop deltas[VERSIONS]; /* deltas[v] leads from v - 1 to v */

static uint32_t random_bits(uint64_t seed, uint32_t position) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, position, UINT32_MAX);
}

/* Version 3 takes back what version 2 did, in part; block 3 of it is crowded. */
static void change(uint32_t version) {
    uint16_t *to = versions[version];
    memcpy(to, versions[version - 1], BYTES);
    for (uint32_t i = version; i < ELEMENTS; i += 61)
        to[i] = (uint16_t)(to[i] + random_bits(version, i) % 5);
    if (version == 2)
        for (uint32_t i = 3 * DELTA_BLOCK; i < 4 * DELTA_BLOCK; i++)
            to[i] = (uint16_t)random_bits(77, i);
    if (version == 3)
        memcpy(to + DELTA_BLOCK, versions[1] + DELTA_BLOCK, 2 * DELTA_BLOCK * sizeof *to);
}

static int make_versions(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ELEMENTS; i++)
        versions[0][i] = (uint16_t)random_bits(1, i);
    for (uint32_t v = 0; v < VERSIONS; v++) {
        if (v)
            change(v);
        digests[v] = content_digest(versions[v], 0, BYTES);
        if (v)
            ASSERT_OK(delta_encode(versions[v - 1], versions[v], ELEMENTS, digests[v - 1], digests[v], 2,
                                   &deltas[v].data, &deltas[v].bytes, NULL));
    }
    return 0;
}

static int free_versions(void **state) {
    (void)state;
    for (uint32_t v = 0; v < VERSIONS; v++)
        free(deltas[v].data);
    return 0;
}

/* Borrows the deltas: not to be destroyed. */
static struct chain way(uint32_t from, uint32_t to) {
    struct chain chain = {.version = to, .from = digests[from], .to = digests[to]};
    for (; from < to; from++) {
        chain.hops[chain.hop_count] = deltas[from + 1];
        chain.hops[chain.hop_count++].direction = DELTA_FORWARD;
    }
    for (; from > to; from--) {
        chain.hops[chain.hop_count] = deltas[from];
        chain.hops[chain.hop_count++].direction = DELTA_BACK;
    }
    return chain;
}

static void every_way_leads_to_its_version(void **state) {
    (void)state;
    for (uint32_t from = 0; from < VERSIONS; from++)
        for (uint32_t to = 0; to < VERSIONS; to++) {
            struct chain chain = way(from, to);
            struct patch *patch;
            memcpy(work, versions[from], BYTES);
            ASSERT_OK(patch_create(&chain, digests[from], ELEMENTS, 1 + (int)to % 3, &patch));
            ASSERT_OK(patch_verify(patch, 2, work));
            assert_memory_equal(work, versions[from], BYTES); /* it waits beside them */
            patch_apply(patch, 2, work);
            assert_memory_equal(work, versions[to], BYTES);
            patch_destroy(&patch);
        }
}

/* What moved there and back is in neither list, and lists are packed: a device takes them as they are. */
static void several_deltas_are_one_list_of_what_differs(void **state) {
    (void)state;
    static const uint32_t ends[][2] = {{0, 4}, {1, 3}, {3, 1}, {4, 2}, {1, 2}};
    for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
        struct chain chain = way(ends[e][0], ends[e][1]);
        const uint16_t *from = versions[ends[e][0]], *to = versions[ends[e][1]];
        struct patch *patch;
        ASSERT_OK(patch_create(&chain, digests[ends[e][0]], ELEMENTS, 2, &patch));
        uint64_t at = 0;
        for (uint64_t b = 0; b < patch->blocks; b++) {
            uint64_t end = at + patch->count[b], first = b * DELTA_BLOCK;
            for (uint64_t i = first; i < first + DELTA_BLOCK && i < ELEMENTS; i++)
                if (from[i] != to[i]) {
                    assert_true(at < end);
                    assert_int_equal(patch->at[at], i - first);
                    assert_int_equal(patch->step[at++], (uint16_t)(to[i] - from[i]));
                }
            assert_int_equal(at, end);
        }
        assert_int_equal(at, patch->changes);
        patch_destroy(&patch);
    }
}

static void weights_that_are_not_what_they_are_said_to_be_are_found_out(void **state) {
    (void)state;
    struct chain chain = way(0, 1);
    struct patch *patch;
    ASSERT_OK(patch_create(&chain, digests[0], ELEMENTS, 1, &patch));
    memcpy(work, versions[0], BYTES);
    work[patch->at[0]] = (uint16_t)-patch->step[0]; /* the step wraps: the digest moves by another amount */
    ASSERT_FAILS(STATUS_MISMATCH, patch_verify(patch, 1, work));
    patch_destroy(&patch);
}

static void a_chain_that_does_not_join_is_refused(void **state) {
    (void)state;
    struct patch *patch;
    struct chain gap = way(0, 3), elsewhere = way(0, 2), shorter = way(0, 2);
    gap.hops[1] = gap.hops[2];
    gap.hop_count = 2;
    elsewhere.to = digests[3];
    ASSERT_FAILS(STATUS_MISMATCH, patch_create(&gap, digests[0], ELEMENTS, 1, &patch));
    ASSERT_FAILS(STATUS_MISMATCH, patch_create(&elsewhere, digests[0], ELEMENTS, 1, &patch));
    ASSERT_FAILS(STATUS_MISMATCH, patch_create(&shorter, digests[1], ELEMENTS, 1, &patch));
    ASSERT_FAILS(STATUS_MISMATCH, patch_create(&shorter, digests[0], ELEMENTS - 1, 1, &patch));
}

/* A flipped bit in the second delta of three: refused when decoded, or found out by the digest; the weights stay. */
static void a_damaged_delta_in_the_middle_changes_nothing(void **state) {
    (void)state;
    struct chain chain = way(0, 3);
    uint32_t undecodable = 0, found_out = 0;
    uint8_t *damaged = malloc(deltas[2].bytes);
    assert_non_null(damaged);
    chain.hops[1].data = damaged;
    memcpy(work, versions[0], BYTES);
    for (uint32_t trial = 0; trial < 24; trial++) {
        memcpy(damaged, deltas[2].data, deltas[2].bytes);
        uint64_t first = DELTA_HEADER_BYTES + 33 * sizeof(uint32_t);
        damaged[first + random_bits(5, trial) % (trial < 12 ? 1000 : deltas[2].bytes - first)] ^= 1u << trial % 8;
        struct patch *patch;
        enum status status = patch_create(&chain, digests[0], ELEMENTS, 2, &patch);
        undecodable += status == STATUS_FORMAT;
        if (status == STATUS_OK) {
            ASSERT_FAILS(STATUS_MISMATCH, patch_verify(patch, 1, work));
            found_out++;
            patch_destroy(&patch);
        }
        assert_true(status == STATUS_OK || status == STATUS_FORMAT);
        ASSERT_FAILS(status == STATUS_OK ? STATUS_MISMATCH : STATUS_FORMAT,
                     chain_apply(&chain, digests[0], ELEMENTS, 1, work));
        assert_memory_equal(work, versions[0], BYTES);
    }
    assert_true(found_out > 0);
    assert_true(undecodable > 0);
    free(damaged);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_leads_to_its_version),
        cmocka_unit_test(several_deltas_are_one_list_of_what_differs),
        cmocka_unit_test(weights_that_are_not_what_they_are_said_to_be_are_found_out),
        cmocka_unit_test(a_chain_that_does_not_join_is_refused),
        cmocka_unit_test(a_damaged_delta_in_the_middle_changes_nothing),
    };
    return cmocka_run_group_tests(tests, make_versions, free_versions);
}
