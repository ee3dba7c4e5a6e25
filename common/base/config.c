#include "common/base/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/config_internal.h"
#include "common/base/json.h"

#define PRINT_COLUMNS 110     /* config_print wraps texts here; libinih reads lines of up to 198 bytes */
#define SHOWN_VALUE_BYTES 100 /* of a wrong value in a message */

/* ---- fields ---- */

static int64_t *int_field(const struct config_option *option, void *target) {
    return (int64_t *)(void *)((char *)target + option->offset);
}

static double *real_field(const struct config_option *option, void *target) {
    return (double *)(void *)((char *)target + option->offset);
}

static bool *bool_field(const struct config_option *option, void *target) {
    return (bool *)(void *)((char *)target + option->offset);
}

static char *text_field(const struct config_option *option, void *target) {
    return (char *)target + option->offset;
}

const struct config_option *config_find(const struct option_table *table, const char *section, const char *key) {
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        if (strcmp(option->section, section) == 0 && strcmp(option->key, key) == 0)
            return option;
    }
    return NULL;
}

/* ---- text to value ---- */

/* The range in words: "0.01 to 10", "1 to 256 answers". */
static void put_range(const struct config_option *option, struct buf *out) {
    json_put_double(out, option->least);
    buf_puts(out, " to ");
    json_put_double(out, option->most);
    if (option->unit && option->unit[0])
        buf_printf(out, " %s", option->unit);
}

static void put_wanted(const struct config_option *option, struct buf *out) {
    switch (option->type) {
    case OPTION_INT:
        buf_puts(out, "a whole number, ");
        put_range(option, out);
        return;
    case OPTION_REAL:
        buf_puts(out, "a number, ");
        put_range(option, out);
        return;
    case OPTION_BOOL:
        buf_puts(out, "yes or no");
        return;
    case OPTION_CHOICE:
        buf_puts(out, "one of ");
        for (const char *c = option->choices; *c; c++)
            buf_puts(out, *c == '|' ? ", " : (char[]){*c, '\0'});
        return;
    case OPTION_TEXT:
        buf_puts(out, "a text");
        return;
    }
}

static enum status fail_value(const struct config_option *option, const char *place, const char *text,
                              const char *why) {
    struct buf wanted = {0};
    put_wanted(option, &wanted);
    enum status status = fail(STATUS_CONFIG, "%s%s.%s = %.*s: %s; right would be %s", place, option->section,
                              option->key, SHOWN_VALUE_BYTES, text, why, wanted.data ? wanted.data : "?");
    buf_deinit(&wanted);
    return status;
}

static bool find_choice(const char *choices, const char *text, int64_t *out_index) {
    size_t length = strlen(text);
    int64_t index = 0;
    for (const char *choice = choices; *choice; index++) {
        size_t bytes = strcspn(choice, "|");
        if (bytes == length && memcmp(choice, text, length) == 0) {
            *out_index = index;
            return true;
        }
        choice += bytes;
        choice += *choice == '|';
    }
    return false;
}

