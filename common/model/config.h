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
/* The same for `rows` tokens at a mean context, of which only `logit_rows` go on to the vocabulary. A backward pass is twice as
 * much. */
double model_pass_flop(const struct model_config *config, double rows, double logit_rows, double context);
/* FLOP of answering: every prompt once for all of its answers, and of an answer all tokens but the last. */
double model_answers_flop(const struct model_config *config, uint64_t questions, uint64_t prompt_tokens,
                          uint64_t answers, uint64_t answer_tokens);

#endif
