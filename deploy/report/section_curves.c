/* Curves over training steps, and what the evaluations show. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/eval/krb.h"
#include "deploy/report/chart.h"
#include "deploy/report/html.h"
#include "deploy/report/report.h"
#include "deploy/report/sections.h"

#define CURVES_MAX 5

/* One chart: up to five keys of metrics.jsonl. With several runs only the first key is drawn, a line a run. */
static const struct {
    const char *title, *note;
    const char *keys[CURVES_MAX], *names[CURVES_MAX];
    bool from_zero;
} curves[] = {
    {"Reward", "mean over the step's answers", {"reward"}, {"reward"}, false},
    {"What the answers were",
     "share of the step's answers",
     {"verdicts.correct", "verdicts.process-correct", "verdicts.abstain", "verdicts.wrong", "verdicts.malformed"},
     {"correct", "process-correct", "Unknown", "wrong", "malformed"},
     true},
    {"Spread of the reward", "mean standard deviation within groups", {"reward_std"}, {"std"}, true},
    {"Groups that teach nothing", "share with equal rewards", {"zero_variance"}, {"zero variance"}, true},
    {"Entropy", "nats a token", {"entropy"}, {"entropy"}, true},
    {"KL to the reference", "k3, per token", {"kl"}, {"KL"}, true},
    {"Clipped tokens", "share", {"clip_low", "clip_high"}, {"low", "high"}, true},
    {"Gradient norm", "before clipping", {"grad_norm"}, {"norm"}, true},
    {"Length of answers", "tokens", {"length"}, {"mean"}, true},
    {"Truncated answers", "share", {"truncated"}, {"truncated"}, true},
    {"Tokens a second", "generated and trained", {"tokens_per_second"}, {"tokens/s"}, true},
    {"Waiting for answers", "seconds a step", {"wait_seconds"}, {"waiting"}, true},
};

static void put_curve(struct buf *out, struct run_data *const *runs, size_t count, size_t which) {
    struct chart chart = {.title = curves[which].title,
                          .note = curves[which].note,
                          .x_label = "step",
                          .smooth = true,
                          .from_zero = curves[which].from_zero};
    double *columns[REPORT_RUNS_MAX * 2] = {NULL};
    size_t used = 0;
    if (count > 1) {
        for (size_t i = 0; i < count && i < CHART_SERIES_MAX; i++) {
            double *x = run_data_column(runs[i], "step"), *y = run_data_column(runs[i], curves[which].keys[0]);
            columns[used++] = x;
            columns[used++] = y;
            if (x != NULL && y != NULL)
                chart.series[chart.series_count++] = (struct series){runs[i]->name, x, y, runs[i]->metric_count};
        }
    } else {
        double *x = run_data_column(runs[0], "step");
        columns[used++] = x;
        for (size_t i = 0; x != NULL && i < CURVES_MAX && curves[which].keys[i] != NULL; i++) {
            double *y = run_data_column(runs[0], curves[which].keys[i]);
            columns[used++] = y;
            if (y != NULL)
                chart.series[chart.series_count++] =
                    (struct series){curves[which].names[i], x, y, runs[0]->metric_count};
        }
    }
    chart_lines(out, &chart);
    for (size_t i = 0; i < used; i++)
        free(columns[i]);
}

void section_training(struct buf *out, struct run_data *const *runs, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any = any || runs[i]->metric_count > 0;
    if (!any)
        return;
    html_section(out, "Training", "Faint: each step. Bold: smoothed.");
    buf_puts(out, "<div class=\"grid2\">\n");
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        put_curve(out, runs, count, i);
    buf_puts(out, "</div>\n");
}

/* ---- evaluations ---- */

#define SHARES 5

static const char *const share_names[SHARES] = {"All Correct", "Partial Correct", "Partial Not Attempted",
                                                "All Not Attempted", "All Wrong"};