static bool parse_bool(const char *text, bool *out_value) {
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out_value = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef";
    const char *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* One escape after its backslash; returns the bytes read, 0 when there is no such escape. */
static size_t unescape(const char *text, char *out_char) {
    static const char from[] = "nts\\;#", to[] = "\n\t \\;#";
    const char *found = *text ? strchr(from, *text) : NULL;
    if (found) {
        *out_char = to[found - from];
        return 1;
    }
    if (*text == 'x' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
        *out_char = (char)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
        return *out_char ? 3 : 0;
    }
    return 0;
}

static enum status parse_text(const struct config_option *option, char *field, const char *place, const char *text) {
    char value[CONFIG_TEXT_BYTES];
    size_t bytes = 0;
    for (const char *c = text; *c; c++) {
        if (bytes == sizeof value - 1)
            return fail(STATUS_CONFIG, "%s%s.%s = %.*s...: longer than %zu bytes", place, option->section, option->key,
                        SHOWN_VALUE_BYTES, text, sizeof value - 1);
        value[bytes] = *c;
        if (*c == '\\') {
            size_t read = unescape(c + 1, &value[bytes]);
            if (read == 0)
                return fail(STATUS_CONFIG,
                            "%s%s.%s = ...%.20s: no such escape; right would be \\\\ for a backslash, \\n for a line "
                            "feed, \\t, \\s, \\;, \\# or \\xNN",
                            place, option->section, option->key, c);
            c += read;
        }
        bytes++;
    }
    value[bytes] = '\0';
    memset(field, 0, CONFIG_TEXT_BYTES);
    memcpy(field, value, bytes);
    return STATUS_OK;
}

enum status config_parse_value(const struct config_option *option, void *target, const char *place, const char *text) {
    char *end;
    errno = 0;
    switch (option->type) {
    case OPTION_INT: {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0)
            return fail_value(option, place, text, "not a whole number");
        if ((double)value < option->least || (double)value > option->most)
            return fail_value(option, place, text, "out of range");
        *int_field(option, target) = value;
        return STATUS_OK;
    }
    case OPTION_REAL: {
        double value = strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(value))
            return fail_value(option, place, text, "not a number");
        if (value < option->least || value > option->most)
            return fail_value(option, place, text, "out of range");
        *real_field(option, target) = value;
        return STATUS_OK;
    }
    case OPTION_BOOL:
        if (!parse_bool(text, bool_field(option, target)))
            return fail_value(option, place, text, "neither yes nor no");
        return STATUS_OK;
    case OPTION_CHOICE:
        if (!find_choice(option->choices, text, int_field(option, target)))
            return fail_value(option, place, text, "no such choice");
        return STATUS_OK;
    case OPTION_TEXT:
        return parse_text(option, text_field(option, target), place, text);
    }
    return fail(STATUS_CONFIG, "%s%s.%s: an option of no known type", place, option->section, option->key);
}

enum status config_defaults(const struct option_table *table, void *target) {
    memset(target, 0, table->struct_bytes);
    for (size_t i = 0; i < table->count; i++)
        TRY(config_parse_value(&table->options[i], target, "default: ", table->options[i].default_text));
    return STATUS_OK;
}

/* ---- value to text ---- */

/* Escaped so that reading gives the same bytes: no control characters, no space at an end or beside another, no bare
 * ';'. */
static void put_text(const char *text, struct buf *out) {
    for (const char *c = text; *c; c++) {
        bool edge = c == text || c[1] == '\0' || c[-1] == ' ';
        if (*c == '\n')
            buf_puts(out, "\\n");
        else if (*c == '\t')
            buf_puts(out, "\\t");
        else if (*c == '\\' || *c == ';')
            buf_printf(out, "\\%c", *c);
        else if (*c == ' ' && edge)
            buf_puts(out, "\\s");
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            buf_printf(out, "\\x%02x", (unsigned)*c);
        else
            buf_append(out, c, 1);
    }
}

/* The canonical text of a value: what is printed, hashed and compared. */
static void put_value(const struct config_option *option, const void *target, struct buf *out) {
    void *fields = (void *)(uintptr_t)target; /* only read */
    switch (option->type) {
    case OPTION_INT:
        buf_printf(out, "%lld", (long long)*int_field(option, fields));
        return;
    case OPTION_REAL:
        json_put_double(out, *real_field(option, fields));
        return;
    case OPTION_BOOL:
        buf_puts(out, *bool_field(option, fields) ? "yes" : "no");
        return;
    case OPTION_TEXT:
        put_text(text_field(option, fields), out);
        return;
    case OPTION_CHOICE: {
        const char *choice = option->choices;
        for (int64_t i = *int_field(option, fields); i > 0; i--)
            choice += strcspn(choice, "|") + 1;
        buf_append(out, choice, strcspn(choice, "|"));
        return;
    }
    }
}

