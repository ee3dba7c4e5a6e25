/* Command-line options of the operator's command, by table: `--name value`, `--name=value`, flags, and repeated
 * options. */
#ifndef CANDOR_DEPLOY_ARGS_H
#define CANDOR_DEPLOY_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

#define ARG_LIST_MAX 256

struct arg_list {
    const char *items[ARG_LIST_MAX];
    size_t count;
};

enum arg_type { ARG_TEXT, ARG_INT, ARG_REAL, ARG_FLAG, ARG_LIST };

struct arg {
    const char *name; /* without the dashes */
    enum arg_type type;
    void *value; /* const char *, int64_t, double, bool, struct arg_list */
    const char *placeholder, *help;
};

/* Fills the values; what is not an option goes to rest (NULL: nothing may be left over). STATUS_USAGE names the option and what
 * would be right. argv[0] is the command's name. */
enum status args_parse(int argc, char **argv, const struct arg *args, size_t count, struct arg_list *rest);

/* The help line of an option --device. */
#define ARG_DEVICE_HELP "auto, cpu or cuda:N: --set model.device=NAME and actor.device=NAME"

/* Puts these two assignments behind set; device NULL: nothing. Their text lives as long as the process; once a process. */
enum status args_set_device(struct arg_list *set, const char *device);

/* The help page of one command on standard output. */
void args_help(const char *usage, const char *about, const struct arg *args, size_t count);

/* True when argv asks for help, wherever it does. */
bool args_want_help(int argc, char **argv);

#endif
