/* Training: forward and backward over a tree-packed batch without padding.
 *
 * The forward code is the layer code of infer.c, so a row has the same bits in both. The batch is packed by the caller with
 * train_batch_*: a tree is a prompt and the answers hanging on it; the prompt is computed once. Log-probabilities come back to
 * the host, the caller turns them into dL/dlp, and the backward pass adds to fp32 gradients. One thread. */
#ifndef CANDOR_MODEL_TRAIN_H
#define CANDOR_MODEL_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/parameters.h"

struct train_batch; /* host side: rows, positions, sequences, targets; its lists of keys grow to the largest batch seen */

enum status train_batch_create(int32_t rows_max, int32_t targets_max, struct train_batch **out_batch);
void train_batch_destroy(struct train_batch **batch);
void train_batch_reset(struct train_batch *batch);
/* One tree: prompt ids [prompt_count >= 1] and answers[a] ids [answer_counts[a]]. Every answer token is a target, in order:
 * answer 0's tokens, answer 1's, ... An answer's last token needs no row, as nobody attends to it; an answer of no token adds
 * nothing. A tree of one answer is a supervised example. STATUS_LIMIT when full (nothing is added). */
enum status train_batch_add_tree(struct train_batch *batch, const int32_t *prompt, int32_t prompt_count,
                                 const int32_t *const *answers, const int32_t *answer_counts, int32_t answer_count);
int32_t train_batch_rows(const struct train_batch *batch);
int32_t train_batch_targets(const struct train_batch *batch);
/* Rows that a tree takes. */
int32_t train_tree_rows(int32_t prompt_count, const int32_t *answer_counts, int32_t answer_count);

struct train_limits {
    int32_t rows_max;
    int32_t targets_max;
    int32_t logit_chunk;  /* rows of vocabulary logits at once */
    int32_t keep_layers;  /* layers whose activations are kept; the others are recomputed. Changes no bit. -1: all */
    bool forward_only;    /* log-probabilities of a reference: nothing is kept, and train_backward may not be called */
};

struct train;
enum status train_create(struct model *model, const struct train_limits *limits, struct train **out_train);
void train_destroy(struct train **train);
int64_t train_bytes(const struct model_config *config, const struct train_limits *limits, enum dtype activation);

/* host out: lp [targets], entropy [targets] (NULL: not wanted); temperature > 0. STATUS_FORMAT for an id outside the
 * vocabulary, STATUS_LIMIT for a batch above the limits or a sequence above the model's positions. */
enum status train_forward(struct train *train, const struct train_batch *batch, float temperature, float *out_lp,
                          float *out_entropy);
/* Once after train_forward of the same batch (it consumes the activations): adds dL/dparameters to gradients [layout->total] fp32 device, for host dlp [targets].
 * A target with dlp 0 contributes exactly nothing. */
enum status train_backward(struct train *train, const struct train_batch *batch, const float *dlp, float *gradients);

#endif
