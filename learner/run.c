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

static bool stopping(struct run *run) {
    return atomic_load(&run->stop);
}

/* ---- offering ---- */

static uint32_t version_of_step(const struct run *run, uint32_t step) {
    uint32_t lag = (uint32_t)run->config->run_lag;
    return step > lag ? step - lag : 0;
}

static enum status offer_step(struct run *run, uint32_t step) {
    const struct run_config *config = run->config;
    const struct version *version = run_find_version(run, version_of_step(run, step));
    ASSERT(version != NULL);
    uint32_t count = (uint32_t)config->sample_questions;
    for (uint32_t s = 0; s < count; s++)
        run->indices[s] = order_question(&run->order, step, s);
    struct question_work work = {.stream = WORK_TRAIN,
                                 .step = step,
                                 .priority = 2 * step,
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

/* Every step whose version is there. */
static enum status offer_steps(struct run *run) {
    uint32_t newest = run->versions[run->version_count - 1]->number;
    while (run->offered < (uint32_t)run->config->run_steps && version_of_step(run, run->offered) <= newest) {
        TRY(offer_step(run, run->offered));
        run->offered++;
    }
    return STATUS_OK;
}

static bool needed(const struct run *run, uint32_t version) {
    for (uint32_t i = 0; i < run->evals_pending; i++)
        if (run->evals[i] == version)
            return true;
    return version >= version_of_step(run, (uint32_t)run->state.step);
}

/* Let go of versions that no step to come and no evaluation samples from. */
static enum status retire_versions(struct run *run) {
    uint32_t kept = 0;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < run->version_count; i++) {
        struct version *version = run->versions[i];
        if (needed(run, version->number)) {
            run->versions[kept++] = version;
            continue;
        }
        enum status retired = hub_server_retire(run->server, version->number);
        status = status == STATUS_OK ? retired : status;
        version_release(version);
    }
    run->version_count = kept;
    return status;
}

/* ---- one step ---- */

static enum status take_groups(struct run *run, uint32_t step, struct completed_work **out_work) {
    for (;;) {
        if (stopping(run))
            return fail(STATUS_INTERRUPTED, "a stop was asked for");
        enum status status = hub_server_take(run->server, WORK_TRAIN, step, RUN_POLL_MS, out_work);
        beat(run);
        if (status != STATUS_TIMEOUT)
            return status;
        status = run_eval_collect(run, 0);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
        struct buf line = {0};
        hub_server_status_line(run->server, &line);
        run_doing(run, "%s", buf_ok(&line) && line.data ? line.data : "");
        LOG_EVERY(30000, LOG_INFO, "waiting", "%s", buf_ok(&line) && line.data ? line.data : "");
        buf_deinit(&line);
    }
}

static void wait_read(void *context) {
    struct run *run = context;
    beat(run);
    checkpointer_wait_read(run->checkpointer);
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

static enum status write_step(struct run *run, const struct completed_work *work, const struct step_figures *figures,
                              double wait_seconds) {
    uint32_t step = work->step;
    struct buf counters = {0}, line = {0};
    double now = clock_seconds();
    enum status status = hub_server_counters(run->server, &counters);
    struct metrics_context context = {.incarnation = run->incarnation,
                                      .step = step,
                                      .version = version_of_step(run, step),
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
                                      .group_list = run->groups,
                                      .group_count = work->group_count,
                                      .arrival = hash64(work->arrivals, work->arrival_count * sizeof *work->arrivals)};
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

static enum status train_step(struct run *run, const struct completed_work *work, double wait_seconds) {
    uint32_t step = (uint32_t)run->state.step;
    if (work->group_count != (uint32_t)run->config->sample_questions)
        return fail(STATUS_RUN_FAILED, "step %u: %u groups; right would be %lld", step, work->group_count,
                    (long long)run->config->sample_questions);
    for (uint32_t s = 0; s < work->group_count; s++) {
        struct trainer_group *group = &run->groups[s];
        group->scored = work->groups[s];
        group->prompt = questions_prompt(&run->train, order_question(&run->order, step, s), &group->prompt_count);
    }
    struct step_figures figures;
    TRY(trainer_step(run->trainer, step, run->groups, work->group_count, wait_read, run, run->advantages, &figures));
    beat(run);
    count_update(run, &figures);
    struct version *version;
    TRY(run_capture(run, (uint32_t)run->state.step, &version));
    run->state.weights = version->digest;
    TRY(run_add_version(run, version));
    TRY(offer_steps(run));
    write_answers(run, work, figures.update.skipped);
    TRY(write_step(run, work, &figures, wait_seconds));
    return retire_versions(run);
}

/* ---- checkpoints ---- */

static void begin_checkpoint(struct run *run) {
    uint32_t newest = run->version_count - 1;
    checkpointer_begin(run->checkpointer, &run->state, run->versions[newest], run->versions, newest);
    run->checkpoint_step = run->state.step;
}

static enum status last_checkpoint(struct run *run) {
    if (run->checkpoint_step != run->state.step)
        begin_checkpoint(run);
    run_doing(run, "step %" PRIu64 ": writing a checkpoint", run->state.step);
    enum status status = checkpointer_finish(run->checkpointer);
    if (status == STATUS_OK)
        return STATUS_OK;
    begin_checkpoint(run); /* once more: the disk may have room by now */
    status = checkpointer_finish(run->checkpointer);
    return status == STATUS_OK ? status : fail_context(STATUS_RUN_FAILED, "the last checkpoint");
}

/* ---- the loop ---- */

static enum status do_step(struct run *run) {
    struct completed_work *work;
    double start = clock_seconds();
    TRY(take_groups(run, (uint32_t)run->state.step, &work));
    run_doing(run, "step %" PRIu64 " of %lld: training", run->state.step, (long long)run->config->run_steps);
    enum status status = train_step(run, work, clock_seconds() - start);
    completed_work_free(&work);
    TRY(status);
    TRY(run_eval_offer(run, run->versions[run->version_count - 1]));
    status = run_eval_collect(run, 0);
    if (status != STATUS_OK && status != STATUS_TIMEOUT)
        return status;
    if (run->state.skips_in_row >= (uint32_t)run->config->optim_stop_after_skips)
        return fail(STATUS_RUN_FAILED,
                    "step %" PRIu64 ": %u updates in a row were skipped for a loss or gradient norm that is "
                    "not finite; the batches are in %s/bad-batches, the weights are as before them",
                    run->state.step - 1, run->state.skips_in_row, run->directory.path);
    if (run->state.step % (uint64_t)run->config->checkpoint_every == 0)
        begin_checkpoint(run);
    return STATUS_OK;
}

static enum status finish_evals(struct run *run) {
    while (run->evals_pending > 0 && !stopping(run)) {
        run_doing(run, "waiting for the evaluation of version %u", run->evals[0]);
        enum status status = run_eval_collect(run, RUN_POLL_MS);
        beat(run);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
    }
    return STATUS_OK;
}

static enum status run_loop(struct run *run) {
    for (uint32_t i = 0; i < run->version_count; i++)
        TRY(run_eval_offer(run, run->versions[i]));
    TRY(offer_steps(run));
    atomic_store(&run->ready, true);
    log_event(LOG_INFO, "ready", "step=%" PRIu64 " of=%lld questions=%u", run->state.step,
              (long long)run->config->run_steps, run->train.set.count);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && run->state.step < (uint64_t)run->config->run_steps)
        status = do_step(run);
    if (status != STATUS_OK && status != STATUS_INTERRUPTED) {
        if (run->checkpoint_step != run->state.step && status == STATUS_RUN_FAILED) {
            char reason[STATUS_MESSAGE_BYTES]; /* what was trained is kept; the reason of the end stays the first */
            snprintf(reason, sizeof reason, "%s", status_message());
            (void)last_checkpoint(run);
            fail(status, "%s", reason);
        }
        return status;
    }
    TRY(last_checkpoint(run));
    return finish_evals(run);
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
