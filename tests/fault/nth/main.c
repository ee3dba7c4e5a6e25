/* candor-nth: every N-th failure on the way of checkpoints and weights; prints how many points it swept. */
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"

#define POINTS_LEAST 1900 /* fewer: something that was swept is not any more */

static void enough_points_were_swept(void **state) {
    (void)state;
    sweep_report();
    assert_true(sweep_points() >= POINTS_LEAST);
}

#define SWEEP(name) cmocka_unit_test_teardown(name, sweep_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        SWEEP(a_checkpoint_that_is_written),        SWEEP(a_checkpoint_that_is_loaded),
        SWEEP(a_checkpointer_that_is_opened),       SWEEP(versions_that_go_from_a_store_to_a_sync),
        SWEEP(model_files_that_go_to_a_cache),      SWEEP(versions_that_a_hub_publishes_and_retires),
        cmocka_unit_test(enough_points_were_swept),
    };
    nth_init();
    return cmocka_run_group_tests_name("nth", tests, NULL, NULL);
}
