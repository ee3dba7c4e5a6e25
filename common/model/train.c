#include "common/model/train.h"

#include <stdlib.h>

#include "common/model/carve.h"
#include "common/model/layer.h"
#include "common/model/train_batch.h"

/* Activations that backward reads. Kept for each of keep_layers layers; the others share one set, filled again by
 * running the same layer_forward on the kept x_in: the same code on the same input gives the same bits. */
struct kept_layer {
    void *x_mid, *qkv, *k, *v, *attention, *gate_up;
    float *lse;
};

struct train_memory {
    void *residuals; /* [L+1][R,H] act: x_in of each layer, and what the last one gives; forward only: two in turn */
    struct kept_layer *kept; /* [keep_layers + 1] host array; the last is the shared set */
    /* one layer's scratch */
    void *norm, *swiglu, *dx;
    float *rstd;
    struct layer_scratch scratch;
    /* rows */
    int32_t *ids, *positions, *row_sequence, *slots; /* [R]; slots: 0 .. R-1 */
    int32_t *key_offset;                             /* [R+1] */
    /* targets */
    int32_t *target_rows, *target_ids; /* [T] */
    float *lp, *lse, *entropy, *dlp;   /* [T] */
    /* one chunk of targets */
    void *chunk_x, *chunk_norm, *chunk_dx, *chunk_dnorm; /* [C,H] */
    float *chunk_rstd;                                   /* [C] */
    float *logits;                                       /* [C, columns] */
    void *dlogits;                                       /* [C, columns]; where act is fp32 over logits */
};

struct train {
    struct model *model;
    struct train_limits limits;
    void *device_memory;
    struct train_memory memory;
    int32_t *key_rows; /* device; grows to the largest batch seen */
    int64_t keys_capacity;
    float *host_floats;                   /* [T] in the order of target_rows */
    const struct train_batch *forward_of; /* the batch whose activations are there; NULL: none */
    float inverse_temperature;
};

/* ---- sizes ---- */

static int32_t kept_layers(const struct train_limits *limits, const struct model_config *c) {
    if (limits->forward_only)
        return 0;
    return limits->keep_layers < 0 || limits->keep_layers > c->layers ? c->layers : limits->keep_layers;
}

static void carve_kept(struct kept_layer *kept, struct carve *carve, const struct model_config *c, int64_t R,
                       size_t act) {
    const int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    kept->x_mid = carve_part(carve, R * c->hidden, act);
    kept->qkv = carve_part(carve, R * (q + 2 * kv), act);
    kept->k = carve_part(carve, R * kv, act);
    kept->v = carve_part(carve, R * kv, act);
    kept->attention = carve_part(carve, R * q, act);
    kept->gate_up = carve_part(carve, R * 2 * c->ffn, act);
    kept->lse = carve_part(carve, R * c->heads, sizeof(float));
}

static void carve_rows(struct train_memory *m, struct carve *carve, const struct model_config *c,
                       const struct train_limits *limits, size_t act) {
    const int64_t H = c->hidden, R = limits->rows_max;
    m->residuals = carve_part(carve, (limits->forward_only ? 2 : c->layers + 1) * R * H, act);
    m->norm = carve_part(carve, R * H, act);
    m->swiglu = carve_part(carve, R * c->ffn, act);
    m->rstd = carve_part(carve, R, sizeof(float));
    m->ids = carve_part(carve, R, sizeof(int32_t));
    m->positions = carve_part(carve, R, sizeof(int32_t));
    m->row_sequence = carve_part(carve, R, sizeof(int32_t));
    m->slots = carve_part(carve, R, sizeof(int32_t));
    m->key_offset = carve_part(carve, R + 1, sizeof(int32_t));
}

static void carve_scratch(struct train_memory *m, struct carve *carve, const struct model_config *c, int64_t R,
                          size_t act) {
    const int64_t H = c->hidden, q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    m->dx = carve_part(carve, R * H, act);
    m->scratch.dnorm = carve_part(carve, R * H, act);
    m->scratch.dattention = carve_part(carve, R * q, act);
    m->scratch.dqkv = carve_part(carve, R * (q + 2 * kv), act);
    m->scratch.dk = carve_part(carve, R * kv, act);
    m->scratch.dv = carve_part(carve, R * kv, act);
}