static void put_decomposition(struct buf *out, const struct run_data *run, const struct outcome_filter *filter,
                              const char *note) {
    size_t count = run->eval_count;
    double *values = calloc((SHARES + 1) * (count + 1), sizeof *values);
    if (values == NULL || count < 2) {
        free(values);
        return;
    }
    double *x = values + SHARES * count;
    for (size_t i = 0; i < count; i++) {
        struct decomposition d = outcome_decomposition(run->evals[i], filter);
        const double shares[SHARES] = {d.all_correct, d.partial_correct, d.partial_not_attempted, d.all_not_attempted,
                                       d.all_wrong};
        for (size_t j = 0; j < SHARES; j++)
            values[j * count + i] = shares[j];
        x[i] = run->evals[i]->version;
    }
    struct chart chart = {.title = "Decomposition",
                          .note = note,
                          .x_label = "update",
                          .series_count = SHARES,
                          .from_zero = true,
                          .y_most = 100};
    for (size_t j = 0; j < SHARES; j++)
        chart.series[j] = (struct series){share_names[j], x, values + j * count, count};
    chart_stacked(out, &chart);
    free(values);
}

static void put_shares(struct buf *out, const struct run_data *run, const struct outcome_filter *filter,
                       const char *note) {
    size_t count = run->eval_count;
    double *values = calloc(4 * (count + 1), sizeof *values);
    if (values == NULL || count < 2) {
        free(values);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct shares shares = outcome_shares(run->evals[i], filter);
        values[i] = run->evals[i]->version;
        values[count + i] = shares.correct;
        values[2 * count + i] = shares.abstain;
        values[3 * count + i] = shares.wrong;
    }
    struct chart chart = {.title = "Correct, Unknown, wrong",
                          .note = note,
                          .x_label = "update",
                          .series_count = 3,
                          .from_zero = true,
                          .y_most = 1,
                          .series = {{"correct", values, values + count, count},
                                     {"Unknown", values, values + 2 * count, count},
                                     {"wrong", values, values + 3 * count, count}}};
    chart_lines(out, &chart);
    free(values);
}

/* Correctness kept against caution gained, a path a run. */
static void put_frontier(struct buf *out, struct run_data *const *runs, size_t count) {
    struct chart chart = {.title = "Frontier",
                          .note = "right: correctness kept (C); up: caution gained (S)",
                          .x_label = "C",
                          .smooth = false};
    double *memory[REPORT_RUNS_MAX] = {NULL};
    for (size_t r = 0; r < count; r++) {
        struct run_data *run = runs[r];
        size_t points = 0, most = run->eval_count + 2;
        if (run->knowledge == NULL || run->base_forced == NULL ||
            (memory[r] = calloc(2 * most, sizeof(double))) == NULL)
            continue;
        for (size_t i = 0; i <= run->eval_count; i++) {
            const struct outcome_file *file = i < run->eval_count ? run->evals[i] : run->final;
            struct krb krb;
            if (file == NULL || krb_compute(run->knowledge, run->base_forced, file, NULL, 1, 1, &krb) != STATUS_OK)
                continue;
            memory[r][points] = krb.c.value;
            memory[r][most + points++] = krb.s.value;
        }
        chart.series[chart.series_count++] = (struct series){run->name, memory[r], memory[r] + most, points};
    }
    chart_points(out, &chart);
    for (size_t r = 0; r < count; r++)
        free(memory[r]);
}

void section_evaluations(struct buf *out, struct run_data *const *runs, size_t count) {
    bool any = false; /* a curve has two points; the frontier needs a knowledge map */
    for (size_t i = 0; i < count; i++)
        any = any || runs[i]->eval_count > 1 || (runs[i]->knowledge != NULL && run_data_newest(runs[i]) != NULL);
    if (!any)
        return;
    html_section(out, "Evaluation", "Decomposition: each question by what all its samples did.");
    buf_puts(out, "<div class=\"grid2\">\n");
    const struct outcome_filter held_out = {.split = "held-out"}, train = {.split = "train"};
    put_shares(out, runs[0], &held_out, "held-out questions");
    put_decomposition(out, runs[0], &held_out, "held-out questions");
    put_shares(out, runs[0], &train, "questions trained on");
    put_decomposition(out, runs[0], &train, "questions trained on");
    put_frontier(out, runs, count);
    buf_puts(out, "</div>\n");
}
