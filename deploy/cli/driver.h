/* A driver: hub and order of questions without training. It serves the same actors and reward workers as a learner, at one fixed
 * version, and gathers outcomes. `candor eval` and the knowledge map are drivers. One thread. */
#ifndef CANDOR_DEPLOY_DRIVER_H
#define CANDOR_DEPLOY_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/run_config.h"
#include "common/eval/outcome.h"

struct driver;

struct driver_options {
    const struct run_config *config; /* borrowed until driver_close */
    const char *model;               /* Hugging Face directory */
    uint32_t version;                /* that outcomes are labelled with */
    uint32_t actors, rewards, threads;
    bool (*stopped)(void); /* ends a question round with STATUS_INTERRUPTED */
};

/* Loads the model, starts hub, actors and reward workers, in a private directory for their sockets and logs. */
enum status driver_open(const struct driver_options *options, struct driver **out_driver);
void driver_close(struct driver **driver);

/* One round: every question of the files is answered `samples` times. */
struct driver_round {
    const char *kind;   /* of the outcome file: "eval", "knowledge", "base" */
    const char *title;  /* of the progress bar */
    const char *paths;  /* question files, separated by ':' */
    uint64_t limit;     /* the first so many questions, 0: all */
    const char *system; /* system prompt */
    uint32_t samples;
    uint32_t number; /* rounds of different numbers draw different answers */
};
enum status driver_ask(struct driver *driver, const struct driver_round *round, struct outcome_file **out_outcomes);

#endif
