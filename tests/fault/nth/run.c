/* candor-nth-run [all [TEST]]: whole training runs, against a hub without sockets (tests/support/learner/fake_hub.h), in which the N-th call
 * fails. A checkpoint that cannot be written is an alarm and training goes on; what else stops a run has a reason, and the next
 * learner on the directory ends with the bits of an undisturbed run. */
#include <unistd.h>

#include "tests/support/learner/fake_hub.h"
#include "tests/support/learner/tiny.h"

#include "common/base/log.h"
#include "learner/checkpoint.h"
#include "tests/fault/nth/sweep.h"

/* Fewer: something that was swept is not any more. */
#define POINTS_LEAST 2300
#define POINTS_LEAST_QUICK 370
#define QUICK 5 /* one in so many */
#define STEPS 4
#define FILES_MAX 32

/* ---- the hub's own calls are not the learner's ---- */

#define EXEMPT(name, parameters, ...)                                                                                  \
    enum status __real_##name parameters;                                                                              \
    enum status __wrap_##name parameters {                                                                             \
        nth_exempt(true);                                                                                              \
        enum status status = __real_##name(__VA_ARGS__);                                                               \
        nth_exempt(false);                                                                                             \
        return status;                                                                                                 \
    }

EXEMPT(hub_server_start, (const struct hub_server_settings *settings, struct hub_server **out_server), settings,
       out_server)
EXEMPT(hub_server_offer, (struct hub_server * server, const struct hub_work *work), server, work)
EXEMPT(hub_server_publish, (struct hub_server * server, const struct published *published), server, published)
EXEMPT(hub_server_take,
       (struct hub_server * server, uint8_t stream, uint32_t step, int timeout_ms, struct completed_work **out_work),
       server, stream, step, timeout_ms, out_work)

/* ---- the disk's free space ---- */

static uint64_t free_bytes = UINT64_MAX / 4;

enum status __wrap_fs_free_bytes(const char *path, uint64_t *out_bytes) {
    (void)path;
    *out_bytes = free_bytes;
    return STATUS_OK;
}

/* ---- a run ---- */

struct fixture {
    struct tiny tiny;
    struct run_config *config;
    char run[PATH_BYTES];
    struct checkpoint_state want;
    struct digest metrics; /* of the losses, in order */
};

static bool quick;

static enum status live(void *context) {
    struct fixture *f = context;
    const struct run_hooks hooks = {0};
    TRY(run_create(f->config, &hooks, &fake.run));
    enum status status = run_train(fake.run);
    run_destroy(&fake.run);
    return status;
}

static void begin_run(void *context) {
    struct fixture *f = context;
    ASSERT_OK(fs_remove_tree(f->run));
    fake_hub_reset();
}

static void note(void *context, const char *text) {
    (void)context;
    fail_msg("damaged: %s", text);
}

static void read_state(struct fixture *f, struct checkpoint_state *out_state) {
    struct checkpoint checkpoint;
    ASSERT_OK(checkpoint_find(f->run, note, NULL, &checkpoint));
    *out_state = checkpoint.state;
}

/* Steps 0 to STEPS - 1 in order, each once; the digest of their losses. */
static struct digest read_losses(struct fixture *f) {
    char path[PATH_BYTES];
    struct buf text = {0}, losses = {0};
    int step = 0;
    ASSERT_OK(fs_join(path, f->run, "metrics.jsonl"));
    ASSERT_OK(fs_read(path, 1 << 20, &text));
    for (const char *line = text.data; *line; line = strchr(line, '\n') + 1) {
        const char *number = strstr(line, "\"step\":"), *loss = strstr(line, "\"loss\":");
        assert_true(number && loss && atoi(number + strlen("\"step\":")) == step++);
        buf_append(&losses, loss, strcspn(loss, ",}"));
    }
    assert_int_equal(step, STEPS);
    struct digest digest = hash128(losses.data, losses.bytes);
    buf_deinit(&text);
    buf_deinit(&losses);
    return digest;
}

