/* config.json: Qwen2 of transformers 4 and 5 is read, everything else is refused by name. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/model/config.h"

static char directory[PATH_BYTES];

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/candor-config-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

/* Qwen2.5-0.5B's file, with one part of it replaced. */
static enum status read_with(const char *from, const char *to, struct model_config *out_config) {
    static const char text[] =
        "{\"architectures\": [\"Qwen2ForCausalLM\"], \"attention_dropout\": 0.0, \"bos_token_id\": 151643,\n"
        "\"eos_token_id\": 151645, \"hidden_act\": \"silu\", \"hidden_size\": 896, \"initializer_range\": 0.02,\n"
        "\"intermediate_size\": 4864, \"max_position_embeddings\": 32768, \"max_window_layers\": 21,\n"
        "\"model_type\": \"qwen2\", \"num_attention_heads\": 14, \"num_hidden_layers\": 24, \"num_key_value_heads\": "
        "2,\n"
        "\"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, \"sliding_window\": 32768, \"tie_word_embeddings\": "
        "true,\n"
        "\"torch_dtype\": \"bfloat16\", \"use_sliding_window\": false, \"vocab_size\": 151936}\n";
    struct buf out = {0};
    const char *at = from ? strstr(text, from) : text;
    assert_non_null(at);
    buf_append(&out, text, (size_t)(at - text));
    buf_puts(&out, to ? to : "");
    buf_puts(&out, at + (from ? strlen(from) : 0));
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, "config.json"));
    ASSERT_OK(fs_write_atomic(path, out.data, out.bytes));
    buf_deinit(&out);
    return model_config_read(directory, out_config);
}

static void the_published_file_is_read(void **state) {
    (void)state;
    struct model_config c;
    ASSERT_OK(read_with(NULL, NULL, &c));
    assert_int_equal(c.layers, 24);
    assert_int_equal(c.hidden, 896);
    assert_int_equal(c.heads, 14);
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.ffn, 4864);
    assert_int_equal(c.vocab, 151936);
    assert_int_equal(c.max_positions, 32768);
    assert_true(c.rope_theta == 1e6 && c.rms_eps == 1e-6f && c.tied);
    assert_int_equal(c.bos, 151643);
    assert_int_equal(c.eos, 151645);
    assert_int_equal(model_parameter_count(&c), 494032768); /* engine.md section 1.1 */
}

