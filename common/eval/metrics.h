/* Metrics over outcomes. Process-correct and malformed answers count as wrong here: what a reader of the final answer sees.
 * c, u, w are shares of correct, Unknown and wrong samples, averaged over questions. */
#ifndef CANDOR_EVAL_METRICS_H
#define CANDOR_EVAL_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/eval/outcome.h"

/* Which outcomes are looked at; NULL members take all. */
struct outcome_filter {
    const char *split, *class_label, *set;
};
bool outcome_matches(const struct outcome *outcome, const struct outcome_filter *filter);

struct shares {
    uint32_t questions;
    double correct, abstain, wrong; /* c, u, w; 0 when there are no questions */
};
struct shares outcome_shares(const struct outcome_file *file, const struct outcome_filter *filter);

/* The study's decomposition, in percent; the five sum to 100 when there are questions. */
struct decomposition {
    uint32_t questions;
    double all_correct;           /* every sample correct */
    double partial_correct;       /* some, not all */
    double partial_not_attempted; /* none correct, some abstain, not all */
    double all_not_attempted;     /* every sample abstains */
    double all_wrong;             /* all attempted and wrong */
};
struct decomposition outcome_decomposition(const struct outcome_file *file, const struct outcome_filter *filter);

/* Numbers of the literature from c, u, w (reference factuality.md 2.1). */
struct metrics {
    double correct_given_attempted; /* c/(c+w), 0 when nobody attempts; SimpleQA */
    double f;                       /* 2c/(1+c+w); SimpleQA */
    double truthfulness;            /* c - w; TruthRL */
    double penalised;               /* c - 3w: a threshold of .75 */
};
struct metrics shares_metrics(struct shares shares);

#endif
