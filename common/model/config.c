#include "common/model/config.h"

#include <string.h>

#include "common/base/fs.h"
#include "common/base/json.h"

#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define PARAMETERS_MAX (INT64_C(1) << 40)

/* ---- reading ---- */

static bool is_set(const json_t *value) {
    return value && !json_is_null(value);
}

static enum status check_architecture(const json_t *root, const char *path) {
    const char *type = NULL;
    TRY(json_get_string(root, path, "model_type", &type));
    if (strcmp(type, "qwen2") != 0)
        return fail(STATUS_UNSUPPORTED, "%s: model_type = %.60s: this architecture is not built in; qwen2 is", path,
                    type);
    const char *name = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    if (name && strcmp(name, "Qwen2ForCausalLM") != 0)
        return fail(STATUS_UNSUPPORTED, "%s: architectures = %.60s: Qwen2ForCausalLM is built in", path, name);
    const char *activation = json_string_value(json_object_get(root, "hidden_act"));
    if (activation && strcmp(activation, "silu") != 0)
        return fail(STATUS_UNSUPPORTED, "%s: hidden_act = %.60s: silu is built in", path, activation);
    if (is_set(json_object_get(root, "quantization_config")))
        return fail(STATUS_UNSUPPORTED, "%s: quantization_config: quantised weights are not built in; bf16 or fp32 are",
                    path);
    return STATUS_OK;
}

static enum status check_attention(const json_t *root, const char *path) {
    if (json_is_true(json_object_get(root, "use_sliding_window")))
        return fail(STATUS_UNSUPPORTED, "%s: use_sliding_window = true: full attention is built in", path);
    const json_t *kinds = json_object_get(root, "layer_types");
    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        if (!kind || strcmp(kind, "full_attention") != 0)
            return fail(STATUS_UNSUPPORTED, "%s: layer_types[%zu] = %.60s: full_attention is built in", path, i,
                        kind ? kind : "?");
    }
    return STATUS_OK;
}

/* transformers 4 writes rope_theta and rope_scaling, transformers 5 rope_parameters {rope_theta, rope_type}. */
static enum status read_rope(const json_t *root, const char *path, double *out_theta) {
    const json_t *parameters = json_object_get(root, "rope_parameters");
    const char *type = json_string_value(json_object_get(parameters, "rope_type"));
    if (is_set(json_object_get(root, "rope_scaling")))
        return fail(STATUS_UNSUPPORTED, "%s: rope_scaling: scaled positions are not built in; null is right", path);
    if (type && strcmp(type, "default") != 0)
        return fail(STATUS_UNSUPPORTED, "%s: rope_parameters.rope_type = %.60s: default is built in", path, type);
    double theta = 10000.0;
    if (json_object_get(parameters, "rope_theta"))
        TRY(json_get_double(parameters, path, "rope_theta", &theta));
    else if (json_object_get(root, "rope_theta"))
        TRY(json_get_double(root, path, "rope_theta", &theta));
    if (!(theta > 1.0 && theta <= 1e12))
        return fail(STATUS_FORMAT, "%s: rope_theta = %g: a number above 1 is right", path, theta);
    *out_theta = theta;
    return STATUS_OK;
}

static enum status read_size(const json_t *root, const char *path, const char *key, int64_t most, int32_t *out_value) {
    int64_t value = 0;
    TRY(json_get_int(root, path, key, 1, most, &value));
    *out_value = (int32_t)value;
    return STATUS_OK;
}

/* A token id, or the first of a list; absent and null are -1. */
static int32_t read_token(const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    if (json_is_array(value))
        value = json_array_get(value, 0);
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id < INT32_MAX ? (int32_t)id : -1;
}

static enum status check_shape(const struct model_config *c, const char *path) {
    if (c->head_dim != 64 && c->head_dim != 128)
        return fail(STATUS_UNSUPPORTED, "%s: head size %d: 64 and 128 are built in", path, c->head_dim);
    if (c->kv_heads > c->heads || c->heads % c->kv_heads != 0)
        return fail(STATUS_FORMAT, "%s: %d attention heads on %d key/value heads: a multiple is right", path, c->heads,
                    c->kv_heads);
    if (c->hidden % 8 != 0 || c->ffn % 8 != 0)
        return fail(STATUS_UNSUPPORTED, "%s: hidden_size %d, intermediate_size %d: multiples of 8 are built in", path,
                    c->hidden, c->ffn);
    if (!(c->rms_eps > 0.0f && c->rms_eps < 1.0f))
        return fail(STATUS_FORMAT, "%s: rms_norm_eps = %g: a small positive number is right", path, (double)c->rms_eps);
    if (model_parameter_count(c) > PARAMETERS_MAX)
        return fail(STATUS_LIMIT, "%s: more than %lld parameters", path, (long long)PARAMETERS_MAX);
    return STATUS_OK;
}

