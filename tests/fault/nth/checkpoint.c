/* Writing, finding and loading checkpoints. */
#include "tests/support/learner/tiny.h"

#include "common/base/log.h"
#include "learner/checkpoint.h"
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"

#define FILES_MAX 16

struct file_seen {
    char name[64];
    struct digest digest;
};

struct fixture {
    struct tiny tiny;
    char run[PATH_BYTES], folder[PATH_BYTES];
    struct optimiser *optimiser;
    struct checkpointer *checkpointer;
    struct version *versions[3];      /* of steps 0 to 2 */
    struct file_seen want[FILES_MAX]; /* of the checkpoint of step 2, undisturbed */
    uint32_t file_count;
    /* loading */
    struct checkpoint found;
    struct model *model;
    struct optimiser *loaded;
    struct version *older[CHECKPOINT_OLDER_MAX];
    int passed_over;
    char reason[STATUS_MESSAGE_BYTES];
};

static const struct optimiser_settings settings = {.lr = 1e-2, .beta1 = .9, .beta2 = .99, .eps = 1e-8, .steps = 100};

static void open_checkpointer(struct fixture *f) {
    struct checkpointer_settings open = {f->run, f->tiny.world, f->tiny.model, f->optimiser, 2};
    ASSERT_OK(checkpointer_open(&open, &f->checkpointer));
}

static enum status save(struct fixture *f, uint32_t step) {
    struct checkpoint_state state = {
        .step = step, .updates = step, .run_id = 77, .config = {1, 2}, .weights = f->versions[step]->digest};
    checkpointer_begin(f->checkpointer, &state, f->versions[step], f->versions, step);
    return checkpointer_finish(f->checkpointer);
}

/* A run with a good checkpoint of step 1. */
static void begin_run(struct fixture *f) {
    ASSERT_OK(fs_remove_tree(f->run));
    ASSERT_OK(fs_make_directories(f->run));
    open_checkpointer(f);
    ASSERT_OK(save(f, 1));
}

static void list_files(const char *directory, struct file_seen *out_files, uint32_t *out_count) {
    struct fs_list list;
    ASSERT_OK(fs_list_directory(directory, &list));
    assert_true(list.count <= FILES_MAX);
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        uint64_t bytes;
        snprintf(out_files[i].name, sizeof out_files[i].name, "%s", list.names[i]);
        ASSERT_OK(fs_join(path, directory, list.names[i]));
        ASSERT_OK(hash_file(path, &out_files[i].digest, &bytes));
    }
    *out_count = (uint32_t)list.count;
    fs_list_free(&list);
}

static void begin(struct fixture *f) {
    *f = (struct fixture){0};
    tiny_open(&f->tiny);
    log_init("test", NULL, LOG_ERROR + 1); /* alarms are expected here */
    ASSERT_OK(fs_join(f->run, f->tiny.directory, "run"));
    ASSERT_OK(fs_join(f->folder, f->run, "checkpoints"));
    ASSERT_OK(optimiser_create(f->tiny.model, &settings, &f->optimiser));
    uint16_t *weights = f->tiny.model->data;
    for (uint32_t v = 0; v < 3; v++) {
        ASSERT_OK(version_capture(f->tiny.model, v, &f->versions[v]));
        for (int64_t i = v; i < f->tiny.model->layout->total; i += 90)
            weights[i]++;
    }
    char path[PATH_BYTES];
    begin_run(f);
    ASSERT_OK(save(f, 2));
    ASSERT_OK(fs_join(path, f->folder, "step-00000002"));
    list_files(path, f->want, &f->file_count);
    checkpointer_close(&f->checkpointer);
}

static void end(struct fixture *f) {
    for (uint32_t v = 0; v < 3; v++)
        version_release(f->versions[v]);
    optimiser_destroy(&f->optimiser);
    tiny_close(&f->tiny);
}

/* ---- loading ---- */

static void note(void *context, const char *text) {
    struct fixture *f = context;
    f->passed_over++;
    snprintf(f->reason, sizeof f->reason, "%s", text);
}

static enum status load(void *context) {
    struct fixture *f = context;
    f->passed_over = 0;
    TRY(checkpoint_find(f->run, note, f, &f->found));
    TRY(model_load(f->tiny.device, f->found.directory, DTYPE_BF16, 64, 0, &f->model));
    TRY(optimiser_create(f->model, &settings, &f->loaded));
    TRY(checkpoint_load_optimiser(&f->found, f->loaded));
    struct version *current;
    TRY(version_capture(f->model, (uint32_t)f->found.state.step, &current));
    enum status status = checkpoint_load_older(&f->found, current, 2, f->older);
    version_release(current);
    return status;
}

