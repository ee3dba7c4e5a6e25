#include "common/base/json_cursor.h"

#include <string.h>

#define STRING_BYTES_MAX (16u << 20)

void json_cursor_init(struct json_cursor *cursor, const char *text, size_t bytes, const char *name) {
    *cursor = (struct json_cursor){.name = name, .start = text, .at = text, .end = text + bytes};
}

enum status json_cursor_fail(const struct json_cursor *cursor, const char *what) {
    return fail(STATUS_FORMAT, "%s: byte %zu: %s", cursor->name, (size_t)(cursor->at - cursor->start), what);
}

char json_cursor_peek(struct json_cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || (*cursor->at >= '\t' && *cursor->at <= '\r')))
        cursor->at++;
    return cursor->at < cursor->end ? *cursor->at : 0;
}

static enum status enter(struct json_cursor *cursor, bool object) {
    if (json_cursor_peek(cursor) != (object ? '{' : '['))
        return json_cursor_fail(cursor, object ? "an object should begin here" : "an array should begin here");
    if (cursor->depth == JSON_DEPTH_MAX)
        return json_cursor_fail(cursor, "nested too deep");
    cursor->at++;
    uint32_t bit = 1u << cursor->depth++;
    cursor->began &= ~bit;
    cursor->object = object ? cursor->object | bit : cursor->object & ~bit;
    return STATUS_OK;
}

enum status json_cursor_enter_array(struct json_cursor *cursor) {
    return enter(cursor, false);
}

enum status json_cursor_enter_object(struct json_cursor *cursor) {
    return enter(cursor, true);
}

enum status json_cursor_next(struct json_cursor *cursor, bool *out_more) {
    ASSERT(cursor->depth > 0);
    uint32_t bit = 1u << (cursor->depth - 1);
    char next = json_cursor_peek(cursor);
    if (next == (cursor->object & bit ? '}' : ']')) {
        cursor->at++;
        cursor->depth--;
        *out_more = false;
        return STATUS_OK;
    }
    if (next == 0)
        return json_cursor_fail(cursor, "the text ends inside an array or object");
    if (cursor->began & bit) {
        if (next != ',')
            return json_cursor_fail(cursor, "a comma or closing bracket should stand here");
        cursor->at++;
    }
    cursor->began |= bit;
    *out_more = true;
    return STATUS_OK;
}

enum status json_cursor_key(struct json_cursor *cursor, struct buf *out_key, bool *out_more) {
    bool more;
    TRY(json_cursor_next(cursor, &more));
    if (more) {
        TRY(json_cursor_string(cursor, out_key));
        if (json_cursor_peek(cursor) != ':')
            return json_cursor_fail(cursor, "a colon should stand here");
        cursor->at++;
    }
    *out_more = more;
    return STATUS_OK;
}

enum status json_cursor_value(struct json_cursor *cursor, size_t bytes_max, json_t **out_value) {
    if (json_cursor_peek(cursor) == 0)
        return json_cursor_fail(cursor, "the text ends where a value should stand");
    size_t bytes = (size_t)(cursor->end - cursor->at);
    bool cut = bytes > bytes_max;
    json_error_t error;
    json_t *value;
    TRY(json_load(cursor->at, cut ? bytes_max : bytes, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, cursor->name, &error,
                  &value));
    if (!value && cut && json_error_code(&error) == json_error_premature_end_of_input)
        return fail(STATUS_LIMIT, "%s: byte %zu: a value of more than %zu bytes", cursor->name,
                    (size_t)(cursor->at - cursor->start), bytes_max);
    if (!value)
        return fail(STATUS_FORMAT, "%s: byte %zu: %s", cursor->name,
                    (size_t)(cursor->at - cursor->start) + (size_t)(error.position > 0 ? error.position : 0),
                    error.text);
    cursor->at += error.position;
    *out_value = value;
    return STATUS_OK;
}

/* Plain ASCII without escapes, by far the most frequent, is taken as it stands; jansson reads the others. */
enum status json_cursor_string(struct json_cursor *cursor, struct buf *out_text) {
    if (json_cursor_peek(cursor) != '"')
        return json_cursor_fail(cursor, "a string should stand here");
    const char *from = cursor->at + 1, *at = from;
    while (at < cursor->end && *at >= ' ' && *at != '"' && *at != '\\' && *at != 0x7f)
        at++;
    buf_reset(out_text);
    if (at < cursor->end && *at == '"') {
        buf_append(out_text, from, (size_t)(at - from));
        cursor->at = at + 1;
    } else {
        json_t *value;
        TRY(json_cursor_value(cursor, STRING_BYTES_MAX, &value));
        buf_append(out_text, json_string_value(value), json_string_length(value));
        json_decref(value);
    }
    buf_append(out_text, "", 0);
    return buf_ok(out_text) ? STATUS_OK : fail(STATUS_NO_MEMORY, "%s: out of memory", cursor->name);
}

enum status json_cursor_int(struct json_cursor *cursor, int64_t *out_value) {
    json_cursor_peek(cursor);
    const char *at = cursor->at;
    bool negative = at < cursor->end && *at == '-';
    at += negative;
    int64_t value = 0;
    const char *digits = at;
    while (at < cursor->end && *at >= '0' && *at <= '9' && at - digits < 18)
        value = value * 10 + (*at++ - '0');
    bool ends = at == cursor->end || strchr(",]} \t\r\n", *at) != NULL;
    if (at == digits || !ends)
        return json_cursor_fail(cursor, "an integer should stand here");
    cursor->at = at;
    *out_value = negative ? -value : value;
    return STATUS_OK;
}

static enum status skip_string(struct json_cursor *cursor) {
    for (cursor->at++; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++)
        if (*cursor->at == '\\' && ++cursor->at == cursor->end)
            break;
    if (cursor->at >= cursor->end)
        return json_cursor_fail(cursor, "the text ends inside a string");
    cursor->at++;
    return STATUS_OK;
}

enum status json_cursor_skip(struct json_cursor *cursor) {
    uint32_t depth = 0;
    do {
        char next = json_cursor_peek(cursor);
        if (next == 0)
            return json_cursor_fail(cursor, "the text ends where a value should go on");
        if (next == '"') {
            TRY(skip_string(cursor));
        } else if (next == '{' || next == '[') {
            depth++;
            cursor->at++;
        } else if (next == '}' || next == ']') {
            if (depth == 0)
                return json_cursor_fail(cursor, "a value should stand here");
            depth--;
            cursor->at++;
        } else if (next == ',' || next == ':') {
            if (depth == 0)
                return json_cursor_fail(cursor, "a value should stand here");
            cursor->at++;
        } else { /* a number or word */
            while (cursor->at < cursor->end && !strchr(",:{}[]\" \t\r\n", *cursor->at))
                cursor->at++;
            if (cursor->at < cursor->end && *cursor->at == 0)
                return json_cursor_fail(cursor, "a zero byte");
        }
    } while (depth > 0);
    return STATUS_OK;
}

enum status json_cursor_end(struct json_cursor *cursor) {
    return json_cursor_peek(cursor) == 0 && cursor->at == cursor->end ? STATUS_OK
                                                                      : json_cursor_fail(cursor, "text after the end");
}
