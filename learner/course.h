/* The course of a run: which work is offered when, which versions are kept, what a checkpoint holds, when a run is over (DESIGN
 * sections 4 and 9). Pure: what happened goes in, what is to be done next comes out; no socket, no clock, no file. The
 * learner's training thread carries it out (run.c); so does the simulator (tests/fault).
 *
 * Version v is the weights after v steps, so the newest version says how far the run is. Step s samples from version
 * max(0, s - lag). course_next gives the first of these that holds:
 *
 *   when                                                                    what
 *   a step to come is not offered, and the version it samples from is there OFFER_STEP
 *   an evaluation is wanted, fewer than evals_max are pending               OFFER_EVAL, which is pending then
 *   no step to come and no evaluation samples from a version                RETIRE, which is forgotten then
 *   a multiple of checkpoint_every steps is trained                         CHECKPOINT
 *   the last step is trained, or a stop was asked for                       CHECKPOINT, and it must be whole
 *   a stop was asked for                                                    END
 *   an evaluation is wanted and too many are pending                        AWAIT_EVAL: training waits for the oldest
 *   steps are to come                                                       TRAIN
 *   an evaluation is pending                                                AWAIT_EVAL
 *   else                                                                    END
 *
 * What course_next gave is done or being done: it is given once. TRAIN, AWAIT_EVAL and END are given until something happened.
 * After a stop nothing is offered.
 *
 * Invariants (course_check):
 *   C1 steps are offered in order, each once in a life, at most lag + 1 ahead of training.
 *   C2 a version is kept exactly as long as a step to come or an evaluation samples from it, or it is the newest: so a checkpoint,
 *      which holds every version kept, is enough to go on from (I7).
 *   C3 at most evals_max evaluations are pending (I4). */
#ifndef CANDOR_LEARNER_COURSE_H
#define CANDOR_LEARNER_COURSE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

#define COURSE_LAG_MAX 8 /* run.lag */
#define COURSE_EVALS_MAX 8
/* Those of steps to come, and those under evaluation or waiting for it. */
#define COURSE_VERSIONS_MAX (COURSE_LAG_MAX + 1 + COURSE_EVALS_MAX + 1)

struct course_settings {
    uint32_t lag, steps;
    uint32_t eval_every;       /* versions; 0: no evaluations */
    uint32_t evals_max;        /* pending at once, 1 to COURSE_EVALS_MAX; above, training waits for the oldest */
    uint32_t checkpoint_every; /* steps */
};

enum course_eval { COURSE_EVAL_NONE, COURSE_EVAL_WANTED, COURSE_EVAL_PENDING };

struct course_version {
    uint32_t number;
    uint8_t eval;  /* enum course_eval */
    void *content; /* the caller's */
};

struct course {
    struct course_settings settings;
    struct course_version versions[COURSE_VERSIONS_MAX]; /* kept, ascending; the last is the newest */
    uint32_t version_count;
    uint32_t offered;      /* steps below are offered */
    uint32_t checkpointed; /* step of the newest checkpoint begun or gone on from */
    uint32_t finished;     /* step of the last one that had to be whole, or gone on from */
    bool stopped;
};

enum course_what {
    COURSE_OFFER_STEP,
    COURSE_OFFER_EVAL,
    COURSE_RETIRE,
    COURSE_CHECKPOINT,
    COURSE_TRAIN,
    COURSE_AWAIT_EVAL,
    COURSE_END
};

struct course_action {
    enum course_what what;
    uint32_t step;                 /* OFFER_STEP, TRAIN; CHECKPOINT: steps trained */
    struct course_version version; /* sampled from, evaluated, retired; CHECKPOINT: the newest */
    uint32_t priority;             /* of an offer, as hub_work has it */
    uint32_t older_count;          /* CHECKPOINT: it holds versions[0..older_count) of the course too */
    bool last;                     /* CHECKPOINT: nothing is trained behind it, so it must be whole before the end */
    bool begun;                    /* CHECKPOINT: this one was given before, and must be whole now */
};

/* A course without versions. checkpoint_every above 0; of no steps version 0 is evaluated. */
void course_init(struct course *course, const struct course_settings *settings);
/* Version `number` is there: restored before course_start, or made by training the step before it. Ascending. evaluated: its
 * outcomes are written down already. */
void course_add(struct course *course, uint32_t number, void *content, bool evaluated);
/* Go on from the versions restored: those of a checkpoint, or version 0. STATUS_FORMAT naming the version that is missing. */
enum status course_start(struct course *course);

void course_next(struct course *course, struct course_action *out_action);
/* Its offers alone: what others wait for. False: there are none. */
bool course_next_offer(struct course *course, struct course_action *out_action);
/* The outcomes of this version are written down. */
void course_evaluated(struct course *course, uint32_t number);
/* No new step. */
void course_stop(struct course *course);

/* ---- queries ---- */
/* The version that a step samples from. */
uint32_t course_version_of(uint32_t step, uint32_t lag);
/* Steps trained: the number of the newest version. */
uint32_t course_step(const struct course *course);
/* NULL when it is not kept. */
const struct course_version *course_find(const struct course *course, uint32_t number);
uint32_t course_pending(const struct course *course); /* evaluations */
void course_check(const struct course *course);

#endif