static void unload(struct fixture *f, bool whole) {
    for (uint32_t i = 0; whole && i < f->found.older_count; i++)
        version_release(f->older[i]);
    optimiser_destroy(&f->loaded);
    model_destroy(&f->model);
}

static void check_loaded(struct fixture *f) {
    struct digest digest;
    uint32_t step = (uint32_t)f->found.state.step;
    ASSERT_OK(model_digest(f->model, &digest));
    assert_true(digest_equal(digest, f->versions[step]->digest));
    assert_int_equal(f->found.older_count, step);
    for (uint32_t i = 0; i < step; i++)
        assert_memory_equal(f->older[i]->data, f->versions[i]->data, f->older[i]->elements * 2);
    assert_memory_equal(f->loaded->remainder, f->optimiser->remainder, f->versions[0]->elements * 2);
}

static void check_load(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    if (status == STATUS_OK)
        check_loaded(f);
    if (status == STATUS_OK && f->passed_over == 0)
        assert_int_equal(f->found.state.step, 2);
    unload(f, status == STATUS_OK);
    assert_true(f->passed_over == 0 || (hit && strstr(f->reason, f->run)));
}

/* Out of memory a good checkpoint is not a damaged one. */
static void check_load_without_memory(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    if (f->passed_over)
        fail_msg("passed over: %s", f->reason);
    check_load(context, status, hit);
}

void a_checkpoint_that_is_loaded(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep files = {"load a checkpoint", BIT(READ) | BIT(OPEN), f.run, NULL, load, check_load, NULL};
    struct sweep memory = {"load, memory", BIT(ALLOC) | BIT(THREAD), NULL, NULL, load, check_load_without_memory, NULL};
    sweep(&files, &f);
    sweep(&memory, &f);
    end(&f);
}

/* ---- writing ---- */

static void begin_write(void *context) {
    begin_run(context);
}

static enum status write_second(void *context) {
    return save(context, 2);
}

/* Whatever is there is whole, and there is nothing else. */
static uint32_t newest_checkpoint(struct fixture *f) {
    struct fs_list list;
    ASSERT_OK(fs_list_directory(f->folder, &list));
    for (size_t i = 0; i < list.count; i++)
        if (strcmp(list.names[i], "latest") != 0 && strcmp(list.names[i], "step-00000001") != 0 &&
            strcmp(list.names[i], "step-00000002") != 0)
            fail_msg("left behind: %s", list.names[i]);
    fs_list_free(&list);
    ASSERT_OK(load(f));
    check_loaded(f);
    unload(f, true);
    assert_int_equal(f->passed_over, 0);
    return (uint32_t)f->found.state.step;
}

static void check_latest(struct fixture *f, bool second) {
    char path[PATH_BYTES], directory[PATH_BYTES];
    struct buf latest = {0};
    ASSERT_OK(fs_join(path, f->folder, "latest"));
    ASSERT_OK(fs_read(path, 100, &latest));
    assert_true(latest.bytes == 14 && latest.data[13] == '\n');
    latest.data[13] = '\0';
    ASSERT_OK(fs_join(directory, f->folder, latest.data));
    assert_true(fs_is_directory(directory));
    assert_true(!second || strcmp(latest.data, "step-00000002") == 0);
    buf_deinit(&latest);
}

static void check_write(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    (void)hit;
    uint32_t newest = newest_checkpoint(f);
    assert_true(newest == 2 || (newest == 1 && status != STATUS_OK));
    check_latest(f, status == STATUS_OK);
    assert_int_equal(checkpointer_failures(f->checkpointer), status != STATUS_OK);
    ASSERT_OK(save(f, 2)); /* and going on gives what an undisturbed run gives */
    assert_int_equal(newest_checkpoint(f), 2);
    check_latest(f, true);
    struct file_seen files[FILES_MAX];
    uint32_t count;
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, f->folder, "step-00000002"));
    list_files(path, files, &count);
    assert_int_equal(count, f->file_count);
    for (uint32_t i = 0; i < count; i++)
        assert_true(strcmp(files[i].name, f->want[i].name) == 0 && digest_equal(files[i].digest, f->want[i].digest));
}

static void end_write(void *context) {
    struct fixture *f = context;
    checkpointer_close(&f->checkpointer);
}

void a_checkpoint_that_is_written(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep files = {"write a checkpoint",
                          BIT(WRITE) | BIT(SYNC) | BIT(RENAME) | BIT(OPEN) | BIT(READ),
                          f.tiny.directory,
                          begin_write,
                          write_second,
                          check_write,
                          end_write};
    struct sweep memory = {"write, memory", BIT(ALLOC) | BIT(THREAD), NULL, begin_write, write_second, check_write,
                           end_write};
    sweep(&files, &f);
    sweep(&memory, &f);
    end(&f);
}

/* ---- opening ---- */

