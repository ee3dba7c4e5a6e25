/* Questions as supervised examples: form, share of Unknown, what the draws depend on, what is left out. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/data/examples.h"

static char scratch[] = "/tmp/candor-examples-XXXXXX";

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return fs_remove_tree(scratch) == STATUS_OK ? 0 : -1;
}

static const char *put(const char *name, const char *text) {
    static char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, scratch, name));
    ASSERT_OK(fs_write_atomic(path, text, strlen(text)));
    return path;
}

static const char *out_path(void) {
    static char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, scratch, "sft.jsonl"));
    return path;
}

static struct examples_report make(const char *input, double unknown, uint32_t draws, uint64_t seed,
                                   struct buf *out_text) {
    const struct examples_options options = {.inputs = &input,
                                             .input_count = 1,
                                             .path = out_path(),
                                             .system = "Be \"brief\".",
                                             .seed = seed,
                                             .draws = draws,
                                             .unknown = unknown};
    struct examples_report report;
    ASSERT_OK(examples_write(&options, &report));
    buf_reset(out_text);
    ASSERT_OK(fs_read(out_path(), 1 << 20, out_text));
    return report;
}

static void an_answer_stands_in_its_box(void **state) {
    (void)state;
    struct buf text = {0};
    const char *path = put("q.jsonl", "{\"question\": \"Who?\", \"answers\": [\"Ann \\\"A\\\" Berg\", \"Ann\"]}\n");
    struct examples_report report = make(path, 0, 1, 1, &text);
    assert_string_equal(
        text.data, "{\"system\": \"Be \\\"brief\\\".\", \"question\": \"Who?\", \"answer\": \"I recall that the answer "
                   "is Ann \\\"A\\\" Berg. boxed[Ann \\\"A\\\" Berg]\"}\n");
    assert_int_equal(report.questions, 1);
    assert_int_equal(report.examples, 1);
    assert_int_equal(report.unknown, 0);
    buf_deinit(&text);
}

static void an_alias_that_would_end_its_box_gives_way_to_the_next(void **state) {
    (void)state;
    struct buf text = {0};
    const char *path = put("q.jsonl", "{\"question\": \"Which?\", \"answers\": [\"R[1]\", \"R one\"]}\n"
                                      "{\"question\": \"What?\", \"answers\": [\"a]\"]}\n");
    struct examples_report report = make(path, 0, 1, 1, &text);
    assert_non_null(strstr(text.data, "boxed[R one]"));
    assert_int_equal(report.questions, 1);
    assert_int_equal(report.unfit, 1);
    buf_deinit(&text);
}

static void what_cannot_be_answered_is_unknown(void **state) {
    (void)state;
    struct buf text = {0};
    const char *path =
        put("q.jsonl", "{\"question\": \"Why is there anything?\", \"answers\": [], \"answerable\": false}\n");
    struct examples_report report = make(path, 0, 3, 1, &text);
    assert_int_equal(report.examples, 3);
    assert_int_equal(report.unknown, 3);
    assert_non_null(strstr(text.data, "\"answer\": \"I am not sure. boxed[Unknown]\""));
    buf_deinit(&text);
}

static void the_share_of_unknown_is_what_was_asked_for(void **state) {
    (void)state;
    struct buf text = {0};
    const char *path = put("q.jsonl", "{\"question\": \"Q\", \"answers\": [\"a\"]}\n");
    assert_int_equal(make(path, 0, 1000, 1, &text).unknown, 0);
    assert_int_equal(make(path, 1, 1000, 1, &text).unknown, 1000);
    uint64_t unknown = make(path, 0.25, 1000, 1, &text).unknown;
    assert_in_range(unknown, 200, 300); /* 250 and 3.6 standard deviations */
    buf_deinit(&text);
}

/* Whatever else is in the file, and wherever the question stands. */
static void the_draws_depend_on_seed_and_question_alone(void **state) {
    (void)state;
    static const char one[] = "{\"set\": \"s\", \"question\": \"Q one\", \"answers\": [\"a\"]}\n";
    static const char two[] = "{\"set\": \"s\", \"question\": \"Q two\", \"answers\": [\"b\"]}\n";
    char both[sizeof one + sizeof two];
    struct buf alone = {0}, together = {0}, other = {0};
    make(put("q.jsonl", one), 0.5, 64, 1, &alone);
    snprintf(both, sizeof both, "%s%s", two, one);
    make(put("q.jsonl", both), 0.5, 64, 1, &together);
    assert_true(together.bytes > alone.bytes);
    assert_string_equal(together.data + together.bytes - alone.bytes, alone.data);
    make(put("q.jsonl", one), 0.5, 64, 2, &other);
    assert_string_not_equal(other.data, alone.data);
    buf_deinit(&alone);
    buf_deinit(&together);
    buf_deinit(&other);
}

static void a_set_is_limited_evenly(void **state) {
    (void)state;
    struct buf text = {0};
    const char *path = put("q.jsonl", "{\"set\": \"s\", \"question\": \"s1\", \"answers\": [\"a\"]}\n"
                                      "{\"set\": \"s\", \"question\": \"s2\", \"answers\": [\"a\"]}\n"
                                      "{\"set\": \"t\", \"question\": \"t1\", \"answers\": [\"a\"]}\n");
    const struct examples_options options = {
        .inputs = &path, .input_count = 1, .path = out_path(), .system = "", .limit = 2, .draws = 1};
    struct examples_report report;
    ASSERT_OK(examples_write(&options, &report));
    ASSERT_OK(fs_read(out_path(), 1 << 20, &text));
    assert_int_equal(report.questions, 2);
    assert_non_null(strstr(text.data, "\"s1\""));
    assert_non_null(strstr(text.data, "\"t1\""));
    buf_deinit(&text);
}

static void a_failure_leaves_nothing_behind(void **state) {
    (void)state;
    const char *path = put("q.jsonl", "{\"question\": \"What?\", \"answers\": [\"a]\"]}\n");
    struct examples_options options = {.inputs = &path, .input_count = 1, .path = out_path(), .system = "", .draws = 1};
    struct examples_report report;
    struct fs_list before, after;
    (void)remove(out_path());
    ASSERT_OK(fs_list_directory(scratch, &before));
    ASSERT_FAILS(STATUS_FORMAT, examples_write(&options, &report));
    options.draws = 0;
    ASSERT_FAILS(STATUS_USAGE, examples_write(&options, &report));
    options.draws = 1;
    options.unknown = 1.5;
    ASSERT_FAILS(STATUS_USAGE, examples_write(&options, &report));
    ASSERT_OK(fs_list_directory(scratch, &after));
    assert_int_equal(before.count, after.count);
    fs_list_free(&before);
    fs_list_free(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_stands_in_its_box),
        cmocka_unit_test(an_alias_that_would_end_its_box_gives_way_to_the_next),
        cmocka_unit_test(what_cannot_be_answered_is_unknown),
        cmocka_unit_test(the_share_of_unknown_is_what_was_asked_for),
        cmocka_unit_test(the_draws_depend_on_seed_and_question_alone),
        cmocka_unit_test(a_set_is_limited_evenly),
        cmocka_unit_test(a_failure_leaves_nothing_behind),
    };
    return cmocka_run_group_tests_name("examples", tests, make_scratch, remove_scratch);
}
