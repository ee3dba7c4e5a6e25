/* Tables and texts: before and after, example answers, warnings, configuration. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/eval/krb.h"
#include "deploy/report/html.h"
#include "deploy/report/sections.h"

#define CLASSES_MAX 16
#define WARNINGS_SHOWN 8

static void put_row(struct buf *out, const struct run_data *run, const struct outcome_filter *filter,
                    const char *label) {
    const struct outcome_file *newest = run_data_newest(run);
    struct shares after = outcome_shares(newest, filter);
    if (after.questions == 0)
        return;
    buf_puts(out, "<tr><td>");
    html_put(out, label);
    buf_printf(out, "</td><td>%u</td>", after.questions);
    if (run->base != NULL) {
        struct shares before = outcome_shares(run->base, filter);
        buf_printf(out, "<td>%.3f</td><td>%.3f</td><td>%.3f</td>", before.correct, before.abstain, before.wrong);
    }
    buf_printf(out, "<td class=\"good\">%.3f</td><td>%.3f</td><td class=\"bad\">%.3f</td></tr>\n", after.correct,
               after.abstain, after.wrong);
}

/* Different values of a field (an offset in struct outcome), in the order of appearance. */
static size_t distinct(const struct outcome_file *file, size_t field, const char *split,
                       const char *values[CLASSES_MAX]) {
    size_t count = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        const struct outcome *outcome = &file->outcomes[i];
        const char *value;
        memcpy(&value, (const char *)outcome + field, sizeof value);
        if (split != NULL && strcmp(outcome->split, split) != 0)
            continue;
        size_t j = 0;
        while (j < count && strcmp(values[j], value) != 0)
            j++;
        if (j == count && count < CLASSES_MAX)
            values[count++] = value;
    }
    return count;
}

static void put_balance(struct buf *out, const struct run_data *run, const struct outcome_filter *filter,
                        const char *label, uint32_t draws) {
    struct krb krb;
    if (run->knowledge == NULL || run->base_forced == NULL ||
        krb_compute(run->knowledge, run->base_forced, run_data_newest(run), filter, 1, draws, &krb) != STATUS_OK)
        return;
    buf_puts(out, "<tr><td>");
    html_put(out, label);
    buf_printf(
        out,
        "</td><td>%u</td><td>%.3f <span class=\"note\">[%.3f, %.3f]</span></td><td>%.3f <span class=\"note\">[%.3f, "
        "%.3f]</span></td><td class=\"%s\">%.3f <span class=\"note\">[%.3f, %.3f]</span></td><td>%.3f</td></tr>\n",
        krb.questions, krb.c.value, krb.c.low, krb.c.high, krb.s.value, krb.s.low, krb.s.high,
        krb.krb.low > 0 ? "good" : "bad", krb.krb.value, krb.krb.low, krb.krb.high, krb.best_abstention);
}

/* A split's classes, where its questions have some, and its data sets, where there are several. */
static void put_split(struct buf *out, const struct run_data *run, const char *split) {
    const struct outcome_file *newest = run_data_newest(run);
    const char *classes[CLASSES_MAX], *sets[CLASSES_MAX];
    size_t class_count = distinct(newest, offsetof(struct outcome, class_label), split, classes);
    size_t set_count = distinct(newest, offsetof(struct outcome, set), split, sets);
    const char *prefix = *split ? split : "all";
    char label[160];
    for (size_t i = 0; i < class_count; i++) {
        snprintf(label, sizeof label, "%.60s, %.60s", prefix, classes[i]);
        put_row(out, run, &(struct outcome_filter){.split = split, .class_label = classes[i]},
                *classes[i] ? label : prefix);
    }
    for (size_t i = 0; i < set_count && set_count > 1; i++) {
        snprintf(label, sizeof label, "%.60s, %.60s", prefix, sets[i]);
        put_row(out, run, &(struct outcome_filter){.split = split, .set = sets[i]}, label);
    }
}

void section_summary(struct buf *out, const struct run_data *run, uint32_t draws) {
    const struct outcome_file *newest = run_data_newest(run);
    if (newest == NULL)
        return;
    html_section(out, "Before and after", "Shares of answers: correct, Unknown, wrong.");
    buf_printf(out,
               "<table><tr><th>questions</th><th>count</th>%s<th>correct</th><th>Unknown</th><th>wrong</th></tr>\n",
               run->base != NULL ? "<th>base correct</th><th>base Unknown</th><th>base wrong</th>" : "");
    const char *splits[CLASSES_MAX];
    size_t split_count = distinct(newest, offsetof(struct outcome, split), NULL, splits);
    for (size_t i = 0; i < split_count; i++)
        put_split(out, run, splits[i]);
    if (split_count > 1)
        put_row(out, run, NULL, "all");
    buf_puts(out, "</table>\n");
    if (run->base == NULL)
        buf_puts(
            out,
            "<p class=\"lead\">No before: <code>candor eval --knowledge --run DIR</code> asks the model that the run "
            "started from.</p>\n");
    if (run->knowledge == NULL || run->base_forced == NULL)
        return;
    buf_puts(
        out,
        "<p class=\"lead\">Knowledge-Relative Balance: C correctness kept, S caution gained, KRB = C + S - 1; the base "
        "is 0, and so is any abstention that does not look at knowledge. J* is the best that abstaining alone can "
        "reach. Brackets: 95 % interval.</p>\n<table><tr><th>questions</th><th>count</th><th>C</th><th>S</th>"
        "<th>KRB</th><th>J*</th></tr>\n");
    for (size_t i = 0; i < split_count; i++)
        put_balance(out, run, &(struct outcome_filter){.split = splits[i]}, *splits[i] ? splits[i] : "all", draws);
    buf_puts(out, "</table>\n");
}

