#include "deploy/report/run_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/json.h"

#define METRIC_LINE_BYTES_MAX (256u << 10)
#define CONFIG_BYTES_MAX (1u << 20)
#define METRIC_LINES_MAX (4u << 20)

static enum status push_metric(struct run_data *run, json_t *record) {
    if (run->metric_count == run->metric_capacity) {
        size_t capacity = run->metric_capacity == 0 ? 256 : run->metric_capacity * 2;
        json_t **metrics = capacity <= METRIC_LINES_MAX ? realloc(run->metrics, capacity * sizeof *metrics) : NULL;
        if (metrics == NULL)
            return fail(STATUS_LIMIT, "%s/metrics.jsonl: more than %u lines", run->directory, METRIC_LINES_MAX);
        run->metrics = metrics;
        run->metric_capacity = capacity;
    }
    run->metrics[run->metric_count++] = record;
    return STATUS_OK;
}

static enum status read_metrics(struct run_data *run) {
    char path[PATH_BYTES];
    TRY(fs_join(path, run->directory, "metrics.jsonl"));
    if (!fs_exists(path))
        return STATUS_OK;
    struct json_lines lines;
    TRY(json_lines_open(&lines, path, METRIC_LINE_BYTES_MAX));
    enum status status;
    for (;;) {
        json_t *record = NULL;
        status = json_lines_next(&lines, &record);
        if (status == STATUS_FORMAT || (status == STATUS_OK && !json_is_integer(json_object_get(record, "step")))) {
            json_decref(record);
            run->damaged++;
            continue;
        }
        if (status == STATUS_OK)
            status = push_metric(run, record);
        if (status != STATUS_OK)
            break;
    }
    json_lines_close(&lines);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status read_named(const struct run_data *run, const char *name, struct outcome_file **out_file) {
    char path[PATH_BYTES];
    TRY(fs_join(path, run->directory, name));
    return fs_exists(path) ? outcome_file_read(path, out_file) : STATUS_OK;
}

static int by_version(const void *a, const void *b) {
    const struct outcome_file *x = *(struct outcome_file *const *)a, *y = *(struct outcome_file *const *)b;
    return (x->version > y->version) - (x->version < y->version);
}

static enum status read_evaluations(struct run_data *run) {
    char directory[PATH_BYTES];
    TRY(fs_join(directory, run->directory, "eval"));
    if (!fs_is_directory(directory))
        return STATUS_OK;
    struct fs_list list;
    TRY(fs_list_directory(directory, &list));
    run->evals = calloc(list.count + 1, sizeof *run->evals);
    enum status status = run->evals != NULL ? STATUS_OK : fail(STATUS_NO_MEMORY, "%s: out of memory", directory);
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        const char *name = list.names[i], *end = strrchr(name, '.');
        if (strncmp(name, "step-", 5) != 0 || end == NULL || strcmp(end, ".jsonl") != 0)
            continue;
        char path[PATH_BYTES];
        status = fs_join(path, directory, name);
        if (status == STATUS_OK)
            status = outcome_file_read(path, &run->evals[run->eval_count]);
        run->eval_count += status == STATUS_OK;
    }
    fs_list_free(&list);
    if (run->eval_count > 1)
        qsort(run->evals, run->eval_count, sizeof *run->evals, by_version);
    return status;
}

static enum status read_all(struct run_data *run) {
    TRY(read_metrics(run));
    TRY(read_evaluations(run));
    TRY(read_named(run, "eval/base.jsonl", &run->base));
    TRY(read_named(run, "eval/base-forced.jsonl", &run->base_forced));
    TRY(read_named(run, "eval/knowledge.jsonl", &run->knowledge));
    TRY(read_named(run, "eval/final.jsonl", &run->final));
    char path[PATH_BYTES];
    TRY(fs_join(path, run->directory, "config.ini"));
    if (fs_exists(path))
        TRY(fs_read(path, CONFIG_BYTES_MAX, &run->config));
    if (run->metric_count == 0 && run_data_newest(run) == NULL)
        return fail(STATUS_FORMAT,
                    "%s: neither metrics.jsonl nor evaluations: not a run's directory, or nothing was done yet",
                    run->directory);
    return STATUS_OK;
}

enum status run_data_open(const char *directory, struct run_data **out_run) {
    if (!fs_is_directory(directory))
        return fail(STATUS_NOT_FOUND, "%s: no such directory", directory);
    struct run_data *run = calloc(1, sizeof *run);
    if (run == NULL)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", directory);
    run->directory = strdup(directory);
    size_t bytes = strlen(directory);
    while (bytes > 1 && directory[bytes - 1] == '/')
        bytes--;
    size_t start = bytes;
    while (start > 0 && directory[start - 1] != '/')
        start--;
    run->name = strndup(directory + start, bytes - start);
    enum status status = run->directory != NULL && run->name != NULL
                             ? read_all(run)
                             : fail(STATUS_NO_MEMORY, "%s: out of memory", directory);
    if (status != STATUS_OK) {
        run_data_close(&run);
        return status;
    }
    *out_run = run;
    return STATUS_OK;
}

void run_data_close(struct run_data **run) {
    struct run_data *it = *run;
    if (it == NULL)
        return;
    for (size_t i = 0; i < it->metric_count; i++)
        json_decref(it->metrics[i]);
    free(it->metrics);
    for (size_t i = 0; i < it->eval_count; i++)
        outcome_file_destroy(&it->evals[i]);
    free(it->evals);
    outcome_file_destroy(&it->base);
    outcome_file_destroy(&it->base_forced);
    outcome_file_destroy(&it->knowledge);
    outcome_file_destroy(&it->final);
    buf_deinit(&it->config);
    free(it->directory);
    free(it->name);
    free(it);
    *run = NULL;
}

static const json_t *look_up(const json_t *record, const char *key) {
    const char *dot = strchr(key, '.');
    if (dot == NULL)
        return json_object_get(record, key);
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)(dot - key), key);
    return look_up(json_object_get(record, first), dot + 1);
}

double *run_data_column(const struct run_data *run, const char *key) {
    double *values = malloc((run->metric_count + 1) * sizeof *values);
    size_t found = 0;
    for (size_t i = 0; values != NULL && i < run->metric_count; i++) {
        const json_t *value = look_up(run->metrics[i], key);
        values[i] = json_is_number(value) ? json_number_value(value) : NAN;
        found += json_is_number(value);
    }
    if (found > 0)
        return values;
    free(values);
    return NULL;
}

struct outcome_file *run_data_newest(const struct run_data *run) {
    if (run->final != NULL)
        return run->final;
    return run->eval_count > 0 ? run->evals[run->eval_count - 1] : NULL;
}
