/* `candor data sft`: questions as supervised examples, for the cold start before GRPO.
 *
 * GRPO can only strengthen what the model already says now and then: it needs the format, and Unknown in 10 to 30 % of the
 * answers. So a share of the examples is answered Unknown, at random and never by what the model knows; a question that
 * cannot be answered always is. What is drawn depends on the seed and the question alone: another order of files, or another
 * limit, changes no question's examples. */
#ifndef CANDOR_DATA_EXAMPLES_H
#define CANDOR_DATA_EXAMPLES_H

#include "common/data/question.h"

#define EXAMPLES_DRAWS_MAX 1024

struct examples_options {
    const char *const *inputs; /* [input_count] question files: PATH or NAME=PATH */
    size_t input_count;
    const char *path;          /* gets one {"system", "question", "answer"} a line, whole or not at all */
    const char *system;        /* the system prompt of every example */
    uint64_t seed;
    uint64_t limit;            /* question_set_limit; 0: all */
    uint32_t draws;            /* examples of each question, 1 to EXAMPLES_DRAWS_MAX */
    double unknown;            /* share of Unknown among the examples of a question that can be answered, [0, 1] */
    const struct question_events *events; /* progress and unusable rows; may be NULL */
};

struct examples_report {
    struct question_counts counts; /* over all inputs */
    uint64_t questions, examples, unknown;
    uint64_t unfit; /* questions left out: no alias that a box can hold */
};

/* STATUS_USAGE outside of the ranges above; STATUS_FORMAT when not one example results. */
enum status examples_write(const struct examples_options *options, struct examples_report *out_report);

#endif
