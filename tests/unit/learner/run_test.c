/* The run's loop against a hub without sockets: lag, resume, skips, evaluations. */
#include "tests/support/learner/fake_hub.h"
#include "tests/support/learner/tiny.h"

#include "common/base/json.h"
#include "learner/checkpoint.h"

#define STEPS 6

static const char *const standard[] = {
    "run.steps=6",          "sample.questions=3", "sample.group=4",  "sample.max_new_tokens=5",
    "optim.lr=1e-2",        "optim.warmup=0",     "train.threads=1", "loss.kl=0",
    "prompt.system=Answer", "checkpoint.every=2", "log.level=error",
};

struct fixture {
    struct tiny tiny;
    char model[PATH_BYTES];
};

static void begin(struct fixture *f) {
    tiny_open(&f->tiny);
    ASSERT_OK(model_save(f->tiny.model, f->tiny.world)); /* random weights beside the tokenizer */
    fake_hub_reset();
}

/* What a watchdog would be told; what is allowed lasts until the next beat. */
static struct {
    int64_t least_ms;
    uint32_t beats, allowances;
} told;

static void told_beat(void *context) {
    (void)context;
    told.beats++;
}

static void told_allow(void *context, int64_t ms) {
    (void)context;
    told.least_ms = told.allowances == 0 || ms < told.least_ms ? ms : told.least_ms;
    told.allowances++;
}

/* One life of a learner in run directory `name`; more: NULL-terminated. */
static enum status live(struct fixture *f, const char *name, const char *const *more) {
    const char *assignments[32];
    char directory[2 * PATH_BYTES];
    size_t count = 0;
    for (; count < sizeof standard / sizeof standard[0]; count++)
        assignments[count] = standard[count];
    snprintf(directory, sizeof directory, "run.directory=%s/%s", f->tiny.directory, name);
    assignments[count++] = directory;
    for (; *more; more++)
        assignments[count++] = *more;
    assignments[count] = NULL;
    struct run_config *config = tiny_config(&f->tiny, assignments);
    struct run_hooks hooks = {.beat = told_beat, .allow = told_allow};
    memset(&told, 0, sizeof told);
    ASSERT_OK(run_create(config, &hooks, &fake.run));
    enum status status = run_train(fake.run);
    run_destroy(&fake.run);
    free(config);
    return status;
}

static void in_run(const struct fixture *f, const char *name, const char *file, char out_path[PATH_BYTES]) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, f->tiny.directory, name));
    ASSERT_OK(fs_join(out_path, path, file));
}

static void no_damage(void *context, const char *text) {
    (void)context;
    fail_msg("damaged: %s", text);
}

static struct checkpoint_state last_state(const struct fixture *f, const char *name) {
    char path[PATH_BYTES];
    struct checkpoint checkpoint;
    in_run(f, name, "", path);
    ASSERT_OK(checkpoint_find(path, no_damage, NULL, &checkpoint));
    return checkpoint.state;
}

/* Values of a key in metrics.jsonl, a line a step, checking that steps count from 0. */
static uint32_t column(const struct fixture *f, const char *name, const char *key, double *out_values) {
    char path[PATH_BYTES];
    struct json_lines lines;
    json_t *row;
    uint32_t count = 0;
    in_run(f, name, "metrics.jsonl", path);
    ASSERT_OK(json_lines_open(&lines, path, 1 << 16));
    while (json_lines_next(&lines, &row) == STATUS_OK) {
        assert_int_equal(json_integer_value(json_object_get(row, "step")), count);
        out_values[count++] = json_number_value(json_object_get(row, key));
        json_decref(row);
    }
    json_lines_close(&lines);
    return count;
}

