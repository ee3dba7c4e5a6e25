/* Evaluations in training: leases at a fixed version, and their outcomes in eval/ (run_internal.h). */
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/eval/outcome.h"
#include "learner/run_internal.h"

static bool wanted(const struct run *run, uint32_t version) {
    return run->config->eval_every > 0 && version % run->config->eval_every == 0;
}

enum status run_eval_offer(struct run *run, const struct version *version) {
    const struct run_config *config = run->config;
    char path[PATH_BYTES];
    TRY(run_directory_eval_path(&run->directory, version->number, path));
    if (!wanted(run, version->number) || fs_exists(path))
        return STATUS_OK;
    while (run->evals_pending == RUN_EVALS_MAX) {
        if (atomic_load(&run->stop)) /* offered again after the resume, as its file is not there */
            return fail(STATUS_INTERRUPTED, "a stop was asked for");
        enum status status = run_eval_collect(run, RUN_POLL_MS);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
    }
    for (uint32_t i = 0; i < run->eval_count; i++)
        run->indices[i] = i;
    /* After the training leases of this version, before those of any higher one. */
    struct question_work work = {.stream = WORK_EVAL,
                                 .step = version->number,
                                 .priority = 2 * (version->number + (uint32_t)config->run_lag) + 1,
                                 .version = version->number,
                                 .weights = version->digest,
                                 .samples = (uint32_t)config->eval_samples,
                                 .run_id = run->directory.run_id,
                                 .config = run->config_digest,
                                 .stops = run->stops,
                                 .stop_count = run->stop_count};
    struct message_lease *slots;
    TRY(questions_slots(&run->eval, config, &work, run->indices, run->eval_count, &slots));
    struct hub_work offered = questions_work(&work, slots, run->eval_count);
    enum status status = hub_server_offer(run->server, &offered);
    free(slots);
    TRY(status);
    run->evals[run->evals_pending++] = version->number;
    return STATUS_OK;
}

static enum status write_outcomes(struct run *run, const struct completed_work *work) {
    const struct run_config *config = run->config;
    char path[PATH_BYTES];
    TRY(run_directory_eval_path(&run->directory, work->step, path));
    struct outcome_file *file;
    TRY(outcome_file_create("eval", (uint32_t)config->eval_samples, (uint64_t)config->run_seed, config->prompt_system,
                            &file));
    const struct version *version = run_find_version(run, work->step);
    ASSERT(version != NULL); /* kept while its evaluation is pending */
    file->version = work->step;
    file->weights = version->digest;
    enum status status = STATUS_OK;
    for (uint32_t s = 0; s < work->group_count && status == STATUS_OK; s++)
        if (work->groups[s])
            status = questions_add_outcome(&run->eval, s, work->groups[s], &run->model->config, file);
    if (status == STATUS_OK)
        status = outcome_file_write(file, path);
    outcome_file_destroy(&file);
    if (status == STATUS_OK)
        log_event(LOG_INFO, "evaluated", "version=%u questions=%u", work->step, work->group_count);
    return status;
}

enum status run_eval_collect(struct run *run, int timeout_ms) {
    for (uint32_t i = 0; i < run->evals_pending;) {
        struct completed_work *work;
        enum status status = hub_server_take(run->server, WORK_EVAL, run->evals[i], i == 0 ? timeout_ms : 0, &work);
        if (status == STATUS_TIMEOUT) {
            i++;
            continue;
        }
        TRY(status);
        status = write_outcomes(run, work);
        completed_work_free(&work);
        TRY(status);
        memmove(&run->evals[i], &run->evals[i + 1], (run->evals_pending - i - 1) * sizeof run->evals[0]);
        run->evals_pending--;
    }
    return run->evals_pending > 0 ? STATUS_TIMEOUT : STATUS_OK;
}