static void both_forms_of_rotary_parameters_are_read(void **state) {
    (void)state;
    struct model_config c;
    ASSERT_OK(read_with("\"rope_theta\": 1000000.0",
                        "\"rope_parameters\": {\"rope_theta\": 5000.0, \"rope_type\": \"default\"}", &c));
    assert_true(c.rope_theta == 5000.0);
    ASSERT_OK(read_with("\"rope_theta\": 1000000.0", "\"rope_scaling\": null", &c));
    assert_true(c.rope_theta == 10000.0);
    ASSERT_FAILS(STATUS_UNSUPPORTED,
                 read_with("\"rope_theta\": 1000000.0", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}", &c));
    ASSERT_FAILS(STATUS_UNSUPPORTED,
                 read_with("\"rope_theta\": 1000000.0",
                           "\"rope_parameters\": {\"rope_theta\": 5000.0, \"rope_type\": \"yarn\"}", &c));
}

static void optional_members_have_transformers_defaults(void **state) {
    (void)state;
    struct model_config c;
    ASSERT_OK(read_with("\"tie_word_embeddings\": true", "\"head_dim\": 128", &c));
    assert_false(c.tied);
    assert_int_equal(c.head_dim, 128);
    ASSERT_OK(read_with("\"eos_token_id\": 151645", "\"eos_token_id\": [7, 8]", &c));
    assert_int_equal(c.eos, 7);
    ASSERT_OK(read_with("\"eos_token_id\": 151645", "\"eos_token_id\": null", &c));
    assert_int_equal(c.eos, -1);
}

static void other_models_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *message;
        enum status status;
    } cases[] = {
        {"\"qwen2\"", "\"llama\"", "model_type = llama", STATUS_UNSUPPORTED},
        {"\"model_type\": \"qwen2\",", "", "no \"model_type\"", STATUS_FORMAT},
        {"Qwen2ForCausalLM", "Qwen2ForSequenceClassification", "Qwen2ForSequenceClassification", STATUS_UNSUPPORTED},
        {"\"silu\"", "\"gelu\"", "hidden_act = gelu", STATUS_UNSUPPORTED},
        {"\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window", STATUS_UNSUPPORTED},
        {"\"max_window_layers\": 21", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]",
         "layer_types[1] = sliding_attention", STATUS_UNSUPPORTED},
        {"\"max_window_layers\": 21", "\"quantization_config\": {\"quant_method\": \"awq\"}", "quantization_config",
         STATUS_UNSUPPORTED},
        {"\"hidden_size\": 896", "\"hidden_size\": 448", "head size 32", STATUS_UNSUPPORTED},
        {"\"hidden_size\": 896", "\"hidden_size\": 0", "hidden_size", STATUS_FORMAT},
        {"\"hidden_size\": 896", "\"hidden_size\": \"896\"", "a string; a whole number is wanted", STATUS_FORMAT},
        {"\"intermediate_size\": 4864", "\"intermediate_size\": 4860", "multiples of 8", STATUS_UNSUPPORTED},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", "14 attention heads on 4", STATUS_FORMAT},
        {"\"num_hidden_layers\": 24", "\"num_hidden_layers\": 9999999999", "num_hidden_layers", STATUS_FORMAT},
        {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", "rms_norm_eps", STATUS_FORMAT},
        {"1000000.0", "-1.0", "rope_theta = -1", STATUS_FORMAT},
        {"{\"architectures\"", "[", "not valid JSON", STATUS_FORMAT},
    };
    struct model_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ASSERT_FAILS(cases[i].status, read_with(cases[i].from, cases[i].to, &c));
        if (!strstr(status_message(), cases[i].message) || !strstr(status_message(), "/config.json"))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].message, status_message());
    }
    ASSERT_FAILS(STATUS_NOT_FOUND, model_config_read("/nonexistent", &c));
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    struct model_config c, again;
    ASSERT_OK(read_with("\"hidden_size\": 896", "\"head_dim\": 128, \"hidden_size\": 512", &c));
    c.rms_eps = 1e-5f;
    c.bos = -1;
    ASSERT_OK(model_config_write(&c, directory));
    ASSERT_OK(model_config_read(directory, &again));
    assert_true(c.layers == again.layers && c.hidden == again.hidden && c.heads == again.heads &&
                c.kv_heads == again.kv_heads && c.head_dim == again.head_dim && c.ffn == again.ffn &&
                c.vocab == again.vocab && c.max_positions == again.max_positions && c.rope_theta == again.rope_theta &&
                c.rms_eps == again.rms_eps && c.tied == again.tied && c.bos == again.bos && c.eos == again.eos);
}

static void sizes_are_those_of_the_published_models(void **state) {
    (void)state;
    const struct model_config seven = {.layers = 28,
                                       .hidden = 3584,
                                       .heads = 28,
                                       .kv_heads = 4,
                                       .head_dim = 128,
                                       .ffn = 18944,
                                       .vocab = 152064,
                                       .tied = false};
    assert_int_equal(model_parameter_count(&seven), 7615616512);
    /* 7.07e9 parameters take part in a product: 14.14 GFLOP a token, and 0.4 MFLOP a token of context (engine.md 1.1,
     * 8) */
    assert_true(model_forward_flop(&seven, 0) > 14.13e9 && model_forward_flop(&seven, 0) < 14.15e9);
    /* a prompt of 10 tokens, 2 answers of 3: 10 and 2 x 2 rows, the prompt's last and the 4 meet the vocabulary */
    assert_true(model_answers_flop(&seven, 1, 10, 2, 6) == model_pass_flop(&seven, 14, 5, 11.5));
    assert_true(model_answers_flop(&seven, 0, 0, 0, 0) == 0);
    double context = model_forward_flop(&seven, 256) - model_forward_flop(&seven, 0);
    assert_true(context > 0.102e9 && context < 0.104e9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_file_is_read),
        cmocka_unit_test(both_forms_of_rotary_parameters_are_read),
        cmocka_unit_test(optional_members_have_transformers_defaults),
        cmocka_unit_test(other_models_are_refused_by_name),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(sizes_are_those_of_the_published_models),
    };
    return cmocka_run_group_tests_name("config", tests, make_directory, remove_directory);
}