static void at_lag_0_every_ratio_is_exactly_one(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    ASSERT_OK(live(&f, "run", (const char *const[]){"run.lag=0", NULL}));
    double gap[STEPS], ratio[STEPS], norm[STEPS];
    assert_int_equal(column(&f, "run", "behaviour_gap", gap), STEPS);
    column(&f, "run", "ratio_max", ratio);
    column(&f, "run", "grad_norm", norm);
    int trained = 0;
    for (int i = 0; i < STEPS; i++) {
        assert_true(gap[i] == 0 && (ratio[i] == 1 || ratio[i] == 0)); /* 0: every group was dead */
        trained += norm[i] > 0;
    }
    assert_true(trained >= 4);
    tiny_close(&f.tiny);
}

/* A 7B checkpoint takes minutes to write. */
static void the_watchdog_allows_each_wait_for_a_checkpoint_a_minute_and_more(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    ASSERT_OK(live(&f, "run", (const char *const[]){"checkpoint.every=1", NULL}));
    assert_true(told.beats > STEPS);
    assert_int_equal(told.allowances,
                     STEPS /* before each update */ + STEPS /* each begun */ + 1 /* the last is waited for */);
    assert_true(told.least_ms > 60000);
    tiny_close(&f.tiny);
}

static void each_step_samples_from_the_version_that_the_lag_names(void **state) {
    (void)state;
    for (uint32_t lag = 0; lag <= 2; lag++) {
        struct fixture f;
        char option[16];
        begin(&f);
        snprintf(option, sizeof option, "run.lag=%u", lag);
        ASSERT_OK(live(&f, "run", (const char *const[]){option, NULL}));
        assert_int_equal(fake.offer_count, STEPS);
        for (uint32_t i = 0; i < STEPS; i++) {
            uint32_t version = i > lag ? i - lag : 0;
            assert_int_equal(fake.offers[i].step, i);
            assert_int_equal(fake.offers[i].version, version);
            assert_int_equal(fake.offers[i].newest, version); /* as soon as it is published */
        }
        assert_int_equal(fake.published, STEPS + 1);
        assert_int_equal(fake.released, STEPS + 1);
        assert_true(fake.alive_most <= lag + 2);
        double gap[STEPS];
        column(&f, "run", "behaviour_gap", gap);
        assert_true(gap[0] == 0 && (lag == 0) == (gap[STEPS - 1] == 0));
        tiny_close(&f.tiny);
    }
}

static void a_run_that_was_stopped_or_killed_ends_with_the_same_bits(void **state) {
    (void)state;
    for (uint32_t lag = 0; lag <= 2; lag++) {
        struct fixture f;
        char option[16];
        begin(&f);
        snprintf(option, sizeof option, "run.lag=%u", lag);
        const char *const more[] = {option, "loss.kl=0.05", NULL};
        ASSERT_OK(live(&f, "whole", more));
        struct checkpoint_state whole = last_state(&f, "whole");
        assert_int_equal(whole.step, STEPS);
        fake.stop_at = 3; /* SIGTERM: checkpoints step 3 */
        ASSERT_OK(live(&f, "parts", more));
        assert_int_equal(last_state(&f, "parts").step, 3);
        fake.stop_at = UINT32_MAX;
        fake.fail_at = 5; /* kill: the checkpoint of step 4 is the last, step 4 is done again */
        fake.fail_with = STATUS_IO;
        ASSERT_FAILS(STATUS_IO, live(&f, "parts", more));
        assert_int_equal(last_state(&f, "parts").step, 4);
        fake.fail_at = UINT32_MAX;
        ASSERT_OK(live(&f, "parts", more));
        struct checkpoint_state parts = last_state(&f, "parts");
        assert_true(digest_equal(parts.weights, whole.weights));
        assert_int_equal(parts.updates, whole.updates);
        double a[STEPS + 1], b[STEPS + 1];
        assert_int_equal(column(&f, "whole", "loss", a), STEPS);
        assert_int_equal(column(&f, "parts", "loss", b), STEPS);
        assert_memory_equal(a, b, STEPS * sizeof *a);
        char one[PATH_BYTES], two[PATH_BYTES];
        struct digest left, right;
        uint64_t bytes;
        in_run(&f, "whole", "rollouts/step-000005.jsonl", one);
        in_run(&f, "parts", "rollouts/step-000005.jsonl", two);
        ASSERT_OK(hash_file(one, &left, &bytes));
        ASSERT_OK(hash_file(two, &right, &bytes));
        assert_true(digest_equal(left, right));
        tiny_close(&f.tiny);
    }
}

