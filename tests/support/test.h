/* cmocka with what it needs before it, and without its macro `fail`, which would hide ours (status.h): include this first in
 * every test. */
#ifndef CANDOR_TESTS_SUPPORT_TEST_H
#define CANDOR_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef fail
#undef fail_msg
#define fail_msg(...)                                                                                                  \
    do {                                                                                                               \
        print_error("ERROR: " __VA_ARGS__);                                                                            \
        print_error("\n");                                                                                             \
        _fail(__FILE__, __LINE__);                                                                                     \
    } while (0)

#include "common/base/status.h"

/* Leave the test as skipped; tests/run lists the reason. */
#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        printf("skipped: " __VA_ARGS__);                                                                               \
        printf("\n");                                                                                                  \
        fflush(stdout);                                                                                                \
        skip();                                                                                                        \
    } while (0)

/* An expression of enum status that must be OK; prints the message that came instead. */
#define ASSERT_OK(expression)                                                                                          \
    do {                                                                                                               \
        enum status assert_status_ = (expression);                                                                     \
        if (assert_status_ != STATUS_OK)                                                                               \
            fail_msg("%s: %s: %s", #expression, status_name(assert_status_), status_message());                        \
    } while (0)

/* It must fail with this code. */
#define ASSERT_FAILS(expected, expression)                                                                             \
    do {                                                                                                               \
        enum status assert_status_ = (expression);                                                                     \
        if (assert_status_ != (expected))                                                                              \
            fail_msg("%s: %s where %s was expected: %s", #expression, status_name(assert_status_),                     \
                     status_name(expected), status_message());                                                         \
    } while (0)

#endif