static void carve_targets(struct train_memory *m, struct carve *carve, const struct train_limits *limits, int64_t H,
                          int32_t columns, size_t act) {
    const int64_t T = limits->targets_max, C = limits->logit_chunk;
    m->target_rows = carve_part(carve, T, sizeof(int32_t));
    m->target_ids = carve_part(carve, T, sizeof(int32_t));
    m->lp = carve_part(carve, T, sizeof(float));
    m->lse = carve_part(carve, T, sizeof(float));
    m->entropy = carve_part(carve, T, sizeof(float));
    m->dlp = carve_part(carve, T, sizeof(float));
    m->chunk_x = carve_part(carve, C * H, act);
    m->chunk_norm = carve_part(carve, C * H, act);
    m->chunk_dx = carve_part(carve, C * H, act);
    m->chunk_dnorm = carve_part(carve, C * H, act);
    m->chunk_rstd = carve_part(carve, C, sizeof(float));
    m->logits = carve_part(carve, C * columns, sizeof(float));
    m->dlogits = act == sizeof(float) ? m->logits : carve_part(carve, C * columns, act);
}

/* m->kept may be NULL when measuring. */
static void carve_memory(struct train_memory *m, struct carve *carve, const struct model_config *c, int32_t columns,
                         const struct train_limits *limits, enum dtype activation) {
    const size_t act = dtype_bytes(activation);
    const int32_t kept = kept_layers(limits, c), sets = kept < c->layers ? kept + 1 : kept;
    carve_rows(m, carve, c, limits, act);
    if (!limits->forward_only)
        carve_scratch(m, carve, c, limits->rows_max, act);
    carve_targets(m, carve, limits, c->hidden, columns, act);
    for (int32_t i = 0; i < sets; i++) {
        struct kept_layer set;
        carve_kept(m->kept ? &m->kept[i] : &set, carve, c, limits->rows_max, act);
    }
}

int64_t train_bytes(const struct model_config *config, const struct train_limits *limits, enum dtype activation) {
    struct train_memory memory = {0};
    struct carve carve = {0};
    carve_memory(&memory, &carve, config, config->vocab, limits, activation);
    return (int64_t)carve.bytes;
}

/* ---- create, destroy ---- */

static enum status allocate(struct train *train) {
    struct device *device = train->model->device;
    const struct model_config *c = &train->model->config;
    const int32_t columns = head_columns(train->model), R = train->limits.rows_max;
    train->memory.kept = calloc((size_t)c->layers + 1, sizeof *train->memory.kept);
    train->host_floats = malloc(((size_t)train->limits.targets_max + 1) * sizeof *train->host_floats);
    int32_t *slots = malloc((size_t)R * sizeof *slots);
    if (!train->memory.kept || !train->host_floats || !slots) {
        free(slots);
        return fail(STATUS_NO_MEMORY, "no memory for training %d rows", R);
    }
    struct carve carve = {0};
    carve_memory(&train->memory, &carve, c, columns, &train->limits, device->activation);
    enum status status = device->ops->allocate(device, carve.bytes, &train->device_memory);
    if (status == STATUS_OK) {
        carve = (struct carve){.base = train->device_memory};
        carve_memory(&train->memory, &carve, c, columns, &train->limits, device->activation);
        for (int32_t r = 0; r < R; r++)
            slots[r] = r;
        device->ops->upload(device, train->memory.slots, slots, (size_t)R * sizeof *slots);
        status = device->ops->synchronize(device);
    }
    free(slots);
    return status;
}

enum status train_create(struct model *model, const struct train_limits *limits, struct train **out_train) {
    if (limits->rows_max < 1 || limits->targets_max < 1 || limits->logit_chunk < 1)
        return fail(STATUS_LIMIT, "training of %d rows, %d targets, %d rows of logits at once: at least 1 each",
                    limits->rows_max, limits->targets_max, limits->logit_chunk);
    struct train *train = calloc(1, sizeof *train);
    if (!train)
        return fail(STATUS_NO_MEMORY, "no memory for training");
    train->model = model;
    train->limits = *limits;
    if (train->limits.logit_chunk > limits->targets_max)
        train->limits.logit_chunk = limits->targets_max;
    enum status status = allocate(train);
    if (status != STATUS_OK) {
        train_destroy(&train);
        return status;
    }
    *out_train = train;
    return STATUS_OK;
}

void train_destroy(struct train **train) {
    struct train *t = *train;
    if (!t)
        return;
    struct device *device = t->model->device;
    if (t->device_memory)
        device->ops->release(device, t->device_memory);
    if (t->key_rows)
        device->ops->release(device, t->key_rows);
    free(t->memory.kept);
    free(t->host_floats);
    free(t);
    *train = NULL;
}

/* ---- forward ---- */

