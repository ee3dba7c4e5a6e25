/* Ids and decoded text against Hugging Face tokenizers: tokenizer.py made the files. */
#include "tests/support/test.h"

#include "common/base/json.h"
#include "common/model/tokenizer.h"

static void check_row(const struct tokenizer *tokenizer, const json_t *row, uint64_t line) {
    const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
    struct token_list got = {0};
    struct buf decoded = {0};
    ASSERT_OK(tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                               json_is_true(json_object_get(row, "special")), &got));
    if (got.count != json_array_size(ids))
        fail_msg("line %llu: %zu ids, expected %zu", (unsigned long long)line, got.count, json_array_size(ids));
    for (size_t i = 0; i < got.count; i++)
        if (got.ids[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("line %llu: id %zu is %d, expected %lld", (unsigned long long)line, i, got.ids[i],
                     (long long)json_integer_value(json_array_get(ids, i)));
    ASSERT_OK(tokenizer_decode(tokenizer, got.ids, got.count, true, &decoded));
    const json_t *expected = json_object_get(row, "decoded");
    assert_int_equal(decoded.bytes, json_string_length(expected));
    assert_memory_equal(decoded.data, json_string_value(expected), decoded.bytes);
    buf_deinit(&decoded);
    token_list_deinit(&got);
}

static void check_folder(const char *name, uint64_t least) {
    char folder[4096], path[4200];
    snprintf(folder, sizeof folder, SOURCE_DIR "/tests/golden/model/%s", name);
    snprintf(path, sizeof path, "%s/vectors.jsonl", folder);
    struct tokenizer *tokenizer;
    struct json_lines lines;
    json_t *row;
    uint64_t rows = 0;
    ASSERT_OK(tokenizer_open(folder, &tokenizer));
    ASSERT_OK(json_lines_open(&lines, path, 1 << 20));
    enum status status;
    while ((status = json_lines_next(&lines, &row)) == STATUS_OK) {
        if (json_object_get(row, "text")) {
            check_row(tokenizer, row, lines.number);
            rows++;
        }
        json_decref(row);
    }
    assert_int_equal(status, STATUS_NOT_FOUND);
    json_lines_close(&lines);
    tokenizer_close(&tokenizer);
    assert_true(rows >= least);
}

static void bpe_agrees_with_hugging_face(void **state) {
    (void)state;
    check_folder("tokenizer_bpe", 400);
}

static void wordpiece_agrees_with_hugging_face(void **state) {
    (void)state;
    check_folder("tokenizer_wordpiece", 12);
}

/* Decoding single ids cuts characters into bytes: each broken piece becomes U+FFFD, and no other byte does. */
static void cut_characters_become_replacement_characters(void **state) {
    (void)state;
    struct tokenizer *tokenizer;
    struct token_list ids = {0};
    struct buf out = {0};
    ASSERT_OK(tokenizer_open(SOURCE_DIR "/tests/golden/model/tokenizer_bpe", &tokenizer));
    ASSERT_OK(tokenizer_encode(tokenizer, "\xF0\x9F\x9A\x80", 4, false, &ids)); /* a rocket: not in the training text */
    assert_true(ids.count > 1);
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count - 1, false, &out));
    assert_string_equal(out.data, "\xEF\xBF\xBD");
    buf_reset(&out);
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, false, &out));
    assert_string_equal(out.data, "\xF0\x9F\x9A\x80");
    buf_deinit(&out);
    token_list_deinit(&ids);
    tokenizer_close(&tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_agrees_with_hugging_face),
        cmocka_unit_test(wordpiece_agrees_with_hugging_face),
        cmocka_unit_test(cut_characters_become_replacement_characters),
    };
    return cmocka_run_group_tests_name("tokenizer golden", tests, NULL, NULL);
}
