#include "common/base/json.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/utf8.h"

/* ---- reading ---- */

/* jansson ignores that a buffer of its lexer could not grow: it leaves bytes out of a string, or writes past a block. So an allocation
 * that fails ends the parse at once; what it held until then is lost, which a process without memory does not feel. */
static _Thread_local jmp_buf *no_memory; /* of the parse at hand */

static void *allocate(size_t bytes) {
    void *block = malloc(bytes);
    if (!block && no_memory)
        longjmp(*no_memory, 1);
    return block;
}

static void watch_allocations(void) {
    json_set_alloc_funcs(allocate, free);
}

/* Depth is checked on the text, before jansson recurses into it. */
static bool depth_allowed(const char *text, size_t bytes) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX)
                return false;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return true;
}

enum status json_load(const char *text, size_t bytes, size_t flags, const char *name, json_error_t *out_error,
                      json_t **out_value) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_allocations);
    jmp_buf here;
    if (setjmp(here)) {
        no_memory = NULL;
        return fail(STATUS_NO_MEMORY, "%s: no memory to read its JSON", name);
    }
    no_memory = &here;
    json_t *value = json_loadb(text, bytes, flags, out_error);
    no_memory = NULL;
    *out_value = value;
    return STATUS_OK;
}

enum status json_parse(const char *text, size_t bytes, const char *name, json_t **out_value) {
    if (!depth_allowed(text, bytes))
        return fail(STATUS_FORMAT, "%s: JSON nested deeper than %d", name, JSON_DEPTH_MAX);
    json_error_t error;
    json_t *value;
    TRY(json_load(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, name, &error, &value));
    if (!value)
        return fail(STATUS_FORMAT, "%s: line %d, column %d: not valid JSON: %s", name, error.line, error.column,
                    error.text);
    *out_value = value;
    return STATUS_OK;
}

enum status json_read_file(const char *path, size_t bytes_max, json_t **out_value) {
    struct buf text = {0};
    enum status status = fs_read(path, bytes_max, &text);
    if (status == STATUS_OK)
        status = json_parse(text.data, text.bytes, path, out_value);
    buf_deinit(&text);
    return status;
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "?";
}

static enum status get_member(const json_t *object, const char *name, const char *key, const char *wanted,
                              const json_t **out_member) {
    if (!json_is_object(object))
        return fail(STATUS_FORMAT, "%s: %s; an object with \"%s\" is wanted", name,
                    object ? type_name(object) : "nothing there", key);
    const json_t *member = json_object_get(object, key);
    if (!member)
        return fail(STATUS_FORMAT, "%s: no \"%s\"; %s is wanted", name, key, wanted);
    *out_member = member;
    return STATUS_OK;
}

enum status json_get_string(const json_t *object, const char *name, const char *key, const char **out_text) {
    const json_t *member = NULL;
    TRY(get_member(object, name, key, "a string", &member));
    if (!json_is_string(member))
        return fail(STATUS_FORMAT, "%s: \"%s\" is %s; a string is wanted", name, key, type_name(member));
    *out_text = json_string_value(member);
    return STATUS_OK;
}

enum status json_get_int(const json_t *object, const char *name, const char *key, int64_t least, int64_t most,
                         int64_t *out_value) {
    const json_t *member = NULL;
    TRY(get_member(object, name, key, "a whole number", &member));
    if (!json_is_integer(member))
        return fail(STATUS_FORMAT, "%s: \"%s\" is %s; a whole number is wanted", name, key, type_name(member));
    int64_t value = json_integer_value(member);
    if (value < least || value > most)
        return fail(STATUS_FORMAT, "%s: \"%s\" is %lld; %lld to %lld is right", name, key, (long long)value,
                    (long long)least, (long long)most);
    *out_value = value;
    return STATUS_OK;
}

enum status json_get_double(const json_t *object, const char *name, const char *key, double *out_value) {
    const json_t *member = NULL;
    TRY(get_member(object, name, key, "a number", &member));
    if (!json_is_number(member))
        return fail(STATUS_FORMAT, "%s: \"%s\" is %s; a number is wanted", name, key, type_name(member));
    *out_value = json_number_value(member);
    return STATUS_OK;
}

/* ---- lines ---- */

