#include "tests/support/learner/tiny.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <math.h>
#include <unistd.h>

#include "common/weights/content.h"
#include "learner/checkpoint.h"
#include "learner/checkpoint_older.h"

struct fixture {
    struct tiny tiny;
    struct optimiser *optimiser;
    struct checkpointer *checkpointer;
    char run[PATH_BYTES];
    int damaged;
    char reason[512];
};

static struct optimiser_settings settings = {.lr = 1e-2, .beta1 = .9, .beta2 = .99, .eps = 1e-8, .steps = 100};

static void begin(struct fixture *f) {
    *f = (struct fixture){0};
    tiny_open(&f->tiny);
    ASSERT_OK(fs_join(f->run, f->tiny.directory, "run"));
    ASSERT_OK(fs_make_directories(f->run));
    char metrics[PATH_BYTES];
    ASSERT_OK(fs_join(metrics, f->run, "metrics.jsonl"));
    ASSERT_OK(fs_write_atomic(metrics, "{}\n", 3));
    ASSERT_OK(optimiser_create(f->tiny.model, &settings, &f->optimiser));
    struct checkpointer_settings open = {f->run, f->tiny.world, f->tiny.model, f->optimiser, 2};
    ASSERT_OK(checkpointer_open(&open, &f->checkpointer));
}

static void end(struct fixture *f) {
    checkpointer_close(&f->checkpointer);
    optimiser_destroy(&f->optimiser);
    tiny_close(&f->tiny);
}

static void update(struct fixture *f, struct optimiser *optimiser, uint64_t step) {
    int64_t total = f->tiny.model->layout->total;
    struct update done;
    for (int64_t i = 0; i < total; i++)
        optimiser->gradient[i] = (float)((i * 7 + (int64_t)step * 13) % 31 - 15);
    ASSERT_OK(optimiser_update(optimiser, step, 0, &done));
}

static struct checkpoint_state state_at(struct fixture *f, uint64_t step) {
    struct checkpoint_state state = {.step = step,
                                     .updates = f->optimiser->updates,
                                     .run_id = 0xabcdef0123456789u,
                                     .config = {1, 2},
                                     .questions = 77,
                                     .metrics_bytes = 1234};
    ASSERT_OK(model_digest(f->tiny.model, &state.weights));
    state.skips_in_row = (uint32_t)(step - state.updates);
    return state;
}

static void save_with(struct fixture *f, uint64_t step, struct version *const *older, uint32_t older_count) {
    struct checkpoint_state state = state_at(f, step);
    struct version *current;
    ASSERT_OK(version_capture(f->tiny.model, (uint32_t)step, &current));
    checkpointer_begin(f->checkpointer, &state, current, older, older_count);
    version_release(current);
    checkpointer_wait_read(f->checkpointer);
}

static void save(struct fixture *f, uint64_t step) {
    save_with(f, step, NULL, 0);
}

static void note(void *context, const char *text) {
    struct fixture *f = context;
    f->damaged++;
    snprintf(f->reason, sizeof f->reason, "%s", text);
}

static void check_resume(void) {
    struct fixture f;
    begin(&f);
    update(&f, f.optimiser, 0);
    update(&f, f.optimiser, 1);
    save(&f, 3);                /* three steps, one of them skipped */
    update(&f, f.optimiser, 2); /* while it is being written */
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    struct digest want;
    ASSERT_OK(model_digest(f.tiny.model, &want));

    struct checkpoint found;
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_int_equal(f.damaged, 0);
    assert_true(found.state.step == 3 && found.state.updates == 2 && found.state.skips_in_row == 1);
    assert_true(found.state.run_id == 0xabcdef0123456789u && found.state.questions == 77 &&
                found.state.metrics_bytes == 1234);
    struct model *model;
    struct optimiser *optimiser;
    ASSERT_OK(model_load(f.tiny.device, found.directory, DTYPE_BF16, 64, 0, &model));
    ASSERT_OK(optimiser_create(model, &settings, &optimiser));
    ASSERT_OK(checkpoint_load_optimiser(&found, optimiser));
    struct digest got;
    ASSERT_OK(model_digest(model, &got));
    assert_true(digest_equal(got, found.state.weights));
    update(&f, optimiser, 2);
    ASSERT_OK(model_digest(model, &got));
    assert_true(digest_equal(got, want));
    for (uint32_t i = 0; i < optimiser->part_count; i++)
        assert_memory_equal(optimiser->parts[i].data, f.optimiser->parts[i].data, optimiser->parts[i].bytes);

    optimiser_destroy(&optimiser);
    model_destroy(&model);
    end(&f);
}