static enum status check_batch(const struct train *train, const struct train_batch *batch) {
    const struct model *model = train->model;
    ASSERT(batch->rows >= 1 && batch->targets >= 1);
    if (batch->rows > train->limits.rows_max || batch->targets > train->limits.targets_max)
        return fail(STATUS_LIMIT, "a batch of %d rows and %d targets: the limits are %d and %d", batch->rows,
                    batch->targets, train->limits.rows_max, train->limits.targets_max);
    if (batch->longest > model->rope_positions)
        return fail(STATUS_LIMIT, "a sequence of %d tokens: the limit is %d", batch->longest, model->rope_positions);
    for (int32_t i = 0; i < batch->rows + batch->targets; i++) {
        int32_t id = i < batch->rows ? batch->ids[i] : batch->target_ids[i - batch->rows];
        if (id < 0 || id >= model->valid_vocab)
            return fail(STATUS_FORMAT, "token %d: this model's ids are 0 to %d", id, model->valid_vocab - 1);
    }
    return STATUS_OK;
}

static enum status reserve_keys(struct train *train, int64_t keys) {
    struct device *device = train->model->device;
    void *memory = NULL;
    if (keys <= train->keys_capacity)
        return STATUS_OK;
    int64_t capacity = 2 * train->keys_capacity > keys ? 2 * train->keys_capacity : keys;
    TRY(device->ops->allocate(device, (size_t)capacity * sizeof(int32_t), &memory));
    if (train->key_rows)
        device->ops->release(device, train->key_rows);
    train->key_rows = memory;
    train->keys_capacity = capacity;
    return STATUS_OK;
}

static void upload_batch(struct train *train, const struct train_batch *batch) {
    struct device *device = train->model->device;
    const struct train_memory *m = &train->memory;
    const size_t rows = (size_t)batch->rows * sizeof(int32_t), targets = (size_t)batch->targets * sizeof(int32_t);
    device->ops->upload(device, m->ids, batch->ids, rows);
    device->ops->upload(device, m->positions, batch->positions, rows);
    device->ops->upload(device, m->row_sequence, batch->row_sequence, rows);
    device->ops->upload(device, m->key_offset, batch->key_offset, ((size_t)batch->sequences + 1) * sizeof(int32_t));
    device->ops->upload(device, train->key_rows, batch->key_rows, (size_t)batch->keys * sizeof(int32_t));
    device->ops->upload(device, m->target_rows, batch->target_rows, targets);
    device->ops->upload(device, m->target_ids, batch->target_ids, targets);
}

static struct layer_rows rows_of(const struct train *train, const struct train_batch *batch) {
    const struct train_memory *m = &train->memory;
    return (struct layer_rows){.count = batch->rows,
                               .positions = m->positions,
                               .slots = m->slots,
                               .view = {.rows = batch->rows,
                                        .sequences = batch->sequences,
                                        .row_sequence = m->row_sequence,
                                        .row_position = m->positions,
                                        .key_offset = m->key_offset,
                                        .key_rows = train->key_rows,
                                        .trees = batch->trees,
                                        .tree_row = batch->tree_row}};
}

static bool is_kept(const struct train *train, int32_t layer) {
    return layer < kept_layers(&train->limits, &train->model->config);
}

static void *residual(const struct train *train, int32_t layer) {
    const size_t bytes = (size_t)train->limits.rows_max * (size_t)train->model->config.hidden *
                         dtype_bytes(train->model->device->activation);
    return (char *)train->memory.residuals + (size_t)(train->limits.forward_only ? layer % 2 : layer) * bytes;
}

static struct layer_memory memory_of(const struct train *train, int32_t layer) {
    const struct train_memory *m = &train->memory;
    const int32_t kept = kept_layers(&train->limits, &train->model->config);
    const struct kept_layer *set = &m->kept[layer < kept ? layer : kept];
    return (struct layer_memory){.x_in = residual(train, layer),
                                 .x_mid = set->x_mid,
                                 .x_out = residual(train, layer + 1),
                                 .norm = m->norm,
                                 .rstd = m->rstd,
                                 .qkv = set->qkv,
                                 .k = set->k,
                                 .v = set->v,
                                 .attention = set->attention,
                                 .lse = set->lse,
                                 .gate_up = set->gate_up,
                                 .swiglu = m->swiglu};
}

/* Logits of targets [first, first + count) into memory.logits. */
static void chunk_logits(struct train *train, int32_t first, int32_t count) {
    struct device *device = train->model->device;
    const struct train_memory *m = &train->memory;
    device->ops->gather_rows(device, m->chunk_x, residual(train, train->model->config.layers), m->target_rows + first,
                             count, train->model->config.hidden);
    head_logits(train->model, m->chunk_norm, m->chunk_rstd, m->logits, m->chunk_x, count);
}

