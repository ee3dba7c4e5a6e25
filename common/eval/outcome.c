#include "common/eval/outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/fs.h"
#include "common/base/json.h"

#define LINE_BYTES_MAX (4u << 20)
#define OUTCOMES_MAX (16u << 20)
#define COUNT_MAX 65536

enum status outcome_file_create(const char *kind, uint32_t samples, uint64_t seed, const char *prompt,
                                struct outcome_file **out_file) {
    struct outcome_file *file = calloc(1, sizeof *file);
    if (file != NULL) {
        file->kind = strdup(kind);
        file->prompt = strdup(prompt);
        file->samples = samples;
        file->seed = seed;
    }
    if (file == NULL || file->kind == NULL || file->prompt == NULL) {
        outcome_file_destroy(&file);
        return fail(STATUS_NO_MEMORY, "outcomes: out of memory");
    }
    *out_file = file;
    return STATUS_OK;
}

static void outcome_deinit(struct outcome *outcome) {
    free(outcome->id);
    free(outcome->set);
    free(outcome->class_label);
    free(outcome->split);
    free(outcome->question);
    for (uint32_t i = 0; i < outcome->answer_count; i++)
        free(outcome->answers[i]);
}

void outcome_file_destroy(struct outcome_file **file) {
    struct outcome_file *it = *file;
    if (it == NULL)
        return;
    for (uint32_t i = 0; i < it->count; i++)
        outcome_deinit(&it->outcomes[i]);
    free(it->outcomes);
    free(it->by_id);
    free(it->kind);
    free(it->prompt);
    free(it);
    *file = NULL;
}

static enum status grow(struct outcome_file *file) {
    if (file->count < file->capacity)
        return STATUS_OK;
    if (file->count >= OUTCOMES_MAX)
        return fail(STATUS_LIMIT, "outcomes: more than %u questions", OUTCOMES_MAX);
    uint32_t capacity = file->capacity == 0 ? 64 : file->capacity * 2;
    struct outcome *outcomes = realloc(file->outcomes, capacity * sizeof *outcomes);
    if (outcomes == NULL)
        return fail(STATUS_NO_MEMORY, "outcomes: out of memory");
    file->outcomes = outcomes;
    file->capacity = capacity;
    return STATUS_OK;
}

enum status outcome_add(struct outcome_file *file, const char *id, const char *set, const char *class_label,
                        const char *split, const char *question, const uint32_t counts[VERDICT_COUNT],
                        const char *const *answers, uint32_t answer_count) {
    TRY(grow(file));
    struct outcome added = {.id = strdup(id),
                            .set = strdup(set),
                            .class_label = strdup(class_label),
                            .split = strdup(split),
                            .question = strdup(question)};
    bool whole = added.id && added.set && added.class_label && added.split && added.question;
    for (int i = 0; i < VERDICT_COUNT; i++) {
        added.counts[i] = counts[i];
        added.samples += counts[i];
    }
    for (uint32_t i = 0; answers != NULL && i < answer_count && i < OUTCOME_ANSWERS_MAX; i++) {
        added.answers[added.answer_count] = strdup(answers[i]);
        whole = whole && added.answers[added.answer_count] != NULL;
        added.answer_count++;
    }
    if (!whole) {
        outcome_deinit(&added);
        return fail(STATUS_NO_MEMORY, "outcomes: out of memory");
    }
    file->outcomes[file->count++] = added;
    free(file->by_id);
    file->by_id = NULL;
    return STATUS_OK;
}

/* ---- the file ---- */

static void put_member(struct buf *out, const char *key, const char *value) {
    buf_printf(out, ",\"%s\":", key);
    json_put_string(out, value, strlen(value));
}

static const char *const count_keys[VERDICT_COUNT] = {
    [VERDICT_CORRECT] = "correct", [VERDICT_PROCESS_CORRECT] = "process", [VERDICT_ABSTAIN] = "abstain",
    [VERDICT_WRONG] = "wrong",     [VERDICT_MALFORMED] = "malformed",
};

static void put_outcome(struct buf *out, const struct outcome *outcome) {
    buf_puts(out, "{\"id\":");
    json_put_string(out, outcome->id, strlen(outcome->id));
    put_member(out, "set", outcome->set);
    put_member(out, "class", outcome->class_label);
    put_member(out, "split", outcome->split);
    put_member(out, "question", outcome->question);
    buf_printf(out, ",\"n\":%u", outcome->samples);
    for (int i = 0; i < VERDICT_COUNT; i++)
        buf_printf(out, ",\"%s\":%u", count_keys[i], outcome->counts[i]);
    if (outcome->answer_count > 0) {
        buf_puts(out, ",\"answers\":[");
        for (uint32_t i = 0; i < outcome->answer_count; i++) {
            if (i > 0)
                buf_puts(out, ",");
            json_put_string(out, outcome->answers[i], strlen(outcome->answers[i]));
        }
        buf_puts(out, "]");
    }
    buf_puts(out, "}\n");
}

enum status outcome_file_write(const struct outcome_file *file, const char *path) {
    struct buf out = {0};
    char hex[DIGEST_HEX_BYTES];
    digest_format(file->weights, hex);
    buf_puts(&out, "{\"candor\":\"outcomes\"");
    put_member(&out, "kind", file->kind);
    buf_printf(&out, ",\"version\":%u", file->version);
    put_member(&out, "weights", hex);
    buf_printf(&out, ",\"samples\":%u,\"seed\":%llu", file->samples, (unsigned long long)file->seed);
    buf_puts(&out, ",\"flop\":");
    json_put_double(&out, file->flop);
    put_member(&out, "prompt", file->prompt);
    buf_puts(&out, "}\n");
    for (uint32_t i = 0; i < file->count; i++)
        put_outcome(&out, &file->outcomes[i]);
    enum status status =
        buf_ok(&out) ? fs_write_atomic(path, out.data, out.bytes) : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    buf_deinit(&out);
    return status;
}