static void a_resumed_optimiser_goes_on_with_the_same_bits(void **state) {
    (void)state;
    check_resume();
    settings.moments = MOMENTS_INT8;
    check_resume();
    settings.moments = MOMENTS_FP32;
}

/* Overwrite element `at` of a tensor of fp32 in the optimiser's file. */
static void poke(const struct checkpoint *checkpoint, const char *name, size_t at, float value) {
    char path[PATH_BYTES];
    struct safetensors *file;
    ASSERT_OK(fs_join(path, checkpoint->directory, "optimiser.safetensors"));
    ASSERT_OK(safetensors_open(path, &file));
    const struct st_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    off_t offset = (const char *)tensor->data - (const char *)file->map.data + (off_t)(at * sizeof value);
    safetensors_close(&file);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, &value, sizeof value, offset) == sizeof value);
    close(fd);
}

/* A checkpoint is read by other tools too: each tensor is what it is called. */
static void check_names(const struct checkpoint *checkpoint, const struct optimiser *optimiser) {
    char path[PATH_BYTES];
    struct safetensors *file;
    ASSERT_OK(fs_join(path, checkpoint->directory, "optimiser.safetensors"));
    ASSERT_OK(safetensors_open(path, &file));
    const struct {
        const char *name;
        const void *data;
    } wanted[] = {{"exp_avg", optimiser->coded.m},
                  {"exp_avg_absmax", optimiser->coded.m_most},
                  {"exp_avg_sq", optimiser->coded.v},
                  {"exp_avg_sq_absmax", optimiser->coded.v_most},
                  {"remainder", optimiser->remainder}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const struct st_tensor *tensor = safetensors_find(file, wanted[i].name);
        assert_non_null(tensor);
        assert_memory_equal(tensor->data, wanted[i].data, tensor->bytes);
    }
    assert_true(optimiser->coded.v_most[0] != optimiser->coded.m_most[0]);
    for (int64_t b = 0; b < moment_blocks(optimiser->model->layout->total); b++) /* after one update: 0.1 g, 0.01 g^2 */
        assert_true(fabsf(optimiser->coded.v_most[b] / optimiser->coded.m_most[b] / optimiser->coded.m_most[b] - 1) <
                    1e-5f);
    safetensors_close(&file);
}

static void moments_that_do_not_fit_or_are_no_numbers_are_refused_by_name(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -1.0f};
    struct fixture f;
    struct checkpoint found;
    struct optimiser *other;
    settings.moments = MOMENTS_INT8;
    begin(&f);
    update(&f, f.optimiser, 0);
    save(&f, 1);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    check_names(&found, f.optimiser);
    settings.moments = MOMENTS_FP32;
    ASSERT_OK(optimiser_create(f.tiny.model, &settings, &other));
    ASSERT_FAILS(STATUS_MISMATCH, checkpoint_load_optimiser(&found, other));
    assert_non_null(strstr(status_message(), "exp_avg: right would be a flat F32 tensor"));
    optimiser_destroy(&other);
    ASSERT_OK(checkpoint_load_optimiser(&found, f.optimiser));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) { /* as if written so, with its checksum */
        poke(&found, "exp_avg_sq_absmax", 2, bad[i]);
        ASSERT_FAILS(STATUS_FORMAT, checkpoint_load_optimiser(&found, f.optimiser));
        assert_non_null(strstr(status_message(), "optimiser.safetensors: exp_avg_sq_absmax[2] = "));
    }
    poke(&found, "exp_avg_sq_absmax", 2, 0.0f);
    poke(&found, "exp_avg_absmax", 1, -1.0f);
    ASSERT_FAILS(STATUS_FORMAT, checkpoint_load_optimiser(&found, f.optimiser));
    assert_non_null(strstr(status_message(), "exp_avg_absmax[1] = -1"));
    end(&f);
}

static uint64_t size_of(const struct checkpoint *checkpoint, const char *file) {
    char path[PATH_BYTES];
    uint64_t bytes = 0;
    ASSERT_OK(fs_join(path, checkpoint->directory, file));
    if (fs_exists(path))
        ASSERT_OK(fs_size(path, &bytes));
    return bytes;
}