static void assert_same_file(const struct fixture *f, const char *one, const char *two, const char *file) {
    char path[PATH_BYTES];
    struct digest left, right;
    uint64_t bytes;
    in_run(f, one, file, path);
    ASSERT_OK(hash_file(path, &left, &bytes));
    in_run(f, two, file, path);
    ASSERT_OK(hash_file(path, &right, &bytes));
    assert_true(digest_equal(left, right));
}

/* Six lives for six steps, the third of which is skipped: each ends right after the checkpoint of its step. */
static void a_run_killed_at_every_step_ends_with_the_same_bits(void **state) {
    (void)state;
    for (uint32_t lag = 0; lag <= 3; lag++) {
        struct fixture f;
        char option[16], file[64];
        begin(&f);
        snprintf(option, sizeof option, "run.lag=%u", lag);
        const char *const more[] = {option, "checkpoint.every=1", "loss.dual_clip=0", NULL};
        fake.poison = 1u << 2;
        ASSERT_OK(live(&f, "whole", more));
        for (uint32_t step = 0; step < STEPS; step++) {
            if (step > 0)
                assert_int_equal(last_state(&f, "parts").step, step);
            fake.fail_with = STATUS_IO;
            fake.fail_at = step + 1;
            enum status status = live(&f, "parts", more);
            assert_int_equal(status, step + 1 < STEPS ? STATUS_IO : STATUS_OK);
        }
        struct checkpoint_state whole = last_state(&f, "whole"), parts = last_state(&f, "parts");
        assert_true(digest_equal(parts.weights, whole.weights));
        assert_true(parts.updates == STEPS - 1 && whole.updates == STEPS - 1);
        assert_true(parts.questions == whole.questions && parts.step == STEPS);
        snprintf(file, sizeof file, "checkpoints/step-%08u/optimiser.safetensors", STEPS);
        assert_same_file(&f, "whole", "parts", file);
        for (uint32_t step = 0; step < STEPS; step++) {
            snprintf(file, sizeof file, "rollouts/step-%06u.jsonl", step);
            assert_same_file(&f, "whole", "parts", file);
        }
        double a[STEPS], b[STEPS];
        assert_int_equal(column(&f, "whole", "loss", a), STEPS);
        assert_int_equal(column(&f, "parts", "loss", b), STEPS);
        assert_memory_equal(a, b, sizeof a);
        tiny_close(&f.tiny);
    }
}

/* As a disk does it: the newest checkpoint is damaged, the one before it is used, and its steps are done again. */
static void a_run_goes_on_from_the_checkpoint_before_a_damaged_one(void **state) {
    (void)state;
    struct fixture f;
    char path[PATH_BYTES];
    struct buf text = {0};
    begin(&f);
    ASSERT_OK(live(&f, "whole", (const char *const[]){"run.lag=1", NULL}));
    fake.fail_at = 5; /* the checkpoints are those of steps 2 and 4 */
    fake.fail_with = STATUS_IO;
    ASSERT_FAILS(STATUS_IO, live(&f, "parts", (const char *const[]){"run.lag=1", NULL}));
    in_run(&f, "parts", "checkpoints/step-00000004/optimiser.safetensors", path);
    ASSERT_OK(fs_read(path, 1 << 20, &text));
    text.data[text.bytes / 2] ^= 4;
    ASSERT_OK(fs_write_atomic(path, text.data, text.bytes));
    buf_deinit(&text);
    uint32_t offers = fake.offer_count;
    fake.fail_at = UINT32_MAX;
    ASSERT_OK(live(&f, "parts", (const char *const[]){"run.lag=1", NULL}));
    assert_int_equal(fake.offers[offers].step, 2);
    assert_true(digest_equal(last_state(&f, "parts").weights, last_state(&f, "whole").weights));
    assert_same_file(&f, "whole", "parts", "checkpoints/step-00000006/optimiser.safetensors");
    double steps[2 * STEPS];
    assert_int_equal(column(&f, "parts", "step", steps), STEPS); /* metrics.jsonl was cut, too */
    tiny_close(&f.tiny);
}

