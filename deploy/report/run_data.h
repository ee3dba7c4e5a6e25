/* What a run's directory holds, in memory for the report: metrics.jsonl as columns, the evaluations, the configuration. A part
 * that is missing is empty; a damaged line is counted and passed over. */
#ifndef CANDOR_REPORT_RUN_DATA_H
#define CANDOR_REPORT_RUN_DATA_H

#include <jansson.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/eval/outcome.h"

struct run_data {
    char *directory, *name; /* name: last part of the path */
    json_t **metrics;       /* [metric_count] one object a step */
    size_t metric_count, metric_capacity, damaged;
    struct outcome_file **evals; /* [eval_count] eval/step-N.jsonl, by version */
    size_t eval_count;
    struct outcome_file *base, *base_forced, *knowledge, *final; /* NULL when absent */
    struct buf config;                                           /* config.ini as text */
};

/* STATUS_NOT_FOUND when the directory is absent; STATUS_FORMAT when there is nothing to report in it. */
enum status run_data_open(const char *directory, struct run_data **out_run);
void run_data_close(struct run_data **run);

/* values [metric_count] of a key, NaN where absent; "a.b" looks into an object. malloc'd, NULL when no step has it. */
double *run_data_column(const struct run_data *run, const char *key);
/* The newest evaluation: final, else the last step's, else NULL. */
struct outcome_file *run_data_newest(const struct run_data *run);

#endif
