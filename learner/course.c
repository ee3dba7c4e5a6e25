#include "learner/course.h"

#include <string.h>

#include "common/base/plant.h"

uint32_t course_version_of(uint32_t step, uint32_t lag) {
    return step > lag ? step - lag : 0;
}

uint32_t course_step(const struct course *course) {
    return course->versions[course->version_count - 1].number;
}

const struct course_version *course_find(const struct course *course, uint32_t number) {
    for (uint32_t i = 0; i < course->version_count; i++)
        if (course->versions[i].number == number)
            return &course->versions[i];
    return NULL;
}

uint32_t course_pending(const struct course *course) {
    uint32_t pending = 0;
    for (uint32_t i = 0; i < course->version_count; i++)
        pending += course->versions[i].eval == COURSE_EVAL_PENDING;
    return pending;
}

/* ---- what happened ---- */

void course_init(struct course *course, const struct course_settings *settings) {
    ASSERT(settings->checkpoint_every > 0 && settings->lag <= COURSE_LAG_MAX);
    ASSERT(settings->evals_max > 0 && settings->evals_max <= COURSE_EVALS_MAX);
    *course = (struct course){.settings = *settings};
}

void course_add(struct course *course, uint32_t number, void *content, bool evaluated) {
    uint32_t every = course->settings.eval_every;
    bool wanted = every > 0 && number % every == 0 && !evaluated;
    ASSERT(course->version_count < COURSE_VERSIONS_MAX);
    ASSERT(course->version_count == 0 || number > course_step(course));
    course->versions[course->version_count++] = (struct course_version){
        .number = number, .eval = wanted ? COURSE_EVAL_WANTED : COURSE_EVAL_NONE, .content = content};
}

enum status course_start(struct course *course) {
    ASSERT(course->version_count > 0);
    uint32_t step = course_step(course);
    for (uint32_t v = course_version_of(step, course->settings.lag); v < step && !PLANTED(RESUMED_WITH_NEWEST); v++)
        if (!course_find(course, v))
            return fail(STATUS_FORMAT, "step %u samples from version %u, which is not there", v + course->settings.lag,
                        v);
    for (uint32_t i = 0; PLANTED(EVAL_FORGOTTEN) && i + 1 < course->version_count; i++)
        course->versions[i].eval = COURSE_EVAL_NONE;
    course->checkpointed = course->finished = step;
    course->offered = step + PLANTED(RESUMED_A_STEP_LATE);
    return STATUS_OK;
}

void course_evaluated(struct course *course, uint32_t number) {
    for (uint32_t i = 0; i < course->version_count; i++)
        if (course->versions[i].number == number)
            course->versions[i].eval = COURSE_EVAL_NONE;
}

void course_stop(struct course *course) {
    course->stopped = true;
}

/* ---- what is next ---- */

static const struct course_version *sampled_by(const struct course *course, uint32_t step) {
    uint32_t number = course_version_of(step, course->settings.lag);
    if (PLANTED(VERSION_OFF_BY_ONE) && course_find(course, number + 1))
        number++;
    const struct course_version *version = course_find(course, number);
    return version || !PLANTED(RESUMED_WITH_NEWEST) ? version : &course->versions[course->version_count - 1];
}

static bool offer_step(struct course *course, struct course_action *out_action) {
    uint32_t step = course->offered, lag = course->settings.lag;
    if (step >= course->settings.steps || course_version_of(step, lag) > course_step(course))
        return false;
    const struct course_version *version = sampled_by(course, step);
    ASSERT(version != NULL); /* C2 */
    course->offered++;
    *out_action =
        (struct course_action){.what = COURSE_OFFER_STEP, .step = step, .version = *version, .priority = 2 * step};
    return true;
}

