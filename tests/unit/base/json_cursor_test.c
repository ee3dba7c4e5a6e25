/* Walking through JSON without building it. */
#include "tests/support/test.h"

#include "common/base/json_cursor.h"

static struct json_cursor cursor_of(const char *text) {
    struct json_cursor cursor;
    json_cursor_init(&cursor, text, strlen(text), "text.json");
    return cursor;
}

static void walks_members_and_elements(void **state) {
    (void)state;
    struct json_cursor cursor = cursor_of(
        " {\"skip\": [{\"}\": \"]\\\"\"}, 1e5, null], \"caf\\u00e9\" : [ \"x\\n\", -12 , {\"a\":[1,2]}], \"n\":[]} ");
    struct buf text = {0};
    bool more;
    int64_t number;
    json_t *value;
    ASSERT_OK(json_cursor_enter_object(&cursor));
    ASSERT_OK(json_cursor_key(&cursor, &text, &more));
    assert_string_equal(text.data, "skip");
    ASSERT_OK(json_cursor_skip(&cursor));
    ASSERT_OK(json_cursor_key(&cursor, &text, &more));
    assert_string_equal(text.data, "caf\xC3\xA9");
    ASSERT_OK(json_cursor_enter_array(&cursor));
    ASSERT_OK(json_cursor_next(&cursor, &more));
    ASSERT_OK(json_cursor_string(&cursor, &text));
    assert_string_equal(text.data, "x\n");
    ASSERT_OK(json_cursor_next(&cursor, &more));
    ASSERT_OK(json_cursor_int(&cursor, &number));
    assert_int_equal(number, -12);
    ASSERT_OK(json_cursor_next(&cursor, &more));
    assert_true(more);
    ASSERT_OK(json_cursor_value(&cursor, 100, &value));
    assert_int_equal(json_array_size(json_object_get(value, "a")), 2);
    json_decref(value);
    ASSERT_OK(json_cursor_next(&cursor, &more));
    assert_false(more);
    ASSERT_OK(json_cursor_key(&cursor, &text, &more));
    ASSERT_OK(json_cursor_enter_array(&cursor));
    ASSERT_OK(json_cursor_next(&cursor, &more));
    assert_false(more);
    ASSERT_OK(json_cursor_key(&cursor, &text, &more));
    assert_false(more);
    ASSERT_OK(json_cursor_end(&cursor));
    buf_deinit(&text);
}

static void broken_texts_name_the_place(void **state) {
    (void)state;
    struct json_cursor cursor = cursor_of("[1 2]");
    bool more;
    int64_t number;
    ASSERT_OK(json_cursor_enter_array(&cursor));
    ASSERT_OK(json_cursor_next(&cursor, &more));
    ASSERT_OK(json_cursor_int(&cursor, &number));
    ASSERT_FAILS(STATUS_FORMAT, json_cursor_next(&cursor, &more));
    assert_non_null(strstr(status_message(), "text.json: byte 3"));

    static const char *const unskippable[] = {"", "[", "[[]", "\"abc", "\"abc\\", "{\"a\":", "]", ",", "[\"\\\""};
    for (size_t i = 0; i < sizeof unskippable / sizeof *unskippable; i++) {
        cursor = cursor_of(unskippable[i]);
        ASSERT_FAILS(STATUS_FORMAT, json_cursor_skip(&cursor));
    }
    static const char *const no_integers[] = {"", "-", "1.5", "x", "12345678901234567890", "1e3"};
    for (size_t i = 0; i < sizeof no_integers / sizeof *no_integers; i++) {
        cursor = cursor_of(no_integers[i]);
        ASSERT_FAILS(STATUS_FORMAT, json_cursor_int(&cursor, &number));
    }
    struct buf text = {0};
    cursor = cursor_of("\"\xFF\"");
    ASSERT_FAILS(STATUS_FORMAT, json_cursor_string(&cursor, &text));
    buf_deinit(&text);
}

static void a_value_above_the_limit_is_refused(void **state) {
    (void)state;
    struct json_cursor cursor = cursor_of("[\"0123456789\", 1]");
    json_t *value;
    ASSERT_FAILS(STATUS_LIMIT, json_cursor_value(&cursor, 8, &value));
    ASSERT_OK(json_cursor_value(&cursor, 17, &value));
    json_decref(value);
    char deep[64];
    memset(deep, '[', sizeof deep);
    json_cursor_init(&cursor, deep, sizeof deep, "deep");
    enum status status = STATUS_OK;
    for (int i = 0; i < 64 && status == STATUS_OK; i++) {
        bool more;
        status = json_cursor_enter_array(&cursor);
        if (status == STATUS_OK)
            ASSERT_OK(json_cursor_next(&cursor, &more));
    }
    assert_int_equal(status, STATUS_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_members_and_elements),
        cmocka_unit_test(broken_texts_name_the_place),
        cmocka_unit_test(a_value_above_the_limit_is_refused),
    };
    return cmocka_run_group_tests_name("json_cursor", tests, NULL, NULL);
}
