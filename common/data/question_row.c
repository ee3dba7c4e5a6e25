#include "common/data/question_row.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/utf8.h"
#include "common/data/mix.h"

/* ---- the members a row may have, by the names that published files give them
 * ------------------------------------------ */

static const char *const text_keys[] = {"question", "Question", "problem", "prompt", "input", NULL};
static const char *const id_keys[] = {"id", "question_id", "QuestionId", "qid", NULL};
static const char *const set_keys[] = {"set", "dataset", NULL};
/* The canonical answer first. "label" is RefuNQ's, "output" model_collaboration's. */
static const char *const answer_keys[] = {"gold_answer",      "answer",  "Answer", "answers", "golden_answers",
                                          "possible_answers", "aliases", "output", "label",   NULL};
/* Inside TriviaQA's Answer: all that its evaluation accepts. */
static const char *const trivia_keys[] = {"Value",
                                          "NormalizedValue",
                                          "Aliases",
                                          "NormalizedAliases",
                                          "MatchedWikiEntityName",
                                          "NormalizedMatchedWikiEntityName",
                                          "HumanAnswers",
                                          NULL};
/* "label" of rows that have no answer: RefuNQ, puqa. */
static const char *const unanswerable_labels[] = {"NEC", "unknown", NULL};
/* Of pkqa: says nothing about the answer. */
static const char *const known_labels[] = {"known", NULL};
/* Golds that are themselves a refusal, folded. */
static const char *const refusals[] = {
    "unknown",   "i dont know", "i don t know", "not sure",  "unsure", "cannot determine",
    "no answer", "n a",         "uncertain",    "not known", NULL};

