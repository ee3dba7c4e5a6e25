/* An operation is done again and again, and each time another one of its calls fails (nth.h), until none of them does. */
#ifndef CANDOR_TESTS_FAULT_SWEEP_H
#define CANDOR_TESTS_FAULT_SWEEP_H

#include "tests/support/test.h"

#include "tests/fault/nth/nth.h"

#define NTH_FILES (BIT(WRITE) | BIT(SYNC) | BIT(RENAME) | BIT(OPEN)) /* what changes a disk */
#define BIT(class) (1u << NTH_##class)

struct sweep {
    const char *name;
    uint32_t classes;                /* BIT(...) of what fails */
    const char *under;               /* nth_plan */
    void (*begin)(void *context);    /* a fresh start, undisturbed; NULL: none needed */
    enum status (*act)(void *context); /* the operation: one call in it fails */
    /* Undisturbed again. status: what act returned; hit: something failed in it. Says itself what must hold then. */
    void (*check)(void *context, enum status status, bool hit);
    void (*end)(void *context); /* frees what begin and act made; NULL: nothing */
};

/* Sweeps every class in every manner (an errno, a short count, once or lasting). For every point, beyond what check wants:
 * undisturbed the operation succeeds; a failure has a message that names place or cause; nothing allocated or opened is left after
 * end; it ends at all. */
void sweep(const struct sweep *sweep, void *context);
/* The same with the process killed at each call of a file: begin and act run in a child, check and end here, once it is dead. */
void sweep_kills(const struct sweep *sweep, void *context);
/* Only every so many-th point from now on, others in each sweep. */
void sweep_every(uint64_t points);
/* Points so far, by class and in all. */
uint64_t sweep_points(void);
void sweep_report(void);
/* A cmocka teardown: names the point at which a test failed. */
int sweep_teardown(void **state);

#endif
