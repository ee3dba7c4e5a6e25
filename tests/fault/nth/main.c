/* candor-nth: every N-th failure on the way of checkpoints and weights; prints how many points it swept. */
#include "tests/fault/nth/sweep.h"
#include "tests/fault/nth/sweeps.h"

#define POINTS_LEAST 2300 /* fewer: something that was swept is not any more */

static void enough_points_were_swept(void **state) {
    (void)state;
    sweep_report();
    assert_true(sweep_points() >= POINTS_LEAST);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_checkpoint_that_is_written, sweep_teardown),
        cmocka_unit_test_teardown(a_checkpoint_that_is_loaded, sweep_teardown),
        cmocka_unit_test_teardown(a_checkpointer_that_is_opened, sweep_teardown),
        cmocka_unit_test_teardown(a_checkpoint_in_the_middle_of_which_the_process_is_killed, sweep_teardown),
        cmocka_unit_test(a_checkpoint_reaches_the_disk_in_order),
        cmocka_unit_test_teardown(versions_that_go_from_a_store_to_a_sync, sweep_teardown),
        cmocka_unit_test_teardown(model_files_that_go_to_a_cache, sweep_teardown),
        cmocka_unit_test_teardown(versions_that_a_hub_publishes_and_retires, sweep_teardown),
        cmocka_unit_test_teardown(a_hub_that_serves_weights, sweep_teardown),
        cmocka_unit_test_teardown(an_actor_that_joins_and_answers, sweep_teardown),
        cmocka_unit_test(enough_points_were_swept),
    };
    nth_init();
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests_name("nth", tests, NULL, NULL);
}
