#include "tests/support/learner/step.h"
#include "tests/support/learner/tiny.h"

#include <unistd.h>

#include "common/base/json.h"
#include "learner/metrics.h"
#include "learner/run_directory.h"

static void another_configuration_is_refused_with_the_keys_that_differ(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    struct run_config *config = tiny_config(&tiny, (const char *const[]){"optim.lr=1e-4", NULL});
    struct run_directory directory;
    ASSERT_OK(run_directory_open(config, &directory));
    assert_true(directory.fresh && directory.run_id != 0);
    uint64_t run_id = directory.run_id;
    struct run_directory second;
    ASSERT_FAILS(STATUS_AGAIN, run_directory_open(config, &second)); /* one learner at a time */
    run_directory_close(&directory);

    struct run_config *other = tiny_config(&tiny, (const char *const[]){"optim.lr=2e-4", "sample.group=3", NULL});
    ASSERT_OK(run_directory_open(other, &directory)); /* without a checkpoint it begins anew */
    run_directory_close(&directory);
    ASSERT_OK(run_directory_open(config, &directory));
    run_directory_close(&directory);
    char checkpoint[PATH_BYTES];
    ASSERT_OK(fs_join(checkpoint, directory.path, "checkpoints/step-00000001"));
    ASSERT_OK(fs_make_directories(checkpoint));
    ASSERT_FAILS(STATUS_CONFIG, run_directory_open(other, &directory));
    assert_int_equal(status_exit_code(STATUS_CONFIG), 78);
    assert_true(strstr(status_message(), "optim.lr") && strstr(status_message(), "sample.group"));
    assert_null(strchr(status_message(), '\n'));
    free(other);

    other = tiny_config(&tiny, (const char *const[]){"optim.lr=1e-4", "log.level=debug", NULL}); /* changes no bit */
    ASSERT_OK(run_directory_open(other, &directory));
    assert_true(!directory.fresh && directory.run_id == run_id);
    run_directory_close(&directory);
    free(other);
    free(config);
    tiny_close(&tiny);
}

static void metrics_are_cut_where_the_checkpoint_says(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    struct run_config *config = tiny_config(&tiny, (const char *const[]){NULL});
    struct run_directory directory;
    struct buf line = {0}, text = {0};
    char path[PATH_BYTES];
    ASSERT_OK(run_directory_open(config, &directory));
    ASSERT_OK(run_directory_open_metrics(&directory, 0));
    buf_puts(&line, "first\n");
    ASSERT_OK(run_directory_add_metrics(&directory, &line));
    uint64_t after_first = directory.metrics_bytes;
    ASSERT_OK(run_directory_add_metrics(&directory, &line));
    run_directory_close(&directory);
    ASSERT_OK(run_directory_open(config, &directory));
    ASSERT_OK(run_directory_open_metrics(&directory, after_first));
    buf_reset(&line);
    buf_puts(&line, "again\n");
    ASSERT_OK(run_directory_add_metrics(&directory, &line));
    run_directory_close(&directory);
    ASSERT_OK(fs_join(path, directory.path, "metrics.jsonl"));
    ASSERT_OK(fs_read(path, 1000, &text));
    assert_string_equal(text.data, "first\nagain\n");
    ASSERT_OK(run_directory_open(config, &directory));
    ASSERT_FAILS(STATUS_FORMAT, run_directory_open_metrics(&directory, 1000));
    run_directory_close(&directory);
    buf_deinit(&line);
    buf_deinit(&text);
    free(config);
    tiny_close(&tiny);
}

static size_t count_lines(const char *path, const char *needs) {
    struct json_lines lines;
    json_t *row;
    size_t count = 0;
    ASSERT_OK(json_lines_open(&lines, path, 1 << 20));
    while (json_lines_next(&lines, &row) == STATUS_OK) {
        size_t slot = (size_t)json_integer_value(json_object_get(row, "slot"));
        const json_t *sample = json_array_get(json_object_get(row, "samples"), slot); /* in group g answer g is right */
        assert_string_equal(json_string_value(json_object_get(sample, "text")), "some \"text\"");
        assert_string_equal(json_string_value(json_object_get(sample, "verdict")), "correct");
        assert_true(json_object_get(sample, needs) != NULL);
        count++;
        json_decref(row);
    }
    json_lines_close(&lines);
    return count;
}

