/* Sizes that follow from a configuration; no JSON here. */
#include "common/model/config.h"

/* ---- sizes ---- */

static int64_t layer_matrix_elements(const struct model_config *c) {
    int64_t hidden = c->hidden, q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    return hidden * (q + 2 * kv) + q * hidden + 3 * hidden * c->ffn;
}

int64_t model_parameter_count(const struct model_config *c) {
    int64_t vectors = 2 * (int64_t)c->hidden + (int64_t)(c->heads + 2 * c->kv_heads) * c->head_dim;
    int64_t ends = (int64_t)c->vocab * c->hidden * (c->tied ? 1 : 2) + c->hidden;
    return c->layers * (layer_matrix_elements(c) + vectors) + ends;
}

double model_pass_flop(const struct model_config *c, double rows, double logit_rows, double context) {
    double matrices = (double)c->layers * (double)layer_matrix_elements(c);
    double attention = 2.0 * c->layers * c->heads * c->head_dim * context; /* q k and p v */
    return 2.0 * (rows * (matrices + attention) + logit_rows * (double)c->vocab * c->hidden);
}

double model_forward_flop(const struct model_config *config, int32_t context) {
    return model_pass_flop(config, 1, 1, context);
}

double model_answers_flop(const struct model_config *config, uint64_t questions, uint64_t prompt_tokens,
                          uint64_t answers, uint64_t answer_tokens) {
    if (questions == 0 || answers == 0)
        return 0;
    double decoded = (double)(answer_tokens - answers);
    double context = (double)prompt_tokens / (double)questions + (double)answer_tokens / (double)answers / 2;
    return model_pass_flop(config, (double)prompt_tokens + decoded, (double)questions + decoded, context);
}