static void a_finished_run_started_again_does_nothing(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    ASSERT_OK(live(&f, "run", (const char *const[]){NULL}));
    uint32_t offers = fake.offer_count;
    ASSERT_OK(live(&f, "run", (const char *const[]){NULL}));
    assert_int_equal(fake.offer_count, offers);
    ASSERT_FAILS(STATUS_CONFIG, live(&f, "run", (const char *const[]){"optim.clip=0.5", NULL}));
    tiny_close(&f.tiny);
}

static void a_finished_run_is_lengthened_to_the_bits_of_a_longer_one(void **state) {
    (void)state;
    for (uint32_t lag = 0; lag <= 2; lag++) {
        struct fixture f;
        char option[16];
        begin(&f);
        snprintf(option, sizeof option, "run.lag=%u", lag);
        ASSERT_OK(live(&f, "whole", (const char *const[]){option, NULL}));
        ASSERT_OK(live(&f, "parts", (const char *const[]){option, "run.steps=0", NULL}));
        ASSERT_OK(live(&f, "parts", (const char *const[]){option, "run.steps=3", NULL}));
        assert_int_equal(last_state(&f, "parts").step, 3);
        ASSERT_OK(live(&f, "parts", (const char *const[]){option, NULL}));
        struct checkpoint_state whole = last_state(&f, "whole"), parts = last_state(&f, "parts");
        assert_int_equal(parts.step, STEPS);
        assert_true(digest_equal(parts.weights, whole.weights));
        double a[STEPS + 1], b[STEPS + 1];
        assert_int_equal(column(&f, "whole", "loss", a), STEPS);
        assert_int_equal(column(&f, "parts", "loss", b), STEPS);
        assert_memory_equal(a, b, STEPS * sizeof *a);
        tiny_close(&f.tiny);
    }
}

static void a_run_whose_learning_rate_ends_with_it_is_not_lengthened(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    ASSERT_OK(live(&f, "run", (const char *const[]){"optim.schedule=linear", "run.steps=3", NULL}));
    ASSERT_FAILS(STATUS_CONFIG, live(&f, "run", (const char *const[]){"optim.schedule=linear", NULL}));
    assert_non_null(strstr(status_message(), "run.steps: 3 -> 6, where optim.schedule ends"));
    tiny_close(&f.tiny);
}

static void other_questions_or_another_reference_are_refused_on_resume(void **state) {
    (void)state;
    struct fixture f;
    char train[PATH_BYTES];
    begin(&f);
    const char *const more[] = {"loss.kl=0.05", NULL};
    fake.stop_at = 2;
    ASSERT_OK(live(&f, "run", more));
    fake.stop_at = UINT32_MAX;
    ASSERT_OK(model_initialise(f.tiny.model, 8, 0.1));
    ASSERT_OK(model_save(f.tiny.model, f.tiny.world));
    ASSERT_FAILS(STATUS_MISMATCH, live(&f, "run", more));
    assert_non_null(strstr(status_message(), "reference"));
    ASSERT_OK(model_initialise(f.tiny.model, 7, 0.1));
    ASSERT_OK(model_save(f.tiny.model, f.tiny.world));
    struct buf text = {0};
    ASSERT_OK(fs_join(train, f.tiny.world, "train.jsonl"));
    ASSERT_OK(fs_read(train, 1 << 20, &text));
    const char *second = strchr(text.data, '\n') + 1;
    ASSERT_OK(fs_write_atomic(train, second, strlen(second)));
    buf_deinit(&text);
    ASSERT_FAILS(STATUS_MISMATCH, live(&f, "run", more));
    assert_non_null(strstr(status_message(), "data.train"));
    tiny_close(&f.tiny);
}

