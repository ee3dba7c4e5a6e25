#include "common/data/examples.h"

#include <string.h>

#include "common/base/json.h"
#include "common/base/rng.h"
#include "common/data/output.h"

#define BOXED_BYTES_MAX 200 /* a brief answer is asked for */

/* The first alias, the canonical one, unless it would end its box early or is no brief answer. NULL: none fits. */
static const char *boxable_alias(const struct question *question) {
    for (uint32_t i = 0; i < question->alias_count; i++)
        if (!strpbrk(question->aliases[i], "[]\n") && strlen(question->aliases[i]) <= BOXED_BYTES_MAX)
            return question->aliases[i];
    return NULL;
}

static void put_answer(const char *alias, struct buf *out) {
    if (alias)
        buf_printf(out, "I recall that the answer is %s. boxed[%s]", alias, alias);
    else
        buf_puts(out, "I am not sure. boxed[Unknown]");
}

static void put_example(const char *system, const char *question, const struct buf *answer, struct buf *out) {
    buf_puts(out, "{\"system\": ");
    json_put_string(out, system, strlen(system));
    buf_puts(out, ", \"question\": ");
    json_put_string(out, question, strlen(question));
    buf_puts(out, ", \"answer\": ");
    json_put_string(out, answer->data ? answer->data : "", answer->bytes);
    buf_puts(out, "}\n");
    out->failed |= answer->failed;
}

static bool draw_unknown(const struct examples_options *options, const struct question *question, uint32_t draw) {
    /* sample 1: the order of examples uses sample 0 of the stream */
    const struct rng_key key = {.seed = options->seed,
                                .step = (uint32_t)(question->hash >> 32),
                                .slot = (uint32_t)question->hash,
                                .sample = 1,
                                .stream = RNG_SFT};
    return (double)rng_uniform(&key, draw) < options->unknown;
}

static enum status write_question(const struct examples_options *options, const struct question *question,
                                  struct output *output, struct examples_report *report) {
    const char *alias = boxable_alias(question);
    if (question->answerable && !alias) {
        report->unfit++;
        return STATUS_OK;
    }
    report->questions++;
    struct buf answer = {0}, line = {0};
    enum status status = STATUS_OK;
    for (uint32_t draw = 0; draw < options->draws && status == STATUS_OK; draw++) {
        bool unknown = !alias || draw_unknown(options, question, draw);
        buf_reset(&answer);
        buf_reset(&line);
        put_answer(unknown ? NULL : alias, &answer);
        put_example(options->system, question->text, &answer, &line);
        report->examples++;
        report->unknown += unknown;
        status = output_put(output, &line);
    }
    buf_deinit(&answer);
    buf_deinit(&line);
    return status;
}

static enum status write_set(const struct examples_options *options, const struct question_set *set,
                             struct examples_report *report) {
    struct output output = {.file = NULL};
    enum status status;
    TRY_GOTO(output_open(&output, options->path), out);
    for (uint32_t i = 0; i < set->count; i++)
        TRY_GOTO(write_question(options, &set->questions[i], &output, report), out);
    if (report->examples == 0)
        TRY_GOTO(fail(STATUS_FORMAT, "%s: not one question has an answer that a box can hold", options->inputs[0]),
                 out);
    TRY_GOTO(output_publish(&output), out);
out:
    output_drop(&output);
    return status;
}

enum status examples_write(const struct examples_options *options, struct examples_report *out_report) {
    if (options->input_count == 0 || options->draws < 1 || options->draws > EXAMPLES_DRAWS_MAX ||
        !(options->unknown >= 0 && options->unknown <= 1))
        return fail(STATUS_USAGE, "examples: at least one input, 1 to %d draws, and a share of Unknown from 0 to 1",
                    EXAMPLES_DRAWS_MAX);
    struct examples_report report = {.questions = 0};
    struct question_set set;
    TRY(question_set_load(options->inputs, options->input_count, options->events, &set, &report.counts));
    question_set_limit(&set, options->limit);
    enum status status = write_set(options, &set, &report);
    question_set_deinit(&set);
    if (status == STATUS_OK)
        *out_report = report;
    return status;
}
