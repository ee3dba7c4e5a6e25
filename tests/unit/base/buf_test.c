/* Growable buffers. */
#include "tests/support/test.h"

#include "common/base/buf.h"

static void text_grows_and_stays_terminated(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf);
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i);
    buf_puts(&buf, "end");
    assert_true(buf_ok(&buf));
    assert_int_equal(buf.bytes, strlen(buf.data));
    assert_int_equal(buf.bytes, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    assert_string_equal(buf.data + buf.bytes - 7, "999,end");
    buf_deinit(&buf);
    assert_null(buf.data);
}

static void reserve_then_count(void **state) {
    (void)state;
    struct buf buf = {0};
    buf_append(&buf, NULL, 0);
    char *room = buf_reserve(&buf, 5);
    assert_non_null(room);
    memcpy(room, "a\0b\0c", 5);
    buf.bytes += 5;
    buf_append(&buf, "d", 1);
    assert_memory_equal(buf.data, "a\0b\0cd", 7);
    buf_deinit(&buf);
}

static void taken_memory_belongs_to_the_caller(void **state) {
    (void)state;
    struct buf buf = {0};
    size_t bytes = 99;
    char *empty = buf_take(&buf, &bytes);
    assert_string_equal(empty, "");
    assert_int_equal(bytes, 0);
    free(empty);
    buf_puts(&buf, "x");
    char *text = buf_take(&buf, NULL);
    assert_string_equal(text, "x");
    assert_int_equal(buf.bytes, 0);
    free(text);
}

static void without_memory_it_stays_failed_until_reset(void **state) {
    (void)state;
    struct buf buf = {0};
    buf_puts(&buf, "something");
    assert_null(buf_reserve(&buf, SIZE_MAX - 4));
    assert_false(buf_ok(&buf));
    buf_puts(&buf, "more");
    buf_printf(&buf, "%d", 1);
    assert_int_equal(buf.bytes, 0);
    assert_null(buf_take(&buf, NULL));
    buf_reset(&buf);
    buf_puts(&buf, "again");
    assert_true(buf_ok(&buf));
    assert_string_equal(buf.data, "again");
    buf_deinit(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_stays_terminated),
        cmocka_unit_test(reserve_then_count),
        cmocka_unit_test(taken_memory_belongs_to_the_caller),
        cmocka_unit_test(without_memory_it_stays_failed_until_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