/* Versions 0, 3 and 4 under 5; step 4 was skipped, so 4 is 5. A step moves a few weights, as at a low learning rate. */
static void older_versions_are_deltas_back_from_the_newest(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct version *older[3], *loaded[3], *current;
    uint16_t *weights = f.tiny.model->data;
    uint64_t total = (uint64_t)f.tiny.model->layout->total;
    ASSERT_OK(version_capture(f.tiny.model, 0, &older[0]));
    for (uint64_t i = 0; i < total; i += 60)
        weights[i]++;
    ASSERT_OK(version_capture(f.tiny.model, 3, &older[1]));
    for (uint64_t i = 7; i < total; i += 70)
        weights[i]--;
    ASSERT_OK(version_capture(f.tiny.model, 4, &older[2]));
    save_with(&f, 5, older, 3);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    struct checkpoint found;
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_int_equal(found.older_count, 3);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t bytes = size_of(&found, i == 0 ? "delta-00000000" : "delta-00000003");
        assert_true(bytes > 0 && bytes < total * 2 / 20);
    }
    assert_int_equal(size_of(&found, "delta-00000004"), 0);
    ASSERT_OK(version_capture(f.tiny.model, 5, &current));
    ASSERT_OK(checkpoint_load_older(&found, current, 2, loaded));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(loaded[i]->number, older[i]->number);
        assert_true(digest_equal(loaded[i]->digest, older[i]->digest));
        assert_memory_equal(loaded[i]->data, older[i]->data, total * 2);
        version_release(loaded[i]);
    }
    found.older[1].digest.low ^= 1; /* as if state.json named other weights */
    ASSERT_FAILS(STATUS_MISMATCH, checkpoint_load_older(&found, current, 2, loaded));
    assert_non_null(strstr(status_message(), "delta-00000003"));
    for (uint32_t i = 0; i < 3; i++)
        version_release(older[i]);
    version_release(current);
    end(&f);
}

static void older_versions_of_fp32_are_whole(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct version *older, *current, *loaded;
    ASSERT_OK(version_create(1, DTYPE_F32, 5, &older));
    ASSERT_OK(version_create(2, DTYPE_F32, 5, &current));
    for (int i = 0; i < 5; i++) {
        ((float *)older->data)[i] = (float)i;
        ((float *)current->data)[i] = (float)i + 1;
    }
    older->digest = content_digest(older->data, 0, 20);
    current->digest = content_digest(current->data, 0, 20);
    ASSERT_OK(checkpoint_older_write(f.run, &older, 1, current));
    ASSERT_OK(checkpoint_older_read(f.run, 1, older->digest, current, 1, &loaded));
    assert_memory_equal(loaded->data, older->data, 20);
    version_release(loaded);
    ASSERT_FAILS(STATUS_MISMATCH, checkpoint_older_read(f.run, 1, (struct digest){1, 2}, current, 1, &loaded));
    assert_non_null(strstr(status_message(), "weights-00000001.safetensors"));
    version_release(older);
    version_release(current);
    end(&f);
}

