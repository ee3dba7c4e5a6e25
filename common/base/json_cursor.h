/* Walk through a JSON text in memory without building it: containers are entered one level at a time and each value
 * that is wanted is parsed alone, so a file of any size costs the memory of one value. A cursor is a plain struct: a
 * copy of it is a bookmark. Every error names the text and the byte offset. */
#ifndef CANDOR_BASE_JSON_CURSOR_H
#define CANDOR_BASE_JSON_CURSOR_H

#include "common/base/json.h"

struct json_cursor {
    const char *name; /* what errors call the text */
    const char *start, *at, *end;
    uint32_t depth;
    uint32_t began, object; /* bit d: the container at depth d has given a member; is an object */
};

void json_cursor_init(struct json_cursor *cursor, const char *text, size_t bytes, const char *name);

/* The first character of the next value: '{', '[', '"', a digit, ...; 0 at the end. */
char json_cursor_peek(struct json_cursor *cursor);

/* Go into an array or object; STATUS_FORMAT when the next value is none. */
enum status json_cursor_enter_array(struct json_cursor *cursor);
enum status json_cursor_enter_object(struct json_cursor *cursor);

/* Step to the next element of the array (the next member of the object, whose key replaces what is in out_key); false
 * in out_more at the container's end, which is then left. Between two steps the value must be read, skipped or entered.
 */
enum status json_cursor_next(struct json_cursor *cursor, bool *out_more);
enum status json_cursor_key(struct json_cursor *cursor, struct buf *out_key, bool *out_more);

/* The next value, parsed; STATUS_LIMIT above bytes_max. */
enum status json_cursor_value(struct json_cursor *cursor, size_t bytes_max, json_t **out_value);
/* The next value when it is a string, replacing what is in out_text, or an integer. */
enum status json_cursor_string(struct json_cursor *cursor, struct buf *out_text);
enum status json_cursor_int(struct json_cursor *cursor, int64_t *out_value);
/* Over the next value, checking no more than its brackets. */
enum status json_cursor_skip(struct json_cursor *cursor);

/* STATUS_FORMAT when anything but white space follows. */
enum status json_cursor_end(struct json_cursor *cursor);

/* Fails with the place: "name: byte 17: what". */
enum status json_cursor_fail(const struct json_cursor *cursor, const char *what);

#endif