/* Bytes of the escape or UTF-8 character at text. */
static size_t unit_bytes(const char *text) {
    if (text[0] == '\\')
        return text[1] == 'x' ? 4 : 2;
    size_t bytes = 1;
    while (bytes < 4 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
        bytes++;
    return bytes;
}

/* Where to end a line of at most width bytes of longer escaped text: at a space if there is one, else between two
 * units. */
static size_t line_break(const char *text, size_t width, bool *out_at_space) {
    size_t space = 0, i = 0;
    while (i + unit_bytes(text + i) <= width) {
        if (text[i] == ' ')
            space = i;
        i += unit_bytes(text + i);
    }
    if (text[i] == ' ')
        space = i;
    *out_at_space = space > 0;
    return space > 0 ? space : i;
}

/* "key = value", long texts continued on indented lines; a backslash at the end of a line joins without a space. */
static void print_value(const struct config_option *option, const char *value, struct buf *out) {
    buf_printf(out, "%s = ", option->key);
    size_t column = strlen(option->key) + 3;
    while (option->type == OPTION_TEXT && column + strlen(value) > PRINT_COLUMNS) {
        bool at_space;
        size_t bytes = line_break(value, PRINT_COLUMNS - column, &at_space);
        buf_append(out, value, bytes);
        value += bytes + at_space;
        buf_puts(out, at_space ? "\n    " : "\\\n    ");
        if (*value == '#')
            buf_puts(out, "\\");
        column = 5;
    }
    buf_printf(out, "%s\n", value);
}

static void print_help(const struct config_option *option, struct buf *out) {
    struct buf wanted = {0};
    put_wanted(option, &wanted);
    buf_printf(out, "\n# %s\n# %s", option->help, wanted.data ? wanted.data : "");
    if (strlen(option->default_text) <= 40)
        buf_printf(out, "; default: %s", option->default_text[0] ? option->default_text : "empty");
    buf_puts(out, "\n");
    buf_deinit(&wanted);
}

/* A section may stand in several places of the table; it is printed once, where it first stands. */
static bool section_seen(const struct option_table *table, size_t index) {
    for (size_t i = 0; i < index; i++) {
        if (strcmp(table->options[i].section, table->options[index].section) == 0)
            return true;
    }
    return false;
}

void config_print(const struct option_table *table, const void *target, bool with_help, struct buf *out) {
    struct buf value = {0};
    for (size_t first = 0; first < table->count; first++) {
        if (section_seen(table, first))
            continue;
        const char *section = table->options[first].section;
        buf_printf(out, "%s[%s]\n", first > 0 ? "\n" : "", section);
        for (size_t i = first; i < table->count; i++) {
            const struct config_option *option = &table->options[i];
            if (strcmp(option->section, section) != 0)
                continue;
            if (with_help)
                print_help(option, out);
            buf_reset(&value);
            put_value(option, target, &value);
            print_value(option, value.data ? value.data : "", out);
        }
    }
    buf_deinit(&value);
}

enum status config_digest(const struct option_table *table, const void *target, struct digest *out_digest) {
    struct buf text = {0};
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        if (option->scope != SCOPE_RESULT)
            continue;
        buf_printf(&text, "%s.%s=", option->section, option->key);
        put_value(option, target, &text);
        buf_puts(&text, "\n");
    }
    if (!buf_ok(&text))
        return fail(STATUS_NO_MEMORY, "configuration: no memory for its digest");
    *out_digest = hash128(text.data, text.bytes);
    buf_deinit(&text);
    return STATUS_OK;
}

size_t config_diff(const struct option_table *table, const void *a, const void *b, struct buf *out) {
    size_t count = 0;
    struct buf text_a = {0}, text_b = {0};
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        if (option->scope != SCOPE_RESULT)
            continue;
        buf_reset(&text_a);
        buf_reset(&text_b);
        put_value(option, a, &text_a);
        put_value(option, b, &text_b);
        if (!buf_ok(&text_a) || !buf_ok(&text_b))
            break;
        if (text_a.bytes == text_b.bytes && (text_a.bytes == 0 || memcmp(text_a.data, text_b.data, text_a.bytes) == 0))
            continue;
        buf_printf(out, "%s.%s: %s -> %s\n", option->section, option->key, text_a.bytes ? text_a.data : "(empty)",
                   text_b.bytes ? text_b.data : "(empty)");
        count++;
    }
    buf_deinit(&text_a);
    buf_deinit(&text_b);
    return count;
}