static void flip_byte(const char *directory, const char *file, off_t at) {
    char path[PATH_BYTES], byte;
    ASSERT_OK(fs_join(path, directory, file));
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    assert_true(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void a_damaged_checkpoint_is_named_and_the_one_before_used(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct checkpoint found;
    ASSERT_FAILS(STATUS_NOT_FOUND, checkpoint_find(f.run, note, &f, &found));
    for (uint64_t step = 1; step <= 3; step++) {
        update(&f, f.optimiser, step - 1);
        save(&f, step);
    }
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    char parent[PATH_BYTES], path[PATH_BYTES];
    ASSERT_OK(fs_join(parent, f.run, "checkpoints"));
    ASSERT_OK(fs_join(path, parent, "step-00000001"));
    assert_false(fs_exists(path)); /* keep = 2 */
    struct buf latest = {0};
    ASSERT_OK(fs_join(path, parent, "latest"));
    ASSERT_OK(fs_read(path, 100, &latest));
    assert_string_equal(latest.data, "step-00000003\n");
    buf_deinit(&latest);
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_int_equal(found.state.step, 3);
    flip_byte(found.directory, "optimiser.safetensors", 5000);
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_int_equal(found.state.step, 2);
    assert_true(f.damaged == 1 && strstr(f.reason, "step-00000003/optimiser.safetensors"));
    ASSERT_OK(fs_join(path, found.directory, "model.safetensors"));
    assert_int_equal(unlink(path), 0);
    ASSERT_FAILS(STATUS_FORMAT, checkpoint_find(f.run, note, &f, &found));
    end(&f);
}

enum damage { FLIPPED, CUT, LONGER, MISSING, FOREIGN, DAMAGES };

static void damage_file(enum damage damage, const char *path, const struct buf *before, const char *other) {
    struct buf text = {0};
    buf_append(&text, before->data, before->bytes);
    if (damage == FLIPPED)
        text.data[text.bytes / 2] ^= 1;
    else if (damage == CUT)
        text.bytes--;
    else if (damage == LONGER)
        buf_puts(&text, " ");
    assert_int_equal(unlink(path), 0);
    if (damage == FOREIGN) {
        buf_reset(&text);
        ASSERT_OK(fs_read(other, 1 << 20, &text));
    }
    if (damage != MISSING)
        ASSERT_OK(fs_write_atomic(path, text.data, text.bytes));
    buf_deinit(&text);
}

/* A foreign file is the one of that name in the checkpoint before. */
static void each_file_of_a_checkpoint_is_watched(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct version *older;
    ASSERT_OK(version_capture(f.tiny.model, 0, &older));
    for (uint64_t step = 1; step <= 2; step++) {
        update(&f, f.optimiser, step - 1);
        save_with(&f, step, &older, 1);
    }
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    version_release(older);
    struct checkpoint found;
    struct fs_list list;
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    ASSERT_OK(fs_list_directory(found.directory, &list));
    assert_true(list.count >= 6); /* config, delta, model, optimiser, state, tokenizer */
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES], other[PATH_BYTES], first[PATH_BYTES];
        struct buf text = {0}, same = {0};
        ASSERT_OK(fs_join(path, found.directory, list.names[i]));
        ASSERT_OK(fs_join(first, f.run, "checkpoints/step-00000001"));
        ASSERT_OK(fs_join(other, first, list.names[i]));
        ASSERT_OK(fs_read(path, 1 << 20, &text));
        ASSERT_OK(fs_read(other, 1 << 20, &same));
        bool equal = text.bytes == same.bytes && memcmp(text.data, same.data, text.bytes) == 0;
        for (enum damage damage = 0; damage < DAMAGES; damage++) {
            if (damage == FOREIGN && equal)
                continue;
            struct checkpoint used;
            damage_file(damage, path, &text, other);
            f.damaged = 0;
            ASSERT_OK(checkpoint_find(f.run, note, &f, &used));
            if (used.state.step != 1 || f.damaged != 1 || !strstr(f.reason, list.names[i]) ||
                !strstr(f.reason, "step-00000002"))
                fail_msg("%s, damage %d: step %d was used, and \"%s\" said", list.names[i], (int)damage,
                         (int)used.state.step, f.reason);
            ASSERT_OK(fs_write_atomic(path, text.data, text.bytes));
        }
        buf_deinit(&text);
        buf_deinit(&same);
    }
    fs_list_free(&list);
    f.damaged = 0;
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_true(found.state.step == 2 && f.damaged == 0);
    end(&f);
}

/* keep = 2 is seen in a_damaged_checkpoint_is_named_and_the_one_before_used. */
static void as_many_checkpoints_as_wanted_are_kept(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    for (uint32_t keep = 1; keep <= 3; keep++) {
        checkpointer_close(&f.checkpointer);
        struct checkpointer_settings open = {f.run, f.tiny.world, f.tiny.model, f.optimiser, keep};
        ASSERT_OK(checkpointer_open(&open, &f.checkpointer));
        for (uint64_t step = 4 * keep; step < 4 * keep + 4; step++)
            save(&f, step);
        ASSERT_OK(checkpointer_finish(f.checkpointer));
        char parent[PATH_BYTES];
        struct fs_list list;
        ASSERT_OK(fs_join(parent, f.run, "checkpoints"));
        ASSERT_OK(fs_list_directory(parent, &list));
        assert_int_equal(list.count, keep + 1); /* and `latest`, which sorts first */
        for (uint32_t i = 0; i < keep; i++) {
            char name[32];
            snprintf(name, sizeof name, "step-%08u", 4 * keep + 4 - keep + i);
            assert_string_equal(list.names[i + 1], name);
        }
        fs_list_free(&list);
    }
    end(&f);
}

/* Gone on from before a damaged one, with fewer kept than there are. */
static void what_was_just_written_is_not_removed_for_one_of_a_later_step(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    save(&f, 10);
    save(&f, 20);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, f.run, "checkpoints/step-00000020"));
    flip_byte(path, "model.safetensors", 3000);
    checkpointer_close(&f.checkpointer);
    struct checkpointer_settings open = {f.run, f.tiny.world, f.tiny.model, f.optimiser, 1};
    ASSERT_OK(checkpointer_open(&open, &f.checkpointer));
    save(&f, 12);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    struct checkpoint found;
    ASSERT_OK(checkpoint_find(f.run, note, &f, &found));
    assert_true(found.state.step == 12 && f.damaged == 1);
    ASSERT_OK(fs_join(path, f.run, "checkpoints/step-00000010"));
    assert_false(fs_exists(path)); /* keep = 1 */
    end(&f);
}

