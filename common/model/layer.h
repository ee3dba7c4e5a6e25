/* One transformer layer and the vocabulary head, forward and backward, over struct ops. Sampling and training both call
 * layer_forward and head_logits, so a row has the same bits in both (DESIGN section 5.3). No memory of its own. */
#ifndef CANDOR_MODEL_LAYER_H
#define CANDOR_MODEL_LAYER_H

#include "common/model/parameters.h"

/* The rows of one pass. All but the scalars is device memory, and view.tree_row host memory. */
struct layer_rows {
    int32_t count;            /* R */
    const int32_t *positions; /* [R] */
    const int32_t *slots;     /* [R] where each row's key and value go */
    struct attention_view view;
};

/* Where a layer's activations go (act elements). In inference the three residuals are one memory and lse is NULL. */
struct layer_memory {
    const void *x_in; /* [R,H] read */
    void *x_mid;      /* [R,H] after attention; may be x_in */
    void *x_out;      /* [R,H] after the ffn; may be x_mid. NULL: not wanted, and the pass ends at gate_up */
    void *norm;       /* [R,H] scratch */
    float *rstd;      /* [R] scratch */
    void *qkv;        /* [R,(N+2K)D], q rotated */
    void *k, *v;      /* [slots,K*D] */
    void *attention;  /* [R,N*D] */
    float *lse;       /* [R,N] or NULL */
    void *gate_up;    /* [R,2F] */
    void *swiglu;     /* [R,F] scratch */
};

void layer_forward(const struct model *model, int32_t layer, const struct layer_memory *memory,
                   const struct layer_rows *rows);

/* What the backward pass needs beside the layer's kept activations; contents do not outlive a layer. */
struct layer_scratch {
    void *dnorm;      /* [R,H] */
    void *dattention; /* [R,N*D] */
    void *dqkv;       /* [R,(N+2K)D] */
    void *dk, *dv;    /* [R,K*D] */
};

/* dx [R,H] act: dL/dx_out in, dL/dx_in out. gradients [layout->total] fp32 +=. Uses memory->norm, rstd and swiglu as scratch
 * and overwrites gate_up. */
void layer_backward(const struct model *model, int32_t layer, const struct layer_memory *memory,
                    const struct layer_scratch *scratch, const struct layer_rows *rows, void *dx, float *gradients);

/* ---- vocabulary head ---- */

/* Columns of the logit matrix: the tokenizer's ids, rounded up to 8 for aligned rows. Rows of the vocabulary matrix beyond are
 * never read, whatever they hold; the ids between are masked by the operations. */
int32_t head_columns(const struct model *model);

/* x [count,H]: rows of the last residual. norm [count,H], rstd [count] and logits [count, head_columns] over. */
void head_logits(const struct model *model, void *norm, float *rstd, float *logits, const void *x, int32_t count);

/* dlogits [count, columns] act, read. dx [count,H] over: dL/dx. dnorm [count,H] scratch; norm and rstd from
 * head_logits. */
void head_backward(const struct model *model, void *dx, void *dnorm, const void *dlogits, const void *norm,
                   const float *rstd, const void *x, int32_t count, float *gradients);

#endif
