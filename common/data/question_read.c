/* One file into rows: which of the three formats it is, and the reader of each. */
#include <csv.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/fs.h"
#include "common/base/json_cursor.h"
#include "common/data/question_row.h"

#define PROGRESS_BYTES (4u << 20)
#define PAGE_BYTES 4096
#define COLUMNS_MAX 64
#define CHUNK_BYTES (64u << 10)
#define SET_NAME_BYTES 64
#define CSV_INSIDE_FIELD 2 /* libcsv's FIELD_BEGUN, which its header leaves out */

struct reader {
    const char *path;
    char set[SET_NAME_BYTES]; /* where rows do not name theirs */
    bool set_given;           /* by NAME=PATH: overrides what rows say */
    const struct question_events *events;
    struct question_counts counts;
    struct question_row row;
    uint64_t bytes_total, bytes_shown;
};

/* ---- what all readers do
 * ---------------------------------------------------------------------------------------------- */

static void show_progress(struct reader *reader, uint64_t bytes_read, bool last) {
    if (!reader->events->progress || (!last && bytes_read - reader->bytes_shown < PROGRESS_BYTES))
        return;
    reader->bytes_shown = bytes_read;
    reader->events->progress(reader->events->user, reader->path, bytes_read, reader->bytes_total);
}

/* The row is filled: count it and hand it on. */
static enum status take_row(struct reader *reader, uint64_t number) {
    struct question question;
    struct question_row *row = &reader->row;
    bool usable;
    reader->counts.rows++;
    if (reader->set_given)
        row->set = 0;
    TRY(question_row_finish(row, reader->set, &usable, &question));
    if (usable) {
        reader->counts.used++;
        return reader->events->question ? reader->events->question(reader->events->user, &question) : STATUS_OK;
    }
    reader->counts.unusable[row->reason]++;
    if (reader->events->unusable)
        reader->events->unusable(reader->events->user, reader->path, number, row->reason, row->detail);
    return STATUS_OK;
}

/* ---- JSON lines
 * ------------------------------------------------------------------------------------------------------- */