/* Outcomes of two sets of questions are no curve. */
static void other_questions_to_evaluate_are_refused_on_resume(void **state) {
    (void)state;
    struct fixture f;
    char held_out[PATH_BYTES + 64], train[PATH_BYTES + 64];
    begin(&f);
    snprintf(held_out, sizeof held_out, "data.eval=%s/held-out.jsonl", f.tiny.world);
    snprintf(train, sizeof train, "data.eval=%s/train.jsonl", f.tiny.world);
    fake.stop_at = 2;
    ASSERT_OK(live(&f, "run", (const char *const[]){held_out, "eval.every=2", "eval.samples=2", NULL}));
    fake.stop_at = UINT32_MAX;
    ASSERT_FAILS(STATUS_MISMATCH,
                 live(&f, "run", (const char *const[]){train, "eval.every=2", "eval.samples=2", NULL}));
    assert_non_null(strstr(status_message(), "data.eval"));
    ASSERT_OK(live(&f, "run", (const char *const[]){held_out, "eval.every=2", "eval.samples=2", NULL}));
    tiny_close(&f.tiny);
}

/* `train` without a configuration goes on with config.ini: a slip of the pen may not stay in it. */
static void what_a_refused_resume_names_does_not_stay_in_the_run(void **state) {
    (void)state;
    struct fixture f;
    char stored[PATH_BYTES], train[PATH_BYTES], other[PATH_BYTES], assignment[PATH_BYTES + 16];
    struct buf before = {0}, after = {0}, questions = {0};
    begin(&f);
    fake.stop_at = 2;
    ASSERT_OK(live(&f, "run", (const char *const[]){NULL}));
    fake.stop_at = UINT32_MAX;
    in_run(&f, "run", "config.ini", stored);
    ASSERT_OK(fs_read(stored, 1 << 20, &before));
    ASSERT_OK(fs_join(other, f.tiny.world, "other.jsonl"));
    snprintf(assignment, sizeof assignment, "data.train=%s", other);
    const char *const names_other[] = {assignment, NULL};
    assert_int_not_equal(live(&f, "run", names_other), STATUS_OK); /* no such file */
    ASSERT_OK(fs_join(train, f.tiny.world, "train.jsonl"));
    ASSERT_OK(fs_read(train, 1 << 20, &questions));
    const char *second = strchr(questions.data, '\n') + 1;
    ASSERT_OK(fs_write_atomic(other, second, strlen(second)));
    ASSERT_FAILS(STATUS_MISMATCH, live(&f, "run", names_other));
    ASSERT_OK(fs_read(stored, 1 << 20, &after));
    assert_string_equal(after.data, before.data);
    buf_deinit(&before);
    buf_deinit(&after);
    buf_deinit(&questions);
    tiny_close(&f.tiny);
}

static void a_skipped_step_publishes_the_same_weights_under_the_next_number(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    fake.poison = 1u << 2 | 1u << 4; /* not in a row: they do not add up */
    ASSERT_OK(live(&f, "run", (const char *const[]){"loss.dual_clip=0", "optim.stop_after_skips=2", NULL}));
    double skipped[STEPS], updates[STEPS];
    assert_int_equal(column(&f, "run", "skipped", skipped), STEPS);
    column(&f, "run", "updates", updates);
    for (int i = 0; i < STEPS; i++)
        assert_true(skipped[i] == (i == 2 || i == 4));
    assert_true(updates[STEPS - 1] == STEPS - 2);
    assert_int_equal(fake.published, STEPS + 1);
    char path[PATH_BYTES];
    in_run(&f, "run", "bad-batches/step-000004.jsonl", path);
    assert_true(fs_exists(path));
    tiny_close(&f.tiny);
}