static int32_t chunk_count(const struct train *train, const struct train_batch *batch, int32_t first) {
    int32_t rest = batch->targets - first;
    return rest < train->limits.logit_chunk ? rest : train->limits.logit_chunk;
}

static enum status download_targets(struct train *train, const struct train_batch *batch, const float *from,
                                    float *out) {
    struct device *device = train->model->device;
    device->ops->download(device, train->host_floats, from, (size_t)batch->targets * sizeof *from);
    TRY(device->ops->synchronize(device));
    for (int32_t t = 0; t < batch->targets; t++)
        out[batch->target_places[t]] = train->host_floats[t];
    return STATUS_OK;
}

enum status train_forward(struct train *train, const struct train_batch *batch, float temperature, float *out_lp,
                          float *out_entropy) {
    ASSERT(temperature > 0.0f);
    train->forward_of = NULL;
    TRY(check_batch(train, batch));
    TRY(reserve_keys(train, batch->keys));
    upload_batch(train, batch);
    struct model *model = train->model;
    struct device *device = model->device;
    const struct train_memory *m = &train->memory;
    const struct layer_rows rows = rows_of(train, batch);
    device->ops->embed_forward(device, residual(train, 0), model_weight(model, model->layout->embed), m->ids,
                               batch->rows, model->config.hidden);
    for (int32_t layer = 0; layer < model->config.layers; layer++) {
        struct layer_memory memory = memory_of(train, layer);
        layer_forward(model, layer, &memory, &rows);
    }
    train->inverse_temperature = 1.0f / temperature;
    for (int32_t first = 0; first < batch->targets; first += train->limits.logit_chunk) {
        int32_t count = chunk_count(train, batch, first);
        chunk_logits(train, first, count);
        device->ops->logprob_forward(device, m->lp + first, m->lse + first, out_entropy ? m->entropy + first : NULL,
                                     m->logits, m->target_ids + first, count, head_columns(model), model->valid_vocab,
                                     train->inverse_temperature);
    }
    TRY(download_targets(train, batch, m->lp, out_lp));
    if (out_entropy)
        TRY(download_targets(train, batch, m->entropy, out_entropy));
    train->forward_of = batch;
    return STATUS_OK;
}

/* ---- backward ---- */

/* dx of the last residual from all targets. With one chunk its logits are still there from the forward pass. */
static void backward_head(struct train *train, const struct train_batch *batch, float *gradients) {
    struct model *model = train->model;
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const struct train_memory *m = &train->memory;
    const int32_t H = model->config.hidden;
    ops->zero(device, m->dx, (size_t)batch->rows * (size_t)H * dtype_bytes(device->activation));
    for (int32_t first = 0; first < batch->targets; first += train->limits.logit_chunk) {
        int32_t count = chunk_count(train, batch, first);
        if (count < batch->targets)
            chunk_logits(train, first, count);
        ops->logprob_backward(device, m->dlogits, m->logits, m->lse + first, m->dlp + first, m->target_ids + first,
                              count, head_columns(model), model->valid_vocab, train->inverse_temperature);
        head_backward(model, m->chunk_dx, m->chunk_dnorm, m->dlogits, m->chunk_norm, m->chunk_rstd, m->chunk_x, count,
                      gradients);
        ops->scatter_add_rows(device, m->dx, m->chunk_dx, m->target_rows + first, count, H);
    }
}

enum status train_backward(struct train *train, const struct train_batch *batch, const float *dlp, float *gradients) {
    ASSERT(train->forward_of == batch && !train->limits.forward_only);
    train->forward_of = NULL;
    struct model *model = train->model;
    struct device *device = model->device;
    const struct train_memory *m = &train->memory;
    for (int32_t t = 0; t < batch->targets; t++)
        train->host_floats[t] = dlp[batch->target_places[t]];
    device->ops->upload(device, m->dlp, train->host_floats, (size_t)batch->targets * sizeof(float));
    backward_head(train, batch, gradients);
    const struct layer_rows rows = rows_of(train, batch);
    for (int32_t layer = model->config.layers; layer-- > 0;) {
        struct layer_memory memory = memory_of(train, layer);
        memory.x_out = NULL; /* known already */
        if (!is_kept(train, layer))
            layer_forward(model, layer, &memory, &rows);
        layer_backward(model, layer, &memory, &m->scratch, &rows, m->dx, gradients);
    }
    device->ops->embed_backward(device, gradients + model->layout->embed, m->dx, m->ids, batch->rows,
                                model->config.hidden, model->config.vocab);
    return device->ops->synchronize(device);
}