static enum status read_lines(struct reader *reader) {
    struct json_lines lines;
    enum status status;
    TRY(json_lines_open(&lines, reader->path, QUESTION_ROW_BYTES_MAX));
    for (;;) {
        json_t *object = NULL;
        status = json_lines_next(&lines, &object);
        if (status != STATUS_OK && status != STATUS_FORMAT)
            break;
        question_row_reset(&reader->row);
        if (status == STATUS_OK)
            question_row_json(&reader->row, object);
        else /* jansson's words for bytes that are not utf-8 */
            question_row_refuse(&reader->row,
                                strstr(status_message(), "decode byte") ? UNUSABLE_UTF8 : UNUSABLE_MALFORMED,
                                status_message());
        json_decref(object);
        status = take_row(reader, lines.number);
        if (status != STATUS_OK)
            break;
        show_progress(reader, lines.bytes_read, false);
    }
    json_lines_close(&lines);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* ---- one document
 * ------------------------------------------------------------------------------------------------------ */

/* Pages of the mapping that lie behind are given back, so that a large file does not fill the memory. */
static void release_behind(const struct json_cursor *cursor, const char **released) {
    size_t bytes = (size_t)(cursor->at - *released) & ~((size_t)PROGRESS_BYTES - 1);
    if (bytes > 0)
        madvise((void *)(uintptr_t)*released, bytes, MADV_DONTNEED);
    *released += bytes;
}

static enum status read_elements(struct reader *reader, struct json_cursor *cursor) {
    const char *released = (const char *)((uintptr_t)cursor->at & ~((uintptr_t)PAGE_BYTES - 1));
    bool more;
    TRY(json_cursor_enter_array(cursor));
    for (;;) {
        json_t *value = NULL;
        TRY(json_cursor_next(cursor, &more));
        if (!more)
            return STATUS_OK;
        TRY(json_cursor_value(cursor, QUESTION_ROW_BYTES_MAX, &value));
        question_row_reset(&reader->row);
        question_row_json(&reader->row, value);
        json_decref(value);
        TRY(take_row(reader, reader->counts.rows + 1));
        release_behind(cursor, &released);
        show_progress(reader, (uint64_t)(cursor->at - cursor->start), false);
    }
}

/* Whether an array comes next whose first element is an object; the cursor stays. */
static bool is_array_of_objects(struct json_cursor cursor) {
    bool more;
    return json_cursor_peek(&cursor) == '[' && json_cursor_enter_array(&cursor) == STATUS_OK &&
           json_cursor_next(&cursor, &more) == STATUS_OK && more && json_cursor_peek(&cursor) == '{';
}

/* The arrays of objects among an object's members. */
static enum status read_members(struct reader *reader, struct json_cursor *cursor, struct buf *key) {
    bool more;
    TRY(json_cursor_enter_object(cursor));
    for (;;) {
        TRY(json_cursor_key(cursor, key, &more));
        if (!more)
            return STATUS_OK;
        if (is_array_of_objects(*cursor)) {
            TRY(read_elements(reader, cursor));
        } else if (!reader->set_given && strcmp(key->data, "dataset_name") == 0 && json_cursor_peek(cursor) == '"') {
            TRY(json_cursor_string(cursor, key));
            snprintf(reader->set, sizeof reader->set, "%s", key->data);
            for (char *at = reader->set; *at; at++)
                *at = (char)tolower((unsigned char)*at);
        } else {
            TRY(json_cursor_skip(cursor));
        }
    }
}

static enum status read_document(struct reader *reader, const struct fs_map *map) {
    struct json_cursor cursor;
    struct buf key = {0};
    json_cursor_init(&cursor, map->data, map->bytes, reader->path);
    enum status status =
        json_cursor_peek(&cursor) == '[' ? read_elements(reader, &cursor) : read_members(reader, &cursor, &key);
    if (status == STATUS_OK)
        status = json_cursor_end(&cursor);
    if (status == STATUS_OK && reader->counts.rows == 0)
        status = fail(STATUS_FORMAT, "%s: a JSON document without an array of objects", reader->path);
    buf_deinit(&key);
    return status;
}

/* ---- delimited
 * --------------------------------------------------------------------------------------------------------- */

enum column { COLUMN_OTHER, COLUMN_ID, COLUMN_QUESTION, COLUMN_ANSWERS, COLUMN_PYTHON, COLUMN_PROPERTY };

static const struct {
    const char *name;
    enum column column;
} column_names[] = {
    {"id", COLUMN_ID},
    {"question", COLUMN_QUESTION},
    {"Question", COLUMN_QUESTION},
    {"problem", COLUMN_QUESTION},
    {"answer", COLUMN_ANSWERS},
    {"answers", COLUMN_ANSWERS},
    {"possible_answers", COLUMN_ANSWERS},
    {"golden_answers", COLUMN_ANSWERS},
    {"metadata", COLUMN_PYTHON},
    {"prop", COLUMN_PROPERTY}, /* PopQA: the relation, worth keeping */
};

struct table {
    struct reader *reader;
    enum column columns[COLUMNS_MAX];
    uint32_t column_count, at; /* at: cell of the row */
    bool header, blank;
    uint64_t row, row_bytes; /* bytes since the last row's end: bounds an unclosed quote */
    enum status status;
};

static void take_header_cell(struct table *table, const char *text, size_t bytes) {
    if (table->at >= COLUMNS_MAX) {
        table->status = fail(STATUS_LIMIT, "%s: more than %d columns", table->reader->path, COLUMNS_MAX);
        return;
    }
    table->columns[table->at] = COLUMN_OTHER;
    for (size_t i = 0; i < sizeof column_names / sizeof *column_names; i++)
        if (strlen(column_names[i].name) == bytes && memcmp(column_names[i].name, text, bytes) == 0)
            table->columns[table->at] = column_names[i].column;
}

static void take_cell(struct table *table, const char *text, size_t bytes) {
    struct question_row *row = &table->reader->row;
    table->blank &= bytes == 0;
    if (table->at >= table->column_count)
        return;
    switch (table->columns[table->at]) {
    case COLUMN_ID:
        question_row_set(row, &row->id, text, bytes);
        break;
    case COLUMN_QUESTION:
        question_row_set(row, &row->text, text, bytes);
        break;
    case COLUMN_ANSWERS:
        question_row_alias_list(row, text, bytes);
        break;
    case COLUMN_PYTHON:
        question_row_python_dict(row, text, bytes);
        break;
    case COLUMN_PROPERTY: {
        struct buf json = {0};
        buf_puts(&json, "{\"prop\": ");
        json_put_string(&json, text, bytes);
        buf_puts(&json, "}");
        if (buf_ok(&json))
            question_row_set(row, &row->metadata, json.data, json.bytes);
        buf_deinit(&json);
        break;
    }
    case COLUMN_OTHER:
        break;
    }
}

static void on_cell(void *cell, size_t bytes, void *user) {
    struct table *table = user;
    const char *text = cell ? cell : "";
    if (table->status != STATUS_OK)
        return;
    if (table->header)
        take_header_cell(table, text, bytes);
    else
        take_cell(table, text, bytes);
    table->at++;
}

static bool has_column(const struct table *table, enum column column) {
    for (uint32_t i = 0; i < table->column_count; i++)
        if (table->columns[i] == column)
            return true;
    return false;
}

static void finish_header(struct table *table) {
    table->header = false;
    table->column_count = table->at;
    if (!has_column(table, COLUMN_QUESTION) || !has_column(table, COLUMN_ANSWERS))
        table->status =
            fail(STATUS_FORMAT,
                 "%s: none of the formats: neither JSON nor a header line that names a question (or problem) and "
                 "an answer (or possible_answers, golden_answers) column",
                 table->reader->path);
    else if (!table->reader->set_given && has_column(table, COLUMN_PYTHON))
        strcpy(table->reader->set, "simpleqa");
    else if (!table->reader->set_given && has_column(table, COLUMN_PROPERTY))
        strcpy(table->reader->set, "popqa");
}

static void on_row(int end, void *user) {
    struct table *table = user;
    (void)end;
    if (table->status != STATUS_OK)
        return;
    table->row_bytes = 0;
    table->row++;
    if (table->header) {
        finish_header(table);
    } else if (!table->blank) {
        if (table->at != table->column_count)
            question_row_refuse(&table->reader->row, UNUSABLE_MALFORMED, "not as many cells as the header has");
        table->status = take_row(table->reader, table->row);
    }
    question_row_reset(&table->reader->row);
    table->at = 0;
    table->blank = true;
}

static int is_csv_space(unsigned char c) {
    return c == ' ';
}

static enum status feed(struct table *table, struct csv_parser *parser, FILE *file) {
    static const char mark[] = "\xEF\xBB\xBF"; /* byte order mark */
    char chunk[CHUNK_BYTES];
    uint64_t bytes_read = 0;
    size_t bytes;
    while ((bytes = fread(chunk, 1, sizeof chunk, file)) > 0) {
        size_t skip = bytes_read == 0 && bytes >= 3 && memcmp(chunk, mark, 3) == 0 ? 3 : 0;
        table->row_bytes += bytes;
        bytes_read += bytes;
        if (csv_parse(parser, chunk + skip, bytes - skip, on_cell, on_row, table) != bytes - skip)
            return fail(STATUS_FORMAT, "%s: row %llu: %s", table->reader->path, (unsigned long long)table->row + 1,
                        csv_strerror(csv_error(parser)));
        TRY(table->status);
        if (table->row_bytes > QUESTION_ROW_BYTES_MAX)
            return fail(STATUS_LIMIT, "%s: row %llu goes on for more than %u bytes: a quote that is never closed?",
                        table->reader->path, (unsigned long long)table->row + 1, QUESTION_ROW_BYTES_MAX);
        show_progress(table->reader, bytes_read, false);
    }
    if (ferror(file))
        return fail_errno("%s", table->reader->path);
    /* libcsv reports this in its strict mode only, which would refuse quotes inside plain cells too. */
    if (parser->quoted && parser->pstate == CSV_INSIDE_FIELD)
        return fail(STATUS_FORMAT, "%s: row %llu: the file ends inside quotes", table->reader->path,
                    (unsigned long long)table->row + 1);
    csv_fini(parser, on_cell, on_row, table);
    TRY(table->status);
    return table->row ? STATUS_OK : fail(STATUS_FORMAT, "%s: the file is empty", table->reader->path);
}

static enum status read_delimited(struct reader *reader, char delimiter) {
    struct csv_parser parser;
    struct table table = {.reader = reader, .header = true, .blank = true};
    FILE *file = fopen(reader->path, "re");
    if (!file)
        return fail_errno("%s", reader->path);
    enum status status = STATUS_OK;
    if (csv_init(&parser, CSV_APPEND_NULL) == 0) {
        csv_set_delim(&parser, (unsigned char)delimiter);
        csv_set_space_func(&parser, is_csv_space);
        csv_set_blk_size(&parser, CHUNK_BYTES); /* growing by libcsv's 128 bytes, a long cell takes for ever */
        question_row_reset(&reader->row);
        status = feed(&table, &parser, file);
        csv_free(&parser);
    } else {
        status = fail(STATUS_NO_MEMORY, "%s: out of memory", reader->path);
    }
    fclose(file);
    return status;
}

/* ---- which one
 * ---------------------------------------------------------------------------------------------------------- */

/* The first line is a whole object and has a question's text: JSON lines. An object that merely ends on its first line
 * is a document written without line feeds. */
static bool is_json_lines(const char *text, size_t bytes) {
    const char *stop = memchr(text, '\n', bytes);
    size_t line = stop ? (size_t)(stop - text) : bytes;
    while (line > 0 && isspace((unsigned char)text[line - 1]))
        line--;
    if (line == 0 || text[line - 1] != '}')
        return false;
    struct json_cursor cursor;
    struct buf key = {0};
    bool more = true, lines = false;
    json_cursor_init(&cursor, text, line, "first line");
    enum status status = json_cursor_enter_object(&cursor);
    while (status == STATUS_OK && more && !lines) {
        status = json_cursor_key(&cursor, &key, &more);
        lines = status == STATUS_OK && more && question_row_has_text(key.data);
        if (status == STATUS_OK && more)
            status = json_cursor_skip(&cursor);
    }
    buf_deinit(&key);
    return lines || status != STATUS_OK || stop != NULL;
}

static enum status read_any(struct reader *reader) {
    struct fs_map map;
    TRY(fs_map_open(reader->path, &map));
    const char *text = map.data;
    size_t bytes = map.bytes;
    reader->bytes_total = bytes;
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    while (bytes > 0 && isspace((unsigned char)*text)) {
        text++;
        bytes--;
    }
    char first = bytes ? *text : 0;
    bool lines = first == '{' && is_json_lines(text, bytes);
    const char *stop = bytes ? memchr(text, '\n', bytes) : NULL;
    bool tabs = bytes && memchr(text, '\t', stop ? (size_t)(stop - text) : bytes) != NULL;
    enum status status = STATUS_OK;
    if (first == '[' || (first == '{' && !lines))
        status = read_document(reader, &(struct fs_map){text, bytes});
    fs_map_close(&map);
    if (first == '[' || (first == '{' && !lines))
        return status;
    return lines ? read_lines(reader) : read_delimited(reader, tabs ? '\t' : ',');
}

const char *question_path(const char *argument) {
    const char *equals = strchr(argument, '=');
    bool named = equals && equals > argument && equals - argument < SET_NAME_BYTES && !fs_exists(argument);
    return named ? equals + 1 : argument;
}

/* The set's name as given, else by the file's: what published files are called, or its stem. */
static void name_set(struct reader *reader, const char *argument) {
    static const char *const known[][2] = {{"simple_qa", "simpleqa"},  {"simpleqa", "simpleqa"}, {"popqa", "popqa"},
                                           {"selfaware", "selfaware"}, {"triviaqa", "triviaqa"}, {"nq", "nq"}};
    reader->path = question_path(argument);
    reader->set_given = reader->path != argument;
    if (reader->set_given) {
        snprintf(reader->set, sizeof reader->set, "%.*s", (int)(reader->path - 1 - argument), argument);
        return;
    }
    const char *slash = strrchr(argument, '/'), *stem = slash ? slash + 1 : argument;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncasecmp(stem, known[i][0], strlen(known[i][0])) == 0) {
            snprintf(reader->set, sizeof reader->set, "%s", known[i][1]);
            return;
        }
    const char *dot = strrchr(stem, '.');
    snprintf(reader->set, sizeof reader->set, "%.*s", dot && dot > stem ? (int)(dot - stem) : (int)strlen(stem), stem);
}

enum status question_read(const char *path, const struct question_events *events, struct question_counts *out_counts) {
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    reader->events = events;
    name_set(reader, path);
    enum status status = read_any(reader);
    if (status == STATUS_OK) {
        show_progress(reader, reader->bytes_total, true);
        *out_counts = reader->counts;
    }
    question_row_deinit(&reader->row);
    free(reader);
    return status;
}
