#include "reward/grade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "reward/score.h"

#define ROW_BYTES_MAX (16u << 20)
#define PROGRESS_ROWS 1000

/* Everything one run of grade_file holds, for its one clean-up. */
struct grading {
    const char *in_path;
    bool plain;
    struct json_lines lines;
    FILE *out;
    char place[PATH_BYTES + 32]; /* "answers.jsonl:12" */
    const char **aliases;        /* [GOLD_ALIASES_MAX] */
};

static enum status read_aliases(struct grading *grading, const json_t *row, struct question_golds *golds) {
    const json_t *list = json_object_get(row, "aliases");
    if (!json_is_array(list))
        return fail(STATUS_FORMAT, "%s: aliases: a list of strings is wanted", grading->place);
    if (json_array_size(list) > GOLD_ALIASES_MAX)
        return fail(STATUS_LIMIT, "%s: aliases: %zu, at most %d are taken", grading->place, json_array_size(list),
                    GOLD_ALIASES_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        grading->aliases[i] = json_string_value(json_array_get(list, i));
        if (grading->aliases[i] == NULL)
            return fail(STATUS_FORMAT, "%s: aliases[%zu]: a string is wanted", grading->place, i);
    }
    golds->aliases = grading->aliases;
    golds->alias_count = json_array_size(list);
    return STATUS_OK;
}

/* Adds final and verdict to the row. */
static enum status grade_row(struct grading *grading, json_t *row, enum verdict *out_verdict) {
    struct question_golds golds;
    struct gold_set *set;
    struct score score;
    const json_t *response = json_object_get(row, "response");
    if (json_object_get(row, "id") == NULL)
        return fail(STATUS_FORMAT, "%s: id: is missing", grading->place);
    if (!json_is_string(response))
        return fail(STATUS_FORMAT, "%s: response: a string is wanted", grading->place);
    TRY(json_get_string(row, grading->place, "question", &golds.question));
    TRY(read_aliases(grading, row, &golds));
    enum status status = gold_set_create(&golds, &set);
    if (status != STATUS_OK)
        return fail_context(status, "%s", grading->place);
    const char *text = json_string_value(response);
    size_t bytes = json_string_length(response);
    if (grading->plain)
        score_plain(set, text, bytes, &score);
    else
        score_answer(set, text, bytes, &score);
    gold_set_destroy(&set);
    json_t *final = score.final_bytes == 0 ? json_null() : json_stringn(text + score.final_start, score.final_bytes);
    if (json_object_set_new(row, "final", final) != 0 ||
        json_object_set_new(row, "verdict", json_string(verdict_name(score.verdict))) != 0)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", grading->place);
    *out_verdict = score.verdict;
    return STATUS_OK;
}

static enum status write_row(struct grading *grading, const json_t *row, const char *out_path) {
    if (json_dumpf(row, grading->out, JSON_COMPACT) != 0 || fputc('\n', grading->out) == EOF)
        return fail_errno("%s", out_path);
    return STATUS_OK;
}

static enum status grade_rows(struct grading *grading, const char *out_path, uint64_t bytes_total,
                              grade_progress progress, void *user, struct grade_counts *counts) {
    for (;;) {
        json_t *row;
        enum status status = json_lines_next(&grading->lines, &row);
        if (status == STATUS_NOT_FOUND)
            break;
        TRY(status);
        enum verdict verdict = VERDICT_COUNT;
        snprintf(grading->place, sizeof grading->place, "%s:%llu", grading->in_path,
                 (unsigned long long)grading->lines.number);
        status = grade_row(grading, row, &verdict);
        if (status == STATUS_OK)
            status = write_row(grading, row, out_path);
        json_decref(row);
        TRY(status);
        counts->rows++;
        counts->verdicts[verdict]++;
        if (progress != NULL && counts->rows % PROGRESS_ROWS == 0)
            progress(user, counts->rows, grading->lines.bytes_read, bytes_total);
    }
    if (progress != NULL)
        progress(user, counts->rows, bytes_total, bytes_total);
    return STATUS_OK;
}

/* The rows go to a file beside out_path, which takes its place when all are written: a failure leaves out_path as it
 * was. */
enum status grade_file(const char *in_path, const char *out_path, bool plain, grade_progress progress, void *user,
                       struct grade_counts *out_counts) {
    struct grading grading = {.in_path = in_path, .plain = plain};
    struct grade_counts counts = {0};
    char part_path[PATH_BYTES];
    uint64_t bytes_total;
    enum status status;
    if (snprintf(part_path, sizeof part_path, "%s.part", out_path) >= (int)sizeof part_path)
        return fail(STATUS_LIMIT, "%s: the path is too long", out_path);
    TRY(fs_check_output(out_path));
    TRY(fs_size(in_path, &bytes_total));
    TRY(json_lines_open(&grading.lines, in_path, ROW_BYTES_MAX));
    grading.aliases = calloc(GOLD_ALIASES_MAX, sizeof *grading.aliases);
    if (grading.aliases == NULL)
        TRY_GOTO(fail(STATUS_NO_MEMORY, "grade: out of memory"), done);
    grading.out = fopen(part_path, "we");
    if (grading.out == NULL)
        TRY_GOTO(fail_errno("%s", part_path), done);
    status = grade_rows(&grading, out_path, bytes_total, progress, user, &counts);
    if (status == STATUS_OK && (fflush(grading.out) != 0 || fsync(fileno(grading.out)) != 0))
        status = fail_errno("%s", part_path);
    if (fclose(grading.out) != 0 && status == STATUS_OK)
        status = fail_errno("%s", part_path);
    if (status == STATUS_OK && rename(part_path, out_path) != 0)
        status = fail_errno("%s", out_path);
    if (status != STATUS_OK)
        unlink(part_path);
    else
        *out_counts = counts;
done:
    free(grading.aliases);
    json_lines_close(&grading.lines);
    return status;
}
