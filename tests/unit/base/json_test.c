/* JSON: bounded reading, lines, and numbers that read back. */
#include "tests/support/test.h"

#include <math.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/base/rng.h"

static void refuse(const char *text, size_t bytes, const char *message) {
    json_t *value = NULL;
    ASSERT_FAILS(STATUS_FORMAT, json_parse(text, bytes, "x.json", &value));
    if (!strstr(status_message(), message))
        fail_msg("\"%s\" is not in \"%s\"", message, status_message());
    assert_null(value);
}

static void malformed_texts_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"",         "{",          "[1,]",      "{\"a\":1,}", "{a:1}",          "[1] 2",
                                        "\"\\x\"",  "\"\xff\"",   "nul",       "1e999",      "\"\\ud800\"",    "[\"\\u0000\"]",
                                        "'a'",      "[01]",       "+1",        "{\"a\" 1}",  "\"line\nbreak\"", "99999999999999999999",
                                        "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        refuse(texts[i], strlen(texts[i]), "x.json: line 1, column ");
    refuse("[\0]", 3, "x.json: line 1, column ");
}

static void depth_is_limited(void **state) {
    (void)state;
    char text[200000];
    json_t *value = NULL;
    memset(text, '[', 16);
    memset(text + 16, ']', 16);
    ASSERT_OK(json_parse(text, 32, "x.json", &value));
    json_decref(value);
    value = NULL;
    memset(text, '[', 17);
    memset(text + 17, ']', 17);
    refuse(text, 34, "x.json: JSON nested deeper than 16");
    memset(text, '[', sizeof text);
    refuse(text, sizeof text, "deeper");
    const char quoted[] = "[\"\\\"[[[[[[[[[[[[[[[[[[[[\"]";
    ASSERT_OK(json_parse(quoted, sizeof quoted - 1, "x.json", &value)); /* in a string they are text */
    json_decref(value);
}

static void members_are_checked(void **state) {
    (void)state;
    json_t *object = NULL;
    const char *text = "{\"s\": \"text\", \"i\": 5, \"r\": 0.5, \"n\": null}";
    const char *string = NULL;
    int64_t integer = 0;
    double real = 0;
    ASSERT_OK(json_parse(text, strlen(text), "x.json", &object));
    ASSERT_OK(json_get_string(object, "row 3", "s", &string));
    assert_string_equal(string, "text");
    ASSERT_OK(json_get_int(object, "row 3", "i", 0, 5, &integer));
    assert_int_equal(integer, 5);
    ASSERT_OK(json_get_double(object, "row 3", "i", &real));
    ASSERT_OK(json_get_double(object, "row 3", "r", &real));
    assert_true(real == 0.5);
    ASSERT_FAILS(STATUS_FORMAT, json_get_string(object, "row 3", "i", &string));
    assert_string_equal(status_message(), "row 3: \"i\" is a whole number; a string is wanted");
    ASSERT_FAILS(STATUS_FORMAT, json_get_string(object, "row 3", "absent", &string));
    assert_string_equal(status_message(), "row 3: no \"absent\"; a string is wanted");
    ASSERT_FAILS(STATUS_FORMAT, json_get_int(object, "row 3", "i", 6, 9, &integer));
    assert_string_equal(status_message(), "row 3: \"i\" is 5; 6 to 9 is right");
    ASSERT_FAILS(STATUS_FORMAT, json_get_int(object, "row 3", "r", 0, 9, &integer));
    ASSERT_FAILS(STATUS_FORMAT, json_get_double(object, "row 3", "n", &real));
    ASSERT_FAILS(STATUS_FORMAT, json_get_double(json_object_get(object, "s"), "row 3", "x", &real));
    ASSERT_FAILS(STATUS_FORMAT, json_get_double(NULL, "row 3", "x", &real));
    json_decref(object);
}