static void too_many_skips_in_a_row_end_the_run_with_its_weights_kept(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    fake.poison = 0x3fe;
    const char *const more[] = {"loss.dual_clip=0", "optim.stop_after_skips=3", "run.steps=20", NULL};
    ASSERT_FAILS(STATUS_RUN_FAILED, live(&f, "run", more));
    assert_non_null(strstr(status_message(), "3 updates in a row"));
    struct checkpoint_state last = last_state(&f, "run");
    assert_true(last.step == 4 && last.updates == 1 && last.skips_in_row == 3);
    tiny_close(&f.tiny);
}

static void evaluations_stand_between_versions_and_change_no_training_bit(void **state) {
    (void)state;
    struct fixture f;
    char data[PATH_BYTES + 64], path[PATH_BYTES];
    begin(&f);
    snprintf(data, sizeof data, "data.eval=%s/held-out.jsonl", f.tiny.world);
    ASSERT_OK(live(&f, "without", (const char *const[]){NULL}));
    fake_hub_reset();
    const char *const more[] = {data, "eval.every=2", "eval.samples=2", "eval.questions=5", NULL};
    fake.stop_at = 3;
    ASSERT_OK(live(&f, "with", more));
    fake.stop_at = UINT32_MAX;
    ASSERT_OK(live(&f, "with", more));
    assert_true(digest_equal(last_state(&f, "with").weights, last_state(&f, "without").weights));
    uint32_t evals = 0;
    for (uint32_t i = 0; i < fake.offer_count; i++) {
        if (fake.offers[i].stream != WORK_EVAL)
            continue;
        evals++;
        assert_int_equal(fake.offers[i].step, fake.offers[i].version);
        for (uint32_t j = 0; j < fake.offer_count;
             j++) /* after its version's training, before that of any higher one */
            if (fake.offers[j].stream == WORK_TRAIN)
                assert_true((fake.offers[j].priority < fake.offers[i].priority) ==
                            (fake.offers[j].version <= fake.offers[i].version));
    }
    assert_int_equal(evals, 4); /* versions 0, 2, 4, 6, none twice */
    for (uint32_t version = 0; version <= STEPS; version++) {
        char name[64];
        snprintf(name, sizeof name, "eval/step-%06u.jsonl", version);
        in_run(&f, "with", name, path);
        assert_true(fs_exists(path) == (version % 2 == 0));
    }
    tiny_close(&f.tiny);
}

/* No checkpoint was written, and another configuration is allowed. */
static void a_run_that_begins_anew_has_no_outcomes_of_the_one_before(void **state) {
    (void)state;
    struct fixture f;
    char data[PATH_BYTES + 64], path[PATH_BYTES], later[PATH_BYTES], answers[PATH_BYTES], map[PATH_BYTES];
    begin(&f);
    snprintf(data, sizeof data, "data.eval=%s/held-out.jsonl", f.tiny.world);
    fake.fail_at = 3;
    fake.fail_with = STATUS_IO;
    ASSERT_FAILS(STATUS_IO, live(&f, "run", (const char *const[]){data, "eval.every=2", "checkpoint.every=50", NULL}));
    in_run(&f, "run", "eval/step-000000.jsonl", path);
    in_run(&f, "run", "eval/step-000002.jsonl", later);
    in_run(&f, "run", "rollouts/step-000002.jsonl", answers);
    assert_true(fs_exists(answers));
    ASSERT_OK(fs_write_atomic(path, "{}\n", 3)); /* as if they had been complete in time */
    ASSERT_OK(fs_write_atomic(later, "{}\n", 3));
    in_run(&f, "run", "eval/knowledge.jsonl", map);
    ASSERT_OK(fs_write_atomic(map, "{}\n", 3)); /* of `candor eval --knowledge`, before the run began */
    fake_hub_reset();
    fake.stop_at = 1;
    ASSERT_OK(live(&f, "run", (const char *const[]){data, "eval.every=2", "checkpoint.every=50", "run.seed=9", NULL}));
    bool again = false;
    for (uint32_t i = 0; i < fake.offer_count; i++)
        again |= fake.offers[i].stream == WORK_EVAL && fake.offers[i].version == 0;
    assert_true(again && !fs_exists(later) && !fs_exists(answers) && fs_exists(map));
    tiny_close(&f.tiny);
}

