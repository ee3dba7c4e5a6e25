/* A tiny world and a tiny model in a temporary directory, for the learner's tests. */
#ifndef CANDOR_TESTS_SUPPORT_LEARNER_TINY_H
#define CANDOR_TESTS_SUPPORT_LEARNER_TINY_H

#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/run_config.h"
#include "common/model/parameters.h"

struct tiny {
    char directory[PATH_BYTES]; /* removed by tiny_close */
    char world[PATH_BYTES];     /* world_write's files, with a config.json of one layer */
    struct device *device;
    struct model *model; /* fresh weights of the world's shape */
};

void tiny_open(struct tiny *tiny);
void tiny_close(struct tiny *tiny);

/* The defaults, model.path and data of the tiny world, run.directory = <directory>/run; then assignments,
 * NULL-terminated. */
struct run_config *tiny_config(const struct tiny *tiny, const char *const *assignments);

#endif