static void lines_are_read_one_by_one_past_bad_ones(void **state) {
    (void)state;
    char path[] = "/tmp/candor-json-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const char *text = "\xef\xbb\xbf{\"a\":1}\r\n\n  \t\nbad\n{\"a\":\"0123456789012345678901234567890123456789\"}\n{\"a\":2}";
    ASSERT_OK(fs_write_atomic(path, text, strlen(text)));
    struct json_lines lines;
    json_t *value = NULL;
    ASSERT_OK(json_lines_open(&lines, path, 30));
    ASSERT_OK(json_lines_next(&lines, &value));
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 1);
    json_decref(value);
    ASSERT_FAILS(STATUS_FORMAT, json_lines_next(&lines, &value));
    assert_int_equal(lines.number, 4);
    assert_non_null(strstr(status_message(), ":4: "));
    ASSERT_FAILS(STATUS_FORMAT, json_lines_next(&lines, &value));
    assert_non_null(strstr(status_message(), ":5: line longer than 30 bytes"));
    ASSERT_OK(json_lines_next(&lines, &value));
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 2);
    json_decref(value);
    assert_int_equal(lines.bytes_read, strlen(text));
    assert_int_equal(json_lines_next(&lines, &value), STATUS_NOT_FOUND);
    assert_int_equal(json_lines_next(&lines, &value), STATUS_NOT_FOUND);
    json_lines_close(&lines);
    unlink(path);
    ASSERT_FAILS(STATUS_NOT_FOUND, json_lines_open(&lines, path, 30));
}

static void a_file_is_bounded_and_named(void **state) {
    (void)state;
    char path[] = "/tmp/candor-json-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    json_t *value = NULL;
    ASSERT_OK(fs_write_atomic(path, "[1, 2", 5));
    ASSERT_FAILS(STATUS_LIMIT, json_read_file(path, 4, &value));
    ASSERT_FAILS(STATUS_FORMAT, json_read_file(path, 100, &value));
    assert_non_null(strstr(status_message(), path));
    unlink(path);
}

static void texts_are_escaped_and_repaired(void **state) {
    (void)state;
    struct buf out = {0};
    const char text[] = "a\"\\\n\r\t\x01\x7f \xc3\xa9\xf0\x9f\x98\x80|\xff|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82";
    json_put_string(&out, text, sizeof text - 1);
    assert_string_equal(out.data, "\"a\\\"\\\\\\n\\r\\t\\u0001\x7f \xc3\xa9\xf0\x9f\x98\x80|\xef\xbf\xbd|"
                                  "\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"
                                  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\"");
    json_t *value = NULL;
    ASSERT_OK(json_parse(out.data, out.bytes, "written", &value));
    json_decref(value);
    buf_reset(&out);
    json_put_string(&out, "a\0b", 3);
    assert_string_equal(out.data, "\"a\\u0000b\"");
    buf_deinit(&out);
}

static void expect_double(double number, const char *text) {
    struct buf out = {0};
    json_put_double(&out, number);
    assert_string_equal(out.data, text);
    buf_deinit(&out);
}

static void numbers_take_the_fewest_digits(void **state) {
    (void)state;
    struct buf out = {0};
    expect_double(0.1, "0.1");
    expect_double(1e-6, "1e-06");
    expect_double(100000, "100000");
    expect_double(0.1 + 0.2, "0.30000000000000004");
    expect_double(-0.0, "-0");
    expect_double((double)INFINITY, "null");
    expect_double((double)NAN, "null");
    json_put_float(&out, 0.1f);
    buf_puts(&out, " ");
    json_put_float(&out, -1.5f);
    buf_puts(&out, " ");
    json_put_float(&out, 16777216.0f);
    buf_puts(&out, " ");
    json_put_float(&out, -INFINITY);
    assert_string_equal(out.data, "0.1 -1.5 16777216 null");
    buf_deinit(&out);
}

static void numbers_read_back_to_the_same_bits(void **state) {
    (void)state;
    struct buf out = {0};
    const struct rng_key key = {.seed = 3, .stream = RNG_TEST};
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t words[4];
        float f, f_back;
        double d, d_back;
        rng_words(&key, i, words);
        memcpy(&f, words, sizeof f);
        memcpy(&d, words + 2, sizeof d);
        if (!isfinite(f) || !isfinite(d))
            continue;
        buf_reset(&out);
        json_put_float(&out, f);
        f_back = strtof(out.data, NULL);
        assert_memory_equal(&f, &f_back, sizeof f);
        buf_reset(&out);
        json_put_double(&out, d);
        d_back = strtod(out.data, NULL);
        assert_memory_equal(&d, &d_back, sizeof d);
    }
    buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(members_are_checked),
        cmocka_unit_test(lines_are_read_one_by_one_past_bad_ones),
        cmocka_unit_test(a_file_is_bounded_and_named),
        cmocka_unit_test(texts_are_escaped_and_repaired),
        cmocka_unit_test(numbers_take_the_fewest_digits),
        cmocka_unit_test(numbers_read_back_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