static void a_slow_evaluation_keeps_its_own_version_and_no_others(void **state) {
    (void)state;
    struct fixture f;
    char data[PATH_BYTES + 64], path[PATH_BYTES];
    begin(&f);
    snprintf(data, sizeof data, "data.eval=%s/held-out.jsonl", f.tiny.world);
    const char *const more[] = {
        data, "eval.every=16", "eval.samples=2", "eval.questions=5", "run.steps=30", "run.lag=1", NULL};
    fake.evals_until = 28;
    ASSERT_OK(live(&f, "run", more));
    assert_true(fake.alive_most <= 3 + 2); /* lag + 2, and versions 0 and 16 */
    in_run(&f, "run", "eval/step-000000.jsonl", path);
    assert_true(fs_exists(path));
    fake_hub_reset(); /* killed while version 0 is being evaluated: it is in the checkpoint, and evaluated then */
    fake.evals_until = 28;
    fake.fail_at = 10;
    fake.fail_with = STATUS_IO;
    ASSERT_FAILS(STATUS_IO, live(&f, "killed", more));
    fake_hub_reset();
    ASSERT_OK(live(&f, "killed", more));
    struct digest left, right;
    uint64_t bytes;
    ASSERT_OK(hash_file(path, &left, &bytes));
    in_run(&f, "killed", "eval/step-000000.jsonl", path);
    ASSERT_OK(hash_file(path, &right, &bytes));
    assert_true(digest_equal(left, right));
    tiny_close(&f.tiny);
}

static void what_a_learner_lacks_is_named_by_key(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct run_config *config = tiny_config(&f.tiny, (const char *const[]){NULL});
    ASSERT_OK(run_check(config));
    config->data_train[0] = '\0';
    ASSERT_FAILS(STATUS_CONFIG, run_check(config));
    assert_non_null(strstr(status_message(), "data.train"));
    free(config);
    ASSERT_FAILS(STATUS_CONFIG, live(&f, "run", (const char *const[]){"sample.max_new_tokens=60", NULL}));
    assert_non_null(strstr(status_message(), "sample.max_new_tokens"));
    tiny_close(&f.tiny);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_watchdog_allows_each_wait_for_a_checkpoint_a_minute_and_more),
        cmocka_unit_test(at_lag_0_every_ratio_is_exactly_one),
        cmocka_unit_test(each_step_samples_from_the_version_that_the_lag_names),
        cmocka_unit_test(a_run_that_was_stopped_or_killed_ends_with_the_same_bits),
        cmocka_unit_test(a_run_killed_at_every_step_ends_with_the_same_bits),
        cmocka_unit_test(a_run_goes_on_from_the_checkpoint_before_a_damaged_one),
        cmocka_unit_test(a_finished_run_started_again_does_nothing),
        cmocka_unit_test(a_finished_run_is_lengthened_to_the_bits_of_a_longer_one),
        cmocka_unit_test(a_run_whose_learning_rate_ends_with_it_is_not_lengthened),
        cmocka_unit_test(other_questions_or_another_reference_are_refused_on_resume),
        cmocka_unit_test(other_questions_to_evaluate_are_refused_on_resume),
        cmocka_unit_test(what_a_refused_resume_names_does_not_stay_in_the_run),
        cmocka_unit_test(a_skipped_step_publishes_the_same_weights_under_the_next_number),
        cmocka_unit_test(too_many_skips_in_a_row_end_the_run_with_its_weights_kept),
        cmocka_unit_test(evaluations_stand_between_versions_and_change_no_training_bit),
        cmocka_unit_test(a_run_that_begins_anew_has_no_outcomes_of_the_one_before),
        cmocka_unit_test(a_slow_evaluation_keeps_its_own_version_and_no_others),
        cmocka_unit_test(what_a_learner_lacks_is_named_by_key),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
