/* The inside of a training batch: plain arrays, ready to upload. Only train.c and tests look in here. */
#ifndef CANDOR_MODEL_TRAIN_BATCH_H
#define CANDOR_MODEL_TRAIN_BATCH_H

#include "common/model/train.h"

/* Rows of a tree: the prompt, then each answer without its last token. A sequence is a path from the root: the first one holds
 * the prompt's rows and answer 0, each further answer of two or more tokens is a sequence of its own whose keys begin with the
 * prompt's rows. Targets are sorted by the row that predicts them, as gradients are summed in that order. */
struct train_batch {
    int32_t rows_max, targets_max;
    int32_t rows, sequences, trees, targets;
    int64_t keys, keys_capacity;
    int32_t longest;        /* sequence, in positions */
    int32_t *ids;           /* [rows] */
    int32_t *positions;     /* [rows] */
    int32_t *row_sequence;  /* [rows] */
    int32_t *key_offset;    /* [sequences+1] */
    int32_t *key_rows;      /* [keys] */
    int32_t *tree_row;      /* [trees+1] */
    int32_t *target_rows;   /* [targets] ascending */
    int32_t *target_ids;    /* [targets] */
    int32_t *target_places; /* [targets] where the caller counts this target */
};

#endif
