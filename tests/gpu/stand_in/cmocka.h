/* As much of cmocka as the twin tests use, for a machine that has a compiler and the CUDA toolkit alone. */
#ifndef CANDOR_TESTS_GPU_STAND_IN_CMOCKA_H
#define CANDOR_TESTS_GPU_STAND_IN_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*teardown)(void **state);
};

extern void (*stand_in_failed)(const char *file, int line) __attribute__((noreturn));

#define print_error(...) fprintf(stderr, __VA_ARGS__)
#define _fail(file, line) stand_in_failed(file, line)
#define fail_msg(...) (print_error("ERROR: " __VA_ARGS__), print_error("\n"), stand_in_failed(__FILE__, __LINE__))
#define assert_true(c) ((c) ? (void)0 : (print_error("%s is not so\n", #c), stand_in_failed(__FILE__, __LINE__)))
#define assert_false(c) assert_true(!(c))
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b) assert_true((intmax_t)(a) == (intmax_t)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, bytes) assert_true(memcmp(a, b, bytes) == 0)
#define skip() stand_in_failed(__FILE__, __LINE__)

#define cmocka_unit_test(f) {#f, f, NULL}
#define cmocka_unit_test_teardown(f, after) {#f, f, after}
#define cmocka_run_group_tests_name(name, tests, set_up, tear_down)                                                    \
    stand_in_run(name, tests, sizeof(tests) / sizeof((tests)[0]), set_up, tear_down)
int stand_in_run(const char *group, const struct CMUnitTest *tests, size_t count, int (*set_up)(void **),
                 int (*tear_down)(void **));

#endif