static enum status read_header(const json_t *header, const char *name, struct outcome_file **out_file) {
    const char *mark, *kind, *weights, *prompt;
    int64_t version, samples, seed;
    TRY(json_get_string(header, name, "candor", &mark));
    if (strcmp(mark, "outcomes") != 0)
        return fail(STATUS_FORMAT, "%s: \"candor\" is \"%s\": not a file of outcomes", name, mark);
    TRY(json_get_string(header, name, "kind", &kind));
    TRY(json_get_string(header, name, "weights", &weights));
    TRY(json_get_string(header, name, "prompt", &prompt));
    TRY(json_get_int(header, name, "version", 0, UINT32_MAX, &version));
    TRY(json_get_int(header, name, "samples", 1, COUNT_MAX, &samples));
    TRY(json_get_int(header, name, "seed", 0, INT64_MAX, &seed));
    struct digest digest;
    if (!digest_parse(weights, &digest))
        return fail(STATUS_FORMAT, "%s: weights: not 32 hex digits", name);
    TRY(outcome_file_create(kind, (uint32_t)samples, (uint64_t)seed, prompt, out_file));
    (*out_file)->version = (uint32_t)version;
    (*out_file)->weights = digest;
    (*out_file)->flop = json_number_value(json_object_get(header, "flop"));
    return STATUS_OK;
}

static enum status read_outcome(const json_t *row, const char *name, struct outcome_file *file) {
    const char *id, *set, *class_label, *split, *question, *answers[OUTCOME_ANSWERS_MAX];
    uint32_t counts[VERDICT_COUNT], sum = 0, answer_count = 0;
    int64_t samples;
    TRY(json_get_string(row, name, "id", &id));
    TRY(json_get_string(row, name, "set", &set));
    TRY(json_get_string(row, name, "class", &class_label));
    TRY(json_get_string(row, name, "split", &split));
    TRY(json_get_string(row, name, "question", &question));
    TRY(json_get_int(row, name, "n", 0, COUNT_MAX, &samples));
    for (int i = 0; i < VERDICT_COUNT; i++) {
        int64_t count;
        TRY(json_get_int(row, name, count_keys[i], 0, COUNT_MAX, &count));
        counts[i] = (uint32_t)count;
        sum += counts[i];
    }
    if (sum != samples)
        return fail(STATUS_FORMAT, "%s: the counts sum to %u, n is %lld", name, sum, (long long)samples);
    const json_t *list = json_object_get(row, "answers");
    for (size_t i = 0; i < json_array_size(list) && i < OUTCOME_ANSWERS_MAX; i++) {
        answers[i] = json_string_value(json_array_get(list, i));
        if (answers[i] == NULL)
            return fail(STATUS_FORMAT, "%s: answers[%zu]: not a string", name, i);
        answer_count++;
    }
    return outcome_add(file, id, set, class_label, split, question, counts, answers, answer_count);
}

enum status outcome_file_read(const char *path, struct outcome_file **out_file) {
    struct json_lines lines;
    TRY(json_lines_open(&lines, path, LINE_BYTES_MAX));
    struct outcome_file *file = NULL;
    enum status status;
    for (;;) {
        json_t *row = NULL;
        status = json_lines_next(&lines, &row);
        if (status != STATUS_OK)
            break;
        char name[PATH_BYTES + 32];
        snprintf(name, sizeof name, "%s:%llu", path, (unsigned long long)lines.number);
        status = file == NULL ? read_header(row, name, &file) : read_outcome(row, name, file);
        json_decref(row);
        if (status != STATUS_OK)
            break;
    }
    json_lines_close(&lines);
    if (status == STATUS_NOT_FOUND)
        status = file != NULL ? STATUS_OK : fail(STATUS_FORMAT, "%s: empty, a header line is missing", path);
    if (status != STATUS_OK) {
        outcome_file_destroy(&file);
        return status;
    }
    *out_file = file;
    return STATUS_OK;
}

static int compare_names(const char *set, const char *id, const struct outcome *outcome) {
    int order = strcmp(set, outcome->set);
    return order != 0 ? order : strcmp(id, outcome->id);
}

static int compare_indices(const void *a, const void *b, void *outcomes_of) {
    const struct outcome *outcomes = outcomes_of, *first = &outcomes[*(const uint32_t *)a];
    return compare_names(first->set, first->id, &outcomes[*(const uint32_t *)b]);
}

const struct outcome *outcome_find(struct outcome_file *file, const char *set, const char *id) {
    if (file->by_id == NULL && file->count > 0) {
        file->by_id = malloc(file->count * sizeof *file->by_id);
        if (file->by_id == NULL)
            return NULL;
        for (uint32_t i = 0; i < file->count; i++)
            file->by_id[i] = i;
        qsort_r(file->by_id, file->count, sizeof *file->by_id, compare_indices, file->outcomes);
    }
    uint32_t low = 0, high = file->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct outcome *outcome = &file->outcomes[file->by_id[middle]];
        int order = compare_names(set, id, outcome);
        if (order == 0)
            return outcome;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
