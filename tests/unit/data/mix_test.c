/* Mixing: even, without repeats, split by the seed alone; what it writes and what it never leaves behind. */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/data/mix.h"

static char scratch[] = "/tmp/candor-mix-XXXXXX";
static struct mix_report report;

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return fs_remove_tree(scratch) == STATUS_OK ? 0 : -1;
}

static char *path_of(const char *name) {
    char *path = malloc(PATH_BYTES);
    assert_non_null(path);
    ASSERT_OK(fs_join(path, scratch, name));
    return path;
}

/* count questions "PREFIX 1?", "PREFIX 2?", ... from `first` on. */
static char *put_questions(const char *name, const char *prefix, int first, int count) {
    struct buf text = {0};
    char *path = path_of(name);
    for (int i = first; i < first + count; i++)
        buf_printf(&text, "{\"question\": \"%s %d?\", \"answer\": \"%d\"}\n", prefix, i, i);
    ASSERT_OK(fs_write_atomic(path, text.data, text.bytes));
    buf_deinit(&text);
    return path;
}

static void load(const char *directory, const char *name, struct question_set *out_set) {
    char path[PATH_BYTES];
    const char *paths[] = {path};
    ASSERT_OK(fs_join(path, directory, name));
    ASSERT_OK(question_set_load(paths, 1, NULL, out_set, NULL));
}

static void read_whole(const char *directory, const char *name, struct buf *out) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, name));
    ASSERT_OK(fs_read(path, 1 << 24, out));
}

static const struct mix_set *set_named(const char *name) {
    for (uint32_t i = 0; i < report.set_count; i++)
        if (strcmp(report.sets[i].name, name) == 0)
            return &report.sets[i];
    fail_msg("no set %s", name);
    return NULL;
}

static void every_set_gives_the_same_number(void **state) {
    (void)state;
    char *small = put_questions("small.jsonl", "Small", 0, 40), *large = put_questions("large.jsonl", "Large", 0, 400);
    char *out = path_of("even");
    const char *inputs[] = {small, large};
    struct mix_options options = {.inputs = inputs, .input_count = 2, .directory = out, .seed = 3, .held_out = 0.25};
    ASSERT_OK(mix_write(&options, &report));
    assert_int_equal(set_named("small")->train, 30);
    assert_int_equal(set_named("small")->held_out, 10);
    assert_int_equal(set_named("large")->train, 30);
    assert_int_equal(set_named("large")->held_out, 10);
    struct question_set train, held_out;
    load(out, "train.jsonl", &train);
    load(out, "held-out.jsonl", &held_out);
    assert_int_equal(train.count, 60);
    assert_int_equal(held_out.count, 20);
    for (uint32_t i = 0; i < train.count; i++) {
        assert_string_equal(train.questions[i].split, "train");
        for (uint32_t j = 0; j < held_out.count; j++)
            assert_string_not_equal(train.questions[i].text, held_out.questions[j].text);
    }
    question_set_deinit(&train);
    question_set_deinit(&held_out);

    options.per_set = 100;
    ASSERT_OK(mix_write(&options, &report));
    assert_int_equal(set_named("small")->train, 30);
    assert_int_equal(set_named("large")->train, 75);
    assert_int_equal(report.train, 105);
    assert_int_equal(report.held_out, 35);
    free(small);
    free(large);
    free(out);
}

