/* Where configuration values come from: an INI file, the environment, --set; and what is said of keys that do not
 * exist. */
#include <ctype.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/config.h"
#include "common/base/config_internal.h"
#include "common/base/fs.h"

#define FILE_BYTES_MAX (1u << 20)
#define NAME_BYTES 64 /* "section.key"; libinih cuts both at 50 */

extern char **environ;

/* ---- unknown keys ---- */

/* Levenshtein distance of two names, each cut to NAME_BYTES. */
static unsigned distance(const char *a, const char *b) {
    unsigned row[NAME_BYTES + 1];
    size_t a_bytes = strnlen(a, NAME_BYTES), b_bytes = strnlen(b, NAME_BYTES);
    for (size_t j = 0; j <= b_bytes; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_bytes; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_bytes; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            unsigned skipped = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < skipped ? replaced : skipped;
        }
    }
    return row[b_bytes];
}

enum status config_fail_unknown(const struct option_table *table, const char *place, const char *section,
                                const char *key) {
    char asked[2 * NAME_BYTES], name[2 * NAME_BYTES];
    snprintf(asked, sizeof asked, "%.60s.%.60s", section, key);
    const struct config_option *best = NULL;
    unsigned best_distance = (unsigned)strlen(asked) / 3 + 1; /* farther is no help */
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        snprintf(name, sizeof name, "%s.%s", option->section, option->key);
        unsigned far = strcmp(option->key, key) == 0 ? 1 : distance(asked, name); /* the right key, another section */
        if (far < best_distance) {
            best_distance = far;
            best = option;
        }
    }
    if (best)
        return fail(STATUS_CONFIG, "%s%s: no such option; did you mean %s.%s?", place, asked, best->section, best->key);
    return fail(STATUS_CONFIG, "%s%s: no such option; `candor-learner --print-config` lists all of them", place, asked);
}

/* ---- the file ---- */

/* Lines go to libinih one by one through next_line(), so that their numbers are known here. A value is complete only when
 * the next key or the end comes, as indented lines may continue it. The first error is kept; the rest is not looked at. */
struct ini_state {
    const struct option_table *table;
    void *target;
    const char *name;
    const char *cursor; /* NUL-terminated text that is not read yet */
    int line;           /* number of the line last handed out, from 1 */
    bool indented;      /* that line begins with a space */
    int *lines;         /* [table->count] where each option was given, 0: not yet */
    const struct config_option *current;
    int current_line;
    struct buf value; /* of current, so far */
    enum status status;
};

static void place_of(const struct ini_state *state, int line, char *out_place, size_t bytes) {
    snprintf(out_place, bytes, "%.400s:%d: ", state->name, line);
}

/* libinih's reader: one line of at most room - 2 bytes, its line feed and NUL. */
static char *next_line(char *out_line, int room, void *context) {
    struct ini_state *state = context;
    if (state->status != STATUS_OK || *state->cursor == '\0')
        return NULL;
    state->line++;
    const char *text = state->cursor;
    size_t bytes = strcspn(text, "\n");
    state->cursor += bytes + (text[bytes] == '\n');
    size_t blank = strspn(text, " \t");
    state->indented = blank > 0;
    if (text[blank] == '#' || text[blank] == ';') {
        bytes = 0; /* comments may be of any length */
    } else if (text[blank] == '[' && !memchr(text, ']', bytes) && !(state->indented && state->current)) {
        state->status = fail(STATUS_CONFIG, "%s:%d: right would be [section], with a ]", state->name, state->line);
        return NULL;
    } else if (bytes > (size_t)room - 2) {
        state->status = fail(STATUS_CONFIG,
                             "%s:%d: line of %zu bytes; at most %d are right: continue a long text on the next line, "
                             "indented",
                             state->name, state->line, bytes, room - 2);
        return NULL;
    }
    memcpy(out_line, text, bytes);
    memcpy(out_line + bytes, "\n", 2);
    return out_line;
}

static enum status finish_value(struct ini_state *state) {
    if (!state->current)
        return STATUS_OK;
    char place[512];
    place_of(state, state->current_line, place, sizeof place);
    const struct config_option *option = state->current;
    state->current = NULL;
    if (!buf_ok(&state->value))
        return fail(STATUS_NO_MEMORY, "%sno memory for the value", place);
    return config_parse_value(option, state->target, place, state->value.data ? state->value.data : "");
}

static enum status begin_value(struct ini_state *state, const char *section, const char *key, const char *value) {
    char place[512];
    TRY(finish_value(state));
    place_of(state, state->line, place, sizeof place);
    if (section[0] == '\0')
        return fail(STATUS_CONFIG, "%s%.60s: stands before any [section]", place, key);
    const struct config_option *option = config_find(state->table, section, key);
    if (!option)
        return config_fail_unknown(state->table, place, section, key);
    int *first = &state->lines[option - state->table->options];
    if (*first > 0)
        return fail(STATUS_CONFIG, "%s%s.%s: given twice; it stands in line %d already", place, section, key, *first);
    *first = state->line;
    state->current = option;
    state->current_line = state->line;
    buf_reset(&state->value);
    buf_puts(&state->value, value);
    return STATUS_OK;
}

static enum status continue_value(struct ini_state *state, const char *value) {
    const struct config_option *option = state->current;
    if (option->type != OPTION_TEXT)
        return fail(STATUS_CONFIG,
                    "%s:%d: indented, so it would continue %s.%s, which is not a text; begin keys in the "
                    "first column",
                    state->name, state->line, option->section, option->key);
    struct buf *so_far = &state->value;
    size_t backslashes = 0;
    while (backslashes < so_far->bytes && so_far->data[so_far->bytes - 1 - backslashes] == '\\')
        backslashes++;
    if (backslashes % 2 == 1)
        so_far->bytes--; /* a backslash at the end of a line joins without a space */
    else if (so_far->bytes > 0)
        buf_puts(so_far, " ");
    buf_puts(so_far, value);
    return STATUS_OK;
}