static enum status read_shape(const json_t *root, const char *path, struct model_config *c) {
    TRY(read_size(root, path, "num_hidden_layers", 1024, &c->layers));
    TRY(read_size(root, path, "hidden_size", 1 << 16, &c->hidden));
    TRY(read_size(root, path, "num_attention_heads", 1024, &c->heads));
    c->kv_heads = c->heads;
    if (is_set(json_object_get(root, "num_key_value_heads")))
        TRY(read_size(root, path, "num_key_value_heads", 1024, &c->kv_heads));
    c->head_dim = c->hidden / c->heads;
    if (is_set(json_object_get(root, "head_dim")))
        TRY(read_size(root, path, "head_dim", 1024, &c->head_dim));
    TRY(read_size(root, path, "intermediate_size", 1 << 20, &c->ffn));
    TRY(read_size(root, path, "vocab_size", 1 << 22, &c->vocab));
    TRY(read_size(root, path, "max_position_embeddings", 1 << 24, &c->max_positions));
    double eps = 1e-6;
    if (json_object_get(root, "rms_norm_eps"))
        TRY(json_get_double(root, path, "rms_norm_eps", &eps));
    c->rms_eps = (float)eps;
    c->tied = json_is_true(json_object_get(root, "tie_word_embeddings"));
    c->bos = read_token(root, "bos_token_id");
    c->eos = read_token(root, "eos_token_id");
    return check_shape(c, path);
}

enum status model_config_read(const char *directory, struct model_config *out_config) {
    char path[PATH_BYTES];
    json_t *root = NULL;
    struct model_config config = {0};
    TRY(fs_join(path, directory, "config.json"));
    TRY(json_read_file(path, CONFIG_FILE_BYTES_MAX, &root));
    enum status status;
    TRY_GOTO(check_architecture(root, path), out);
    TRY_GOTO(check_attention(root, path), out);
    TRY_GOTO(read_rope(root, path, &config.rope_theta), out);
    TRY_GOTO(read_shape(root, path, &config), out);
    *out_config = config;
out:
    json_decref(root);
    return status;
}

/* ---- writing ---- */

static void put_int(struct buf *out, const char *key, int64_t value) {
    buf_printf(out, "  \"%s\": %lld,\n", key, (long long)value);
}

static void put_token(struct buf *out, const char *key, int32_t id) {
    if (id >= 0)
        put_int(out, key, id);
    else
        buf_printf(out, "  \"%s\": null,\n", key);
}

/* rope_theta stands at the top level, where transformers 4 and 5 both find it. */
enum status model_config_write(const struct model_config *config, const char *directory) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory, "config.json"));
    struct buf out = {0};
    buf_puts(&out, "{\n  \"architectures\": [\"Qwen2ForCausalLM\"],\n  \"attention_dropout\": 0.0,\n");
    put_token(&out, "bos_token_id", config->bos);
    put_token(&out, "eos_token_id", config->eos);
    put_int(&out, "head_dim", config->head_dim);
    buf_puts(&out, "  \"hidden_act\": \"silu\",\n");
    put_int(&out, "hidden_size", config->hidden);
    buf_puts(&out, "  \"initializer_range\": 0.02,\n");
    put_int(&out, "intermediate_size", config->ffn);
    put_int(&out, "max_position_embeddings", config->max_positions);
    buf_puts(&out, "  \"model_type\": \"qwen2\",\n");
    put_int(&out, "num_attention_heads", config->heads);
    put_int(&out, "num_hidden_layers", config->layers);
    put_int(&out, "num_key_value_heads", config->kv_heads);
    buf_puts(&out, "  \"rms_norm_eps\": ");
    json_put_float(&out, config->rms_eps);
    buf_puts(&out, ",\n  \"rope_theta\": ");
    json_put_double(&out, config->rope_theta);
    buf_printf(&out, ",\n  \"tie_word_embeddings\": %s,\n", config->tied ? "true" : "false");
    buf_puts(&out, "  \"torch_dtype\": \"bfloat16\",\n  \"use_cache\": true,\n  \"use_sliding_window\": false,\n");
    buf_printf(&out, "  \"vocab_size\": %d\n}\n", config->vocab);
    enum status status = buf_ok(&out) ? fs_write_atomic(path, out.data, out.bytes)
                                      : fail(STATUS_NO_MEMORY, "%s: no memory to write it", path);
    buf_deinit(&out);
    return status;
}
