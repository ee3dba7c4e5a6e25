/* The sweeps, each a cmocka test. */
#ifndef CANDOR_TESTS_FAULT_SWEEPS_H
#define CANDOR_TESTS_FAULT_SWEEPS_H

/* checkpoint.c */
void a_checkpoint_that_is_written(void **state);
void a_checkpoint_that_is_loaded(void **state);
void a_checkpointer_that_is_opened(void **state);
void a_checkpoint_in_the_middle_of_which_the_process_is_killed(void **state);
void a_checkpoint_reaches_the_disk_in_order(void **state);

/* weights.c */
void versions_that_go_from_a_store_to_a_sync(void **state);
void model_files_that_go_to_a_cache(void **state);
void versions_that_a_hub_publishes_and_retires(void **state);

/* server.c */
void a_hub_that_serves_weights(void **state);

/* actor.c */
void an_actor_that_joins_and_answers(void **state);

#endif
