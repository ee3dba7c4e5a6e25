#include "learner/run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "learner/metrics.h"
#include "learner/run_internal.h"

/* ---- life ---- */

enum status run_check(const struct run_config *config) {
    static const struct {
        const char *key, *right;
        size_t offset;
    } needed[] = {
        {"model.path", "the directory of the model to train", offsetof(struct run_config, model_path)},
        {"data.train", "one or more question files", offsetof(struct run_config, data_train)},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (((const char *)config + needed[i].offset)[0] == '\0')
            return fail(STATUS_CONFIG, "%s: empty; right would be %s", needed[i].key, needed[i].right);
    return STATUS_OK;
}

enum status run_create(const struct run_config *config, const struct run_hooks *hooks, struct run **out_run) {
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return fail(STATUS_NO_MEMORY, "run: no memory");
    run->config = config;
    run->hooks = *hooks;
    run->directory.lock = -1;
    atomic_init(&run->stop, false);
    atomic_init(&run->ready, false);
    pthread_mutex_init(&run->text_mutex, NULL);
    *out_run = run;
    return STATUS_OK;
}

void run_destroy(struct run **run) {
    if (!*run)
        return;
    pthread_mutex_destroy(&(*run)->text_mutex);
    free(*run);
    *run = NULL;
}

void run_stop(struct run *run) {
    atomic_store(&run->stop, true);
}

bool run_ready(struct run *run) {
    return atomic_load(&run->ready);
}

void run_doing(struct run *run, const char *format, ...) {
    va_list arguments;
    pthread_mutex_lock(&run->text_mutex);
    va_start(arguments, format);
    vsnprintf(run->doing, sizeof run->doing, format, arguments);
    va_end(arguments);
    pthread_mutex_unlock(&run->text_mutex);
}

void run_status(struct run *run, struct buf *out) {
    pthread_mutex_lock(&run->text_mutex);
    buf_puts(out, run->doing);
    pthread_mutex_unlock(&run->text_mutex);
}

static void beat(struct run *run) {
    if (run->hooks.beat)
        run->hooks.beat(run->hooks.context);
}

/* ---- offering ---- */

static enum status offer_step(struct run *run, const struct course_action *action) {
    const struct run_config *config = run->config;
    const struct version *version = action->version.content;
    uint32_t count = (uint32_t)config->sample_questions;
    for (uint32_t s = 0; s < count; s++)
        run->indices[s] = order_question(&run->order, action->step, s);
    struct question_work work = {.stream = WORK_TRAIN,
                                 .step = action->step,
                                 .priority = action->priority,
                                 .version = version->number,
                                 .weights = version->digest,
                                 .samples = (uint32_t)config->sample_group,
                                 .run_id = run->directory.run_id,
                                 .config = run->config_digest,
                                 .stops = run->stops,
                                 .stop_count = run->stop_count};
    struct message_lease *slots;
    TRY(questions_slots(&run->train, config, &work, run->indices, count, &slots));
    struct hub_work offered = questions_work(&work, slots, count);
    enum status status = hub_server_offer(run->server, &offered);
    free(slots);
    return status;
}

static enum status offer(struct run *run, const struct course_action *action) {
    return action->what == COURSE_OFFER_STEP ? offer_step(run, action) : run_eval_offer(run, action);
}

static enum status offer_due(struct run *run) {
    struct course_action action;
    while (course_next_offer(&run->course, &action))
        TRY(offer(run, &action));
    return STATUS_OK;
}

static enum status retire(struct run *run, struct version *version) {
    enum status status = hub_server_retire(run->server, version->number);
    version_release(version);
    return status;
}

/* ---- one step ---- */

/* Nothing yet: evaluations may be complete, and people are told what is awaited. */
static enum status while_waiting(struct run *run) {
    struct buf line = {0};
    TRY(run_eval_collect(run, 0));
    hub_server_status_line(run->server, &line);
    run_doing(run, "%s", buf_ok(&line) && line.data ? line.data : "");
    LOG_EVERY(30000, LOG_INFO, "waiting", "%s", buf_ok(&line) && line.data ? line.data : "");
    buf_deinit(&line);
    return STATUS_OK;
}

/* Longest that a whole checkpoint may take before the watchdog calls the learner hung: a slow network disk's 20 MB/s. */
static void allow_checkpoint(struct run *run) {
    uint64_t bytes = checkpoint_bytes(trainer_optimiser(run->trainer), run->course.version_count - 1);
    if (run->hooks.allow)
        run->hooks.allow(run->hooks.context, 60000 + (int64_t)(bytes / 20000));
}

static void beat_trainer(void *context) {
    beat(context);
}

static void wait_read(void *context) {
    struct run *run = context;
    allow_checkpoint(run);
    checkpointer_wait_read(run->checkpointer);
    beat(run);
}

static void log_step(uint32_t step, const struct step_figures *figures, const struct metrics *metrics, double seconds) {
    struct buf sick = {0};
    for (uint32_t i = 0; i < metrics->warning_count; i++)
        buf_printf(&sick, "%s%s", i ? "; " : "", metrics->warnings[i]);
    if (sick.data)
        LOG_EVERY(60000, LOG_WARNING, "sick", "step=%u %s", step, sick.data);
    buf_deinit(&sick);
    log_event(LOG_INFO, "step",
              "step=%u reward=%.4f kl=%.5f grad_norm=%.4g answers=%u tokens_per_second=%.0f seconds=%.3f", step,
              figures->advantage.reward_mean,
              figures->loss.tokens ? figures->loss.kl / (double)figures->loss.tokens : 0, figures->update.gradient_norm,
              figures->answers, (double)(figures->answer_tokens + figures->prompt_tokens) / seconds, seconds);
}

/* The questions of skipped slots (I8). */
static uint32_t stuck_questions(struct run *run, const struct completed_work *work,
                                const char *out_ids[METRICS_STUCK_MAX]) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < work->group_count && count < METRICS_STUCK_MAX; s++)
        if (!work->groups[s])
            out_ids[count++] = run->train.set.questions[order_question(&run->order, work->step, s)].id;
    return count;
}

