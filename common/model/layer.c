#include "common/model/layer.h"

#include <math.h>

static struct attention_shape attention_shape(const struct model_config *c) {
    /* head_dim is 64 or 128; sqrtf is correctly rounded everywhere */
    return (struct attention_shape){
        .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim, .scale = 1.0f / sqrtf((float)c->head_dim)};
}

/* The residual stream goes from one memory to the next; in inference they are the same. */
static void carry_residual(struct device *device, void *to, const void *from, int64_t elements) {
    if (to != from)
        device->ops->copy(device, to, from, (size_t)elements * dtype_bytes(device->activation));
}

static const struct weight no_bias = {.data = NULL, .type = DTYPE_BF16};

void layer_forward(const struct model *model, int32_t layer, const struct layer_memory *m,
                   const struct layer_rows *rows) {
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const struct model_config *c = &model->config;
    const struct layer_offsets *at = &model->layout->layers[layer];
    const struct attention_shape shape = attention_shape(c);
    const int32_t R = rows->count, H = c->hidden, F = c->ffn;
    const int32_t q = c->heads * c->head_dim, qkv = q + 2 * c->kv_heads * c->head_dim;

    ops->rmsnorm_forward(device, m->norm, m->rstd, m->x_in, model_weight(model, at->norm1), R, H, c->rms_eps);
    ops->matmul(device, m->qkv, WRITE_OVER, m->norm, model_weight(model, at->qkv), model_weight(model, at->qkv_bias), R,
                qkv, H);
    ops->rope_forward(device, m->qkv, m->k, m->v, model->rope_table, rows->positions, rows->slots, R, shape);
    ops->attention_forward(device, m->attention, m->lse, m->qkv, m->k, m->v, &rows->view, shape);
    carry_residual(device, m->x_mid, m->x_in, (int64_t)R * H);
    ops->matmul(device, m->x_mid, WRITE_ADD, m->attention, model_weight(model, at->out), no_bias, R, H, q);

    ops->rmsnorm_forward(device, m->norm, m->rstd, m->x_mid, model_weight(model, at->norm2), R, H, c->rms_eps);
    ops->matmul(device, m->gate_up, WRITE_OVER, m->norm, model_weight(model, at->gate_up), no_bias, R, 2 * F, H);
    if (!m->x_out)
        return;
    ops->swiglu_forward(device, m->swiglu, m->gate_up, R, F);
    carry_residual(device, m->x_out, m->x_mid, (int64_t)R * H);
    ops->matmul(device, m->x_out, WRITE_ADD, m->swiglu, model_weight(model, at->down), no_bias, R, H, F);
}

/* dx += through x + down(swiglu(gate_up(norm(x)))). swiglu's memory takes dswiglu once its product is done. */
static void ffn_backward(const struct model *model, int32_t layer, const struct layer_memory *m,
                         const struct layer_scratch *scratch, int32_t R, void *dx, float *gradients) {
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const struct model_config *c = &model->config;
    const struct layer_offsets *at = &model->layout->layers[layer];
    const int32_t H = c->hidden, F = c->ffn;

    ops->swiglu_forward(device, m->swiglu, m->gate_up, R, F);
    ops->matmul_dw(device, gradients + at->down, dx, m->swiglu, R, H, F);
    ops->matmul_dx(device, m->swiglu, WRITE_OVER, dx, model_weight(model, at->down), R, H, F);
    ops->swiglu_backward(device, m->gate_up, m->swiglu, m->gate_up, R, F);
    ops->rmsnorm_forward(device, m->norm, m->rstd, m->x_mid, model_weight(model, at->norm2), R, H, c->rms_eps);
    ops->matmul_dw(device, gradients + at->gate_up, m->gate_up, m->norm, R, 2 * F, H);
    ops->matmul_dx(device, scratch->dnorm, WRITE_OVER, m->gate_up, model_weight(model, at->gate_up), R, 2 * F, H);
    ops->rmsnorm_backward(device, dx, WRITE_ADD, gradients + at->norm2, scratch->dnorm, m->x_mid, m->rstd,
                          model_weight(model, at->norm2), R, H);
}

