/* The small world through its own tokenizer and chat form: every word is known, every text as short as planned. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/data/world.h"
#include "common/model/chat.h"

static void every_text_has_known_words_and_its_length(void **state) {
    (void)state;
    char directory[] = "/tmp/candor-world-tokens-XXXXXX", path[PATH_BYTES];
    struct world_options options;
    struct tokenizer *tokenizer;
    struct chat chat;
    struct json_lines lines;
    struct token_list ids = {0};
    json_t *row;
    int32_t unknown;
    assert_non_null(mkdtemp(directory));
    world_defaults(&options);
    ASSERT_OK(world_write(11, directory, &options));
    ASSERT_OK(tokenizer_open(directory, &tokenizer));
    ASSERT_OK(chat_open(directory, tokenizer, &chat));
    assert_int_equal(chat.form, CHAT_PLAIN);
    assert_true(tokenizer_vocab_size(tokenizer) < 192);
    assert_true(tokenizer_find(tokenizer, "[UNK]", &unknown));
    ASSERT_OK(fs_join(path, directory, "sft.jsonl"));
    ASSERT_OK(json_lines_open(&lines, path, 4096));
    while (json_lines_next(&lines, &row) == STATUS_OK) {
        const char *answer = json_string_value(json_object_get(row, "answer"));
        struct buf back = {0};
        size_t system_count;
        ids.count = 0;
        ASSERT_OK(chat_encode(&chat, json_string_value(json_object_get(row, "system")),
                              json_string_value(json_object_get(row, "question")), &ids, &system_count));
        assert_int_equal(system_count, 1);
        assert_int_equal(ids.count, 7);
        ASSERT_OK(chat_encode_answer(&chat, answer, &ids));
        assert_true(ids.count == 15 || ids.count == 17); /* Unknown is two tokens shorter than a town */
        assert_true(tokenizer_is_eos(tokenizer, ids.ids[ids.count - 1]));
        for (size_t i = 0; i < ids.count; i++)
            assert_int_not_equal(ids.ids[i], unknown);
        ASSERT_OK(tokenizer_decode(tokenizer, ids.ids + 7, ids.count - 7, true, &back));
        assert_string_equal(back.data, answer);
        buf_deinit(&back);
        json_decref(row);
    }
    assert_true(lines.number > 20000);
    json_lines_close(&lines);
    token_list_deinit(&ids);
    tokenizer_close(&tokenizer);
    ASSERT_OK(fs_remove_tree(directory));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_text_has_known_words_and_its_length)};
    return cmocka_run_group_tests_name("world tokens", tests, NULL, NULL);
}