static void repeats_are_found_after_normalisation(void **state) {
    (void)state;
    char *one = path_of("one.jsonl"), *two = path_of("two.jsonl"), *held = path_of("held.jsonl"),
         *out = path_of("repeats");
    const char *first = "{\"question\": \"Who wrote \\u201cCaf\\u00e9 Noir\\u201d?\", \"answer\": \"a\"}\n"
                        "{\"question\": \"who wrote cafe noir\", \"answer\": \"b\"}\n"
                        "{\"question\": \"Other?\", \"answer\": \"c\"}\n";
    const char *second = "{\"question\": \"WHO WROTE: CAFE\\u0301 NOIR\", \"answer\": \"d\"}\n"
                         "{\"question\": \"Kept elsewhere.\", \"answer\": \"e\"}\n"
                         "{\"question\": \"Caf\\u00e9 Noire?\", \"answer\": \"f\"}\n";
    const char *against = "{\"question\": \"kept  ELSEWHERE\", \"answer\": \"g\"}\n";
    ASSERT_OK(fs_write_atomic(one, first, strlen(first)));
    ASSERT_OK(fs_write_atomic(two, second, strlen(second)));
    ASSERT_OK(fs_write_atomic(held, against, strlen(against)));
    const char *inputs[] = {one, two}, *againsts[] = {held};
    struct mix_options options = {
        .inputs = inputs, .input_count = 2, .against = againsts, .against_count = 1, .directory = out, .per_set = 10};
    ASSERT_OK(mix_write(&options, &report));
    assert_int_equal(set_named("one")->duplicates, 1);
    assert_int_equal(set_named("two")->duplicates, 1);
    assert_int_equal(set_named("two")->held_elsewhere, 1);
    struct question_set train;
    load(out, "train.jsonl", &train);
    assert_int_equal(train.count, 3);
    assert_string_equal(train.questions[0].aliases[0], "a");
    assert_string_equal(train.questions[1].aliases[0], "c");
    assert_string_equal(train.questions[2].aliases[0], "f");
    question_set_deinit(&train);
    free(one);
    free(two);
    free(held);
    free(out);
}

static void normalisation_folds_form_and_keeps_words(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"  What's   \xEF\xBC\xA1\xC3\x89?! ", "what s ae"}, /* fullwidth A, E with acute */
        {"Stra\xC3\x9F"
         "e \xE2\x84\xAB",
         "strasse a"},
        {"\xE4\xB8\xAD\xE6\x96\x87\xEF\xBC\x8C\xE5\x90\x97\xEF\xBC\x9F", "\xE4\xB8\xAD\xE6\x96\x87 \xE5\x90\x97"},
        {"1,000 km\xC2\xB2", "1 000 km2"},
        {"?!", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = {0};
        mix_normalise(cases[i][0], &out);
        assert_string_equal(out.data, cases[i][1]);
        buf_deinit(&out);
    }
}

static void the_seed_alone_decides(void **state) {
    (void)state;
    char *one = put_questions("s1.jsonl", "One", 0, 50), *two = put_questions("s2.jsonl", "Two", 0, 50),
         *out = path_of("seed");
    const char *inputs[] = {one, two}, *swapped[] = {two, one};
    struct mix_options options = {
        .inputs = inputs, .input_count = 2, .directory = out, .seed = 1, .per_set = 20, .held_out = 0.5};
    struct buf first = {0}, again = {0}, other = {0};
    ASSERT_OK(mix_write(&options, &report));
    read_whole(out, "train.jsonl", &first);
    ASSERT_OK(mix_write(&options, &report));
    read_whole(out, "train.jsonl", &again);
    assert_string_equal(first.data, again.data);
    options.inputs = swapped; /* the same questions, the other set first */
    ASSERT_OK(mix_write(&options, &report));
    struct question_set set;
    load(out, "train.jsonl", &set);
    for (uint32_t i = 0; i < set.count; i++) {
        struct buf line = {0};
        question_put(&set.questions[i], &line);
        assert_non_null(strstr(first.data, line.data));
        buf_deinit(&line);
    }
    question_set_deinit(&set);
    options.inputs = inputs;
    options.seed = 2;
    ASSERT_OK(mix_write(&options, &report));
    read_whole(out, "train.jsonl", &other);
    assert_string_not_equal(first.data, other.data);
    buf_deinit(&first);
    buf_deinit(&again);
    buf_deinit(&other);
    free(one);
    free(two);
    free(out);
}

