/* Status codes, messages, verdict names. */
#include "tests/support/test.h"

#include <errno.h>

#include "common/base/verdict.h"

static enum status tried(enum status inner) {
    TRY(inner);
    return fail(STATUS_RUN_FAILED, "went on");
}

static void codes_have_names_and_exit_codes(void **state) {
    (void)state;
    assert_string_equal(status_name(STATUS_OK), "OK");
    assert_string_equal(status_name(STATUS_CONFIG), "CONFIG");
    assert_string_equal(status_name((enum status)999), "?");
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_CONFIG), 78);
    assert_int_equal(status_exit_code(STATUS_USAGE), 64);
    assert_int_equal(status_exit_code(STATUS_FORMAT), 65);
    assert_int_equal(status_exit_code(STATUS_DEVICE), 75);
    assert_int_equal(status_exit_code(STATUS_RUN_FAILED), 1);
}

static void a_message_gains_context(void **state) {
    (void)state;
    assert_int_equal(fail(STATUS_FORMAT, "row %d", 7), STATUS_FORMAT);
    assert_int_equal(fail_context(STATUS_FORMAT, "file %s", "x"), STATUS_FORMAT);
    assert_string_equal(status_message(), "file x: row 7");
    (void)fail(STATUS_FORMAT, "again: %s", status_message()); /* the kept message as an argument */
    assert_string_equal(status_message(), "again: file x: row 7");
    errno = ENOENT;
    assert_int_equal(fail_errno("%s", "y"), STATUS_IO);
    assert_string_equal(status_message(), "y: No such file or directory");
}

static void a_long_message_is_cut(void **state) {
    (void)state;
    char text[3 * STATUS_MESSAGE_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)fail(STATUS_FORMAT, "%s", text);
    (void)fail_context(STATUS_FORMAT, "%s", text);
    assert_int_equal(strlen(status_message()), STATUS_MESSAGE_BYTES - 1);
}

static void try_returns_what_failed(void **state) {
    (void)state;
    assert_int_equal(tried(STATUS_AGAIN), STATUS_AGAIN);
    assert_int_equal(tried(STATUS_OK), STATUS_RUN_FAILED);
}

static void verdicts_have_names_that_are_found(void **state) {
    (void)state;
    for (unsigned i = 0; i < VERDICT_COUNT; i++) {
        enum verdict verdict = VERDICT_COUNT;
        assert_true(verdict_find(verdict_name((enum verdict)i), &verdict));
        assert_int_equal(verdict, i);
    }
    enum verdict verdict = VERDICT_WRONG;
    assert_false(verdict_find("right", &verdict));
    assert_int_equal(verdict, VERDICT_WRONG);
    assert_string_equal(verdict_name(VERDICT_COUNT), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_have_names_and_exit_codes), cmocka_unit_test(a_message_gains_context),
        cmocka_unit_test(a_long_message_is_cut),           cmocka_unit_test(try_returns_what_failed),
        cmocka_unit_test(verdicts_have_names_that_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
