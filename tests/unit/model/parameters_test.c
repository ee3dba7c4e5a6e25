/* Parameters: layout, fresh weights, saving, loading from one and several files, and what loading refuses. */
#include "tests/support/test.h"

#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/rng.h"
#include "common/model/parameters.h"
#include "common/model/safetensors.h"

static struct device *device;
static char directory[PATH_BYTES];
static const struct model_config small = {.layers = 2,
                                          .hidden = 16,
                                          .heads = 2,
                                          .kv_heads = 1,
                                          .head_dim = 64,
                                          .ffn = 24,
                                          .vocab = 40,
                                          .max_positions = 64,
                                          .rope_theta = 1e6,
                                          .rms_eps = 1e-6f,
                                          .tied = false,
                                          .bos = -1,
                                          .eos = 1};

static int open_all(void **state) {
    (void)state;
    strcpy(directory, "/tmp/candor-parameters-XXXXXX");
    return device_open("cpu", 1, &device) == STATUS_OK && mkdtemp(directory) ? 0 : -1;
}

static int close_all(void **state) {
    (void)state;
    device_close(&device);
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static void file_path(char *out_path, const char *name) {
    ASSERT_OK(fs_join(out_path, directory, name));
}

static int clear_directory(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK && fs_make_directories(directory) == STATUS_OK ? 0 : -1;
}

static void entries_tile_the_buffer(void **state) {
    (void)state;
    struct parameter_layout *layout = NULL;
    ASSERT_OK(parameter_layout_create(&small, &layout));
    int64_t at = 0;
    for (int32_t e = 0; e < layout->count; e++) {
        assert_int_equal(layout->entries[e].offset, at);
        assert_int_equal(at % 8, 0); /* 16 bytes of bf16 */
        at += (int64_t)layout->entries[e].rows * layout->entries[e].cols;
    }
    assert_int_equal(at, layout->total);
    assert_int_equal(layout->total, model_parameter_count(&small));
    assert_string_equal(layout->entries[0].name, "model.embed_tokens.weight");
    assert_string_equal(layout->entries[layout->count - 1].name, "lm_head.weight");
    assert_int_equal(layout->lm_head, layout->entries[layout->count - 1].offset);
    parameter_layout_destroy(&layout);

    struct model_config tied = small;
    tied.tied = true;
    ASSERT_OK(parameter_layout_create(&tied, &layout));
    assert_int_equal(layout->lm_head, layout->embed);
    parameter_layout_destroy(&layout);
}

static struct model *fresh_model(const struct model_config *config, enum dtype type) {
    struct model *model = NULL;
    ASSERT_OK(model_create(device, config, type, 64, 0, &model));
    ASSERT_OK(model_initialise(model, 5, 0.02));
    return model;
}

static struct digest digest_of(const struct model *model) {
    struct digest digest = {0};
    ASSERT_OK(model_digest(model, &digest));
    return digest;
}

static void fresh_weights_are_a_function_of_the_seed(void **state) {
    (void)state;
    struct model *a = fresh_model(&small, DTYPE_BF16), *b = fresh_model(&small, DTYPE_BF16);
    assert_true(digest_equal(digest_of(a), digest_of(b)));
    ASSERT_OK(model_initialise(b, 6, 0.02));
    assert_false(digest_equal(digest_of(a), digest_of(b)));
    const uint16_t *data = a->data; /* the CPU's memory is the host's */
    assert_int_equal(data[a->layout->final_norm], 0x3f80);
    assert_int_equal(data[a->layout->layers[1].norm1], 0x3f80);
    assert_int_equal(data[a->layout->layers[1].qkv_bias + 5], 0);
    double sum = 0, squares = 0;
    int32_t count = small.vocab * small.hidden;
    for (int32_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)data[i] << 16;
        float value;
        memcpy(&value, &bits, 4);
        sum += (double)value;
        squares += (double)value * (double)value;
    }
    assert_true(sum / count > -0.003 && sum / count < 0.003);
    assert_true(squares / count > 0.00035 && squares / count < 0.00045);
    model_destroy(&a);
    model_destroy(&b);
    assert_null(b);
}

static void a_saved_model_loads_with_the_same_digest(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct model_config config = small;
        config.tied = tied;
        for (enum dtype type = DTYPE_BF16; type <= DTYPE_F32; type++) {
            struct model *model = fresh_model(&config, type), *loaded = NULL;
            ASSERT_OK(model_save(model, directory));
            ASSERT_OK(model_load(device, directory, type, 32, 33, &loaded));
            assert_true(digest_equal(digest_of(model), digest_of(loaded)));
            assert_int_equal(loaded->valid_vocab, 33);
            assert_int_equal(loaded->config.tied, tied);
            model_destroy(&loaded);
            /* fresh weights are bf16 values, so the other storage type holds them too */
            ASSERT_OK(model_load(device, directory, type == DTYPE_BF16 ? DTYPE_F32 : DTYPE_BF16, 32, 0, &loaded));
            const uint16_t *halves = type == DTYPE_BF16 ? model->data : loaded->data;
            const uint32_t *words = type == DTYPE_BF16 ? loaded->data : model->data;
            for (int64_t i = 0; i < model->layout->total; i++)
                assert_int_equal((uint32_t)halves[i] << 16, words[i]);
            model_destroy(&loaded);
            model_destroy(&model);
        }
    }
}

