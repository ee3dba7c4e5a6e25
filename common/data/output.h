/* A file of lines that appears whole or not at all: written beside, flushed to the disk, renamed. Inside common/data only. */
#ifndef CANDOR_DATA_OUTPUT_H
#define CANDOR_DATA_OUTPUT_H

#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/fs.h"

struct output {
    FILE *file; /* NULL: not open */
    char path[PATH_BYTES], temporary[PATH_BYTES];
    uint64_t rows;
};

enum status output_open(struct output *output, const char *path);
/* One line, with its line feed. */
enum status output_put(struct output *output, const struct buf *line);
/* Puts the file in its place. */
enum status output_publish(struct output *output);
/* Leaves nothing behind; after publishing, and before opening, it does nothing. */
void output_drop(struct output *output);

#endif
