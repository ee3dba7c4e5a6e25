/* What changed between two versions of weights, and applying it: CUDA's kernels under the emulator against plain loops. Whole
 * numbers throughout: everything is equal. */
#include "common/compute/digest.h"
#include "tests/twin/compute/twin.h"

static const int64_t counts[] = {1, 7, 8, 65535, 65536, 65537, 2 * 65536 + 4099};
#define COUNTS ((int)(sizeof counts / sizeof counts[0]))
#define BLOCKS_MOST 3

struct lists {
    uint32_t counts[BLOCKS_MOST];
    uint16_t *at, *step;
    int64_t total;
};

static struct lists lists_of(int64_t count) {
    return (struct lists){.at = bytes_of((size_t)count * 2), .step = bytes_of((size_t)count * 2)};
}

static struct lists found_by_hand(const uint16_t *before, const uint16_t *after, int64_t count) {
    struct lists lists = lists_of(count);
    for (int64_t i = 0; i < count; i++)
        if (before[i] != after[i]) {
            lists.at[lists.total] = (uint16_t)(i % CHANGE_BLOCK);
            lists.step[lists.total++] = (uint16_t)(after[i] - before[i]);
            lists.counts[i / CHANGE_BLOCK]++;
        }
    return lists;
}

/* One element in `rarity` moves, by anything; 0: none. The last always does, as the place where loops end. */
static void move_some(const uint16_t *before, uint16_t *after, int64_t count, int32_t rarity) {
    for (int64_t i = 0; i < count; i++) {
        bool moves = rarity > 0 && (random_below(rarity) == 0 || i == count - 1);
        after[i] = moves ? (uint16_t)(before[i] + 1 + random_below(65535)) : before[i];
    }
}

static void check(int64_t count, int32_t rarity) {
    size_t bytes = (size_t)count * 2, blocks = (size_t)((count + CHANGE_BLOCK - 1) / CHANGE_BLOCK);
    uint16_t *before = bytes_of(bytes), *after = bytes_of(bytes);
    for (int64_t i = 0; i < count; i++)
        before[i] = (uint16_t)random_below(65536);
    move_some(before, after, count, rarity);
    struct lists want = found_by_hand(before, after, count), got = lists_of(count);
    uint16_t *d_before = device_bytes(before, bytes), *d_after = device_bytes(after, bytes);
    cuda->ops->find_changes(cuda, got.counts, got.at, got.step, d_before, d_after, count);
    assert_memory_equal(got.counts, want.counts, blocks * sizeof *want.counts);
    assert_memory_equal(got.at, want.at, (size_t)want.total * 2);
    assert_memory_equal(got.step, want.step, (size_t)want.total * 2);

    int64_t first = 5 * CHANGE_BLOCK;
    struct digest from, to, forth, back;
    cpu->ops->digest(cpu, &from, before, DTYPE_BF16, first, count);
    cpu->ops->digest(cpu, &to, after, DTYPE_BF16, first, count);
    cuda->ops->apply_changes(cuda, d_before, &forth, got.counts, got.at, got.step, false, first, count);
    assert_memory_equal(host_of_bytes(d_before, bytes), after, bytes);
    assert_true(digest_equal(digest_add(from, forth), to));
    cuda->ops->apply_changes(cuda, d_before, &back, got.counts, got.at, got.step, true, first, count);
    assert_memory_equal(host_of_bytes(d_before, bytes), before, bytes);
    assert_true(digest_equal(digest_add(to, back), from));
}

static void changes_are_found_and_applied(void **state) {
    for (int c = 0; c < COUNTS; c++) {
        static const int32_t rarities[] = {0, 1, 3, 70, 1000000};
        for (int r = 0; r < 5; r++) {
            check(counts[c], rarities[r]);
            twin_free_all(state);
        }
    }
}

static void the_order_of_lanes_changes_nothing(void **state) {
    EACH_ORDER(o) {
        check(70003, 9);
        twin_free_all(state);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(changes_are_found_and_applied, twin_free_all),
        cmocka_unit_test_teardown(the_order_of_lanes_changes_nothing, twin_free_all),
    };
    return cmocka_run_group_tests_name("changes", tests, twins_open, twins_close);
}