enum status json_lines_open(struct json_lines *lines, const char *path, size_t line_bytes_max) {
    if (fs_is_directory(path))
        return fail(STATUS_FORMAT, "%s: is a directory; a JSONL file is wanted", path);
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT ? fail(STATUS_NOT_FOUND, "%s: no such file", path) : fail_errno("%s", path);
    *lines = (struct json_lines){.file = file, .path = path, .line_bytes_max = line_bytes_max};
    return STATUS_OK;
}

/* The next line into lines->line without its end; out_bytes is its whole length, of which at most line_bytes_max are kept.
 * STATUS_NOT_FOUND at the end of the file. */
static enum status read_line(struct json_lines *lines, size_t *out_bytes) {
    size_t bytes = 0;
    int c;
    while ((c = getc_unlocked(lines->file)) != EOF) {
        lines->bytes_read++;
        if (c == '\n')
            break;
        if (bytes < lines->line_bytes_max) {
            if (bytes == lines->capacity) {
                size_t capacity = lines->capacity ? 2 * lines->capacity : 4096;
                char *line = realloc(lines->line, capacity);
                if (!line)
                    return fail(STATUS_NO_MEMORY, "%s:%llu: no memory for the line", lines->path,
                                (unsigned long long)lines->number + 1);
                lines->line = line;
                lines->capacity = capacity;
            }
            lines->line[bytes] = (char)c;
        }
        bytes++;
    }
    if (c == EOF && ferror(lines->file))
        return fail_errno("%s", lines->path);
    if (c == EOF && bytes == 0)
        return STATUS_NOT_FOUND; /* the ordinary end: no message */
    lines->number++;
    *out_bytes = bytes;
    return STATUS_OK;
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (!strchr(" \t\r", text[i]) || text[i] == '\0')
            return false;
    }
    return true;
}

enum status json_lines_next(struct json_lines *lines, json_t **out_value) {
    for (;;) {
        size_t bytes = 0;
        TRY(read_line(lines, &bytes));
        if (bytes > lines->line_bytes_max)
            return fail(STATUS_FORMAT, "%s:%llu: line longer than %zu bytes", lines->path,
                        (unsigned long long)lines->number, lines->line_bytes_max);
        const char *text = lines->line;
        if (lines->number == 1 && bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
            text += 3;
            bytes -= 3;
        }
        if (is_blank(text, bytes))
            continue;
        char name[512];
        snprintf(name, sizeof name, "%s:%llu", lines->path, (unsigned long long)lines->number);
        return json_parse(text, bytes, name, out_value);
    }
}

void json_lines_close(struct json_lines *lines) {
    if (lines->file)
        fclose(lines->file);
    free(lines->line);
    *lines = (struct json_lines){0};
}

/* ---- writing ---- */

static void put_ascii(struct buf *out, unsigned char c) {
    switch (c) {
    case '"':
        buf_puts(out, "\\\"");
        return;
    case '\\':
        buf_puts(out, "\\\\");
        return;
    case '\n':
        buf_puts(out, "\\n");
        return;
    case '\r':
        buf_puts(out, "\\r");
        return;
    case '\t':
        buf_puts(out, "\\t");
        return;
    default:
        buf_printf(out, "\\u%04x", c);
    }
}

void json_put_string(struct buf *out, const char *text, size_t bytes) {
    const unsigned char *source = (const unsigned char *)text;
    buf_append(out, "\"", 1);
    size_t i = 0;
    while (i < bytes) {
        size_t plain = i; /* the run that is copied as it is */
        size_t length = 0;
        while (plain < bytes && source[plain] != '"' && source[plain] != '\\' && source[plain] >= 0x20 &&
               (length = utf8_character(text + plain, bytes - plain)) > 0)
            plain += length;
        buf_append(out, text + i, plain - i);
        i = plain;
        if (i == bytes)
            break;
        if (source[i] < 0x80)
            put_ascii(out, source[i]);
        else
            buf_puts(out, "\xef\xbf\xbd");
        i++;
    }
    buf_append(out, "\"", 1);
}

/* Programs never call setlocale, so the decimal point is a point. */
void json_put_double(struct buf *out, double value) {
    if (!isfinite(value)) {
        buf_puts(out, "null");
        return;
    }
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_puts(out, text);
}

void json_put_float(struct buf *out, float value) {
    if (!isfinite(value)) {
        buf_puts(out, "null");
        return;
    }
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    buf_puts(out, text);
}