/* ---- examples ---- */

static double share(const struct outcome *outcome, enum verdict verdict) {
    return outcome->samples > 0 ? (double)outcome->counts[verdict] / outcome->samples : 0;
}

/* How far the outcome moved in the direction wanted: towards correct, or from wrong to Unknown. */
static double moved(const struct outcome *before, const struct outcome *after, enum verdict towards) {
    return share(after, towards) - share(before, towards);
}

static void put_example(struct buf *out, const struct outcome *before, const struct outcome *after) {
    buf_puts(out, "<tr><td class=\"text\">");
    html_put(out, after->question);
    if (*after->class_label != 0) {
        buf_puts(out, "<br><span class=\"note\">");
        html_put(out, after->class_label);
        buf_puts(out, "</span>");
    }
    buf_puts(out, "</td>");
    const struct outcome *pair[] = {before, after};
    for (int i = 0; i < 2; i++) {
        buf_printf(out, "<td class=\"text\"><span class=\"note\">%.0f %% correct, %.0f %% Unknown</span>",
                   100 * share(pair[i], VERDICT_CORRECT), 100 * share(pair[i], VERDICT_ABSTAIN));
        for (uint32_t j = 0; j < pair[i]->answer_count; j++) {
            buf_puts(out, "<br>");
            html_put(out, pair[i]->answers[j]);
        }
        buf_puts(out, "</td>");
    }
    buf_puts(out, "</tr>\n");
}

void section_examples(struct buf *out, const struct run_data *run) {
    struct outcome_file *newest = run_data_newest(run);
    if (newest == NULL || run->base == NULL)
        return;
    html_section(out, "Answers before and after",
                 "The questions that moved most, towards correct and towards Unknown.");
    buf_puts(out, "<table><tr><th>question</th><th class=\"text\">before</th><th class=\"text\">after</th></tr>\n");
    const char *splits[CLASSES_MAX];
    size_t split_count = distinct(newest, offsetof(struct outcome, split), NULL, splits);
    const enum verdict directions[] = {VERDICT_CORRECT, VERDICT_ABSTAIN};
    for (size_t s = 0; s < split_count; s++) {
        for (size_t d = 0; d < 2; d++) {
            const struct outcome *best = NULL, *best_before = NULL;
            for (uint32_t i = 0; i < newest->count; i++) {
                const struct outcome *after = &newest->outcomes[i],
                                     *before = outcome_find(run->base, after->set, after->id);
                if (before == NULL || strcmp(after->split, splits[s]) != 0)
                    continue;
                if (best == NULL || moved(before, after, directions[d]) > moved(best_before, best, directions[d])) {
                    best = after;
                    best_before = before;
                }
            }
            if (best != NULL)
                put_example(out, best_before, best);
        }
    }
    buf_puts(out, "</table>\n");
}

/* ---- warnings and configuration ---- */

/* Questions that were given up (I8, run.skip_stuck): whatever the step, the run has not learned from them. */
static void put_stuck(struct buf *out, const struct run_data *run) {
    size_t count = 0;
    struct buf list = {0};
    for (size_t i = 0; i < run->metric_count; i++) {
        const json_t *stuck = json_object_get(run->metrics[i], "stuck");
        for (size_t j = 0; j < json_array_size(stuck); j++) {
            const char *id = json_string_value(json_array_get(stuck, j));
            if (count++ < WARNINGS_SHOWN)
                buf_printf(&list, "%s%s in step %lld", count > 1 ? ", " : "", id != NULL ? id : "?",
                           (long long)json_integer_value(json_object_get(run->metrics[i], "step")));
        }
    }
    if (count > 0 && buf_ok(&list)) {
        buf_printf(out, "<div class=\"warn\">%zu questions were skipped because they were stuck: ", count);
        html_put(out, list.data);
        buf_printf(out, "%s</div>\n", count > WARNINGS_SHOWN ? ", ..." : "");
    }
    buf_deinit(&list);
}

void section_warnings(struct buf *out, const struct run_data *run) {
    put_stuck(out, run);
    size_t shown = 0;
    for (size_t i = run->metric_count; i-- > 0 && shown < WARNINGS_SHOWN;) {
        const json_t *warnings = json_object_get(run->metrics[i], "warnings");
        for (size_t j = 0; j < json_array_size(warnings) && shown < WARNINGS_SHOWN; j++, shown++) {
            buf_printf(out, "<div class=\"warn\">step %lld: ",
                       (long long)json_integer_value(json_object_get(run->metrics[i], "step")));
            const char *text = json_string_value(json_array_get(warnings, j));
            html_put(out, text != NULL ? text : "?");
            buf_puts(out, "</div>\n");
        }
        if (shown > 0)
            break; /* the newest step that has any speaks for the run's present state */
    }
    if (run->damaged > 0)
        buf_printf(out, "<div class=\"warn\">metrics.jsonl: %zu damaged lines were passed over</div>\n", run->damaged);
}

void section_configuration(struct buf *out, const struct run_data *run) {
    html_section(out, "Configuration and weights", NULL);
    const struct outcome_file *newest = run_data_newest(run);
    if (newest != NULL) {
        char hex[DIGEST_HEX_BYTES];
        digest_format(newest->weights, hex);
        buf_printf(out, "<p>Evaluated: version %u, weights <code>%s</code>.</p>\n", newest->version, hex);
    }
    if (run->config.bytes == 0)
        return;
    buf_puts(out, "<details><summary>config.ini</summary><pre>");
    html_put(out, run->config.data);
    buf_puts(out, "</pre></details>\n");
}
