/* The bump allocator, and well-formed UTF-8. */
#include "tests/support/test.h"

#include "common/base/arena.h"
#include "common/base/utf8.h"

static void memory_is_aligned_apart_and_bounded(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 10000);
    char *last = NULL;
    size_t count = 0;
    for (char *one; (one = arena_alloc(&arena, 17)); last = one, count++) {
        assert_int_equal((uintptr_t)one % 16, 0);
        memset(one, (int)count, 17);
        if (last)
            assert_int_equal(last[16], (char)(count - 1));
    }
    assert_int_equal(count, 10000 / 32);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_copy(&arena, "x", SIZE_MAX));
    arena_reset(&arena);
    assert_string_equal(arena_copy(&arena, "text", 3), "tex");
    assert_non_null(arena_alloc(&arena, 9900));
    arena_deinit(&arena);
}

static void malformed_utf8_is_told_from_well_formed(void **state) {
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xee\x80\x80",
                                       "long enough to go eight by eight \xc3\xa9 and on"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xff",
                                      "eight by\xc3 eight",
                                      "1234567\xc3"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_int_equal(utf8_cut("a\xe2\x82\xac", 4, 4), 4);
    assert_int_equal(utf8_cut("a\xe2\x82\xac", 4, 3), 1);
    assert_int_equal(utf8_cut("a\xe2\x82\xac", 4, 1), 1);
    assert_int_equal(utf8_cut("\xe2\x82\xac", 3, 2), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_apart_and_bounded),
        cmocka_unit_test(malformed_utf8_is_told_from_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
