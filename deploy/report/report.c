#include "deploy/report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "deploy/report/html.h"
#include "deploy/report/sections.h"

#define ROLLOUT_LINE_BYTES_MAX (64u << 20)

static void put_page(struct buf *out, struct run_data *const *runs, size_t count, uint32_t draws) {
    char title[256], lead[256];
    snprintf(title, sizeof title, "Candor: %.200s", runs[0]->name);
    snprintf(lead, sizeof lead, "%zu training steps, %zu evaluations%s", runs[0]->metric_count, runs[0]->eval_count,
             count > 1 ? "; compared with other runs below" : "");
    html_begin(out, title, lead);
    section_warnings(out, runs[0]);
    section_summary(out, runs[0], draws);
    section_examples(out, runs[0]);
    section_training(out, runs, count);
    section_evaluations(out, runs, count);
    section_configuration(out, runs[0]);
    html_end(out);
}

enum status report_write(const char *const *directories, size_t count, uint32_t bootstrap_draws, const char *path) {
    ASSERT(count > 0 && count <= REPORT_RUNS_MAX);
    struct run_data *runs[REPORT_RUNS_MAX] = {NULL};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = run_data_open(directories[i], &runs[i]);
    struct buf page = {0};
    if (status == STATUS_OK) {
        put_page(&page, runs, count, bootstrap_draws);
        status = buf_ok(&page) ? fs_write_atomic(path, page.data, page.bytes)
                               : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    buf_deinit(&page);
    for (size_t i = 0; i < count; i++)
        run_data_close(&runs[i]);
    return status;
}

/* ---- answers of a step ---- */

/* "step-000000.jsonl to step-000399.jsonl" */
static void put_steps(struct buf *out, const char *directory) {
    struct fs_list list;
    if (fs_list_directory(directory, &list) != STATUS_OK)
        return;
    if (list.count == 1)
        buf_printf(out, "there is %s", list.names[0]);
    else if (list.count > 1)
        buf_printf(out, "there are %zu, %s to %s", list.count, list.names[0], list.names[list.count - 1]);
    fs_list_free(&list);
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* What a model says, for a terminal: further lines are indented, control characters shown as '?'. */
static void put_said(struct buf *out, const char *text) {
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '\n')
            buf_puts(out, "\n       | ");
        else
            buf_append(out, byte < ' ' || byte == 0x7f ? "?" : text, 1);
    }
}

static void put_gold(struct buf *out, const json_t *aliases) {
    const char *first = json_string_value(json_array_get(aliases, 0));
    buf_puts(out, "   right: ");
    put_said(out, first != NULL ? first : "Unknown");
    if (json_array_size(aliases) > 1)
        buf_printf(out, " (and %zu more)", json_array_size(aliases) - 1);
    buf_puts(out, "\n");
}

static void put_group(struct buf *out, const json_t *group) {
    buf_printf(out, "%s== slot %lld  ", out->bytes > 0 ? "\n" : "",
               (long long)json_integer_value(json_object_get(group, "slot")));
    put_said(out, text_of(group, "question"));
    buf_puts(out, "  [");
    put_said(out, text_of(group, "set"));
    buf_puts(out, " ");
    put_said(out, text_of(group, "id"));
    buf_puts(out, "]\n");
    put_gold(out, json_object_get(group, "aliases"));
    const json_t *samples = json_object_get(group, "samples");
    for (size_t i = 0; i < json_array_size(samples); i++) {
        const json_t *sample = json_array_get(samples, i);
        buf_printf(out, "%3zu  %-15s reward %-5.3g advantage %+.3f  ", i, text_of(sample, "verdict"),
                   json_number_value(json_object_get(sample, "reward")),
                   json_number_value(json_object_get(sample, "advantage")));
        put_said(out, text_of(sample, "text"));
        buf_puts(out, strcmp(text_of(sample, "finish"), "length") == 0 ? " ... (cut)\n" : "\n");
    }
}

enum status report_rollouts(const char *directory, uint32_t step, struct buf *out) {
    char rollouts[PATH_BYTES], name[40], path[PATH_BYTES];
    TRY(fs_join(rollouts, directory, "rollouts"));
    snprintf(name, sizeof name, "step-%06u.jsonl", step);
    TRY(fs_join(path, rollouts, name));
    if (!fs_exists(path)) {
        struct buf steps = {0};
        put_steps(&steps, rollouts);
        enum status status =
            fail(STATUS_NOT_FOUND, "%s: no such file; %s", path, steps.bytes > 0 ? steps.data : "there are none");
        buf_deinit(&steps);
        return status;
    }
    struct json_lines lines;
    TRY(json_lines_open(&lines, path, ROLLOUT_LINE_BYTES_MAX));
    enum status status;
    json_t *group = NULL;
    while ((status = json_lines_next(&lines, &group)) == STATUS_OK) {
        put_group(out, group);
        json_decref(group);
    }
    json_lines_close(&lines);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
