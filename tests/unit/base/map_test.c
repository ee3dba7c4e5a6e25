/* The hash table, against an array. */
#include "tests/support/test.h"

#include "common/base/map.h"
#include "common/base/rng.h"

static void it_agrees_with_an_array_under_random_use(void **state) {
    (void)state;
    enum { KEYS = 3000 };
    static char values[KEYS];
    static bool inside[KEYS];
    struct rng_key rng = {.seed = 1, .stream = RNG_TEST};
    struct map map = {0};
    uint32_t count = 0;
    assert_null(map_get(&map, 5));
    assert_null(map_remove(&map, 5));
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t index = rng_below(&rng, 2 * i, KEYS);
        uint64_t key = (uint64_t)index << (index % 3 == 0 ? 40 : 4);
        if (rng_below(&rng, 2 * i + 1, 2)) {
            ASSERT_OK(map_put(&map, key, &values[index]));
            count += !inside[index];
            inside[index] = true;
        } else {
            assert_ptr_equal(map_remove(&map, key), inside[index] ? &values[index] : NULL);
            count -= inside[index];
            inside[index] = false;
        }
        assert_int_equal(map.count, count);
    }
    for (uint32_t index = 0; index < KEYS; index++)
        assert_ptr_equal(map_get(&map, (uint64_t)index << (index % 3 == 0 ? 40 : 4)),
                         inside[index] ? &values[index] : NULL);
    map_deinit(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_an_array_under_random_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