static void check_end(struct fixture *f) {
    struct checkpoint_state state;
    read_state(f, &state);
    assert_int_equal(state.step, STEPS);
    assert_int_equal(state.updates, f->want.updates);
    assert_true(digest_equal(state.weights, f->want.weights));
    assert_true(digest_equal(read_losses(f), f->metrics));
}

/* Nothing half-written stays. */
static void check_names(struct fixture *f) {
    static const char *const folders[] = {".", "checkpoints", "rollouts", "eval", "bad-batches"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[PATH_BYTES];
        struct fs_list list;
        ASSERT_OK(fs_join(path, f->run, folders[i]));
        ASSERT_OK(fs_list_directory(path, &list));
        for (size_t n = 0; n < list.count; n++)
            if (strstr(list.names[n], ".tmp-") || strstr(list.names[n], ".part"))
                fail_msg("left behind: %s/%s", folders[i], list.names[n]);
        fs_list_free(&list);
    }
}

static void check_run(void *context, enum status status, bool hit) {
    struct fixture *f = context;
    (void)hit;
    if (status != STATUS_OK) {
        fake_hub_reset();
        ASSERT_OK(live(f)); /* the next learner */
    }
    check_end(f);
    check_names(f);
}

/* Once a checkpoint fails training goes on: only one that cannot be read when the run begins, or a disk that stays full to the
 * run's end, stops it. */
static void check_checkpoints(void *context, enum status status, bool hit) {
    if (status != STATUS_OK && !strstr(status_message(), "the last checkpoint"))
        fail_msg("the run stopped: %s", status_message());
    check_run(context, status, hit);
}

static void begin(struct fixture *f) {
    *f = (struct fixture){0};
    tiny_open(&f->tiny);
    log_init("test", NULL, LOG_ERROR + 1); /* alarms are expected here */
    ASSERT_OK(model_save(f->tiny.model, f->tiny.world));
    char eval[PATH_BYTES + 64];
    snprintf(eval, sizeof eval, "data.eval=%s/held-out.jsonl", f->tiny.world);
    f->config = tiny_config(
        &f->tiny, (const char *const[]){"run.steps=4", "run.lag=1", "sample.questions=2", "sample.group=4",
                                        "sample.max_new_tokens=4", "optim.lr=1e-2", "optim.warmup=0", "train.threads=1",
                                        "loss.kl=0", "prompt.system=Answer", "checkpoint.every=1", "eval.every=2",
                                        "eval.samples=2", "eval.questions=3", eval, NULL});
    ASSERT_OK(fs_join(f->run, f->tiny.directory, "run"));
    begin_run(f);
    ASSERT_OK(live(f));
    read_state(f, &f->want);
    f->metrics = read_losses(f);
}

static void end(struct fixture *f) {
    free(f->config);
    tiny_close(&f->tiny);
}

/* ---- sweeps ---- */

static void a_checkpoint_that_fails_does_not_stop_the_run(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep files = {"a run, checkpoints",
                          BIT(WRITE) | BIT(SYNC) | BIT(RENAME),
                          "/run/checkpoints/",
                          begin_run,
                          live,
                          check_checkpoints,
                          NULL};
    sweep(&files, &f);
    end(&f);
}

static void the_next_learner_ends_with_the_same_bits(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct sweep files = {"a run, files", NTH_FILES | BIT(READ), f.tiny.directory, begin_run, live, check_run, NULL};
    sweep(&files, &f);
    end(&f);
}

/* What the dead one left half-written is gone with the next learner. */
static void check_killed(void *context, enum status status, bool hit) {
    (void)status;
    if (hit) {
        fake_hub_reset();
        ASSERT_OK(live(context));
    }
    check_end(context);
    check_names(context);
}

