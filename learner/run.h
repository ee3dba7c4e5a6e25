/* A training run: the learner's training thread (DESIGN sections 2 to 4, 9).
 *
 * Version v is the weights after v steps. Step k samples from version max(0, k - lag) and is offered to the hub as soon as that
 * version is published, so at most lag + 1 steps are out. The loop: take step k's groups when all slots are filled, train, publish
 * version k + 1, offer, write down, now and then checkpoint. A step skipped for a non-finite value publishes the same weights
 * again under the next number. Evaluations are work of their own, between the versions; training does not wait for them.
 *
 * run_train does everything on the thread that calls it; the other functions may be called from any. */
#ifndef CANDOR_LEARNER_RUN_H
#define CANDOR_LEARNER_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/run_config.h"

struct run;

struct run_hooks {
    void *context;
    void (*beat)(void *context);     /* the training thread got somewhere; may be NULL */
    void (*hub_beat)(void *context); /* the hub's thread did; may be NULL */
    /* The training thread begins what may take so long without a beat: it waits for a checkpoint. May be NULL. */
    void (*allow)(void *context, int64_t ms);
};

/* What a learner needs beyond run_config_check: STATUS_CONFIG naming the key. */
enum status run_check(const struct run_config *config);

enum status run_create(const struct run_config *config, const struct run_hooks *hooks, struct run **out_run);
void run_destroy(struct run **run);

/* Set up, train until run.steps are done or run_stop is called, checkpoint, wait for evaluations (when not stopped), end. STATUS_OK
 * in both cases. STATUS_RUN_FAILED after optim.stop_after_skips skipped updates in a row, a slot that is stuck, or a last
 * checkpoint that could not be written. */
enum status run_train(struct run *run);

/* No new step; what was trained is checkpointed. */
void run_stop(struct run *run);
/* The sockets are bound and work is offered. */
bool run_ready(struct run *run);
/* One line in words: step, what is awaited. */
void run_status(struct run *run, struct buf *out);

#endif
