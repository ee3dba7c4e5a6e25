/* `candor demo`: a small world of facts, a small model from nothing, the real daemons, in minutes on a laptop.
 *
 * It only runs public commands, one after the other, and reads the files they leave; run by hand, the same commands give the same
 * bytes. */
#ifndef CANDOR_DEMO_DEMO_H
#define CANDOR_DEMO_DEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/fs.h"
#include "common/base/status.h"
#include "deploy/cli/args.h"

struct demo {
    uint64_t seed;
    const char *out;  /* directory */
    const char *json; /* file for the numbers, or NULL */
    struct arg_list set; /* "section.key=value": on every command that reads the configuration */
    bool resume, dry_run;
    char config[PATH_BYTES], world[PATH_BYTES], base[PATH_BYTES], run[PATH_BYTES];
};

/* ---- stages.c ---- */
#define STAGE_ARGUMENTS_MAX (16 + 2 * ARG_LIST_MAX)

struct stage {
    const char *title;
    const char *arguments[STAGE_ARGUMENTS_MAX]; /* of `candor`, NULL-terminated */
    char product[PATH_BYTES];                   /* what is there when the stage is done */
};

#define STAGES 6

/* The paths of demo from its out. */
enum status demo_paths(struct demo *demo);
/* The commands, in order. */
enum status demo_stages(const struct demo *demo, struct stage out_stages[STAGES]);
/* STATUS_CONFIG when a --set is wrong, STATUS_USAGE when the demo to be resumed is of another seed. */
enum status demo_check_settings(const struct demo *demo);

/* ---- summary.c ---- */
/* The table, examples, balance and next steps on standard output; the numbers into demo->json if it is set. */
enum status demo_summary(const struct demo *demo);

#endif
