/* Evaluations in training: leases at a fixed version, and their outcomes in eval/ (run_internal.h). */
#include <stdlib.h>

#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/eval/outcome.h"
#include "learner/run_internal.h"

enum status run_eval_written(const struct run *run, uint32_t version, bool *out_written) {
    char path[PATH_BYTES];
    TRY(run_directory_eval_path(&run->directory, version, path));
    *out_written = fs_exists(path);
    return STATUS_OK;
}

enum status run_eval_offer(struct run *run, const struct course_action *action) {
    const struct run_config *config = run->config;
    const struct version *version = action->version.content;
    for (uint32_t i = 0; i < run->eval_count; i++)
        run->indices[i] = i;
    struct question_work work = {.stream = WORK_EVAL,
                                 .step = version->number,
                                 .priority = action->priority,
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
    return status;
}

static enum status write_outcomes(const struct run *run, const struct version *version,
                                  const struct completed_work *work) {
    const struct run_config *config = run->config;
    char path[PATH_BYTES];
    TRY(run_directory_eval_path(&run->directory, work->step, path));
    struct outcome_file *file;
    TRY(outcome_file_create("eval", (uint32_t)config->eval_samples, (uint64_t)config->run_seed, config->prompt_system,
                            &file));
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
    for (uint32_t i = 0; i < run->course.version_count; i++) {
        const struct course_version *version = &run->course.versions[i];
        struct completed_work *work;
        if (version->eval != COURSE_EVAL_PENDING)
            continue;
        enum status status = hub_server_take(run->server, WORK_EVAL, version->number, timeout_ms, &work);
        timeout_ms = 0;
        if (status == STATUS_TIMEOUT)
            continue;
        TRY(status);
        status = write_outcomes(run, version->content, work);
        completed_work_free(&work);
        TRY(status);
        course_evaluated(&run->course, version->number);
    }
    return STATUS_OK;
}
