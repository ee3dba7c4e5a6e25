/* Configuration: one option table gives name, type, unit, range, default and help of every key; one INI file, the
 * environment and --set fill one struct (file < environment < --set).
 *
 * Precedence and names: key `sample.temperature` in the file is [sample] temperature = 1.0, in the environment
 * CANDOR_SAMPLE_TEMPERATURE, on the command line --set sample.temperature=1.0. In texts \n \t \s (a space) \\ \; \# and
 * \xNN are escapes; in the file an indented line continues the text of the line before, joined by a space, or by nothing
 * after a backslash at the end; ';' behind a space begins a comment. Unknown keys, wrong types and values out of
 * range are STATUS_CONFIG with "file:line: section.key = value: what would be right". Nothing is changed on failure. */
#ifndef CANDOR_BASE_CONFIG_H
#define CANDOR_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/base/status.h"

#define CONFIG_TEXT_BYTES 4096 /* the longest text value: a system prompt */

enum option_type {
    OPTION_INT,    /* int64_t */
    OPTION_REAL,   /* double */
    OPTION_BOOL,   /* bool: yes/no, true/false, on/off, 1/0 */
    OPTION_TEXT,   /* char[CONFIG_TEXT_BYTES]; \n in the file stands for a line feed */
    OPTION_CHOICE, /* int64_t: index into choices */
};

/* What a key is for, which decides whether it enters the configuration hash. */
enum option_scope {
    SCOPE_RESULT, /* changes the trained bits: part of the configuration hash */
    SCOPE_HOST,   /* paths, devices, ports, log level, retention: not part of it */
};

struct config_option {
    const char *section, *key;
    enum option_type type;
    enum option_scope scope;
    size_t offset;            /* of the field in the struct that is filled */
    const char *default_text;
    double least, most;       /* INT and REAL */
    const char *unit;         /* "tokens", "ms", "" */
    const char *choices;      /* CHOICE: "a|b|c" */
    const char *help;
};

struct option_table {
    const struct config_option *options;
    size_t count;
    size_t struct_bytes;
};

/* target is a struct of table->struct_bytes. */
enum status config_defaults(const struct option_table *table, void *target);
enum status config_read_file(const struct option_table *table, void *target, const char *path);
enum status config_read_text(const struct option_table *table, void *target, const char *name, const char *text);
enum status config_read_environment(const struct option_table *table, void *target);
/* assignment = "section.key=value" */
enum status config_set(const struct option_table *table, void *target, const char *assignment);

/* INI text of all values, in table order; with_help puts unit, range and help above each key as comments. Reading it back
 * gives the same struct. Serves --print-config and the run directory's config.ini. */
void config_print(const struct option_table *table, const void *target, bool with_help, struct buf *out);

/* Digest over the SCOPE_RESULT keys' canonical text. STATUS_NO_MEMORY. */
enum status config_digest(const struct option_table *table, const void *target, struct digest *out_digest);

/* The keys of that scope that differ, as "section.key: a -> b" lines. Returns their count; for
 * people: out of memory it ends early. */
size_t config_diff(const struct option_table *table, const void *a, const void *b, struct buf *out);

#endif
