/* The course of a run, without a run: each row of the table in course.h. */
#include "tests/support/test.h"

#include "learner/course.h"

static struct course course_of(uint32_t lag, uint32_t steps, uint32_t eval_every, uint32_t checkpoint_every) {
    struct course course;
    struct course_settings settings = {lag, steps, eval_every, 2, checkpoint_every};
    course_init(&course, &settings);
    return course;
}

/* A fresh run at version 0. */
static struct course fresh(uint32_t lag, uint32_t steps, uint32_t eval_every, uint32_t checkpoint_every) {
    struct course course = course_of(lag, steps, eval_every, checkpoint_every);
    course_add(&course, 0, NULL, false);
    ASSERT_OK(course_start(&course));
    return course;
}

/* What comes next, as a line: "offer 3 of 2", "eval 4", "retire 0", "checkpoint 2+1", "train 3", "await 0", "end". */
static const char *next(struct course *course) {
    static char text[64];
    struct course_action action;
    course_next(course, &action);
    course_check(course);
    switch (action.what) {
    case COURSE_OFFER_STEP:
        snprintf(text, sizeof text, "offer %u of %u", action.step, action.version.number);
        break;
    case COURSE_OFFER_EVAL:
        snprintf(text, sizeof text, "eval %u", action.version.number);
        break;
    case COURSE_RETIRE:
        snprintf(text, sizeof text, "retire %u", action.version.number);
        break;
    case COURSE_CHECKPOINT:
        snprintf(text, sizeof text, "%s%s %u+%u", action.begun ? "begun " : "", action.last ? "last" : "checkpoint",
                 action.step, action.older_count);
        break;
    case COURSE_TRAIN:
        snprintf(text, sizeof text, "train %u", action.step);
        break;
    case COURSE_AWAIT_EVAL:
        snprintf(text, sizeof text, "await %u", action.version.number);
        break;
    default:
        return "end";
    }
    return text;
}

static void expect(struct course *course, const char *const *lines) {
    for (; *lines; lines++)
        assert_string_equal(next(course), *lines);
}
#define EXPECT(course, ...) expect(course, (const char *const[]){__VA_ARGS__, NULL})

static void a_step_is_offered_as_soon_as_its_version_is_there(void **state) {
    (void)state;
    struct course course = fresh(2, 5, 0, 100);
    EXPECT(&course, "offer 0 of 0", "offer 1 of 0", "offer 2 of 0", "train 0", "train 0");
    course_add(&course, 1, NULL, false);
    EXPECT(&course, "offer 3 of 1", "train 1");
    course_add(&course, 2, NULL, false);
    EXPECT(&course, "offer 4 of 2", "train 2");
    course_add(&course, 3, NULL, false);
    EXPECT(&course, "retire 0", "train 3");
}

static void without_lag_there_is_one_version_and_one_step_at_a_time(void **state) {
    (void)state;
    struct course course = fresh(0, 2, 0, 100);
    EXPECT(&course, "offer 0 of 0", "train 0");
    course_add(&course, 1, NULL, false);
    EXPECT(&course, "offer 1 of 1", "retire 0", "train 1");
    course_add(&course, 2, NULL, false);
    EXPECT(&course, "retire 1", "last 2+0", "end", "end");
}

static void an_evaluation_keeps_its_version_and_the_checkpoint_has_it(void **state) {
    (void)state;
    struct course course = fresh(0, 3, 3, 2);
    EXPECT(&course, "offer 0 of 0", "eval 0", "train 0");
    course_add(&course, 1, NULL, false);
    course_add(&course, 2, NULL, false);
    EXPECT(&course, "offer 1 of 1", "offer 2 of 2", "retire 1", "checkpoint 2+1", "train 2");
    course_evaluated(&course, 0);
    EXPECT(&course, "retire 0", "train 2");
}

static void training_waits_when_too_many_evaluations_are_pending(void **state) {
    (void)state;
    struct course course = fresh(0, 20, 1, 100);
    EXPECT(&course, "offer 0 of 0", "eval 0", "train 0");
    course_add(&course, 1, NULL, false);
    EXPECT(&course, "offer 1 of 1", "eval 1", "train 1");
    course_add(&course, 2, NULL, false);
    EXPECT(&course, "offer 2 of 2", "await 0", "await 0");
    course_evaluated(&course, 1);
    EXPECT(&course, "eval 2", "retire 1", "train 2");
}