static void the_manifest_has_counts_and_checksums(void **state) {
    (void)state;
    char *one = put_questions("m.jsonl", "M", 0, 10), *out = path_of("manifest");
    const char *inputs[] = {one};
    struct mix_options options = {.inputs = inputs, .input_count = 1, .directory = out, .seed = 1, .held_out = 0.3};
    ASSERT_OK(mix_write(&options, &report));
    char path[PATH_BYTES], hex[DIGEST_HEX_BYTES];
    json_t *manifest;
    struct digest digest;
    uint64_t bytes;
    ASSERT_OK(fs_join(path, out, "manifest.json"));
    ASSERT_OK(json_read_file(path, 1 << 20, &manifest));
    const json_t *held = json_object_get(json_object_get(manifest, "outputs"), "held-out.jsonl");
    assert_int_equal(json_integer_value(json_object_get(held, "rows")), 3);
    ASSERT_OK(fs_join(path, out, "held-out.jsonl"));
    ASSERT_OK(hash_file(path, &digest, &bytes));
    digest_format(digest, hex);
    assert_string_equal(json_string_value(json_object_get(held, "xxh3_128")), hex);
    assert_int_equal(json_integer_value(json_object_get(held, "bytes")), bytes);
    const json_t *input = json_object_get(json_object_get(manifest, "inputs"), one);
    ASSERT_OK(hash_file(one, &digest, &bytes));
    digest_format(digest, hex);
    assert_string_equal(json_string_value(json_object_get(input, "xxh3_128")), hex);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json_object_get(manifest, "sets"), "m"), "train")), 7);
    json_decref(manifest);
    free(one);
    free(out);
}

static void a_failure_leaves_nothing_half_written(void **state) {
    (void)state;
    char *one = put_questions("f.jsonl", "F", 0, 10), *broken = path_of("broken.json"), *out = path_of("failed");
    const char *inputs[] = {one, broken};
    ASSERT_OK(fs_write_atomic(broken, "[{\"question\": \"Q\"", 17));
    struct mix_options options = {.inputs = inputs, .input_count = 2, .directory = out, .seed = 1};
    ASSERT_FAILS(STATUS_FORMAT, mix_write(&options, &report));
    assert_true(fs_directory_is_empty(out));
    options.input_count = 1;
    options.held_out = 1;
    ASSERT_FAILS(STATUS_USAGE, mix_write(&options, &report));
    options.held_out = 0;
    options.against = inputs;
    options.against_count = 1;
    ASSERT_FAILS(STATUS_FORMAT, mix_write(&options, &report)); /* nothing is left */
    assert_true(fs_directory_is_empty(out));
    free(one);
    free(broken);
    free(out);
}

static void show_counts_and_spreads_its_samples(void **state) {
    (void)state;
    char *path = path_of("shown.jsonl");
    struct buf rows = {0}, text = {0};
    for (int i = 0; i < 10; i++)
        buf_printf(&rows,
                   "{\"id\": \"%d\", \"set\": \"%s\", \"question\": \"Q%d\", \"aliases\": [\"a\", \"b\"], \"class\": "
                   "\"never\"}\n",
                   i, i < 7 ? "big" : "small", i);
    buf_puts(&rows, "{\"question\": \"no answer\"}\n");
    ASSERT_OK(fs_write_atomic(path, rows.data, rows.bytes));
    struct show_options options = {.samples = 2, .list_unusable = true};
    ASSERT_OK(show_file(path, &options, &text));
    assert_non_null(strstr(text.data, "shown.jsonl:11: no-answer"));
    assert_non_null(strstr(text.data, "rows 11, usable 10, no-answer 1"));
    assert_non_null(strstr(text.data, "set big: questions 7, unanswerable 0, aliases a question 2.0, never 7"));
    assert_non_null(strstr(text.data, "  big 6: Q6 -> a (and 1 more) [never]\n"));
    int samples = 0;
    for (const char *at = text.data; (at = strstr(at, "-> a")); at++)
        samples++;
    assert_int_equal(samples, 4);
    buf_deinit(&rows);
    buf_deinit(&text);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_gives_the_same_number),
        cmocka_unit_test(repeats_are_found_after_normalisation),
        cmocka_unit_test(normalisation_folds_form_and_keeps_words),
        cmocka_unit_test(the_seed_alone_decides),
        cmocka_unit_test(the_manifest_has_counts_and_checksums),
        cmocka_unit_test(a_failure_leaves_nothing_half_written),
        cmocka_unit_test(show_counts_and_spreads_its_samples),
    };
    return cmocka_run_group_tests_name("mix", tests, make_scratch, remove_scratch);
}
