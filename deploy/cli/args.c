#include "deploy/cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arg *find(const struct arg *args, size_t count, const char *name, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        if (strlen(args[i].name) == bytes && memcmp(args[i].name, name, bytes) == 0)
            return &args[i];
    return NULL;
}

static enum status push(struct arg_list *list, const char *item, const char *command) {
    if (list->count == ARG_LIST_MAX)
        return fail(STATUS_USAGE, "%s: more than %d values", command, ARG_LIST_MAX);
    list->items[list->count++] = item;
    return STATUS_OK;
}

static enum status assign(const struct arg *arg, const char *text) {
    char *end = NULL;
    errno = 0;
    if (arg->type == ARG_TEXT) {
        *(const char **)arg->value = text;
    } else if (arg->type == ARG_INT) {
        long long number = strtoll(text, &end, 10);
        if (*text == 0 || *end != 0 || errno != 0)
            return fail(STATUS_USAGE, "--%s %s: not a whole number", arg->name, text);
        *(int64_t *)arg->value = number;
    } else if (arg->type == ARG_REAL) {
        double number = strtod(text, &end);
        if (*text == 0 || *end != 0 || errno != 0)
            return fail(STATUS_USAGE, "--%s %s: not a number", arg->name, text);
        *(double *)arg->value = number;
    } else {
        return push(arg->value, text, arg->name);
    }
    return STATUS_OK;
}

enum status args_parse(int argc, char **argv, const struct arg *args, size_t count, struct arg_list *rest) {
    bool only_rest = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_rest || strncmp(word, "--", 2) != 0) {
            if (rest == NULL)
                return fail(STATUS_USAGE, "%s: takes no arguments besides options; --help lists them", word);
            TRY(push(rest, word, argv[0]));
            continue;
        }
        if (word[2] == 0) {
            only_rest = true;
            continue;
        }
        const char *equals = strchr(word, '=');
        size_t name_bytes = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
        const struct arg *arg = find(args, count, word + 2, name_bytes);
        if (arg == NULL)
            return fail(STATUS_USAGE, "%s: no such option; --help lists them", word);
        if (arg->type == ARG_FLAG) {
            if (equals != NULL)
                return fail(STATUS_USAGE, "%s: --%s takes no value", word, arg->name);
            *(bool *)arg->value = true;
            continue;
        }
        if (equals == NULL && i + 1 == argc)
            return fail(STATUS_USAGE, "--%s: needs a value: %s", arg->name, arg->placeholder);
        TRY(assign(arg, equals != NULL ? equals + 1 : argv[++i]));
    }
    return STATUS_OK;
}

enum status args_set_device(struct arg_list *set, const char *device) {
    static char model[128], actor[128];
    if (device == NULL)
        return STATUS_OK;
    if (set->count + 2 > ARG_LIST_MAX)
        return fail(STATUS_USAGE, "--set: at most %d, --device counts as two", ARG_LIST_MAX);
    snprintf(model, sizeof model, "model.device=%s", device);
    snprintf(actor, sizeof actor, "actor.device=%s", device);
    set->items[set->count++] = model;
    set->items[set->count++] = actor;
    return STATUS_OK;
}

void args_help(const char *usage, const char *about, const struct arg *args, size_t count) {
    printf("usage: %s\n\n%s\n", usage, about);
    if (count > 0)
        printf("\noptions:\n");
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", args[i].name, args[i].type == ARG_FLAG ? "" : args[i].placeholder);
        printf("  %-24s %s%s\n", left, args[i].help, args[i].type == ARG_LIST ? " (may be repeated)" : "");
    }
}

bool args_want_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}