static void attention_part_backward(const struct model *model, int32_t layer, const struct layer_memory *m,
                                    const struct layer_scratch *scratch, const struct layer_rows *rows, void *dx,
                                    float *gradients) {
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const struct model_config *c = &model->config;
    const struct layer_offsets *at = &model->layout->layers[layer];
    const struct attention_shape shape = attention_shape(c);
    const int32_t R = rows->count, H = c->hidden;
    const int32_t q = c->heads * c->head_dim, qkv = q + 2 * c->kv_heads * c->head_dim;

    ops->matmul_dw(device, gradients + at->out, dx, m->attention, R, H, q);
    ops->matmul_dx(device, scratch->dattention, WRITE_OVER, dx, model_weight(model, at->out), R, H, q);
    ops->attention_backward(device, scratch->dqkv, scratch->dk, scratch->dv, scratch->dattention, m->attention, m->lse,
                            m->qkv, m->k, m->v, &rows->view, shape);
    ops->rope_backward(device, scratch->dqkv, scratch->dk, scratch->dv, model->rope_table, rows->positions, R, shape);
    ops->bias_backward(device, gradients + at->qkv_bias, scratch->dqkv, R, qkv);
    ops->rmsnorm_forward(device, m->norm, m->rstd, m->x_in, model_weight(model, at->norm1), R, H, c->rms_eps);
    ops->matmul_dw(device, gradients + at->qkv, scratch->dqkv, m->norm, R, qkv, H);
    ops->matmul_dx(device, scratch->dnorm, WRITE_OVER, scratch->dqkv, model_weight(model, at->qkv), R, qkv, H);
    ops->rmsnorm_backward(device, dx, WRITE_ADD, gradients + at->norm1, scratch->dnorm, m->x_in, m->rstd,
                          model_weight(model, at->norm1), R, H);
}

void layer_backward(const struct model *model, int32_t layer, const struct layer_memory *memory,
                    const struct layer_scratch *scratch, const struct layer_rows *rows, void *dx, float *gradients) {
    ffn_backward(model, layer, memory, scratch, rows->count, dx, gradients);
    attention_part_backward(model, layer, memory, scratch, rows, dx, gradients);
}

/* ---- vocabulary head ---- */

int32_t head_columns(const struct model *model) {
    int32_t aligned = (model->valid_vocab + 7) / 8 * 8;
    return aligned < model->config.vocab ? aligned : model->config.vocab;
}

void head_logits(const struct model *model, void *norm, float *rstd, float *logits, const void *x, int32_t count) {
    struct device *device = model->device;
    const struct model_config *c = &model->config;
    device->ops->rmsnorm_forward(device, norm, rstd, x, model_weight(model, model->layout->final_norm), count,
                                 c->hidden, c->rms_eps);
    device->ops->matmul_f32(device, logits, norm, model_weight(model, model->layout->lm_head), count,
                            head_columns(model), c->hidden);
}

void head_backward(const struct model *model, void *dx, void *dnorm, const void *dlogits, const void *norm,
                   const float *rstd, const void *x, int32_t count, float *gradients) {
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const int32_t H = model->config.hidden, columns = head_columns(model);
    const struct parameter_layout *layout = model->layout;
    ops->matmul_dw(device, gradients + layout->lm_head, dlogits, norm, count, columns, H);
    ops->matmul_dx(device, dnorm, WRITE_OVER, dlogits, model_weight(model, layout->lm_head), count, columns, H);
    ops->rmsnorm_backward(device, dx, WRITE_OVER, gradients + layout->final_norm, dnorm, x, rstd,
                          model_weight(model, layout->final_norm), count, H);
}