static void rollouts_are_capped_and_bad_batches_are_the_last_three(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    struct run_config *config = tiny_config(&tiny, (const char *const[]){"hub.rollout_bytes=8000", NULL});
    struct run_directory directory;
    struct step step;
    float advantages[STEP_GROUPS * STEP_SAMPLES] = {1.5f};
    char path[PATH_BYTES];
    step_make(&step, tiny.model, 1);
    step.groups[2].scored = NULL; /* a skipped slot has no line */
    ASSERT_OK(run_directory_open(config, &directory));
    for (uint32_t k = 0; k < 6; k++) {
        ASSERT_OK(run_directory_write_rollouts(&directory, k, step.groups, STEP_GROUPS, advantages));
        ASSERT_OK(run_directory_write_bad_batch(&directory, k, step.groups, STEP_GROUPS, advantages));
    }
    ASSERT_OK(
        run_directory_write_rollouts(&directory, 5, step.groups, STEP_GROUPS, advantages)); /* again, after a resume */
    uint64_t held = 0, size;
    struct fs_list kept;
    ASSERT_OK(fs_join(path, directory.path, "rollouts"));
    ASSERT_OK(fs_list_directory(path, &kept));
    for (size_t i = 0; i < kept.count; i++) {
        char file[PATH_BYTES];
        ASSERT_OK(fs_join(file, path, kept.names[i]));
        ASSERT_OK(fs_size(file, &size));
        held += size;
    }
    fs_list_free(&kept);
    assert_true(held <= 8000 && held > 2000 && held == directory.rollout_bytes);
    ASSERT_OK(fs_join(path, directory.path, "rollouts/step-000000.jsonl"));
    assert_false(fs_exists(path));
    ASSERT_OK(fs_join(path, directory.path, "rollouts/step-000005.jsonl"));
    assert_int_equal(count_lines(path, "advantage"), STEP_GROUPS - 1);
    struct fs_list list;
    ASSERT_OK(fs_join(path, directory.path, "bad-batches"));
    ASSERT_OK(fs_list_directory(path, &list));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.names[0], "step-000003.jsonl");
    fs_list_free(&list);
    ASSERT_OK(fs_join(path, directory.path, "bad-batches/step-000005.jsonl"));
    assert_int_equal(count_lines(path, "logprobs"), STEP_GROUPS - 1);
    run_directory_close(&directory);
    free(config);
    tiny_close(&tiny);
}

static bool warns(const struct metrics *metrics, const char *words) {
    for (uint32_t i = 0; i < metrics->warning_count; i++)
        if (strstr(metrics->warnings[i], words))
            return true;
    return false;
}

static void a_line_of_metrics_is_json_and_sick_runs_are_named_in_words(void **state) {
    (void)state;
    struct step_figures figures = {.answers = 100, .groups = 5, .truncated = 50, .answer_tokens = 900};
    figures.verdicts[VERDICT_MALFORMED] = 60;
    figures.verdicts[VERDICT_WRONG] = 40;
    figures.loss = (struct loss_sums){.loss = 0.0 / 0.0, .tokens = 900, .clipped_high = 500};
    figures.advantage.dead_groups = 5;
    figures.update.skipped = true;
    figures.behaviour_gap = 1e-7;
    const char *const stuck[] = {"q \"7\"", "q8"};
    struct metrics_context context = {
        .step = 3, .step_seconds = 10, .wait_seconds = 9, .incarnation = 5, .stuck = stuck, .stuck_count = 2};
    struct metrics metrics;
    metrics_make(&context, &figures, &metrics);
    static const char *const wanted[] = {"cut at",    "no final answer", "Unknown", "equal rewards", "skipped",
                                         "exactly 0", "clipped",         "entropy", "waited"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (!warns(&metrics, wanted[i]))
            fail_msg("no warning says \"%s\"", wanted[i]);
    struct buf line = {0};
    json_t *root;
    metrics_put(&context, &figures, &metrics, &line);
    ASSERT_OK(json_parse(line.data, line.bytes, "line", &root));
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 3);
    assert_true(json_is_null(json_object_get(root, "loss")));
    assert_true(json_number_value(json_object_get(json_object_get(root, "verdicts"), "malformed")) == .6);
    assert_true(json_number_value(json_object_get(root, "truncated")) == .5);
    assert_int_equal(json_array_size(json_object_get(root, "stuck")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "stuck"), 0)), "q \"7\"");
    json_decref(root);
    buf_deinit(&line);

    struct model_config model = {
        .layers = 1, .hidden = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .ffn = 8, .vocab = 16};
    struct step_figures counted = {
        .groups = 1, .answers = 2, .prompt_tokens = 10, .answer_tokens = 6, .trained_rows = 16, .trained_tokens = 6};
    context.model = &model;
    context.kl = true;
    metrics_make(&context, &counted, &metrics);
    bool generation = false, training = false;
    for (uint32_t i = 0; i < metrics.count; i++) {
        generation |= strcmp(metrics.names[i], "generation_flop") == 0 &&
                      metrics.values[i] == model_answers_flop(&model, 1, 10, 2, 6);
        training |= strcmp(metrics.names[i], "training_flop") == 0 &&
                    metrics.values[i] == 4 * model_pass_flop(&model, 16, 6, 11.5);
    }
    assert_true(generation && training);
    context.model = NULL;

    struct step_figures well = {.answers = 100, .groups = 5, .answer_tokens = 900, .entropy = 900};
    well.verdicts[VERDICT_CORRECT] = 70;
    well.verdicts[VERDICT_ABSTAIN] = 30;
    well.loss.tokens = 900;
    context.wait_seconds = 1;
    metrics_make(&context, &well, &metrics);
    assert_int_equal(metrics.warning_count, 0);
    context.canary_mismatches = 1;
    metrics_make(&context, &well, &metrics);
    assert_true(warns(&metrics, "wrong canary"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_configuration_is_refused_with_the_keys_that_differ),
        cmocka_unit_test(metrics_are_cut_where_the_checkpoint_says),
        cmocka_unit_test(rollouts_are_capped_and_bad_batches_are_the_last_three),
        cmocka_unit_test(a_line_of_metrics_is_json_and_sick_runs_are_named_in_words),
    };
    return cmocka_run_group_tests_name("run_directory", tests, NULL, NULL);
}
