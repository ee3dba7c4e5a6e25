#include "common/model/parameters.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"
#include "common/model/bf16.h"
#include "common/model/layer.h"
#include "common/model/rope.h"

/* ---- layout ---- */

#define LAYER_ENTRIES 12

/* Appends an entry behind what is there and returns its offset. rows x cols, or rank 1 when cols is 0. */
static int64_t add_entry(struct parameter_layout *layout, int32_t rows, int32_t cols, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int64_t add_entry(struct parameter_layout *layout, int32_t rows, int32_t cols, const char *format, ...) {
    struct tensor_entry *entry = &layout->entries[layout->count++];
    va_list args;
    va_start(args, format);
    vsnprintf(entry->name, sizeof entry->name, format, args);
    va_end(args);
    entry->offset = layout->total;
    entry->rank = cols ? 2 : 1;
    entry->rows = rows;
    entry->cols = cols ? cols : 1;
    layout->total += (int64_t)entry->rows * entry->cols;
    return entry->offset;
}

static void add_layer(struct parameter_layout *layout, const struct model_config *c, int32_t l) {
    struct layer_offsets *at = &layout->layers[l];
    int32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    at->norm1 = add_entry(layout, c->hidden, 0, "model.layers.%d.input_layernorm.weight", l);
    at->qkv = add_entry(layout, q, c->hidden, "model.layers.%d.self_attn.q_proj.weight", l);
    add_entry(layout, kv, c->hidden, "model.layers.%d.self_attn.k_proj.weight", l);
    add_entry(layout, kv, c->hidden, "model.layers.%d.self_attn.v_proj.weight", l);
    at->qkv_bias = add_entry(layout, q, 0, "model.layers.%d.self_attn.q_proj.bias", l);
    add_entry(layout, kv, 0, "model.layers.%d.self_attn.k_proj.bias", l);
    add_entry(layout, kv, 0, "model.layers.%d.self_attn.v_proj.bias", l);
    at->out = add_entry(layout, c->hidden, q, "model.layers.%d.self_attn.o_proj.weight", l);
    at->norm2 = add_entry(layout, c->hidden, 0, "model.layers.%d.post_attention_layernorm.weight", l);
    at->gate_up = add_entry(layout, c->ffn, c->hidden, "model.layers.%d.mlp.gate_proj.weight", l);
    add_entry(layout, c->ffn, c->hidden, "model.layers.%d.mlp.up_proj.weight", l);
    at->down = add_entry(layout, c->hidden, c->ffn, "model.layers.%d.mlp.down_proj.weight", l);
}

enum status parameter_layout_create(const struct model_config *config, struct parameter_layout **out_layout) {
    struct parameter_layout *layout = calloc(1, sizeof *layout);
    if (layout) {
        layout->entries = calloc((size_t)config->layers * LAYER_ENTRIES + 3, sizeof *layout->entries);
        layout->layers = calloc((size_t)config->layers, sizeof *layout->layers);
    }
    if (!layout || !layout->entries || !layout->layers) {
        parameter_layout_destroy(&layout);
        return fail(STATUS_NO_MEMORY, "no memory for the table of %d layers", config->layers);
    }
    layout->embed = add_entry(layout, config->vocab, config->hidden, "model.embed_tokens.weight");
    for (int32_t l = 0; l < config->layers; l++)
        add_layer(layout, config, l);
    layout->final_norm = add_entry(layout, config->hidden, 0, "model.norm.weight");
    layout->lm_head = config->tied ? layout->embed : add_entry(layout, config->vocab, config->hidden, "lm_head.weight");
    ASSERT(layout->total == model_parameter_count(config));
    *out_layout = layout;
    return STATUS_OK;
}

void parameter_layout_destroy(struct parameter_layout **layout) {
    if (!*layout)
        return;
    free((*layout)->entries);
    free((*layout)->layers);
    free(*layout);
    *layout = NULL;
}

/* ---- model ---- */

static enum status make_rope_table(struct model *model) {
    int32_t half = model->config.head_dim / 2;
    size_t bytes = (size_t)model->rope_positions * (size_t)half * 2 * sizeof(float);
    float *table = malloc(bytes);
    void *memory = NULL;
    if (!table)
        return fail(STATUS_NO_MEMORY, "no memory for %d rotary positions", model->rope_positions);
    rope_table_fill(table, model->rope_positions, model->config.head_dim, model->config.rope_theta);
    enum status status = model->device->ops->allocate(model->device, bytes, &memory);
    if (status == STATUS_OK) {
        model->rope_table = memory;
        model->device->ops->upload(model->device, memory, table, bytes);
        status = model->device->ops->synchronize(model->device);
    }
    free(table);
    return status;
}

static enum status check_limits(const struct model_config *config, int32_t positions, int32_t valid_vocab) {
    if (positions < 1 || positions > config->max_positions)
        return fail(STATUS_LIMIT, "prompts and answers of %d tokens together: this model takes 1 to %d", positions,
                    config->max_positions);
    if (valid_vocab < 0 || valid_vocab > config->vocab)
        return fail(STATUS_MISMATCH,
                    "the tokenizer has %d ids, the model's vocabulary %d rows: another model's tokenizer?", valid_vocab,
                    config->vocab);
    return STATUS_OK;
}

/* Lets the device choose its way for each shape of matrix product before the first. */
static enum status prepare_products(const struct model *model) {
    const struct model_config *c = &model->config;
    struct device *device = model->device;
    const int32_t H = c->hidden, F = c->ffn, q = c->heads * c->head_dim, qkv = q + 2 * c->kv_heads * c->head_dim;
    const int32_t shapes[][2] = {{qkv, H}, {H, q}, {2 * F, H}, {H, F}, {head_columns(model), H}};
    for (size_t i = 0; device->ops->prepare_matmul && i < sizeof shapes / sizeof shapes[0]; i++)
        TRY(device->ops->prepare_matmul(device, shapes[i][0], shapes[i][1]));
    return STATUS_OK;
}

enum status model_create(struct device *device, const struct model_config *config, enum dtype type, int32_t positions,
                         int32_t valid_vocab, struct model **out_model) {
    TRY(check_limits(config, positions, valid_vocab));
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return fail(STATUS_NO_MEMORY, "no memory for a model");
    model->device = device;
    model->config = *config;
    model->type = type;
    model->rope_positions = positions;
    model->valid_vocab = valid_vocab ? valid_vocab : config->vocab;
    enum status status = STATUS_OK;
    if (type == DTYPE_F32 && device->activation == DTYPE_BF16) {
        status = fail(STATUS_UNSUPPORTED, "fp32 parameters on %s: bf16 there; fp32 is for the CPU", device->name);
        goto failed;
    }
    TRY_GOTO(parameter_layout_create(config, &model->layout), failed);
    TRY_GOTO(device->ops->allocate(device, (size_t)model->layout->total * dtype_bytes(type), &model->data), failed);
    TRY_GOTO(make_rope_table(model), failed);
    TRY_GOTO(prepare_products(model), failed);
    *out_model = model;
    return STATUS_OK;
failed:
    model_destroy(&model);
    return status;
}

void model_destroy(struct model **model) {
    struct model *m = *model;
    if (!m)
        return;
    if (m->data)
        m->device->ops->release(m->device, m->data);
    if (m->rope_table)
        m->device->ops->release(m->device, m->rope_table);
    parameter_layout_destroy(&m->layout);
    free(m);
    *model = NULL;
}

struct weight model_weight(const struct model *model, int64_t offset) {
    return (struct weight){.data = (const char *)model->data + (size_t)offset * dtype_bytes(model->type),
                           .type = model->type};
}

enum status model_digest(const struct model *model, struct digest *out_digest) {
    struct digest digest;
    model->device->ops->digest(model->device, &digest, model->data, model->type, 0, model->layout->total);
    TRY(model->device->ops->synchronize(model->device));
    *out_digest = digest;
    return STATUS_OK;
}

/* ---- fresh weights ---- */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static uint16_t fresh_element(const struct tensor_entry *entry, const struct rng_key *key, uint32_t i, double std) {
    if (ends_with(entry->name, "norm.weight"))
        return 0x3f80; /* 1 */
    if (ends_with(entry->name, ".bias"))
        return 0;
    float value = (float)(std * rng_normal(key, i));
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bf16_round(bits);
}

/* Elements [first, first + count) of an entry, in the storage type. */
static void fresh_elements(const struct tensor_entry *entry, const struct rng_key *key, double std, enum dtype type,
                           int64_t first, int64_t count, void *out) {
    uint16_t *halves = out;
    uint32_t *words = out;
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits = fresh_element(entry, key, (uint32_t)(first + i), std);
        if (type == DTYPE_BF16)
            halves[i] = bits;
        else
            words[i] = bf16_expand(bits);
    }
}

enum status model_initialise(struct model *model, uint64_t seed, double std) {
    enum { CHUNK = 1 << 16 };
    size_t size = dtype_bytes(model->type);
    void *chunk = malloc(CHUNK * size);
    if (!chunk)
        return fail(STATUS_NO_MEMORY, "no memory to initialise weights");
    for (int32_t e = 0; e < model->layout->count; e++) {
        const struct tensor_entry *entry = &model->layout->entries[e];
        uint64_t name = hash64(entry->name, strlen(entry->name));
        struct rng_key key = {.seed = seed, .stream = RNG_INIT, .slot = (uint32_t)name, .step = (uint32_t)(name >> 32)};
        int64_t total = (int64_t)entry->rows * entry->cols;
        for (int64_t first = 0; first < total; first += CHUNK) {
            int64_t count = total - first < CHUNK ? total - first : CHUNK;
            fresh_elements(entry, &key, std, model->type, first, count, chunk);
            model->device->ops->upload(model->device, (char *)model->data + (size_t)(entry->offset + first) * size,
                                       chunk, (size_t)count * size);
        }
    }
    free(chunk);
    return model->device->ops->synchronize(model->device);
}
