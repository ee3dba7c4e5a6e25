/* The shape of a Qwen2 / Qwen2.5 model, read from and written as Hugging Face config.json. */
#ifndef CANDOR_MODEL_CONFIG_H
#define CANDOR_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

struct model_config {
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn;
    int32_t vocab;         /* rows of the embedding */
    int32_t max_positions;
    double rope_theta;
    float rms_eps;
    bool tied;             /* lm_head is the embedding */
    int32_t bos, eos;      /* as in the file, -1: none */
};

/* Reads <directory>/config.json. STATUS_UNSUPPORTED names what is not Qwen2 (other architecture, rope scaling, sliding window
 * in use, head size other than 64 and 128, quantised weights). */
enum status model_config_read(const char *directory, struct model_config *out_config);
/* config.json that transformers loads (Qwen2ForCausalLM, bfloat16), written atomically. */
enum status model_config_write(const struct model_config *config, const char *directory);

/* Parameters in all, and FLOP of one token's forward pass at a context length (multiply and add count two). */
int64_t model_parameter_count(const struct model_config *config);
double model_forward_flop(const struct model_config *config, int32_t context);

#endif
