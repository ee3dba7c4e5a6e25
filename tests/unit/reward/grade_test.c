/* grade_file: rows in, rows with final and verdict out, whole or not at all. */
#include "tests/support/test.h"

#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fs.h"
#include "common/base/json.h"
#include "reward/grade.h"

static char directory[] = "/tmp/candor-grade-XXXXXX";
static char in_path[64], out_path[64];

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(in_path, sizeof in_path, "%s/in.jsonl", directory);
    snprintf(out_path, sizeof out_path, "%s/out.jsonl", directory);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static void write_in(const char *text) {
    ASSERT_OK(fs_write_atomic(in_path, text, strlen(text)));
}

static void check_row(struct json_lines *lines, const char *id, const char *final, const char *verdict) {
    json_t *row;
    ASSERT_OK(json_lines_next(lines, &row));
    const json_t *found = json_object_get(row, "final");
    assert_string_equal(json_string_value(json_object_get(row, "id")), id);
    if (final == NULL)
        assert_true(json_is_null(found));
    else
        assert_string_equal(json_string_value(found), final);
    assert_string_equal(json_string_value(json_object_get(row, "verdict")), verdict);
    assert_string_equal(json_string_value(json_object_get(row, "kept")), "as is");
    json_decref(row);
}

#define ROW(id, response)                                                                                              \
    "{\"id\":\"" id                                                                                                    \
    "\",\"question\":\"Capital of France?\",\"aliases\":[\"Paris\"],\"kept\":\"as is\",\"response\":\"" response       \
    "\"}\n"

static void note_progress(void *user, uint64_t rows, uint64_t bytes_read, uint64_t bytes_total) {
    uint64_t *last = user;
    assert_true(bytes_read <= bytes_total);
    *last = rows;
}

static void rows_come_back_with_final_and_verdict(void **state) {
    (void)state;
    struct grade_counts counts;
    struct json_lines lines;
    uint64_t progress = 0;
    write_in(ROW("a", "boxed[Paris]") ROW("b", "boxed[Rome]") ROW("c", "Rome") ROW("d", "boxed[Unknown]")
                 ROW("e", "Paris. boxed[Rome]"));
    ASSERT_OK(grade_file(in_path, out_path, false, note_progress, &progress, &counts));
    assert_int_equal(counts.rows, 5);
    assert_int_equal(progress, 5);
    for (int v = 0; v < VERDICT_COUNT; v++)
        assert_int_equal(counts.verdicts[v], 1);
    ASSERT_OK(json_lines_open(&lines, out_path, 1 << 16));
    check_row(&lines, "a", "Paris", "correct");
    check_row(&lines, "b", "Rome", "wrong");
    check_row(&lines, "c", NULL, "malformed");
    check_row(&lines, "d", "Unknown", "abstain");
    check_row(&lines, "e", "Rome", "process-correct");
    json_lines_close(&lines);
}

static void plain_takes_the_response_as_the_final(void **state) {
    (void)state;
    struct grade_counts counts;
    struct json_lines lines;
    write_in(ROW("a", "It is Paris.") ROW("b", "Rome"));
    ASSERT_OK(grade_file(in_path, out_path, true, NULL, NULL, &counts));
    ASSERT_OK(json_lines_open(&lines, out_path, 1 << 16));
    check_row(&lines, "a", "It is Paris.", "correct");
    check_row(&lines, "b", "Rome", "wrong");
    json_lines_close(&lines);
}

static void a_bad_row_is_named_and_leaves_the_output_as_it_was(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{\"id\":1,\"question\":\"q\",\"aliases\":\"Paris\",\"response\":\"x\"}\n",
        "{\"id\":1,\"question\":\"q\",\"aliases\":[1],\"response\":\"x\"}\n",
        "{\"id\":1,\"question\":\"q\",\"response\":\"x\"}\n",
        "{\"id\":1,\"question\":\"q\",\"aliases\":[]}\n",
        "{\"id\":1,\"aliases\":[],\"response\":\"x\"}\n",
        "{\"question\":\"q\",\"aliases\":[],\"response\":\"x\"}\n",
        "[1]\n",
        "{\n",
    };
    struct grade_counts counts;
    struct fs_list list;
    struct buf kept = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[1024], place[96];
        snprintf(text, sizeof text, "%s%s", ROW("a", "boxed[Paris]"), bad[i]);
        write_in(text);
        ASSERT_OK(fs_write_atomic(out_path, "before", 6));
        ASSERT_FAILS(STATUS_FORMAT, grade_file(in_path, out_path, false, NULL, NULL, &counts));
        snprintf(place, sizeof place, "%s:2", in_path);
        if (strstr(status_message(), place) == NULL)
            fail_msg("\"%s\" does not name %s", status_message(), place);
        buf_reset(&kept);
        ASSERT_OK(fs_read(out_path, 100, &kept));
        assert_string_equal(kept.data, "before");
    }
    buf_deinit(&kept);
    ASSERT_OK(fs_list_directory(directory, &list));
    assert_int_equal(list.count, 2); /* nothing else was left behind */
    fs_list_free(&list);
}

static void an_absent_file_and_an_unwritable_one_are_named(void **state) {
    (void)state;
    struct grade_counts counts;
    char absent[96];
    snprintf(absent, sizeof absent, "%s/absent/out.jsonl", directory);
    assert_int_not_equal(grade_file(absent, out_path, false, NULL, NULL, &counts), STATUS_OK);
    assert_non_null(strstr(status_message(), absent));
    write_in(ROW("a", "boxed[Paris]"));
    ASSERT_FAILS(STATUS_IO, grade_file(in_path, absent, false, NULL, NULL, &counts));
    assert_non_null(strstr(status_message(), absent));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_with_final_and_verdict),
        cmocka_unit_test(plain_takes_the_response_as_the_final),
        cmocka_unit_test(a_bad_row_is_named_and_leaves_the_output_as_it_was),
        cmocka_unit_test(an_absent_file_and_an_unwritable_one_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
