/* JSON on jansson: bounded reading with a path in each error, lines of JSONL one by one, and text escaping for writers that
 * stream. Depth is limited to 16 (transport.md section 9). */
#ifndef CANDOR_BASE_JSON_H
#define CANDOR_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define JSON_DEPTH_MAX 16

/* json_loadb that tells STATUS_NO_MEMORY from a text that is no JSON: *out_value NULL and out_error filled, as STATUS_OK. */
enum status json_load(const char *text, size_t bytes, size_t flags, const char *name, json_error_t *out_error,
                      json_t **out_value);
/* Parse one text; name is what errors call it ("file.json", "file.jsonl:12"). STATUS_FORMAT. */
enum status json_parse(const char *text, size_t bytes, const char *name, json_t **out_value);
enum status json_read_file(const char *path, size_t bytes_max, json_t **out_value);

/* Members with checks; name is what errors call the object. A missing or mistyped member is STATUS_FORMAT. The strings are
 * borrowed from the object. */
enum status json_get_string(const json_t *object, const char *name, const char *key, const char **out_text);
enum status json_get_int(const json_t *object, const char *name, const char *key, int64_t least, int64_t most,
                         int64_t *out_value);
enum status json_get_double(const json_t *object, const char *name, const char *key, double *out_value);

/* Lines of a JSONL file, each at most line_bytes_max; blank lines are skipped. Memory is one line.
 * json_lines_next returns STATUS_NOT_FOUND at the end. A bad line is STATUS_FORMAT and reading can go on after it. */
struct json_lines {
    FILE *file;
    const char *path;
    char *line;
    size_t capacity, line_bytes_max;
    uint64_t number;     /* of the last line returned, from 1 */
    uint64_t bytes_read; /* for progress */
};
enum status json_lines_open(struct json_lines *lines, const char *path, size_t line_bytes_max);
enum status json_lines_next(struct json_lines *lines, json_t **out_value);
void json_lines_close(struct json_lines *lines);

/* Append text as a quoted JSON string; malformed UTF-8 bytes become U+FFFD. */
void json_put_string(struct buf *out, const char *text, size_t bytes);
/* Append a number with the fewest digits that read back to the same double (float); non-finite becomes null. */
void json_put_double(struct buf *out, double value);
void json_put_float(struct buf *out, float value);

#endif