static void a_learner_killed_at_any_call_is_followed_by_one_with_the_same_bits(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    sweep_every(quick ? 2 * QUICK : 1);
    struct sweep kills = {"a run, killed", 0, f.run, begin_run, live, check_killed, NULL};
    sweep_kills(&kills, &f);
    end(&f);
}

/* Some 2,400 allocations, most of them for reading the questions: one in so many. All of them (QUICK 1) take a minute. */
static void a_run_without_memory_has_a_reason(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    sweep_every(quick ? 20 * QUICK : 2 * QUICK);
    struct sweep memory = {"a run, memory", BIT(ALLOC) | BIT(THREAD), NULL, begin_run, live, check_run, NULL};
    sweep(&memory, &f);
    end(&f);
}

/* A checkpoint counts on metrics.jsonl up to the end of its step. */
static void metrics_reach_the_disk_before_the_checkpoint_that_counts_on_them(void **state) {
    (void)state;
    struct fixture f;
    char write[PATH_BYTES + 32], sync[PATH_BYTES + 32], rename[PATH_BYTES + 64];
    begin(&f);
    begin_run(&f);
    nth_arm(&(struct nth_plan){.class = NTH_SYNC});
    ASSERT_OK(live(&f));
    nth_disarm();
    snprintf(write, sizeof write, "write %s/metrics.jsonl\n", f.run);
    snprintf(sync, sizeof sync, "fsync %s/metrics.jsonl\n", f.run);
    const char *at = nth_trace();
    for (int step = 1; step <= STEPS; step++) {
        at = strstr(at, write);
        assert_non_null(at);
        snprintf(rename, sizeof rename, "rename %s/checkpoints/step-%08d.part ", f.run, step);
        const char *synced = strstr(at, sync), *renamed = strstr(at, rename);
        assert_true(synced && renamed && synced < renamed);
        at++;
    }
    end(&f);
}

static void a_run_needs_room_for_one_checkpoint_more_than_it_keeps(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    begin_run(&f);
    static const struct optimiser_settings settings = {.lr = 1, .steps = 1};
    struct optimiser *optimiser;
    ASSERT_OK(optimiser_create(f.tiny.model, &settings, &optimiser));
    uint64_t bytes = checkpoint_bytes(optimiser, 1), before = free_bytes;
    optimiser_destroy(&optimiser);
    free_bytes = 3 * bytes - 1; /* checkpoint.keep is 2 */
    ASSERT_FAILS(STATUS_IO, live(&f));
    assert_true(strstr(status_message(), "GB free; right would be") && strstr(status_message(), "checkpoint.keep"));
    free_bytes = 3 * bytes;
    fake_hub_reset();
    ASSERT_OK(live(&f));
    free_bytes = before;
    check_end(&f);
    end(&f);
}

static void enough_points_were_swept(void **state) {
    (void)state;
    sweep_report();
    assert_true(sweep_points() >= (quick ? POINTS_LEAST_QUICK : POINTS_LEAST));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_checkpoint_that_fails_does_not_stop_the_run, sweep_teardown),
        cmocka_unit_test_teardown(the_next_learner_ends_with_the_same_bits, sweep_teardown),
        cmocka_unit_test_teardown(a_learner_killed_at_any_call_is_followed_by_one_with_the_same_bits, sweep_teardown),
        cmocka_unit_test_teardown(a_run_without_memory_has_a_reason, sweep_teardown),
        cmocka_unit_test(metrics_reach_the_disk_before_the_checkpoint_that_counts_on_them),
        cmocka_unit_test(a_run_needs_room_for_one_checkpoint_more_than_it_keeps),
        cmocka_unit_test(enough_points_were_swept),
    };
    nth_init();
    quick = argc < 2 || strcmp(argv[1], "all") != 0;
    cmocka_set_test_filter(argc > 2 ? argv[2] : NULL);
    sweep_every(quick ? QUICK : 1);
    return cmocka_run_group_tests_name("nth-run", tests, NULL, NULL);
}
