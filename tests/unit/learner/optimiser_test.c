#include "tests/support/learner/tiny.h"

#include <math.h>

#include "learner/optimiser.h"

static struct optimiser_settings standard(void) {
    return (struct optimiser_settings){.lr = 1e-2, .beta1 = .9, .beta2 = .999, .eps = 1e-8, .clip = 1, .steps = 100};
}

static void warm_up_reaches_the_rate_and_schedules_end_at_zero(void **state) {
    (void)state;
    struct optimiser_settings settings = standard();
    settings.warmup = 10;
    assert_true(fabs(learning_rate(&settings, 0) - 1e-3) < 1e-15);
    assert_true(learning_rate(&settings, 9) == 1e-2);
    assert_true(learning_rate(&settings, 99) == 1e-2);
    settings.schedule = SCHEDULE_LINEAR;
    assert_true(learning_rate(&settings, 10) == 1e-2);
    assert_true(fabs(learning_rate(&settings, 55) - .5e-2) < 1e-15);
    assert_true(learning_rate(&settings, 100) == 0 && learning_rate(&settings, 1000) == 0);
    settings.schedule = SCHEDULE_COSINE;
    for (uint64_t step = 10; step < 100; step++) {
        double want = 1e-2 * (1 + cos(M_PI * (double)(step - 10) / 90)) / 2;
        assert_true(fabs(learning_rate(&settings, step) - want) < 1e-13);
    }
}

static void fill(struct tiny *tiny, struct optimiser *optimiser, float value) {
    int64_t total = tiny->model->layout->total;
    for (int64_t i = 0; i < total; i++)
        optimiser->gradient[i] = value; /* the CPU's memory is the host's */
}

/* All that lasts: moments and remainder. */
static void *state_of(const struct optimiser *optimiser, size_t *out_bytes) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < optimiser->part_count; i++)
        bytes += optimiser->parts[i].bytes;
    char *all = malloc(bytes), *at = all;
    for (uint32_t i = 0; i < optimiser->part_count; at += optimiser->parts[i++].bytes)
        memcpy(at, optimiser->parts[i].data, optimiser->parts[i].bytes);
    *out_bytes = bytes;
    return all;
}

static void check_skips(enum moment_storage moments) {
    struct tiny tiny;
    tiny_open(&tiny);
    struct optimiser_settings settings = standard();
    settings.moments = moments;
    struct optimiser *optimiser;
    struct update update;
    struct digest before, after;
    ASSERT_OK(optimiser_create(tiny.model, &settings, &optimiser));
    fill(&tiny, optimiser, .5f);
    ASSERT_OK(optimiser_update(optimiser, 0, 1, &update));
    ASSERT_OK(model_digest(tiny.model, &before));
    size_t bytes;
    void *kept = state_of(optimiser, &bytes), *same;
    assert_true((int64_t)bytes == optimiser_state_bytes(tiny.model->layout->total, DTYPE_BF16, moments));
    fill(&tiny, optimiser, 1);
    ASSERT_OK(optimiser_update(optimiser, 0, NAN, &update));
    assert_true(update.skipped);
    optimiser->gradient[5] = INFINITY;
    ASSERT_OK(optimiser_update(optimiser, 1, 1, &update));
    assert_true(update.skipped);
    ASSERT_OK(model_digest(tiny.model, &after));
    assert_true(digest_equal(before, after));
    assert_true(optimiser->updates == 1 && optimiser->beta1_power == .9);
    same = state_of(optimiser, &bytes);
    assert_memory_equal(same, kept, bytes);
    free(same);
    free(kept);
    optimiser->gradient[5] = 1;
    ASSERT_OK(optimiser_update(optimiser, 2, 1, &update));
    assert_false(update.skipped);
    double norm = sqrt((double)tiny.model->layout->total);
    assert_true(fabs(update.gradient_norm - norm) < 1e-9 * norm);
    assert_true(fabs(update.clip_factor - 1 / (norm + 1e-6)) < 1e-12);
    ASSERT_OK(model_digest(tiny.model, &after));
    assert_false(digest_equal(before, after));
    optimiser_destroy(&optimiser);
    tiny_close(&tiny);
}

static void a_step_that_is_not_finite_changes_nothing(void **state) {
    (void)state;
    check_skips(MOMENTS_FP32);
    check_skips(MOMENTS_INT8);
}

static void check_decay(enum moment_storage moments) {
    struct tiny tiny;
    tiny_open(&tiny);
    struct optimiser_settings settings = standard();
    settings.weight_decay = .5;
    settings.moments = moments;
    struct optimiser *optimiser;
    struct update update;
    ASSERT_OK(optimiser_create(tiny.model, &settings, &optimiser));
    const struct parameter_layout *layout = tiny.model->layout;
    uint16_t *before = malloc((size_t)layout->total * 2), *weights = tiny.model->data;
    memcpy(before, weights, (size_t)layout->total * 2);
    fill(&tiny, optimiser, 0);
    for (int i = 0; i < 20; i++)
        ASSERT_OK(optimiser_update(optimiser, (uint64_t)i, 0, &update));
    for (int32_t e = 0; e < layout->count; e++) {
        const struct tensor_entry *entry = &layout->entries[e];
        size_t bytes = (size_t)entry->rows * (size_t)entry->cols * 2;
        int changed = memcmp(before + entry->offset, weights + entry->offset, bytes);
        if ((entry->rank == 2) != (changed != 0))
            fail_msg("%s: %s", entry->name, changed ? "changed" : "did not change");
    }
    free(before);
    optimiser_destroy(&optimiser);
    tiny_close(&tiny);
}

static void only_matrices_decay(void **state) {
    (void)state;
    check_decay(MOMENTS_FP32);
    check_decay(MOMENTS_INT8);
}

static void eight_bits_take_six_bytes_a_parameter_less(void **state) {
    (void)state;
    int64_t n = 256 * 1000;
    assert_int_equal(optimiser_bytes(n, DTYPE_BF16, MOMENTS_FP32), 14 * n);
    assert_int_equal(optimiser_bytes(n, DTYPE_BF16, MOMENTS_INT8), 8 * n + n / 32);
    assert_int_equal(optimiser_bytes(n, DTYPE_F32, MOMENTS_INT8), 6 * n + n / 32);
    assert_int_equal(optimiser_bytes(n + 1, DTYPE_F32, MOMENTS_INT8), 6 * (n + 1) + n / 32 + 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_reaches_the_rate_and_schedules_end_at_zero),
        cmocka_unit_test(a_step_that_is_not_finite_changes_nothing),
        cmocka_unit_test(only_matrices_decay),
        cmocka_unit_test(eight_bits_take_six_bytes_a_parameter_less),
    };
    return cmocka_run_group_tests_name("optimiser", tests, NULL, NULL);
}
