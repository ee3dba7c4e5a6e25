/* An update that is recorded is made in pieces, as a GPU's is (common/weights/record.h): the same bits as in one, and what was
 * recorded leads from one version to the next. The device is the CPU with find_changes; the model is a piece and a part
 * of one, which ends within a block. */
#include "tests/support/test.h"

#include "common/compute/ops.h"
#include "common/weights/delta_block.h"
#include "learner/optimiser.h"
#include "learner/version.h"

enum { UPDATES = 2, VOCAB = 262800, POSITIONS = 8 };

/* The border between the pieces lies within the embedding. */
static const struct model_config shape = {.hidden = 64,
                                          .ffn = 72,
                                          .layers = 1,
                                          .heads = 1,
                                          .kv_heads = 1,
                                          .head_dim = 64,
                                          .vocab = VOCAB,
                                          .max_positions = POSITIONS,
                                          .rms_eps = 1e-6f,
                                          .rope_theta = 10000.0f,
                                          .tied = true};

/* Learning rates by which an eighth of the weights below changes, and more than half. */
#define SOME_CHANGE 3e-5
#define MOST_CHANGE 1e-3

static struct ops recording;
static bool lose_a_change;

static void find_changes(struct device *device, uint32_t *host_counts, uint16_t *host_at, uint16_t *host_step,
                         const uint16_t *before, const uint16_t *after, int64_t count) {
    static struct delta_changes changes;
    (void)device;
    for (int64_t first = 0; first < count; first += CHANGE_BLOCK) {
        int64_t elements = count - first < CHANGE_BLOCK ? count - first : CHANGE_BLOCK;
        delta_find(before + first, after + first, (uint32_t)elements, &changes);
        changes.count -= lose_a_change && changes.count > 0;
        lose_a_change = false;
        memcpy(host_at, changes.at, changes.count * sizeof *host_at);
        memcpy(host_step, changes.step, changes.count * sizeof *host_step);
        host_at += changes.count;
        host_step += changes.count;
        *host_counts++ = changes.count;
    }
}

struct fixture {
    struct device *device;
    struct model *model;
    struct optimiser *optimiser;
    struct record *record;
};

static void begin(struct fixture *f, enum moment_storage moments, double lr, bool recorded) {
    struct optimiser_settings settings = {
        .lr = lr, .beta1 = .9, .beta2 = .999, .eps = 1e-8, .weight_decay = .1, .clip = 1, .moments = moments};
    *f = (struct fixture){0};
    ASSERT_OK(device_open("cpu", 2, &f->device));
    recording = *f->device->ops;
    recording.find_changes = find_changes;
    f->device->ops = &recording;
    ASSERT_OK(model_create(f->device, &shape, DTYPE_BF16, POSITIONS, 0, &f->model));
    assert_true(f->model->layout->total > RECORD_PIECE && f->model->layout->total % MOMENT_BLOCK != 0);
    uint16_t *weights = f->model->data; /* the CPU's memory is the host's */
    for (int64_t i = 0; i < f->model->layout->total; i++)
        weights[i] = (uint16_t)(0x3c00 + i % 997);
    ASSERT_OK(optimiser_create(f->model, &settings, &f->optimiser));
    if (recorded)
        ASSERT_OK(record_create(f->device, (uint64_t)f->model->layout->total, &f->record));
    f->optimiser->record = f->record;
}

static void end(struct fixture *f) {
    record_destroy(&f->record);
    optimiser_destroy(&f->optimiser);
    model_destroy(&f->model);
    device_close(&f->device);
}

static void step(struct fixture *f, uint64_t number) {
    struct update update;
    for (int64_t i = 0; i < f->model->layout->total; i++)
        f->optimiser->gradient[i] = (float)((i + (int64_t)number) % 1009 - 504) * (i % 3 == 0 ? 1e-3f : 1e-5f);
    ASSERT_OK(optimiser_update(f->optimiser, number, 1, &update));
    assert_true(!update.skipped && update.clip_factor < 1);
}

static void check_bits(enum moment_storage moments) {
    struct fixture whole, pieces;
    begin(&whole, moments, MOST_CHANGE, false);
    begin(&pieces, moments, MOST_CHANGE, true);
    for (uint64_t u = 0; u < UPDATES; u++) {
        step(&whole, u);
        step(&pieces, u);
    }
    assert_memory_equal(pieces.model->data, whole.model->data, (size_t)whole.model->layout->total * sizeof(uint16_t));
    for (uint32_t p = 0; p < whole.optimiser->part_count; p++) {
        const struct optimiser_part *part = &whole.optimiser->parts[p];
        if (memcmp(pieces.optimiser->parts[p].data, part->data, part->bytes) != 0)
            fail_msg("%s is another", part->name);
    }
    end(&whole);
    end(&pieces);
}

static void an_update_in_pieces_has_the_bits_of_one(void **state) {
    (void)state;
    check_bits(MOMENTS_FP32);
    check_bits(MOMENTS_INT8);
}

static void a_version_follows_from_what_its_update_changed(void **state) {
    (void)state;
    struct fixture f;
    struct version *versions[UPDATES + 1], *wrong;
    begin(&f, MOMENTS_INT8, SOME_CHANGE, true);
    size_t bytes = (size_t)f.model->layout->total * sizeof(uint16_t);
    ASSERT_OK(version_capture(f.model, 0, &versions[0]));
    for (uint32_t u = 0; u < UPDATES; u++) {
        step(&f, u);
        assert_non_null(record_patch(f.record, versions[u]->digest, versions[u]->digest));
        ASSERT_OK(version_follow(f.model, versions[u], f.record, u + 1, &versions[u + 1]));
        assert_memory_equal(versions[u + 1]->data, f.model->data, bytes);
        assert_false(digest_equal(versions[u + 1]->digest, versions[u]->digest));
    }
    lose_a_change = true;
    step(&f, UPDATES);
    ASSERT_FAILS(STATUS_DEVICE, version_follow(f.model, versions[UPDATES], f.record, UPDATES + 1, &wrong));
    for (int v = 0; v <= UPDATES; v++)
        version_release(versions[v]);
    end(&f);
}

/* Four bytes a change: where most weights change it is shorter to read them. */
static void a_record_of_most_weights_is_given_up(void **state) {
    (void)state;
    struct fixture f;
    struct version *before, *after;
    begin(&f, MOMENTS_FP32, MOST_CHANGE, true);
    ASSERT_OK(version_capture(f.model, 0, &before));
    step(&f, 0);
    assert_null(record_patch(f.record, before->digest, before->digest));
    ASSERT_OK(version_follow(f.model, before, f.record, 1, &after));
    assert_memory_equal(after->data, f.model->data, (size_t)f.model->layout->total * sizeof(uint16_t));
    version_release(before);
    f.optimiser->settings.lr = 0;
    step(&f, 1);
    ASSERT_OK(version_follow(f.model, after, f.record, 2, &before));
    assert_true(digest_equal(before->digest, after->digest));
    assert_non_null(record_patch(f.record, after->digest, before->digest));
    version_release(before);
    version_release(after);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_in_pieces_has_the_bits_of_one),
        cmocka_unit_test(a_version_follows_from_what_its_update_changed),
        cmocka_unit_test(a_record_of_most_weights_is_given_up),
    };
    return cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