/* The disk stands still: opening a pipe that nobody writes does. Training goes on all the same. */
static void training_does_not_wait_for_the_disk(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    char pipe[PATH_BYTES], path[PATH_BYTES];
    ASSERT_OK(fs_join(pipe, f.run, "metrics.jsonl"));
    ASSERT_OK(fs_join(path, f.run, "checkpoints/step-00000001"));
    assert_true(unlink(pipe) == 0 && mkfifo(pipe, 0600) == 0);
    save(&f, 1); /* moments are read */
    update(&f, f.optimiser, 0);
    assert_false(fs_exists(path));
    int fd = open(pipe, O_WRONLY); /* the disk moves again */
    assert_true(fd >= 0);
    assert_true(checkpointer_finish(f.checkpointer) != STATUS_OK); /* a pipe has no fsync */
    close(fd);
    assert_int_equal(unlink(pipe), 0);
    ASSERT_OK(fs_write_atomic(pipe, "{}\n", 3));
    save(&f, 2);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    end(&f);
}

static void a_failed_write_is_told_and_the_next_one_works(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    char blocked[PATH_BYTES];
    ASSERT_OK(fs_join(blocked, f.run, "checkpoints/step-00000001.part"));
    ASSERT_OK(fs_make_directories(blocked)); /* a crash's leftover is no hindrance */
    save(&f, 1);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    assert_false(fs_exists(blocked));
    char parent[PATH_BYTES];
    ASSERT_OK(fs_join(parent, f.run, "checkpoints"));
    ASSERT_OK(fs_remove_tree(parent));
    ASSERT_OK(fs_write_atomic(parent, "x", 1)); /* a file where the directory was: nothing can be written */
    save(&f, 2);
    assert_true(checkpointer_finish(f.checkpointer) != STATUS_OK && status_message()[0]);
    assert_int_equal(checkpointer_failures(f.checkpointer), 1);
    assert_int_equal(unlink(parent), 0);
    save(&f, 3);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    end(&f);
}

static void room_is_checked_for_one_more_than_kept(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    uint64_t bytes = checkpoint_bytes(f.optimiser, 1);
    uint64_t total = (uint64_t)f.tiny.model->layout->total;
    assert_true(bytes > total * 12);
    f.optimiser->settings.moments = MOMENTS_INT8;
    uint64_t coded = bytes - checkpoint_bytes(f.optimiser, 1);
    assert_true(coded <= total * 6 && coded > total * 6 - total / 31); /* 2 + 8/256 bytes in the place of 8 */
    f.optimiser->settings.moments = MOMENTS_FP32;
    ASSERT_OK(checkpoint_check_room(f.run, 1, 2));
    ASSERT_FAILS(STATUS_IO, checkpoint_check_room(f.run, UINT64_C(1) << 60, 2));
    assert_non_null(strstr(status_message(), "3 checkpoints"));
    save(&f, 1);
    ASSERT_OK(checkpointer_finish(f.checkpointer));
    ASSERT_FAILS(STATUS_IO, checkpoint_check_room(f.run, UINT64_C(1) << 60, 2));
    assert_non_null(strstr(status_message(), "2 checkpoints"));
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_optimiser_goes_on_with_the_same_bits),
        cmocka_unit_test(moments_that_do_not_fit_or_are_no_numbers_are_refused_by_name),
        cmocka_unit_test(older_versions_are_deltas_back_from_the_newest),
        cmocka_unit_test(older_versions_of_fp32_are_whole),
        cmocka_unit_test(a_damaged_checkpoint_is_named_and_the_one_before_used),
        cmocka_unit_test(each_file_of_a_checkpoint_is_watched),
        cmocka_unit_test(as_many_checkpoints_as_wanted_are_kept),
        cmocka_unit_test(what_was_just_written_is_not_removed_for_one_of_a_later_step),
        cmocka_unit_test(training_does_not_wait_for_the_disk),
        cmocka_unit_test(a_failed_write_is_told_and_the_next_one_works),
        cmocka_unit_test(room_is_checked_for_one_more_than_kept),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