/* After the training of its version, before that of any higher one. */
static bool offer_eval(struct course *course, struct course_action *out_action) {
    if (course_pending(course) >= course->settings.evals_max)
        return false;
    for (uint32_t i = 0; i < course->version_count; i++) {
        struct course_version *version = &course->versions[i];
        if (version->eval != COURSE_EVAL_WANTED)
            continue;
        version->eval = COURSE_EVAL_PENDING;
        *out_action = (struct course_action){.what = COURSE_OFFER_EVAL,
                                             .version = *version,
                                             .priority = 2 * (version->number + course->settings.lag) + 1};
        return true;
    }
    return false;
}

bool course_next_offer(struct course *course, struct course_action *out_action) {
    return !course->stopped && (offer_step(course, out_action) || offer_eval(course, out_action));
}

static bool is_needed(const struct course *course, const struct course_version *version) {
    uint32_t step = course_step(course), oldest = course_version_of(step, course->settings.lag);
    if (version->number == step || (version->eval != COURSE_EVAL_NONE && !PLANTED(EVAL_UNKEPT)))
        return true;
    return version->number >= oldest + PLANTED(RETIRED_EARLY);
}

static bool retire(struct course *course, struct course_action *out_action) {
    for (uint32_t i = 0; i < course->version_count && !PLANTED(NEVER_RETIRED); i++) {
        if (is_needed(course, &course->versions[i]))
            continue;
        *out_action = (struct course_action){.what = COURSE_RETIRE, .version = course->versions[i]};
        memmove(&course->versions[i], &course->versions[i + 1],
                (--course->version_count - i) * sizeof course->versions[0]);
        return true;
    }
    return false;
}

static bool checkpoint(struct course *course, struct course_action *out_action) {
    uint32_t step = course_step(course);
    bool last = course->stopped || step >= course->settings.steps, begun = course->checkpointed == step;
    bool due = last && !(begun && PLANTED(LAST_UNFINISHED)) ? course->finished != step
                                                            : !begun && step % course->settings.checkpoint_every == 0;
    if (!due)
        return false;
    course->checkpointed = step;
    course->finished = last ? step : course->finished;
    *out_action = (struct course_action){.what = COURSE_CHECKPOINT,
                                         .step = step,
                                         .version = course->versions[course->version_count - 1],
                                         .older_count = PLANTED(RESUMED_WITH_NEWEST) ? 0 : course->version_count - 1,
                                         .last = last,
                                         .begun = begun};
    return true;
}

static const struct course_version *first_with(const struct course *course, enum course_eval eval) {
    for (uint32_t i = 0; i < course->version_count; i++)
        if (course->versions[i].eval == eval)
            return &course->versions[i];
    return NULL;
}

void course_next(struct course *course, struct course_action *out_action) {
    if (course_next_offer(course, out_action) || retire(course, out_action) || checkpoint(course, out_action))
        return;
    uint32_t step = course_step(course);
    const struct course_version *pending = first_with(course, COURSE_EVAL_PENDING);
    bool steps_to_come = step < course->settings.steps;
    if (course->stopped || (!steps_to_come && !pending))
        *out_action = (struct course_action){.what = COURSE_END};
    else if (steps_to_come && !first_with(course, COURSE_EVAL_WANTED))
        *out_action = (struct course_action){.what = COURSE_TRAIN, .step = step};
    else
        *out_action = (struct course_action){.what = COURSE_AWAIT_EVAL, .version = *pending};
}

void course_check(const struct course *course) {
    uint32_t step = course_step(course);
    ASSERT(course->version_count <= COURSE_VERSIONS_MAX);
    ASSERT(course->offered >= step && course->offered <= step + course->settings.lag + 1); /* C1 */
    ASSERT(course_pending(course) <= course->settings.evals_max);                          /* C3 */
    for (uint32_t v = course_version_of(step, course->settings.lag); v <= step; v++)
        ASSERT(course_find(course, v) != NULL); /* C2 */
    for (uint32_t i = 1; i < course->version_count; i++)
        ASSERT(course->versions[i - 1].number < course->versions[i].number);
}