static void a_run_ends_when_its_last_evaluation_does(void **state) {
    (void)state;
    struct course course = fresh(1, 1, 1, 1);
    EXPECT(&course, "offer 0 of 0", "eval 0", "train 0");
    course_add(&course, 1, NULL, false);
    EXPECT(&course, "eval 1", "last 1+1", "await 0");
    course_evaluated(&course, 0);
    EXPECT(&course, "await 1");
    course_evaluated(&course, 1);
    EXPECT(&course, "end");
}

static void a_stop_writes_what_was_trained_and_offers_nothing(void **state) {
    (void)state;
    struct course course = fresh(1, 9, 2, 100);
    EXPECT(&course, "offer 0 of 0", "offer 1 of 0", "eval 0", "train 0");
    course_add(&course, 1, NULL, false);
    course_stop(&course);
    EXPECT(&course, "last 1+1", "end");
    struct course idle = fresh(1, 9, 0, 100);
    course_stop(&idle);
    EXPECT(&idle, "end"); /* version 0 is in no checkpoint and needs none */
}

static void a_checkpoint_under_way_must_be_whole_before_the_end(void **state) {
    (void)state;
    struct course course = fresh(0, 9, 0, 1);
    EXPECT(&course, "offer 0 of 0", "train 0");
    course_add(&course, 1, NULL, false);
    EXPECT(&course, "offer 1 of 1", "retire 0", "checkpoint 1+0", "train 1");
    course_stop(&course);
    EXPECT(&course, "begun last 1+0", "end");
}

static void a_resumed_run_goes_on_from_the_versions_of_its_checkpoint(void **state) {
    (void)state;
    struct course course = course_of(2, 9, 3, 2);
    course_add(&course, 3, NULL, false); /* its evaluation was pending */
    course_add(&course, 4, NULL, false);
    course_add(&course, 5, NULL, false);
    course_add(&course, 6, NULL, true); /* evaluated before the death */
    ASSERT_OK(course_start(&course));
    EXPECT(&course, "offer 6 of 4", "offer 7 of 5", "offer 8 of 6", "eval 3", "train 6");
}

static void a_checkpoint_that_lacks_a_version_is_refused(void **state) {
    (void)state;
    struct course course = course_of(2, 9, 0, 2);
    course_add(&course, 4, NULL, false);
    course_add(&course, 6, NULL, false);
    ASSERT_FAILS(STATUS_FORMAT, course_start(&course));
    assert_non_null(strstr(status_message(), "step 7 samples from version 5"));
}

static void evaluations_stand_behind_the_training_of_their_version(void **state) {
    (void)state;
    struct course course = fresh(1, 9, 1, 100);
    struct course_action steps[2], eval;
    course_next(&course, &steps[0]);
    course_next(&course, &steps[1]);
    course_next(&course, &eval);
    assert_true(steps[0].priority < steps[1].priority && steps[1].priority < eval.priority);
    course_add(&course, 1, NULL, false);
    course_next(&course, &steps[0]);
    assert_true(steps[0].step == 2 && eval.priority < steps[0].priority);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_offered_as_soon_as_its_version_is_there),
        cmocka_unit_test(without_lag_there_is_one_version_and_one_step_at_a_time),
        cmocka_unit_test(an_evaluation_keeps_its_version_and_the_checkpoint_has_it),
        cmocka_unit_test(training_waits_when_too_many_evaluations_are_pending),
        cmocka_unit_test(a_run_ends_when_its_last_evaluation_does),
        cmocka_unit_test(a_stop_writes_what_was_trained_and_offers_nothing),
        cmocka_unit_test(a_checkpoint_under_way_must_be_whole_before_the_end),
        cmocka_unit_test(a_resumed_run_goes_on_from_the_versions_of_its_checkpoint),
        cmocka_unit_test(a_checkpoint_that_lacks_a_version_is_refused),
        cmocka_unit_test(evaluations_stand_behind_the_training_of_their_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
