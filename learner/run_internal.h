/* The inside of a run, for run.c (the loop), run_open.c (setting up) and run_eval.c (evaluations). */
#ifndef CANDOR_LEARNER_RUN_INTERNAL_H
#define CANDOR_LEARNER_RUN_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/data/order.h"
#include "common/hub/server.h"
#include "common/model/infer.h"
#include "common/transport/daemon.h"
#include "learner/checkpoint.h"
#include "learner/course.h"
#include "learner/questions.h"
#include "learner/run.h"
#include "learner/run_directory.h"
#include "learner/trainer.h"
#include "learner/version.h"

#define RUN_POLL_MS 200

struct run {
    const struct run_config *config;
    struct run_hooks hooks;
    struct run_directory directory;
    struct tokenizer *tokenizer;
    struct chat chat;
    struct questions train, eval; /* eval.set.count 0: none */
    struct order order;
    const int32_t *stops;
    uint32_t stop_count, eval_count; /* eval_count: questions of an evaluation */

    struct device *device;
    struct model *model, *reference;
    struct trainer *trainer;
    struct record *record; /* of the last update; NULL where the host reads the device's memory itself */
    struct infer *canary;
    struct checkpointer *checkpointer;
    struct hub_server *server;

    struct digest config_digest;
    uint64_t incarnation;
    struct checkpoint_state state; /* where the run stands */
    struct course course;          /* what is to be done; its contents are struct version, one reference each */

    struct trainer_group *groups;  /* [sample.questions] of the step */
    uint32_t *indices;             /* [max(sample.questions, eval_count)] */
    float *advantages;             /* [sample.questions * sample.group] */
    double step_began, wait_began; /* clock_seconds */

    atomic_bool stop, ready;
    pthread_mutex_t text_mutex;
    char doing[160]; /* what the training thread does, in words */
};

/* run_open.c */
enum status run_set_up(struct run *run);
void run_tear_down(struct run *run, const char *reason);
/* Take a version in (owning it), publish it to the actors. */
enum status run_add_version(struct run *run, struct version *version);
/* A version of the model's present weights, with canary. */
enum status run_capture(struct run *run, uint32_t number, struct version **out_version);

/* run.c */
void run_doing(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* run_eval.c */
/* Whether the outcomes of this version are in eval/. */
enum status run_eval_written(const struct run *run, uint32_t version, bool *out_written);
enum status run_eval_offer(struct run *run, const struct course_action *action);
/* Take what is complete and write it; timeout_ms for the oldest one, 0: only look. */
enum status run_eval_collect(struct run *run, int timeout_ms);

#endif
