/* Parameters are one flat buffer plus a table name -> offset, shape (DESIGN section 6). The order is chosen so that what is
 * multiplied together lies together: q, k, v weights are one [(N+2K)D, H] matrix, their biases one vector, gate and up one
 * [2F, H] matrix. Gradients, moments, remainders use the same offsets. */
#ifndef CANDOR_MODEL_PARAMETERS_H
#define CANDOR_MODEL_PARAMETERS_H

#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/compute/ops.h"
#include "common/model/config.h"

struct tensor_entry {
    char name[96];       /* Hugging Face name */
    int64_t offset;      /* elements from the start of the flat buffer */
    int32_t rank;        /* 1 or 2 */
    int32_t rows, cols;  /* rank 1: rows elements, cols 1 */
};

/* Offsets of one layer, in elements. */
struct layer_offsets {
    int64_t norm1, qkv, qkv_bias, out, norm2, gate_up, down;
};

struct parameter_layout {
    struct tensor_entry *entries;
    int32_t count;
    int64_t total; /* elements */
    int64_t embed, final_norm, lm_head; /* lm_head == embed when tied */
    struct layer_offsets *layers;
};

enum status parameter_layout_create(const struct model_config *config, struct parameter_layout **out_layout);
void parameter_layout_destroy(struct parameter_layout **layout);

/* A model on a device: what actor and learner both hold. */
struct model {
    struct device *device; /* borrowed */
    struct model_config config;
    struct parameter_layout *layout;
    enum dtype type;      /* storage of data: BF16, or F32 in parity tests */
    void *data;           /* [layout->total] device */
    float *rope_table;    /* [max positions in use, D/2, 2] device */
    int32_t rope_positions;
    int32_t valid_vocab;  /* ids >= this are masked: the tokenizer's last id + 1 */
};

/* Zero weights. valid_vocab 0: config.vocab. positions: longest sequence that will be used. */
enum status model_create(struct device *device, const struct model_config *config, enum dtype type, int32_t positions,
                         int32_t valid_vocab, struct model **out_model);
void model_destroy(struct model **model);

/* Config and weights of a Hugging Face directory (model.safetensors, or model.safetensors.index.json and its shards; bf16, fp16
 * refused by name, fp32 rounded to nearest even). progress may be NULL. Nothing is kept on failure. */
enum status model_load(struct device *device, const char *directory, enum dtype type, int32_t positions,
                       int32_t valid_vocab, struct model **out_model);
/* config.json and model.safetensors (in the storage type and the layout's order) into an existing directory; fsynced, not
 * renamed: the caller owns the directory's atomicity. Data goes from the device to the file in pieces. */
enum status model_save(const struct model *model, const char *directory);
/* The same from a host copy [layout->total] of the weights, so that the device's may change meanwhile. */
enum status model_save_host(const struct model *model, const void *host_data, const char *directory);

/* Fresh weights: normal(0, std) rounded to bf16, norms 1, biases 0: a pure function of seed and name. */
enum status model_initialise(struct model *model, uint64_t seed, double std);

/* Content digest of the weights (DESIGN section 8). */
enum status model_digest(const struct model *model, struct digest *out_digest);

struct weight model_weight(const struct model *model, int64_t offset);

#endif
