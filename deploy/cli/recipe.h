/* The configuration that `candor data world` puts beside a world's files: how a model of that world is made and trained. */
#ifndef CANDOR_DEPLOY_RECIPE_H
#define CANDOR_DEPLOY_RECIPE_H

#include <stdint.h>

#include "common/base/status.h"

#define RECIPE_FILE "candor.ini"

/* Writes RECIPE_FILE into a world's directory, as every command's --config takes it; only the model's place is left open. */
enum status recipe_write(uint64_t seed, const char *world_directory);

#endif
