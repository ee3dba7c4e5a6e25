/* A step's figures as named numbers: one table feeds metrics.jsonl and telemetry. In words, when it is sick. Pure. */
#ifndef CANDOR_LEARNER_METRICS_H
#define CANDOR_LEARNER_METRICS_H

#include "common/base/buf.h"
#include "learner/trainer.h"

#define METRICS_MAX 64
#define METRICS_WARNINGS_MAX 16
#define METRICS_STUCK_MAX 64 /* of one step; more of them are counted only */

struct metrics_context {
    uint64_t incarnation;   /* of the learner */
    uint32_t step, version; /* the version that the answers came from */
    struct digest weights;  /* after the step */
    uint64_t updates;
    uint32_t skips_in_row, checkpoint_failures;
    uint64_t canary_mismatches; /* actors refused so far */
    uint32_t lag;
    bool kl;                           /* a reference is there */
    const struct model_config *model;  /* NULL: no FLOP are reckoned */
    double step_seconds, wait_seconds; /* wall time since the last step's end; waiting for answers in it */
    const char *hub_counters;          /* JSON object, or NULL */
    /* who did the work: shown, and of no influence */
    const struct trainer_group *group_list; /* [group_count] */
    uint32_t group_count;
    const char *const *stuck; /* [stuck_count] ids of the questions that were skipped (I8) */
    uint32_t stuck_count;
    uint64_t arrival; /* hash of the slots in the order in which they were filled */
};

struct metrics {
    const char *names[METRICS_MAX];
    double values[METRICS_MAX];
    uint32_t count;
    char warnings[METRICS_WARNINGS_MAX][192];
    uint32_t warning_count;
};

void metrics_make(const struct metrics_context *context, const struct step_figures *figures,
                  struct metrics *out_metrics);

/* One line of metrics.jsonl, with its line feed: who, step, weights, the numbers, verdicts, the hub's counters, warnings. A value
 * that is not finite is null. */
void metrics_put(const struct metrics_context *context, const struct step_figures *figures,
                 const struct metrics *metrics, struct buf *out);

#endif