/* libinih's handler. It reports a continued line under the name before it. */
static int on_value(void *context, const char *section, const char *key, const char *value) {
    struct ini_state *state = context;
    if (state->status != STATUS_OK)
        return 1;
    bool continues = state->indented && state->current && strcmp(state->current->key, key) == 0 &&
                     strcmp(state->current->section, section) == 0;
    state->status = continues ? continue_value(state, value) : begin_value(state, section, key, value);
    return 1;
}

static enum status parse_ini(struct ini_state *state) {
    int bad_line = ini_parse_stream(next_line, state, on_value, state);
    TRY(state->status);
    TRY(finish_value(state));
    if (bad_line != 0)
        return fail(STATUS_CONFIG, "%s:%d: right would be [section], key = value or a # comment", state->name,
                    bad_line);
    return STATUS_OK;
}

/* A copy of target to work on, so that nothing is changed on failure. */
static enum status copy_target(const struct option_table *table, const void *target, void **out_copy) {
    void *copy = malloc(table->struct_bytes);
    if (!copy)
        return fail(STATUS_NO_MEMORY, "configuration: no memory");
    memcpy(copy, target, table->struct_bytes);
    *out_copy = copy;
    return STATUS_OK;
}

enum status config_read_text(const struct option_table *table, void *target, const char *name, const char *text) {
    struct ini_state state = {.table = table, .name = name, .cursor = text};
    enum status status = STATUS_OK;
    TRY(copy_target(table, target, &state.target));
    state.lines = calloc(table->count + 1, sizeof *state.lines);
    status = state.lines ? parse_ini(&state) : fail(STATUS_NO_MEMORY, "%s: no memory to read it", name);
    if (status == STATUS_OK)
        memcpy(target, state.target, table->struct_bytes);
    free(state.lines);
    free(state.target);
    buf_deinit(&state.value);
    return status;
}

enum status config_read_file(const struct option_table *table, void *target, const char *path) {
    struct buf text = {0};
    enum status status = fs_read(path, FILE_BYTES_MAX, &text);
    if (status != STATUS_OK)
        status = fail(STATUS_CONFIG, "%s", status_message()); /* whatever is wrong with it: exit code 78 */
    else if (strlen(text.data) != text.bytes)
        status = fail(STATUS_CONFIG, "%s: not a text file: a zero byte at %zu", path, strlen(text.data));
    else
        status = config_read_text(table, target, path, text.data);
    buf_deinit(&text);
    return status;
}

/* ---- environment, --set ---- */

/* CANDOR_SECTION_KEY */
static void variable_name(const struct config_option *option, char *out_name, size_t bytes) {
    snprintf(out_name, bytes, "CANDOR_%s_%s", option->section, option->key);
    for (char *c = out_name; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

/* A variable of one of our sections that names no option is a mistake; other CANDOR_ variables are none of our
 * business. */
static enum status check_variable(const struct option_table *table, const char *variable) {
    char name[2 * NAME_BYTES];
    const struct config_option *section = NULL;
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        variable_name(option, name, sizeof name);
        size_t bytes = strlen(name);
        if (strncmp(variable, name, bytes) == 0 && variable[bytes] == '=')
            return STATUS_OK;
        bytes = strlen("CANDOR_") + strlen(option->section) + 1;
        if (strncmp(variable, name, bytes) == 0)
            section = option;
    }
    if (!section)
        return STATUS_OK;
    char key[NAME_BYTES];
    const char *rest = variable + strlen("CANDOR_") + strlen(section->section) + 1;
    snprintf(key, sizeof key, "%.*s", (int)strcspn(rest, "="), rest);
    for (char *c = key; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    snprintf(name, sizeof name, "environment: %.*s: ", (int)strcspn(variable, "="), variable);
    return config_fail_unknown(table, name, section->section, key);
}

static enum status read_environment(const struct option_table *table, void *copy) {
    for (char **variable = environ; variable && *variable; variable++) {
        if (strncmp(*variable, "CANDOR_", 7) == 0)
            TRY(check_variable(table, *variable));
    }
    for (size_t i = 0; i < table->count; i++) {
        char name[2 * NAME_BYTES], place[3 * NAME_BYTES];
        variable_name(&table->options[i], name, sizeof name);
        const char *value = getenv(name);
        snprintf(place, sizeof place, "environment: %s: ", name);
        if (value)
            TRY(config_parse_value(&table->options[i], copy, place, value));
    }
    return STATUS_OK;
}

enum status config_read_environment(const struct option_table *table, void *target) {
    void *copy = NULL;
    TRY(copy_target(table, target, &copy));
    enum status status = read_environment(table, copy);
    if (status == STATUS_OK)
        memcpy(target, copy, table->struct_bytes);
    free(copy);
    return status;
}

enum status config_set(const struct option_table *table, void *target, const char *assignment) {
    char section[NAME_BYTES], key[NAME_BYTES];
    const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
    if (!dot || !equals || dot > equals || dot - assignment >= NAME_BYTES || equals - dot > NAME_BYTES)
        return fail(STATUS_CONFIG, "--set %.100s: right would be --set section.key=value", assignment);
    snprintf(section, sizeof section, "%.*s", (int)(dot - assignment), assignment);
    snprintf(key, sizeof key, "%.*s", (int)(equals - dot - 1), dot + 1);
    const struct config_option *option = config_find(table, section, key);
    if (!option)
        return config_fail_unknown(table, "--set ", section, key);
    return config_parse_value(option, target, "--set ", equals + 1);
}