static void a_host_copy_saves_as_it_was(void **state) {
    (void)state;
    struct model *model = fresh_model(&small, DTYPE_BF16), *loaded = NULL;
    struct digest before = digest_of(model);
    size_t bytes = (size_t)model->layout->total * 2;
    void *copy = malloc(bytes);
    device->ops->download(device, copy, model->data, bytes);
    ASSERT_OK(model_initialise(model, 99, 0.02));
    ASSERT_OK(model_save_host(model, copy, directory));
    ASSERT_OK(model_load(device, directory, DTYPE_BF16, 32, 0, &loaded));
    assert_true(digest_equal(before, digest_of(loaded)));
    free(copy);
    model_destroy(&loaded);
    model_destroy(&model);
}

/* ---- files made by hand ---- */

/* What to write in place of one tensor of a saved model. */
struct edit {
    const char *name;   /* of the tensor; NULL: none */
    const char *rename; /* "": leave it out */
    enum st_dtype dtype;
    int64_t rows, cols;
};

/* Writes entries [first, last) of the model to a file, one of them edited (its data are zeros). */
static void write_part(const struct model *model, const char *name, int32_t first, int32_t last,
                       const struct edit *edit) {
    char path[PATH_BYTES];
    struct st_writer *writer = NULL;
    static const char zeros[1 << 16];
    file_path(path, name);
    ASSERT_OK(st_writer_create(path, &writer));
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t e = first; e < last; e++) {
            const struct tensor_entry *entry = &model->layout->entries[e];
            bool edited = edit && strcmp(edit->name, entry->name) == 0;
            int64_t shape[2] = {edited ? edit->rows : entry->rows, edited ? edit->cols : entry->cols};
            uint64_t elements = (uint64_t)(shape[0] * (entry->rank == 2 ? shape[1] : 1));
            if (edited && !*edit->rename)
                continue;
            if (pass == 0)
                ASSERT_OK(st_writer_declare(writer, edited ? edit->rename : entry->name, edited ? edit->dtype : ST_BF16,
                                            entry->rank, shape));
            else if (edited)
                ASSERT_OK(st_writer_append(writer, zeros, elements * (edit->dtype == ST_F32 ? 4 : 2)));
            else
                ASSERT_OK(st_writer_append(writer, (const uint16_t *)model->data + entry->offset, elements * 2));
        }
    }
    ASSERT_OK(st_writer_finish(&writer, NULL));
}

static void write_text(const char *name, const char *text) {
    char path[PATH_BYTES];
    file_path(path, name);
    ASSERT_OK(fs_write_atomic(path, text, strlen(text)));
}

static void expect_refusal(enum status status, const char *message) {
    struct model *loaded = NULL;
    ASSERT_FAILS(status, model_load(device, directory, DTYPE_BF16, 32, 0, &loaded));
    if (!strstr(status_message(), message) || !strstr(status_message(), directory))
        fail_msg("\"%s\" is not in \"%s\"", message, status_message());
    assert_null(loaded);
}

static void other_tensors_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        struct edit edit;
        enum status status;
        const char *message;
    } cases[] = {
        {{"model.norm.weight", "", ST_BF16, 16, 1}, STATUS_MISMATCH, "no tensor model.norm.weight"},
        {{"model.norm.weight", "model.norm.bias", ST_BF16, 16, 1}, STATUS_MISMATCH, "model.norm.bias: no such tensor"},
        {{"model.norm.weight", "model.norm.weight", ST_F16, 16, 1}, STATUS_UNSUPPORTED, "has dtype F16; BF16 and F32"},
        {{"model.norm.weight", "model.norm.weight", ST_BF16, 24, 1},
         STATUS_MISMATCH,
         "shape [24, 1 ..]; config.json makes [16, 1]"},
        {{"lm_head.weight", "lm_head.weight", ST_BF16, 48, 16}, STATUS_MISMATCH, "shape [48, 16 ..]"},
    };
    struct model *model = fresh_model(&small, DTYPE_BF16);
    ASSERT_OK(model_config_write(&small, directory));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_part(model, "model.safetensors", 0, model->layout->count, &cases[i].edit);
        expect_refusal(cases[i].status, cases[i].message);
    }
    model_destroy(&model);
}

static void a_tied_embedding_stored_twice_is_read_once(void **state) {
    (void)state;
    struct model_config tied = small;
    tied.tied = true;
    struct model *model = fresh_model(&small, DTYPE_BF16), *loaded = NULL;
    ASSERT_OK(model_config_write(&tied, directory));
    write_part(model, "model.safetensors", 0, model->layout->count, NULL);
    ASSERT_OK(model_load(device, directory, DTYPE_BF16, 32, 0, &loaded));
    assert_memory_equal(loaded->data, model->data, (size_t)loaded->layout->total * 2);
    model_destroy(&loaded);
    model_destroy(&model);
}