static enum status write_step(struct run *run, const struct completed_work *work, const struct step_figures *figures,
                              double wait_seconds) {
    uint32_t step = work->step;
    struct buf counters = {0}, line = {0};
    struct hub_counts counts = {0};
    double now = clock_seconds();
    enum status status = hub_server_counters(run->server, &counts, &counters);
    struct metrics_context context = {.incarnation = run->incarnation,
                                      .step = step,
                                      .version = course_version_of(step, (uint32_t)run->config->run_lag),
                                      .weights = run->state.weights,
                                      .updates = run->state.updates,
                                      .skips_in_row = run->state.skips_in_row,
                                      .checkpoint_failures = checkpointer_failures(run->checkpointer),
                                      .lag = (uint32_t)run->config->run_lag,
                                      .kl = run->reference != NULL,
                                      .model = &run->model->config,
                                      .step_seconds = now - run->step_began,
                                      .wait_seconds = wait_seconds,
                                      .hub_counters = status == STATUS_OK ? counters.data : NULL,
                                      .canary_mismatches = counts.canary_mismatches,
                                      .group_list = run->groups,
                                      .group_count = work->group_count,
                                      .arrival = hash64(work->arrivals, work->arrival_count * sizeof *work->arrivals)};
    const char *stuck[METRICS_STUCK_MAX];
    context.stuck = stuck;
    context.stuck_count = stuck_questions(run, work, stuck);
    run->step_began = now;
    struct metrics metrics;
    metrics_make(&context, figures, &metrics);
    metrics_put(&context, figures, &metrics, &line);
    status = run_directory_add_metrics(&run->directory, &line);
    hub_server_telemetry(run->server, metrics.names, metrics.values, metrics.count);
    log_step(step, figures, &metrics, context.step_seconds);
    buf_deinit(&counters);
    buf_deinit(&line);
    run->state.metrics_bytes = run->directory.metrics_bytes;
    return status;
}

static void count_update(struct run *run, const struct step_figures *figures) {
    run->state.step++;
    run->state.updates += !figures->update.skipped;
    run->state.skips_in_row = figures->update.skipped ? run->state.skips_in_row + 1 : 0;
}

/* For people: a disk that has no room for them does not end the run. */
static void write_answers(struct run *run, const struct completed_work *work, bool bad) {
    enum status status =
        run_directory_write_rollouts(&run->directory, work->step, run->groups, work->group_count, run->advantages);
    if (status == STATUS_OK && bad)
        status =
            run_directory_write_bad_batch(&run->directory, work->step, run->groups, work->group_count, run->advantages);
    if (status != STATUS_OK)
        log_event(LOG_ERROR, "answers_not_written", "step=%u reason=\"%s\"", work->step, status_message());
}

static enum status check_skips(const struct run *run) {
    if (run->state.skips_in_row < (uint32_t)run->config->optim_stop_after_skips)
        return STATUS_OK;
    return fail(STATUS_RUN_FAILED,
                "step %" PRIu64 ": %u updates in a row were skipped for a loss or gradient norm that is not finite; "
                "the batches are in %s/bad-batches, the weights are as before them",
                run->state.step - 1, run->state.skips_in_row, run->directory.path);
}

/* What actors wait for comes first, files later. */
static enum status train_step(struct run *run, const struct completed_work *work, double wait_seconds) {
    uint32_t step = work->step;
    if (work->group_count != (uint32_t)run->config->sample_questions)
        return fail(STATUS_RUN_FAILED, "step %u: %u groups; right would be %lld", step, work->group_count,
                    (long long)run->config->sample_questions);
    for (uint32_t s = 0; s < work->group_count; s++) {
        struct trainer_group *group = &run->groups[s];
        group->scored = work->groups[s];
        group->prompt = questions_prompt(&run->train, order_question(&run->order, step, s), &group->prompt_count);
    }
    struct step_figures figures;
    struct trainer_hooks hooks = {.beat = beat_trainer, .gate = wait_read, .context = run};
    TRY(trainer_step(run->trainer, step, run->groups, work->group_count, &hooks, run->advantages, &figures));
    beat(run);
    count_update(run, &figures);
    struct version *version;
    TRY(run_capture(run, (uint32_t)run->state.step, &version));
    run->state.weights = version->digest;
    TRY(run_add_version(run, version));
    TRY(offer_due(run));
    write_answers(run, work, figures.update.skipped);
    TRY(write_step(run, work, &figures, wait_seconds));
    return check_skips(run);
}

