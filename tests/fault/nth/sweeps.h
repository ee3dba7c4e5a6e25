/* The sweeps, each a cmocka test. */
#ifndef CANDOR_TESTS_FAULT_SWEEPS_H
#define CANDOR_TESTS_FAULT_SWEEPS_H

/* checkpoint.c */
void a_checkpoint_that_is_written(void **state);
void a_checkpoint_that_is_loaded(void **state);
void a_checkpointer_that_is_opened(void **state);

#endif
