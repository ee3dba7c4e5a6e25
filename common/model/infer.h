/* Inference: paged key/value cache and one forward pass over any mix of prefill and decode rows.
 *
 * Pages hold KV_PAGE_TOKENS positions and are reference counted: a sequence forked from another shares its full pages and gets
 * a copy of the page in which it ends. A row's bits depend on its own sequence alone (ops.h O1, O4). One thread. */
#ifndef CANDOR_MODEL_INFER_H
#define CANDOR_MODEL_INFER_H

#include <stdint.h>

#include "common/model/parameters.h"

struct infer;

struct infer_limits {
    int32_t rows_max;        /* rows of one forward pass */
    int32_t sequences_max;   /* sequences alive at once */
    int64_t kv_tokens;       /* room of the cache, in positions; rounded up to pages */
    int32_t logit_rows_max;  /* rows of logits wanted at once */
    int32_t positions_max;   /* longest sequence; 0: what the model was created for (in infer_bytes: config.max_positions) */
};

enum status infer_create(struct model *model, const struct infer_limits *limits, struct infer **out_infer);
void infer_destroy(struct infer **infer);
/* Bytes that infer_create would allocate on the device (at most: it cuts logits to the tokenizer's ids). */
int64_t infer_bytes(const struct model_config *config, const struct infer_limits *limits, enum dtype activation);

/* ---- sequences: small handles ---- */
/* STATUS_AGAIN when no handle is free. */
enum status infer_sequence_open(struct infer *infer, int32_t *out_sequence);
/* A new sequence with the first `length` positions of another (already computed ones). STATUS_AGAIN when pages are short. */
enum status infer_sequence_fork(struct infer *infer, int32_t from, int32_t length, int32_t *out_sequence);
void infer_sequence_close(struct infer *infer, int32_t sequence);
int32_t infer_sequence_length(const struct infer *infer, int32_t sequence);
/* Pages free now, and pages that appending count tokens to a sequence would take. */
int32_t infer_pages_free(const struct infer *infer);
int32_t infer_pages_for(int32_t tokens);

/* ---- a forward pass ---- */
struct infer_row {
    int32_t sequence;
    int32_t token;       /* appended at the sequence's next position; rows of a sequence come in order */
    int32_t want_logits; /* 1: this row's logits are wanted */
};
/* Appends the rows and computes them. Wanted logits lie in row order in the engine's buffer until the next call. On failure
 * nothing is changed: STATUS_AGAIN when pages are short, STATUS_LIMIT above rows_max, logit_rows_max or positions_max,
 * STATUS_FORMAT for a token outside the vocabulary. */
enum status infer_forward(struct infer *infer, const struct infer_row *rows, int32_t row_count);

struct sampling {
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: off */
    float top_p;       /* 1: off */
};
/* Draw count tokens from the logits of the last forward. Draw i is made from wanted row rows[i] (counted among the wanted rows)
 * with uniforms[i]; rows NULL: draw i from row i. A row may be drawn from many times: the first tokens of a question's samples
 * all come from its prompt's last row. host: rows, uniforms [count] in, ids, lp [count] out. STATUS_LIMIT above the larger of
 * rows_max and sequences_max. */
enum status infer_sample(struct infer *infer, const struct sampling *sampling, const int32_t *rows, const float *uniforms,
                         int32_t count, int32_t *out_ids, float *out_lp);
/* Download a wanted row's logits to host: [model->valid_vocab] fp32, before the temperature. */
enum status infer_logits(struct infer *infer, int32_t row, float *out_logits);

/* Drop every sequence (weights changed). */
void infer_reset(struct infer *infer);

/* The canary: the hash of one fixed prompt's logits under the present weights (DESIGN section 5.3). It has pages of its own
 * and drops no sequence; the last forward's logits are gone afterwards. */
enum status infer_canary(struct infer *infer, struct digest *out_canary);
/* The same among other rows, over several passes: begin (after a change of weights, again at any time), then in each pass up
 * to `most` rows of what is left; the last one of all wants logits. After the pass with that one: the canary, from the row's
 * place among the wanted ones. */
void infer_canary_begin(struct infer *infer);
int32_t infer_canary_rows(const struct infer *infer, int32_t most, struct infer_row *out_rows);
enum status infer_canary_end(struct infer *infer, int32_t row, struct digest *out_canary);

#endif