static void wider_weights_round_to_nearest_even(void **state) {
    (void)state;
    static const uint32_t bits[4] = {0x3f808000, 0x3f818000, 0x3f808001, 0xbf807fff}; /* two ties, above, below */
    static const uint16_t rounded[4] = {0x3f80, 0x3f82, 0x3f81, 0xbf80};
    struct model *model = fresh_model(&small, DTYPE_F32), *loaded = NULL;
    memcpy(model->data, bits, sizeof bits);
    ASSERT_OK(model_save(model, directory));
    ASSERT_OK(model_load(device, directory, DTYPE_BF16, 32, 0, &loaded));
    assert_memory_equal(loaded->data, rounded, sizeof rounded);
    model_destroy(&loaded);
    model_destroy(&model);
}

static void shards_load_as_one_model(void **state) {
    (void)state;
    struct model *model = fresh_model(&small, DTYPE_BF16), *loaded = NULL;
    const int32_t count = model->layout->count;
    ASSERT_OK(model_config_write(&small, directory));
    write_part(model, "model-00001-of-00002.safetensors", 0, 9, NULL);
    write_part(model, "model-00002-of-00002.safetensors", 9, count, NULL);
    expect_refusal(STATUS_NOT_FOUND, "neither model.safetensors nor model.safetensors.index.json");
    write_text("model.safetensors.index.json",
               "{\"metadata\":{},\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
               "\"b\":\"model-00002-of-00002.safetensors\","
               "\"c\":\"model-00001-of-00002.safetensors\"}}");
    ASSERT_OK(model_load(device, directory, DTYPE_BF16, 32, 0, &loaded));
    assert_true(digest_equal(digest_of(model), digest_of(loaded)));
    model_destroy(&loaded);

    write_part(model, "model-00002-of-00002.safetensors", 8, count, NULL); /* one tensor in both */
    expect_refusal(STATUS_FORMAT, "is in another file already");
    write_part(model, "model-00002-of-00002.safetensors", 10, count, NULL); /* one in none */
    expect_refusal(STATUS_MISMATCH, "no tensor model.layers.0.post_attention_layernorm.weight");
    write_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../model.safetensors\"}}");
    expect_refusal(STATUS_FORMAT, "the plain name of a file");
    write_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"absent.safetensors\"}}");
    expect_refusal(STATUS_NOT_FOUND, "absent.safetensors");
    write_text("model.safetensors.index.json", "{\"weight_map\":[]}");
    expect_refusal(STATUS_FORMAT, "weight_map: an object");
    write_text("model.safetensors.index.json", "{");
    expect_refusal(STATUS_FORMAT, "not valid JSON");
    model_destroy(&model);
}

static void a_damaged_file_is_refused(void **state) {
    (void)state;
    struct model *model = fresh_model(&small, DTYPE_BF16);
    char path[PATH_BYTES];
    uint64_t bytes;
    file_path(path, "model.safetensors");
    ASSERT_OK(model_save(model, directory));
    ASSERT_OK(fs_size(path, &bytes));
    assert_int_equal(truncate(path, (off_t)bytes - 1), 0);
    expect_refusal(STATUS_FORMAT, "model.safetensors: lm_head.weight: data_offsets");
    assert_int_equal(truncate(path, 0), 0);
    expect_refusal(STATUS_FORMAT, "0 bytes");
    model_destroy(&model);
}

static void a_tokenizer_or_length_beyond_the_model_is_refused(void **state) {
    (void)state;
    struct model *model = NULL;
    ASSERT_FAILS(STATUS_MISMATCH, model_create(device, &small, DTYPE_BF16, 64, 41, &model));
    ASSERT_FAILS(STATUS_LIMIT, model_create(device, &small, DTYPE_BF16, 65, 0, &model));
    ASSERT_FAILS(STATUS_LIMIT, model_create(device, &small, DTYPE_BF16, 0, 0, &model));
    assert_null(model);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, clear_directory)
    const struct CMUnitTest tests[] = {
        TEST(entries_tile_the_buffer),
        TEST(fresh_weights_are_a_function_of_the_seed),
        TEST(a_saved_model_loads_with_the_same_digest),
        TEST(a_host_copy_saves_as_it_was),
        TEST(other_tensors_are_refused_by_name),
        TEST(a_tied_embedding_stored_twice_is_read_once),
        TEST(wider_weights_round_to_nearest_even),
        TEST(shards_load_as_one_model),
        TEST(a_damaged_file_is_refused),
        TEST(a_tokenizer_or_length_beyond_the_model_is_refused),
    };
    return cmocka_run_group_tests_name("parameters", tests, open_all, close_all);
}