/* As a crash leaves it: a checkpoint, and another one half-written. */
static void begin_open(void *context) {
    struct fixture *f = context;
    char part[PATH_BYTES];
    begin_run(f);
    checkpointer_close(&f->checkpointer);
    ASSERT_OK(fs_join(part, f->folder, "step-00000002.part"));
    ASSERT_OK(fs_make_directories(part));
    ASSERT_OK(fs_join(part, part, "state.json"));
    ASSERT_OK(fs_write_atomic(part, "{}", 2));
}

static enum status open_second(void *context) {
    struct fixture *f = context;
    struct checkpointer_settings open = {f->run, f->tiny.world, f->tiny.model, f->optimiser, 2};
    return checkpointer_open(&open, &f->checkpointer);
}

static void check_open(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    (void)hit;
    if (status != STATUS_OK)
        open_checkpointer(f);
    assert_int_equal(newest_checkpoint(f), 1);
    ASSERT_OK(save(f, 2));
    assert_int_equal(newest_checkpoint(f), 2);
}

void a_checkpointer_that_is_opened(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep files = {"open checkpoints", BIT(OPEN) | BIT(WRITE), f.run, begin_open, open_second, check_open,
                          end_write};
    struct sweep memory = {"open, memory", BIT(ALLOC) | BIT(THREAD), NULL, begin_open, open_second, check_open,
                           end_write};
    sweep(&files, &f);
    sweep(&memory, &f);
    end(&f);
}

/* ---- killed ---- */

/* Undisturbed, or killed at one of its calls: the next learner finds what is whole, sweeps the rest, and goes on. */
static void check_killed(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    (void)status;
    open_checkpointer(f);
    uint32_t newest = newest_checkpoint(f);
    assert_true(newest == 2 || hit);
    check_latest(f, !hit);
    ASSERT_OK(save(f, 2));
    assert_int_equal(newest_checkpoint(f), 2);
    check_latest(f, true);
}

void a_checkpoint_in_the_middle_of_which_the_process_is_killed(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep kills = {"killed in a checkpoint", 0, f.run, begin_write, write_second, check_killed, end_write};
    sweep_kills(&kills, &f);
    end(&f);
}

/* ---- the order in which it reaches the disk ---- */

/* Where a line of the trace stands first (last) from `from` on; fails when it does not. */
static const char *find_line(const char *from, bool last, const char *what, const char *directory, const char *name) {
    char line[2 * PATH_BYTES];
    snprintf(line, sizeof line, "%s %s%s%s\n", what, directory, *name ? "/" : "", name);
    const char *found = strstr(from, line), *next = found;
    while (last && next) {
        found = next;
        next = strstr(next + 1, line);
    }
    if (!found)
        fail_msg("not in the trace: %s", line);
    return found;
}

/* Every file before the directory, the directory before its name, its name before `latest`, and `latest` for good. */
void a_checkpoint_reaches_the_disk_in_order(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    begin_run(&f);
    nth_arm(&(struct nth_plan){.class = NTH_SYNC});
    ASSERT_OK(save(&f, 2));
    nth_disarm();
    char part[PATH_BYTES], rename[2 * PATH_BYTES], temporary[PATH_BYTES];
    ASSERT_OK(fs_join(part, f.folder, "step-00000002.part"));
    ASSERT_OK(fs_join(rename, f.folder, "step-00000002"));
    const char *trace = nth_trace();
    const char *directory = find_line(trace, true, "fsync", part, "");
    for (uint32_t i = 0; i < f.file_count; i++) {
        /* a file is written under its own name, or beside it and moved */
        snprintf(temporary, sizeof temporary, "write %.3000s/.%s.tmp-", part, f.want[i].name);
        const char *beside = strstr(trace, temporary);
        if (!beside) {
            const char *write = find_line(trace, true, "write", part, f.want[i].name);
            assert_true(find_line(write, false, "fsync", part, f.want[i].name) < directory);
            continue;
        }
        snprintf(temporary, sizeof temporary, "fsync %.3000s/.%s.tmp-", part, f.want[i].name);
        const char *sync = strstr(beside, temporary);
        assert_non_null(sync);
        assert_true(find_line(sync, false, "fsync", part, "") <= directory);
    }
    snprintf(temporary, sizeof temporary, "rename %.2000s %.2000s\n", part, rename);
    const char *moved = strstr(directory, temporary);
    assert_non_null(moved);
    const char *named = find_line(moved, false, "fsync", f.folder, "");
    snprintf(temporary, sizeof temporary, "write %.3000s/.latest.tmp-", f.folder);
    const char *latest = strstr(trace, temporary);
    assert_true(latest && latest > named);
    find_line(latest, false, "fsync", f.folder, "");
    checkpointer_close(&f.checkpointer);
    end(&f);
}
