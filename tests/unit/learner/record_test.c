/* Updates that record what they change, on a device whose memory the host is not supposed to read: a CPU that says so. The
 * model is large enough for two pieces. */
#include "tests/support/test.h"

#include <math.h>

#include "common/weights/content.h"
#include "learner/optimiser.h"
#include "learner/version.h"

static const struct model_config shape = {.hidden = 64,
                                          .ffn = 96,
                                          .layers = 1,
                                          .heads = 1,
                                          .kv_heads = 1,
                                          .head_dim = 64,
                                          .vocab = RECORD_PIECE / 64 + 1000,
                                          .max_positions = 64,
                                          .rms_eps = 1e-6f,
                                          .rope_theta = 10000.0f,
                                          .tied = true};

static int finds;

static void find_changes(struct device *device, uint32_t *counts, uint16_t *at, uint16_t *step, const uint16_t *before,
                         const uint16_t *after, int64_t count) {
    (void)device;
    finds++;
    uint64_t total = 0;
    memset(counts, 0, (size_t)((count + CHANGE_BLOCK - 1) / CHANGE_BLOCK) * sizeof *counts);
    for (int64_t i = 0; i < count; i++)
        if (before[i] != after[i]) {
            at[total] = (uint16_t)(i % CHANGE_BLOCK);
            step[total++] = (uint16_t)(after[i] - before[i]);
            counts[i / CHANGE_BLOCK]++;
        }
}

static struct model *fresh_model(struct device *device) {
    struct model *model;
    ASSERT_OK(model_create(device, &shape, DTYPE_BF16, 64, 0, &model));
    uint16_t *weights = model->data;
    for (int64_t i = 0; i < model->layout->total; i++)
        weights[i] = (uint16_t)(0x3C00 + (i * 2654435761u >> 8) % 0x200); /* around 0.01 */
    return model;
}

static void fill(struct optimiser *optimiser) {
    for (int64_t i = 0; i < optimiser->model->layout->total; i++)
        optimiser->gradient[i] = (float)(i % 17 - 8);
}

static void check(enum moment_storage moments) {
    struct device *device;
    ASSERT_OK(device_open("cpu", 2, &device));
    struct ops ops = *device->ops;
    struct device remote = *device;
    ops.find_changes = find_changes;
    remote.ops = &ops;
    struct optimiser_settings settings = {
        .lr = 2e-5, .beta1 = .9, .beta2 = .999, .eps = 1e-8, .weight_decay = .1, .steps = 9, .moments = moments};
    struct model *plain = fresh_model(device), *recorded = fresh_model(&remote);
    struct optimiser *a, *b;
    struct update update;
    struct record *record;
    uint64_t total = (uint64_t)plain->layout->total;
    assert_true(total > (uint64_t)RECORD_PIECE && total % CHANGE_BLOCK != 0);
    ASSERT_OK(optimiser_create(plain, &settings, &a));
    ASSERT_OK(optimiser_create(recorded, &settings, &b));
    ASSERT_OK(record_create(&remote, total, &record));
    b->record = record;
    fill(a);
    fill(b);
    struct version *before, *captured, *followed;
    ASSERT_OK(version_capture(recorded, 0, &before));
    assert_null(record_patch(record, before->digest, before->digest)); /* nothing was recorded yet */
    for (uint32_t step = 0; step < 2; step++) {
        finds = 0;
        ASSERT_OK(optimiser_update(a, step, 0, &update));
        ASSERT_OK(optimiser_update(b, step, 0, &update));
        assert_int_equal(finds, 2);
        ASSERT_OK(version_capture(plain, step + 1, &captured));
        ASSERT_OK(version_follow(recorded, before, record, step + 1, &followed));
        assert_true(digest_equal(captured->digest, followed->digest));
        assert_false(digest_equal(captured->digest, before->digest));
        assert_memory_equal(captured->data, followed->data, total * 2);
        assert_memory_equal(recorded->data, followed->data, total * 2);
        version_release(before);
        version_release(captured);
        before = followed;
    }
    ASSERT_OK(optimiser_update(b, 2, NAN, &update)); /* skipped: the next version is the same */
    ASSERT_OK(version_follow(recorded, before, record, 3, &followed));
    assert_true(digest_equal(followed->digest, before->digest));
    ((uint16_t *)recorded->data)[total - 1] ^= 1; /* a bit that fell over on the device */
    ASSERT_FAILS(STATUS_DEVICE, version_follow(recorded, before, record, 3, &captured));
    version_release(followed);
    version_release(before);
    record_destroy(&record);
    optimiser_destroy(&a);
    optimiser_destroy(&b);
    model_destroy(&plain);
    model_destroy(&recorded);
    device_close(&device);
}

static void an_update_in_pieces_is_the_update_and_leads_to_the_next_version(void **state) {
    (void)state;
    check(MOMENTS_FP32);
    check(MOMENTS_INT8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_in_pieces_is_the_update_and_leads_to_the_next_version),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
