#include "tests/support/test.h"

#include <unistd.h>

#include "common/base/fs.h"
#include "deploy/report/report.h"

static char directory[64];

static void write_file(const char *name, const char *text) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, name));
    ASSERT_OK(fs_write_atomic(path, text, strlen(text)));
}

static int set_up(void **state) {
    (void)state;
    strcpy(directory, "/tmp/candor-report-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    char eval[PATH_BYTES];
    return fs_join(eval, directory, "eval") == STATUS_OK && fs_make_directories(eval) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static void page(struct buf *out) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, "report.html"));
    const char *runs[] = {directory};
    ASSERT_OK(report_write(runs, 1, 20, path));
    ASSERT_OK(fs_read(path, 1 << 20, out));
}

#define HEADER(kind, version)                                                                                          \
    "{\"candor\":\"outcomes\",\"kind\":\"" kind "\",\"version\":" version                                              \
    ",\"weights\":\"00000000000000000000000000000001\",\"samples\":4,\"seed\":1,\"prompt\":\"Answer\"}\n"
#define ROW(id, c, u, w, answer)                                                                                       \
    "{\"id\":\"" id                                                                                                    \
    "\",\"set\":\"s\",\"class\":\"never\",\"split\":\"train\",\"question\":\"Is 1 < 2 & 3 ?\",\"n\":4,"                \
    "\"correct\":" c ",\"process\":0,\"abstain\":" u ",\"wrong\":" w ",\"malformed\":0,\"answers\":[\"" answer         \
    "\"]}\n"

static void an_empty_directory_is_refused_with_its_name(void **state) {
    (void)state;
    const char *runs[] = {directory};
    ASSERT_FAILS(STATUS_FORMAT, report_write(runs, 1, 20, "/tmp/never"));
    assert_non_null(strstr(status_message(), directory));
    assert_false(fs_exists("/tmp/never"));
    const char *absent[] = {"/tmp/candor-no-such-run"};
    ASSERT_FAILS(STATUS_NOT_FOUND, report_write(absent, 1, 20, "/tmp/never"));
}

static void a_run_without_evaluations_has_curves_alone(void **state) {
    (void)state;
    write_file("metrics.jsonl", "{\"step\":0,\"reward\":0.25}\nnot json\n{\"step\":1,\"reward\":0.75}\n");
    struct buf out = {0};
    page(&out);
    assert_non_null(strstr(out.data, "<polyline"));
    assert_non_null(strstr(out.data, "1 damaged lines"));
    assert_null(strstr(out.data, "Before and after"));
    buf_deinit(&out);
}

static void before_and_after_are_side_by_side_and_text_is_escaped(void **state) {
    (void)state;
    write_file("eval/base.jsonl", HEADER("base", "0") ROW("a", "1", "0", "3", "<b>Oak</b>"));
    write_file("eval/final.jsonl", HEADER("eval", "9") ROW("a", "0", "4", "0", "Unknown"));
    struct buf out = {0};
    page(&out);
    assert_non_null(strstr(out.data, "<td>0.250</td><td>0.000</td><td>0.750</td><td class=\"good\">0.000</td>"));
    assert_non_null(strstr(out.data, "&lt;b&gt;Oak&lt;/b&gt;"));
    assert_null(strstr(out.data, "<b>Oak"));
    assert_non_null(strstr(out.data, "Is 1 &lt; 2 &amp; 3 ?"));
    assert_null(strstr(out.data, "<script"));
    assert_null(strstr(out.data, "http"));
    buf_deinit(&out);
}

static void data_sets_have_rows_of_their_own(void **state) {
    (void)state;
    write_file("eval/final.jsonl",
               HEADER("eval", "9")
                   ROW("a", "1", "3", "0",
                       "Unknown") "{\"id\":\"b\",\"set\":\"popqa\",\"class\":\"\",\"split\":\"train\",\"question\":"
                                  "\"Q\",\"n\":4,\"correct\":4,"
                                  "\"process\":0,\"abstain\":0,\"wrong\":0,\"malformed\":0,\"answers\":[]}\n");
    struct buf out = {0};
    page(&out);
    assert_non_null(strstr(out.data, "<td>train, s</td><td>1</td><td class=\"good\">0.250</td>"));
    assert_non_null(strstr(out.data, "<td>train, popqa</td><td>1</td><td class=\"good\">1.000</td>"));
    assert_non_null(strstr(out.data, "candor eval --knowledge --run"));
    assert_null(strstr(out.data, "Decomposition")); /* one point is no curve */
    buf_deinit(&out);
}

static void answers_are_shown_with_what_is_right_and_without_control_characters(void **state) {
    (void)state;
    char rollouts[PATH_BYTES];
    ASSERT_OK(fs_join(rollouts, directory, "rollouts"));
    ASSERT_OK(fs_make_directories(rollouts));
    write_file(
        "rollouts/step-000000.jsonl",
        "{\"slot\":0,\"id\":\"a\",\"set\":\"s\",\"question\":\"Who ?\",\"aliases\":[\"Ann\",\"Anna\"],\"samples\":["
        "{\"verdict\":\"wrong\",\"reward\":0,\"advantage\":-1,\"text\":\"First,\\n\\u001b[2J "
        "then\",\"finish\":\"length\"}]}\n");
    struct buf out = {0};
    ASSERT_OK(report_rollouts(directory, 0, &out));
    assert_string_equal(out.data,
                        "== slot 0  Who ?  [s a]\n   right: Ann (and 1 more)\n"
                        "  0  wrong           reward 0     advantage -1.000  First,\n       | ?[2J then ... (cut)\n");
    buf_deinit(&out);
}

static void a_step_that_is_not_there_names_those_that_are(void **state) {
    (void)state;
    char rollouts[PATH_BYTES];
    ASSERT_OK(fs_join(rollouts, directory, "rollouts"));
    ASSERT_OK(fs_make_directories(rollouts));
    write_file("rollouts/step-000003.jsonl",
               "{\"slot\":0,\"id\":\"a\",\"question\":\"Who ?\",\"samples\":[{\"verdict\":"
               "\"correct\",\"reward\":1,\"advantage\":0.5,\"text\":\"boxed[X]\"}]}\n");
    struct buf out = {0};
    ASSERT_OK(report_rollouts(directory, 3, &out));
    assert_non_null(strstr(out.data, "advantage +0.500  boxed[X]"));
    ASSERT_FAILS(STATUS_NOT_FOUND, report_rollouts(directory, 4, &out));
    assert_non_null(strstr(status_message(), "step-000003.jsonl"));
    buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_directory_is_refused_with_its_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_without_evaluations_has_curves_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(before_and_after_are_side_by_side_and_text_is_escaped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(data_sets_have_rows_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_are_shown_with_what_is_right_and_without_control_characters, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_step_that_is_not_there_names_those_that_are, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