static bool is_one_of(const char *text, const char *const *list) {
    for (; *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

bool question_row_has_text(const char *key) {
    return is_one_of(key, text_keys);
}

/* ---- strings
 * ---------------------------------------------------------------------------------------------------------- */

void question_row_deinit(struct question_row *row) {
    buf_deinit(&row->pool);
    free(row->aliases);
    free(row->alias_texts);
    free(row->alias_hashes);
    *row = (struct question_row){0};
}

void question_row_reset(struct question_row *row) {
    struct question_row kept = *row;
    *row = (struct question_row){.pool = kept.pool,
                                 .aliases = kept.aliases,
                                 .alias_texts = kept.alias_texts,
                                 .alias_hashes = kept.alias_hashes,
                                 .alias_capacity = kept.alias_capacity,
                                 .answerable = true};
    buf_reset(&row->pool);
    buf_append(&row->pool, "", 1);
}

void question_row_refuse(struct question_row *row, enum unusable reason, const char *detail) {
    if (row->unusable)
        return;
    row->unusable = true;
    row->reason = reason;
    snprintf(row->detail, sizeof row->detail, "%s", detail);
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The offset of a trimmed copy, 0 when nothing is left or it cannot be used. */
static size_t keep(struct question_row *row, const char *text, size_t bytes, size_t bytes_max) {
    while (bytes > 0 && is_blank(text[bytes - 1]))
        bytes--;
    while (bytes > 0 && is_blank(*text)) {
        text++;
        bytes--;
    }
    if (bytes == 0)
        return 0;
    if (bytes > bytes_max) {
        question_row_refuse(row, UNUSABLE_TOO_LONG, "a text above 64 kB");
        return 0;
    }
    if (memchr(text, 0, bytes) || !utf8_valid(text, bytes)) {
        question_row_refuse(row, UNUSABLE_UTF8, "bytes that are not utf-8");
        return 0;
    }
    size_t offset = row->pool.bytes;
    buf_append(&row->pool, text, bytes);
    buf_append(&row->pool, "", 1);
    return buf_ok(&row->pool) ? offset : 0;
}

void question_row_set(struct question_row *row, size_t *field, const char *text, size_t bytes) {
    *field = keep(row, text, bytes, field == &row->metadata ? QUESTION_ROW_BYTES_MAX : QUESTION_TEXT_BYTES_MAX);
}

static bool reserve_aliases(struct question_row *row) {
    if (row->alias_count < row->alias_capacity)
        return true;
    uint32_t capacity = row->alias_capacity ? 2 * row->alias_capacity : 64;
    size_t *aliases = realloc(row->aliases, capacity * sizeof *aliases);
    row->aliases = aliases ? aliases : row->aliases;
    const char **texts = realloc(row->alias_texts, capacity * sizeof *texts);
    row->alias_texts = texts ? texts : row->alias_texts;
    uint64_t *hashes = realloc(row->alias_hashes, capacity * sizeof *hashes);
    row->alias_hashes = hashes ? hashes : row->alias_hashes;
    if (!aliases || !texts || !hashes) {
        row->pool.failed = true; /* finishing reports it */
        return false;
    }
    row->alias_capacity = capacity;
    return true;
}

void question_row_alias(struct question_row *row, const char *text, size_t bytes) {
    size_t end = row->pool.bytes, offset = keep(row, text, bytes, QUESTION_TEXT_BYTES_MAX);
    if (offset == 0 || !reserve_aliases(row))
        return;
    uint64_t hash = hash64(row->pool.data + offset, row->pool.bytes - offset);
    for (uint32_t i = 0; i < row->alias_count; i++)
        if (row->alias_hashes[i] == hash && strcmp(row->pool.data + row->aliases[i], row->pool.data + offset) == 0) {
            row->pool.bytes = end;
            return;
        }
    if (row->alias_count == QUESTION_ALIASES_MAX) {
        question_row_refuse(row, UNUSABLE_TOO_LONG, "more than 4096 aliases");
        return;
    }
    row->alias_hashes[row->alias_count] = hash;
    row->aliases[row->alias_count++] = offset;
}

/* ---- values
 * ----------------------------------------------------------------------------------------------------------- */

static void take_answer(struct question_row *row, const json_t *value);

void question_row_alias_list(struct question_row *row, const char *text, size_t bytes) {
    json_t *list = NULL;
    if (bytes >= 2 && text[0] == '[' && json_parse(text, bytes, "cell", &list) == STATUS_OK && json_is_array(list))
        take_answer(row, list);
    else
        question_row_alias(row, text, bytes);
    json_decref(list);
}

static void take_answer(struct question_row *row, const json_t *value) {
    char number[32];
    size_t i;
    json_t *element;
    if (json_is_array(value)) {
        json_array_foreach(value, i, element) {
            if (json_is_string(element))
                question_row_alias(row, json_string_value(element), json_string_length(element));
            else
                take_answer(row, element);
        }
    } else if (json_is_object(value)) {
        for (const char *const *key = trivia_keys; *key; key++)
            take_answer(row, json_object_get(value, *key));
    } else if (json_is_string(value)) {
        question_row_alias_list(row, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        int bytes = snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        question_row_alias(row, number, (size_t)bytes);
    } else if (value && !json_is_null(value)) {
        question_row_refuse(row, UNUSABLE_MALFORMED, "an answer that is neither text nor a list of texts");
    }
}

/* "label" means three things in three data sets. */
static void take_label(struct question_row *row, const json_t *value) {
    if (json_is_integer(value)) { /* FalseQA: 1 is a question that cannot be answered */
        row->said_answerable = true;
        row->answerable = json_integer_value(value) == 0;
    } else if (json_is_string(value) && is_one_of(json_string_value(value), unanswerable_labels)) {
        row->said_answerable = true;
        row->answerable = false;
    } else if (!json_is_string(value) || !is_one_of(json_string_value(value), known_labels)) {
        take_answer(row, value);
    }
}

static const json_t *first_member(const json_t *object, const char *const *keys) {
    for (; *keys; keys++) {
        const json_t *value = json_object_get(object, *keys);
        if (value && !json_is_null(value))
            return value;
    }
    return NULL;
}

static void take_text(struct question_row *row, size_t *field, const json_t *value) {
    char number[32];
    if (json_is_string(value)) {
        question_row_set(row, field, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        int bytes = snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        question_row_set(row, field, number, (size_t)bytes);
    } else if (value) {
        question_row_refuse(row, UNUSABLE_MALFORMED, "an id, question, set, class or split that is not text");
    }
}

void question_row_json(struct question_row *row, const json_t *object) {
    if (!json_is_object(object)) {
        question_row_refuse(row, UNUSABLE_MALFORMED, "a row that is not an object");
        return;
    }
    take_text(row, &row->text, first_member(object, text_keys));
    take_text(row, &row->id, first_member(object, id_keys));
    take_text(row, &row->set, first_member(object, set_keys));
    take_text(row, &row->label, json_object_get(object, "class"));
    take_text(row, &row->split, json_object_get(object, "split"));
    const json_t *answerable = json_object_get(object, "answerable");
    if (json_is_boolean(answerable)) {
        row->said_answerable = true;
        row->answerable = json_is_true(answerable);
    }
    for (const char *const *key = answer_keys; *key; key++) {
        const json_t *value = json_object_get(object, *key);
        if (value && strcmp(*key, "label") == 0)
            take_label(row, value);
        else
            take_answer(row, value);
    }
    const json_t *metadata = json_object_get(object, "metadata");
    if (json_is_object(metadata)) {
        char *text = json_dumps(metadata, JSON_COMPACT | JSON_SORT_KEYS);
        if (text)
            question_row_set(row, &row->metadata, text, strlen(text));
        free(text);
    }
    if (row->set == 0 && json_is_object(json_object_get(object, "Answer")))
        question_row_set(row, &row->set, "triviaqa", strlen("triviaqa"));
}

/* ---- Python's dict literal, as far as SimpleQA uses it
 * ----------------------------------------------------------------- */

/* A quoted string at *at; its content is appended to out. false when there is none. */
static bool python_string(const char **at, const char *end, struct buf *out) {
    if (*at == end || (**at != '\'' && **at != '"'))
        return false;
    char quote = *(*at)++;
    while (*at < end && **at != quote) {
        char c = *(*at)++;
        if (c == '\\' && *at < end) {
            c = *(*at)++;
            c = (char)(c == 'n' ? '\n' : c == 't' ? '\t' : c);
        }
        buf_append(out, &c, 1);
    }
    if (*at == end)
        return false;
    (*at)++;
    return true;
}

/* Over a value of any kind to the comma or bracket that ends it. */
static void python_skip(const char **at, const char *end) {
    int depth = 0;
    struct buf unused = {0};
    while (*at < end && (depth > 0 || (**at != ',' && **at != '}'))) {
        if (**at == '\'' || **at == '"') {
            buf_reset(&unused);
            if (!python_string(at, end, &unused))
                break;
            continue;
        }
        depth += **at == '[' || **at == '(' || **at == '{';
        depth -= **at == ']' || **at == ')' || **at == '}';
        (*at)++;
    }
    buf_deinit(&unused);
}

void question_row_python_dict(struct question_row *row, const char *text, size_t bytes) {
    static const char *const kept[] = {"topic", "answer_type", NULL};
    const char *at = text, *end = text + bytes;
    struct buf key = {0}, value = {0}, out = {0};
    buf_puts(&out, "{");
    while (at < end && (*at == '{' || *at == ',' || is_blank(*at))) {
        at++;
        buf_reset(&key);
        buf_reset(&value);
        if (at == end || is_blank(*at) || !python_string(&at, end, &key))
            continue;
        while (at < end && (*at == ':' || is_blank(*at)))
            at++;
        if (at < end && (*at == '\'' || *at == '"') && python_string(&at, end, &value) && key.data &&
            is_one_of(key.data, kept)) {
            buf_puts(&out, out.bytes > 1 ? ", " : "");
            json_put_string(&out, key.data, key.bytes);
            buf_puts(&out, ": ");
            json_put_string(&out, value.data ? value.data : "", value.bytes);
        }
        python_skip(&at, end);
    }
    buf_puts(&out, "}");
    if (buf_ok(&out) && out.bytes > 2)
        question_row_set(row, &row->metadata, out.data, out.bytes);
    buf_deinit(&key);
    buf_deinit(&value);
    buf_deinit(&out);
}

/* ---- finishing
 * -------------------------------------------------------------------------------------------------------- */

/* Some published rows carry their csv quoting in the text: a quote at both ends, every quote inside doubled. */
static void undo_csv_quotes(char *text) {
    size_t bytes = strlen(text);
    if (bytes < 4 || text[0] != '"' || text[bytes - 1] != '"')
        return;
    bool doubled = false;
    for (size_t i = 1; i < bytes - 1; i++) {
        if (text[i] != '"')
            continue;
        if (i + 1 >= bytes - 1 || text[++i] != '"')
            return;
        doubled = true;
    }
    size_t written = 0;
    for (size_t i = 1; doubled && i < bytes - 1; i++) {
        text[written++] = text[i];
        i += text[i] == '"';
    }
    if (doubled)
        text[written] = '\0';
}

static void check_golds(struct question_row *row) {
    struct buf folded = {0};
    for (uint32_t i = 0; i < row->alias_count && !row->unusable; i++) {
        const char *alias = row->pool.data + row->aliases[i];
        if (strlen(alias) > 32)
            continue;
        buf_reset(&folded);
        mix_normalise(alias, &folded);
        if (buf_ok(&folded) && is_one_of(folded.data, refusals))
            question_row_refuse(row, UNUSABLE_UNKNOWN_GOLD, alias);
    }
    buf_deinit(&folded);
}

enum status question_row_finish(struct question_row *row, const char *default_set, bool *out_usable,
                                struct question *out_question) {
    char id[17];
    if (row->text == 0)
        question_row_refuse(row, UNUSABLE_NO_QUESTION, "no question");
    if (row->answerable && row->alias_count == 0)
        question_row_refuse(row, UNUSABLE_NO_ANSWER, "no answer, and not marked as unanswerable");
    if (!row->answerable && row->alias_count > 0)
        question_row_refuse(row, UNUSABLE_MALFORMED, "marked as unanswerable, but with answers");
    if (!row->unusable)
        check_golds(row);
    if (row->set == 0)
        question_row_set(row, &row->set, default_set, strlen(default_set));
    struct question question = {.alias_count = row->alias_count, .answerable = row->answerable};
    if (buf_ok(&row->pool) && !row->unusable) {
        undo_csv_quotes(row->pool.data + row->text);
        for (uint32_t i = 0; i < row->alias_count; i++)
            row->alias_texts[i] = row->pool.data + row->aliases[i];
        question.set = row->pool.data + row->set;
        question.text = row->pool.data + row->text;
        question.aliases = row->alias_texts;
        question.hash = question_hash(&question);
        if (row->id == 0) {
            snprintf(id, sizeof id, "%016llx", (unsigned long long)question.hash);
            question_row_set(row, &row->id, id, 16);
        }
    }
    if (!buf_ok(&row->pool))
        return fail(STATUS_NO_MEMORY, "out of memory for a row");
    *out_usable = !row->unusable;
    if (row->unusable)
        return STATUS_OK;
    for (uint32_t i = 0; i < row->alias_count; i++) /* the pool may have moved for the id */
        row->alias_texts[i] = row->pool.data + row->aliases[i];
    question.id = row->pool.data + row->id;
    question.set = row->pool.data + row->set;
    question.text = row->pool.data + row->text;
    question.label = row->pool.data + row->label;
    question.split = row->pool.data + row->split;
    question.metadata = row->pool.data + row->metadata;
    *out_question = question;
    return STATUS_OK;
}