/* A moment's wait for the step's groups; when they are there, the step. */
static enum status do_step(struct run *run, uint32_t step) {
    struct completed_work *work;
    enum status status = hub_server_take(run->server, WORK_TRAIN, step, RUN_POLL_MS, &work);
    if (status == STATUS_TIMEOUT)
        return while_waiting(run);
    TRY(status);
    run_doing(run, "step %u of %lld: training", step, (long long)run->config->run_steps);
    status = train_step(run, work, clock_seconds() - run->wait_began);
    completed_work_free(&work);
    run->wait_began = clock_seconds();
    return status;
}

/* ---- checkpoints ---- */

static void begin_checkpoint(struct run *run, const struct course_action *action) {
    struct version *older[COURSE_VERSIONS_MAX];
    for (uint32_t i = 0; i < action->older_count; i++)
        older[i] = run->course.versions[i].content;
    allow_checkpoint(run); /* the one before may still be written */
    checkpointer_begin(run->checkpointer, &run->state, action->version.content, older, action->older_count);
}

static enum status checkpoint(struct run *run, const struct course_action *action) {
    if (!action->begun)
        begin_checkpoint(run, action);
    if (!action->last)
        return STATUS_OK;
    run_doing(run, "step %u: writing a checkpoint", action->step);
    allow_checkpoint(run);
    if (checkpointer_finish(run->checkpointer) == STATUS_OK)
        return STATUS_OK;
    begin_checkpoint(run, action); /* once more: the disk may have room by now */
    enum status status = checkpointer_finish(run->checkpointer);
    return status == STATUS_OK ? status : fail_context(STATUS_RUN_FAILED, "the last checkpoint");
}

/* ---- the loop ---- */

static enum status await_eval(struct run *run, uint32_t version) {
    run_doing(run, "waiting for the evaluation of version %u", version);
    return run_eval_collect(run, RUN_POLL_MS);
}

static enum status carry_out(struct run *run, const struct course_action *action) {
    beat(run);
    switch (action->what) {
    case COURSE_OFFER_STEP:
    case COURSE_OFFER_EVAL:
        return offer(run, action);
    case COURSE_RETIRE:
        return retire(run, action->version.content);
    case COURSE_CHECKPOINT:
        return checkpoint(run, action);
    case COURSE_TRAIN:
        return do_step(run, action->step);
    case COURSE_AWAIT_EVAL:
        return await_eval(run, action->version.number);
    case COURSE_END:
        break;
    }
    return STATUS_OK;
}

static void say_ready(struct run *run) {
    if (atomic_exchange(&run->ready, true))
        return;
    log_event(LOG_INFO, "ready", "step=%" PRIu64 " of=%lld questions=%u", run->state.step,
              (long long)run->config->run_steps, run->train.set.count);
}

/* Until the course ends. A run that failed keeps what it has trained, and its first reason. */
static enum status run_loop(struct run *run) {
    enum status failed = STATUS_OK;
    char reason[STATUS_MESSAGE_BYTES] = "";
    struct course_action action;
    run->wait_began = clock_seconds();
    do {
        if (atomic_load(&run->stop))
            course_stop(&run->course);
        course_next(&run->course, &action);
        if (action.what >= COURSE_TRAIN)
            say_ready(run);
        enum status status = carry_out(run, &action);
        if (status == STATUS_OK || failed != STATUS_OK)
            continue;
        failed = status;
        snprintf(reason, sizeof reason, "%s", status_message());
        course_stop(&run->course);
    } while (action.what != COURSE_END && (failed == STATUS_OK || failed == STATUS_RUN_FAILED));
    return failed == STATUS_OK ? STATUS_OK : fail(failed, "%s", reason);
}

enum status run_train(struct run *run) {
    run_doing(run, "starting");
    enum status status = run_set_up(run);
    if (status == STATUS_OK)
        status = run_loop(run);
    bool done = status == STATUS_OK && run->state.step >= (uint64_t)run->config->run_steps;
    char message[STATUS_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", status_message());
    log_event(status == STATUS_OK ? LOG_INFO : LOG_ERROR, "run_ends", "step=%" PRIu64 " of=%lld reason=\"%s\"",
              run->state.step, (long long)run->config->run_steps,
              status != STATUS_OK ? message
              : done              ? "done"
                                  : "stopped");
    run_tear_down(run, done ? "the run is done" : "the learner stops");
    return status == STATUS_OK ? STATUS_OK : fail(status, "%s", message);
}
