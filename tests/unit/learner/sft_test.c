#include "tests/support/learner/tiny.h"

#include "common/base/hash.h"
#include "learner/sft.h"
#include "learner/sft_data.h"

struct seen {
    double first, last;
    uint64_t steps, stop_after;
};

static void progress(void *context, const struct sft_progress *now) {
    struct seen *seen = context;
    seen->first = seen->steps == 0 ? now->loss : seen->first;
    seen->last = now->loss;
    seen->steps = now->step;
}

static bool stopped(void *context) {
    struct seen *seen = context;
    return seen->stop_after > 0 && seen->steps >= seen->stop_after;
}

static const char *const small[] = {"sft.steps=30", "sft.batch=16", "sft.lr=5e-3", "sft.warmup=3", NULL};

static enum status train(const struct tiny *tiny, const char *const *assignments, const char *name, struct seen *seen,
                         char out_path[PATH_BYTES]) {
    struct run_config *config = tiny_config(tiny, assignments);
    struct sft_events events = {.context = seen, .progress = progress, .stopped = stopped};
    ASSERT_OK(fs_join(out_path, tiny->directory, name));
    enum status status = sft_run(config, true, out_path, &events);
    free(config);
    return status;
}

static struct digest weights_of(const char *directory) {
    char path[PATH_BYTES];
    struct digest digest;
    uint64_t bytes;
    ASSERT_OK(fs_join(path, directory, "model.safetensors"));
    ASSERT_OK(hash_file(path, &digest, &bytes));
    return digest;
}

static void training_from_nothing_learns_and_gives_the_same_bits_again(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    char a[PATH_BYTES], b[PATH_BYTES], path[PATH_BYTES];
    struct seen seen = {0};
    ASSERT_OK(train(&tiny, small, "a", &seen, a));
    assert_true(seen.steps == 30 && seen.last < .7 * seen.first);
    ASSERT_OK(train(&tiny, small, "b", &seen, b));
    assert_true(digest_equal(weights_of(a), weights_of(b)));
    ASSERT_OK(fs_join(path, a, "tokenizer.json"));
    assert_true(fs_exists(path));
    struct model *model; /* what was written is a model directory */
    ASSERT_OK(model_load(tiny.device, a, DTYPE_BF16, 32, 0, &model));
    model_destroy(&model);
    tiny_close(&tiny);
}

static void micro_batches_change_the_sum_by_rounding_alone(void **state) {
    (void)state;
    static const char *const one[] = {"sft.steps=1", "sft.batch=16", NULL};
    static const char *const many[] = {"sft.steps=1", "sft.batch=16", "train.microbatch_tokens=40", NULL};
    struct tiny tiny;
    tiny_open(&tiny);
    char path[PATH_BYTES];
    struct seen a = {0}, b = {0};
    ASSERT_OK(train(&tiny, one, "a", &a, path));
    ASSERT_OK(train(&tiny, many, "b", &b, path));
    assert_true(a.last > 1 && a.last - b.last < 1e-5 && b.last - a.last < 1e-5);
    tiny_close(&tiny);
}

static void a_stop_or_a_full_directory_leaves_nothing_half_written(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    char path[PATH_BYTES], part[PATH_BYTES];
    struct seen seen = {.stop_after = 2};
    ASSERT_FAILS(STATUS_INTERRUPTED, train(&tiny, small, "a", &seen, path));
    ASSERT_OK(fs_join(part, tiny.directory, "a.part"));
    assert_false(fs_exists(path) || fs_exists(part));
    ASSERT_FAILS(STATUS_EXISTS, train(&tiny, small, "world", &seen, path));
    tiny_close(&tiny);
}

static void refuse(struct tiny *tiny, enum status want, const char *rows, const char *words) {
    char path[PATH_BYTES], data[PATH_BYTES + 16], out[PATH_BYTES];
    ASSERT_OK(fs_join(path, tiny->directory, "rows.jsonl"));
    ASSERT_OK(fs_write_atomic(path, rows, strlen(rows)));
    snprintf(data, sizeof data, "sft.data=%s", path);
    const char *assignments[] = {data, NULL};
    struct seen seen = {0};
    ASSERT_FAILS(want, train(tiny, assignments, "never", &seen, out));
    if (!strstr(status_message(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_message(), words);
    assert_false(fs_exists(out));
}

static void bad_rows_are_named_by_file_and_line(void **state) {
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny);
    refuse(&tiny, STATUS_FORMAT, "{\"question\":\"a\",\"answer\":\"b\"}\n{\"question\":\"a\"}\n", "rows.jsonl:2");
    refuse(&tiny, STATUS_FORMAT, "{\"question\":\"a\",\"answer\":3}\n", "rows.jsonl:1");
    refuse(&tiny, STATUS_FORMAT, "{\"question\":\n", "rows.jsonl:1");
    refuse(&tiny, STATUS_FORMAT, "\n", "no examples");
    char *longest = malloc(2048);
    char words[1200] = "";
    for (int i = 0; i < 100; i++)
        strcat(words, "live live ");
    snprintf(longest, 2048, "{\"question\":\"%s\",\"answer\":\"b\"}\n", words);
    refuse(&tiny, STATUS_LIMIT, longest, "rows.jsonl:1");
    free(longest);
    tiny_close(&tiny);
}

static void each_epoch_shows_every_example_once(void **state) {
    (void)state;
    struct sft_order order;
    ASSERT_OK(sft_order_init(&order, 3, 50));
    bool differs = false;
    uint32_t first[50];
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        uint64_t seen = 0;
        for (uint64_t i = 0; i < 50; i++) {
            uint32_t example = sft_order_at(&order, epoch * 50 + i);
            assert_false(seen >> example & 1);
            seen |= UINT64_C(1) << example;
            differs = differs || (epoch > 0 && first[i] != example);
            first[i] = epoch == 0 ? example : first[i];
        }
    }
    assert_true(differs);
    sft_order_deinit(&order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_from_nothing_learns_and_gives_the_same_bits_again),
        cmocka_unit_test(micro_batches_change_the_sum_by_rounding_alone),
        cmocka_unit_test(a_stop_or_a_full_directory_leaves_nothing_half_written),
        cmocka_unit_test(bad_rows_are_named_by_file_and_line),
        cmocka_unit_test(each_epoch_shows_every_example_once),
    };
    return cmocka_run_group_tests_name("sft", tests, NULL, NULL);
}
