#include "tests/support/reward/judged.h"

#include <csv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/fs.h"
#include "common/base/json.h"

#define FILE_BYTES_MAX (64u << 20)

/* Cut text in place at each separator into the row's aliases. */
static void split_aliases(struct judged *row, char *text, const char *separator) {
    row->alias_count = 0;
    while (text != NULL && row->alias_count < JUDGED_ALIASES_MAX) {
        char *end = strstr(text, separator);
        if (end != NULL)
            *end = '\0';
        if (*text != '\0')
            row->aliases[row->alias_count++] = text;
        text = end == NULL ? NULL : end + strlen(separator);
    }
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

/* ---- EVOUNA: select is "fid" or "sentence" ----------------------------------------------------------------------- */

static void evouna_answer(const json_t *item, const char *model, struct judged *row, judged_visit visit, void *user) {
    char key[32];
    snprintf(key, sizeof key, "judge_%s", model);
    const json_t *judge = json_object_get(item, key);
    if (!json_is_boolean(judge))
        return;
    snprintf(key, sizeof key, "answer_%s", model);
    row->answer = text_of(item, key);
    row->correct = json_is_true(judge);
    visit(user, row);
}

static enum status read_evouna(const struct judged_set *set, const char *path, judged_visit visit, void *user) {
    static const char *const sentence_models[] = {"gpt35", "chatgpt", "gpt4", "newbing"};
    json_t *array, *item;
    size_t i;
    TRY(json_read_file(path, FILE_BYTES_MAX, &array));
    json_array_foreach(array, i, item) {
        if (json_is_true(json_object_get(item, "improper")))
            continue;
        struct judged row = {.question = text_of(item, "question")};
        char *golds = strdup(text_of(item, "golden_answer"));
        split_aliases(&row, golds, "/");
        if (strcmp(set->select, "fid") == 0) {
            evouna_answer(item, "fid", &row, visit, user);
        } else {
            for (size_t m = 0; m < 4; m++)
                evouna_answer(item, sentence_models[m], &row, visit, user);
        }
        free(golds);
    }
    json_decref(array);
    return STATUS_OK;
}

/* ---- EfficientQA: predictions that people called definitely correct or definitely incorrect -------------------------
 */

static enum status read_efficientqa(const struct judged_set *set, const char *path, judged_visit visit, void *user) {
    static const char *const keys[2] = {"def_incorrect_predictions", "def_correct_predictions"};
    struct json_lines lines;
    json_t *item, *value;
    size_t i;
    (void)set;
    TRY(json_lines_open(&lines, path, 1u << 20));
    while (json_lines_next(&lines, &item) == STATUS_OK) {
        struct judged row = {.question = text_of(item, "question")};
        json_array_foreach(json_object_get(item, "answer"), i, value) {
            if (row.alias_count < JUDGED_ALIASES_MAX)
                row.aliases[row.alias_count++] = json_string_value(value);
        }
        for (int correct = 0; correct < 2; correct++) {
            json_array_foreach(json_object_get(item, keys[correct]), i, value) {
                row.answer = json_string_value(value);
                row.correct = correct;
                visit(user, &row);
            }
        }
        json_decref(item);
    }
    json_lines_close(&lines);
    return STATUS_OK;
}

/* ---- JSON with one answer a row -------------------------------------------------------------------------------------
 */

static enum status read_acg(const struct judged_set *set, const char *path, judged_visit visit, void *user) {
    json_t *array, *item;
    size_t i;
    (void)set;
    TRY(json_read_file(path, FILE_BYTES_MAX, &array));
    json_array_foreach(array, i, item) {
        struct judged row = {.question = text_of(item, "question"), .answer = text_of(item, "predicted_answer")};
        row.aliases[row.alias_count++] = text_of(item, "gold_answer");
        row.correct = json_is_true(json_object_get(item, "is_correct"));
        visit(user, &row);
    }
    json_decref(array);
    return STATUS_OK;
}

static enum status read_researcher(const struct judged_set *set, const char *path, judged_visit visit, void *user) {
    struct json_lines lines;
    json_t *item;
    (void)set;
    TRY(json_lines_open(&lines, path, 1u << 20));
    while (json_lines_next(&lines, &item) == STATUS_OK) {
        struct judged row = {.question = text_of(item, "question"), .answer = text_of(item, "prediction")};
        row.aliases[row.alias_count++] = text_of(item, "target");
        row.correct = strcmp(text_of(item, "grade"), "CORRECT") == 0;
        visit(user, &row);
        json_decref(item);
    }
    json_lines_close(&lines);
    return STATUS_OK;
}

/* ---- tables: select names the columns question, golds, answer, judgement and the judgement that means correct
 * -------- */

#define TABLE_COLUMNS 32

struct table {
    judged_visit visit;
    void *user;
    char *names[TABLE_COLUMNS], *cells[TABLE_COLUMNS];
    char wanted[5][64]; /* the parts of select */
    int column[4];
    size_t cell_count;
    bool header_read;
};

static void on_cell(void *text, size_t bytes, void *user) {
    struct table *table = user;
    if (table->cell_count < TABLE_COLUMNS)
        table->cells[table->cell_count++] = strndup(text == NULL ? "" : text, bytes);
}

static void on_row(int terminator, void *user) {
    struct table *table = user;
    (void)terminator;
    if (!table->header_read) {
        for (int w = 0; w < 4; w++) {
            table->column[w] = -1;
            for (size_t c = 0; c < table->cell_count; c++) {
                if (strcmp(table->cells[c], table->wanted[w]) == 0)
                    table->column[w] = (int)c;
            }
        }
        table->header_read = true;
    } else {
        char *value[4];
        bool whole = true;
        for (int w = 0; w < 4; w++) {
            whole = whole && table->column[w] >= 0 && (size_t)table->column[w] < table->cell_count;
            value[w] = whole ? table->cells[table->column[w]] : NULL;
        }
        if (whole) {
            struct judged row = {.question = value[0], .answer = value[2]};
            row.correct = strcmp(value[3], table->wanted[4]) == 0;
            split_aliases(&row, value[1], " | ");
            table->visit(table->user, &row);
        }
    }
    for (size_t c = 0; c < table->cell_count; c++)
        free(table->cells[c]);
    table->cell_count = 0;
}

static enum status read_table(const struct judged_set *set, const char *path, judged_visit visit, void *user) {
    struct table table = {.visit = visit, .user = user};
    struct csv_parser parser;
    struct buf text = {0};
    if (sscanf(set->select, "%63[^,],%63[^,],%63[^,],%63[^,],%63[^,]", table.wanted[0], table.wanted[1],
               table.wanted[2], table.wanted[3], table.wanted[4]) != 5)
        return fail(STATUS_USAGE, "%s: select = %s: five names are wanted", set->name, set->select);
    TRY(fs_read(path, FILE_BYTES_MAX, &text));
    csv_init(&parser, 0);
    size_t name_bytes = strlen(set->file);
    if (strcmp(set->file + name_bytes - 4, ".tsv") == 0)
        csv_set_delim(&parser, CSV_TAB);
    csv_parse(&parser, text.data, text.bytes, on_cell, on_row, &table);
    csv_fini(&parser, on_cell, on_row, &table);
    csv_free(&parser);
    buf_deinit(&text);
    return STATUS_OK;
}

/* ---- the sets ---------------------------------------------------------------------------------------------------- */

static const struct judged_set sets[] = {
    {"EVOUNA NQ short", "evouna/EVOUNA_NQ.json", "people", read_evouna, "fid"},
    {"EVOUNA TQ short", "evouna/EVOUNA_TQ.json", "people", read_evouna, "fid"},
    {"EVOUNA NQ sentence", "evouna/EVOUNA_NQ.json", "people", read_evouna, "sentence"},
    {"EVOUNA TQ sentence", "evouna/EVOUNA_TQ.json", "people", read_evouna, "sentence"},
    {"NQ301", "nq301/NQ301_BEM.tsv", "people", read_table, "Question,Gold answers,Model answer,Acceptable?,Yes"},
    {"EfficientQA", "efficientqa/NQ-open.efficientqa.test.1.1.jsonl", "people", read_efficientqa, ""},
    {"persona spot check", "graded/persona_human_spotcheck.csv", "people", read_table,
     "question,gold_answer,content,human_verdict,correct"},
    {"persona TriviaQA", "graded/persona_rq3_responses.csv", "model", read_table,
     "question,gold_answer,content,judge_verdict,correct"},
    {"SimpleQA researcher", "graded/simpleqa_gpt_researcher.jsonl", "model", read_researcher, ""},
    {"Chinese dsv4pro", "graded/acg_simpleqa_dsv4pro.json", "model", read_acg, ""},
    {"Chinese glm51", "graded/acg_simpleqa_glm51.json", "model", read_acg, ""},
    {"Chinese qwen3.7-max", "graded/acg_simpleqa_qwen3.7-max.json", "model", read_acg, ""},
    {"Czech haiku", "graded/czech_simpleqa/claude-3-5-haiku-20241022.csv", "model", read_table,
     "problem,target,predicted_answer,grade,A"},
    {"Czech sonnet 2024-06", "graded/czech_simpleqa/claude-3-5-sonnet-20240620.csv", "model", read_table,
     "problem,target,predicted_answer,grade,A"},
    {"Czech sonnet 2024-10", "graded/czech_simpleqa/claude-3-5-sonnet-20241022.csv", "model", read_table,
     "problem,target,predicted_answer,grade,A"},
    {"Czech gpt-4o", "graded/czech_simpleqa/gpt-4o-2024-11-20.csv", "model", read_table,
     "problem,target,predicted_answer,grade,A"},
    {"Czech gpt-4o-mini", "graded/czech_simpleqa/gpt-4o-mini-2024-07-18.csv", "model", read_table,
     "problem,target,predicted_answer,grade,A"},
};

const struct judged_set *judged_sets(size_t *out_count) {
    *out_count = sizeof sets / sizeof sets[0];
    return sets;
}

enum status judged_read(const struct judged_set *set, const char *data_directory, judged_visit visit, void *user) {
    char path[PATH_BYTES];
    TRY(fs_join(path, data_directory, set->file));
    if (!fs_exists(path))
        return fail(STATUS_NOT_FOUND, "%s: not there", path);
    return set->read(set, path, visit, user);
}
