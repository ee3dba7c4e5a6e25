/* Tokenizer: what it must read, what it must refuse, and ids against the real Qwen2.5 vocabulary where that is present.
 */
#include "tests/support/test.h"

#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/model/tokenizer.h"

#define QWEN SHARED_DATA "/qwen_tokenizer"
#define LLAMA SHARED_DATA "/llamacpp_vocab/ggml-vocab-qwen2.gguf"

static char scratch[] = "/tmp/candor-tokenizer-XXXXXX";

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return fs_remove_tree(scratch) == STATUS_OK ? 0 : -1;
}

/* A fresh directory under the scratch one. */
static const char *fresh(void) {
    static char path[PATH_BYTES];
    static int number;
    snprintf(path, sizeof path, "%s/%d", scratch, number++);
    assert_int_equal(fs_make_directories(path), STATUS_OK);
    return path;
}

static void put(const char *directory, const char *name, const char *text) {
    char path[PATH_BYTES];
    assert_int_equal(fs_join(path, directory, name), STATUS_OK);
    assert_int_equal(fs_write_atomic(path, text, strlen(text)), STATUS_OK);
}

static void link_in(const char *directory, const char *name, const char *target) {
    char path[PATH_BYTES];
    assert_int_equal(fs_join(path, directory, name), STATUS_OK);
    assert_int_equal(symlink(target, path), 0);
}

/* The real vocabulary with the Instruct model's added tokens, or NULL. */
static struct tokenizer *qwen(void) {
    struct tokenizer *tokenizer = NULL;
    if (!fs_exists(QWEN "/vocab.json"))
        return NULL;
    const char *directory = fresh();
    link_in(directory, "vocab.json", QWEN "/vocab.json");
    link_in(directory, "merges.txt", QWEN "/merges.txt");
    link_in(directory, "tokenizer_config.json", QWEN "/Qwen2.5-0.5B-Instruct/tokenizer_config.json");
    if (tokenizer_open(directory, &tokenizer) != STATUS_OK)
        fail_msg("%s", status_message());
    return tokenizer;
}

#define NEED_QWEN(tokenizer)                                                                                           \
    struct tokenizer *tokenizer = qwen();                                                                              \
    if (!tokenizer)                                                                                                    \
    SKIP("no ../shared/data/qwen_tokenizer")

static void check_ids(const struct tokenizer *tokenizer, const char *text, size_t bytes, bool special,
                      const int32_t *ids, size_t count, uint64_t line) {
    struct token_list got = {0};
    if (tokenizer_encode(tokenizer, text, bytes, special, &got) != STATUS_OK)
        fail_msg("case %llu: %s", (unsigned long long)line, status_message());
    if (got.count != count || (count > 0 && memcmp(got.ids, ids, count * sizeof *ids) != 0))
        fail_msg("case %llu: \"%.*s\": %zu ids, expected %zu; first %d, expected %d", (unsigned long long)line,
                 (int)bytes, text, got.count, count, got.count ? got.ids[0] : -1, count ? ids[0] : -1);
    token_list_deinit(&got);
}

static void reads_the_derived_vectors(void **state) {
    (void)state;
    NEED_QWEN(tokenizer);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 151665);
    struct json_lines lines;
    json_t *row;
    uint64_t cases = 0;
    assert_int_equal(json_lines_open(&lines, QWEN "/derived_vectors.jsonl", 1 << 20), STATUS_OK);
    while (json_lines_next(&lines, &row) == STATUS_OK) {
        const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
        const char *kind = json_string_value(json_object_get(row, "kind"));
        bool special = kind && strcmp(kind, "chat_special") == 0;
        int32_t expected[16384];
        size_t count = json_array_size(ids);
        assert_true(count <= 16384);
        for (size_t i = 0; i < count; i++)
            expected[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        check_ids(tokenizer, json_string_value(text), json_string_length(text), special, expected, count, lines.number);
        struct buf back = {0};
        ASSERT_OK(tokenizer_decode(tokenizer, expected, count, false, &back));
        if (!kind || strcmp(kind, "nfd") != 0)
            assert_string_equal(back.data ? back.data : "", json_string_value(text));
        buf_deinit(&back);
        json_decref(row);
        cases++;
    }
    json_lines_close(&lines);
    assert_true(cases > 2800);
    tokenizer_close(&tokenizer);
}

static void reads_the_llama_cpp_vectors(void **state) {
    (void)state;
    NEED_QWEN(tokenizer);
    struct buf in = {0}, out = {0};
    assert_int_equal(fs_read(LLAMA ".inp", 1 << 20, &in), STATUS_OK);
    assert_int_equal(fs_read(LLAMA ".out", 1 << 20, &out), STATUS_OK);
    static const char mark[] = "\n__ggml_vocab_test__\n";
    uint64_t cases = 0;
    char *line = out.data;
    for (const char *at = in.data, *stop; (stop = strstr(at, mark)); at = stop + sizeof mark - 1) {
        int32_t expected[4096];
        size_t count = 0;
        char *end = strchr(line, '\n');
        assert_non_null(end);
        for (char *number = line; number < end;) {
            while (number < end && *number == ' ')
                number++;
            if (number < end)
                expected[count++] = (int32_t)strtol(number, &number, 10);
        }
        check_ids(tokenizer, at, (size_t)(stop - at), false, expected, count, ++cases);
        line = end + 1;
    }
    assert_true(cases >= 40);
    buf_deinit(&in);
    buf_deinit(&out);
    tokenizer_close(&tokenizer);
}

static void control_tokens_come_only_when_asked(void **state) {
    (void)state;
    NEED_QWEN(tokenizer);
    struct token_list ids = {0};
    const char *text = "a<|im_end|>";
    ASSERT_OK(tokenizer_encode(tokenizer, text, strlen(text), false, &ids));
    for (size_t i = 0; i < ids.count; i++)
        assert_true(ids.ids[i] < 151643);
    ids.count = 0;
    ASSERT_OK(tokenizer_encode(tokenizer, text, strlen(text), true, &ids));
    assert_int_equal(ids.count, 2);
    assert_int_equal(ids.ids[1], 151645);
    struct buf out = {0};
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &out));
    assert_string_equal(out.data, "a");
    buf_deinit(&out);
    token_list_deinit(&ids);
    size_t count;
    const int32_t *eos = tokenizer_eos(tokenizer, &count);
    assert_int_equal(count, 2);
    assert_int_equal(eos[0], 151643);
    assert_int_equal(eos[1], 151645);
    assert_true(tokenizer_is_eos(tokenizer, 151645));
    assert_false(tokenizer_is_eos(tokenizer, 0));
    tokenizer_close(&tokenizer);
}

static void merges_with_a_version_line_are_the_same(void **state) {
    (void)state;
    if (!fs_exists(QWEN "/merges_with_version_line.txt"))
        SKIP("no ../shared/data/qwen_tokenizer");
    struct tokenizer *tokenizer;
    const char *directory = fresh();
    link_in(directory, "vocab.json", QWEN "/vocab.json");
    link_in(directory, "merges.txt", QWEN "/merges_with_version_line.txt");
    link_in(directory, "added_tokens.json", QWEN "/Qwen2.5-0.5B-Instruct/added_tokens.json");
    ASSERT_OK(tokenizer_open(directory, &tokenizer));
    int32_t hello[] = {9707, 1879};
    check_ids(tokenizer, "Hello world", 11, false, hello, 2, 0);
    int32_t id;
    assert_true(tokenizer_find(tokenizer, "<|endoftext|>", &id));
    assert_int_equal(id, 151643);
    assert_true(tokenizer_find(tokenizer, "\xC4\xA0world", &id)); /* as the files write " world" */
    assert_int_equal(id, 1879);
    assert_false(tokenizer_find(tokenizer, "no such token", &id));
    tokenizer_close(&tokenizer);
}

/* ---- small files ----------------------------------------------------------------------------------------------------
 */

static const char wordpiece[] =
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":6,\"content\":\"<end>\",\"special\":true,\"normalized\":false}],"
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"post_processor\":null,"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":false},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":100,"
    "\"vocab\":{\"[UNK]\":0,\"Oak\":1,\"##ford\":2,\"Oakf\":3,\"lives\":4,\"?\":5}}}";

static struct tokenizer *open_wordpiece(void) {
    struct tokenizer *tokenizer;
    const char *directory = fresh();
    put(directory, "tokenizer.json", wordpiece);
    put(directory, "tokenizer_config.json", "{\"eos_token\": \"<end>\"}");
    if (tokenizer_open(directory, &tokenizer) != STATUS_OK)
        fail_msg("%s", status_message());
    return tokenizer;
}

static void wordpiece_cuts_greedily(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_wordpiece();
    int32_t oak[] = {4, 1, 2, 5};
    /* "Oakf" is longer than "Oak" but leaves "##ord", which is nothing: greedy does not go back, the word is unknown.
     */
    int32_t unknown[] = {0};
    check_ids(tokenizer, "Oakford", 7, false, unknown, 1, 1);
    tokenizer_close(&tokenizer);

    struct buf text = {0};
    const char *directory = fresh();
    buf_puts(&text, wordpiece);
    memcpy(strstr(text.data, "Oakf"), "Xakf", 4);
    put(directory, "tokenizer.json", text.data);
    put(directory, "tokenizer_config.json", "{\"eos_token\": {\"content\": \"<end>\"}}");
    ASSERT_OK(tokenizer_open(directory, &tokenizer));
    check_ids(tokenizer, "lives Oakford\t\n ?", 17, false, oak, 4, 2);
    check_ids(tokenizer, "lives\xC2\xA0Oakford\xE3\x80\x80?", 18, false, oak, 4, 3);
    struct buf out = {0};
    int32_t with_end[] = {4, 1, 2, 5, 6};
    ASSERT_OK(tokenizer_decode(tokenizer, with_end, 5, true, &out));
    assert_string_equal(out.data, "lives Oakford ?");
    int32_t asked[] = {4, 6};
    check_ids(tokenizer, "lives <end>", 11, true, asked, 2, 4);
    int32_t plain[] = {4, 0};
    check_ids(tokenizer, "lives <end>", 11, false, plain, 2, 5);
    buf_deinit(&out);
    buf_deinit(&text);
    tokenizer_close(&tokenizer);
}

/* Where the vocabulary itself lists a control token, as older files do. */
static void a_control_token_of_the_vocabulary_is_no_word(void **state) {
    (void)state;
    struct tokenizer *tokenizer;
    struct buf text = {0};
    const char *directory = fresh(), *end = strstr(wordpiece, "}}}");
    buf_append(&text, wordpiece, (size_t)(end - wordpiece));
    buf_puts(&text, ",\"<end>\":6}}}");
    put(directory, "tokenizer.json", text.data);
    put(directory, "tokenizer_config.json", "{\"eos_token\": \"<end>\"}");
    ASSERT_OK(tokenizer_open(directory, &tokenizer));
    int32_t asked[] = {4, 6}, plain[] = {4, 0};
    check_ids(tokenizer, "lives <end>", 11, true, asked, 2, 1);
    check_ids(tokenizer, "lives <end>", 11, false, plain, 2, 2);
    buf_deinit(&text);
    tokenizer_close(&tokenizer);
}

static void malformed_utf8_is_refused_and_ids_kept(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_wordpiece();
    struct token_list ids = {0};
    assert_int_equal(token_list_push(&ids, 77), STATUS_OK);
    ASSERT_FAILS(STATUS_UTF8, tokenizer_encode(tokenizer, "lives \xC3", 7, false, &ids));
    assert_int_equal(ids.count, 1);
    token_list_deinit(&ids);
    int32_t outside[] = {7};
    struct buf out = {0};
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_decode(tokenizer, outside, 1, false, &out));
    outside[0] = -1;
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_decode(tokenizer, outside, 1, false, &out));
    buf_deinit(&out);
    tokenizer_close(&tokenizer);
}

/* wordpiece with one piece of text replaced must be refused with this status and a message that says this. */
static void refuse(const char *from, const char *to, enum status status, const char *says) {
    struct buf text = {0};
    struct tokenizer *tokenizer = NULL;
    const char *at = strstr(wordpiece, from);
    assert_non_null(at);
    buf_append(&text, wordpiece, (size_t)(at - wordpiece));
    buf_puts(&text, to);
    buf_puts(&text, at + strlen(from));
    const char *directory = fresh();
    put(directory, "tokenizer.json", text.data);
    put(directory, "tokenizer_config.json", "{\"eos_token\": \"<end>\"}");
    enum status got = tokenizer_open(directory, &tokenizer);
    if (got != status || !strstr(status_message(), says) || strchr(status_message(), '\n'))
        fail_msg("%s -> %s: %s \"%s\", expected %s \"%s\"", from, to, status_name(got), status_message(),
                 status_name(status), says);
    assert_null(tokenizer);
    buf_deinit(&text);
}

static void what_is_not_built_is_refused_by_name(void **state) {
    (void)state;
    refuse("\"type\":\"WordPiece\",\"unk", "\"type\":\"Unigram\",\"unk", STATUS_UNSUPPORTED, "Unigram");
    refuse("WhitespaceSplit", "BertPreTokenizer", STATUS_UNSUPPORTED, "BertPreTokenizer");
    refuse("\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", STATUS_UNSUPPORTED, "normalizer");
    refuse("\"post_processor\":null",
           "\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"<s>\":{}}}", STATUS_UNSUPPORTED,
           "post_processor");
    refuse("\"normalized\":false", "\"lstrip\":true", STATUS_UNSUPPORTED, "lstrip");
    refuse("\"cleanup\":false", "\"cleanup\":true", STATUS_UNSUPPORTED, "cleanup");
}

static void broken_files_give_one_clear_error(void **state) {
    (void)state;
    refuse("\"Oak\":1", "\"Oak\":2", STATUS_FORMAT, "id 2 stands for two tokens");
    refuse("\"Oakf\":3", "\"Oak\":3", STATUS_FORMAT, "\"Oak\" has two ids, 1 and 3");
    refuse("\"id\":6", "\"id\":9", STATUS_FORMAT, "id 6 has no token");
    refuse("\"id\":6", "\"id\":5", STATUS_FORMAT, "id 5 stands for two tokens");
    refuse("\"Oak\":1", "\"Oak\":-1", STATUS_LIMIT, "id -1");
    refuse("\"Oak\":1", "\"Oak\":99999999999", STATUS_LIMIT, "id 99999999999");
    refuse("\"Oak\":1", "\"Oak\":1.5", STATUS_FORMAT, "integer");
    refuse("\"?\":5}}}", "\"?\":5", STATUS_FORMAT, "ends");
    refuse("\"?\":5}}}", "\"?\":5}}}}", STATUS_FORMAT, "after the end");
    refuse("\"vocab\"", "\"words\"", STATUS_FORMAT, "no vocab");
    refuse("\"[UNK]\":0", "\"[unk]\":0", STATUS_FORMAT, "[UNK]");
    refuse("<end>", "<stop>", STATUS_FORMAT, "eos_token \"<end>\"");
    struct tokenizer *tokenizer = NULL;
    ASSERT_FAILS(STATUS_NOT_FOUND, tokenizer_open(fresh(), &tokenizer));
}

static void missing_merges_are_refused(void **state) {
    (void)state;
    struct tokenizer *tokenizer = NULL;
    const char *directory = fresh();
    put(directory, "vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}");
    ASSERT_FAILS(STATUS_NOT_FOUND, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "merges.txt"));
    put(directory, "merges.txt", "#version: 0.2\na c\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "merge 1: its right half"));
    put(directory, "merges.txt", "b a\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "makes a token"));
    put(directory, "merges.txt", "a b\na b\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "twice"));
    put(directory, "merges.txt", "ab\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    put(directory, "merges.txt", "#version: 0.2\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "no merges"));
    put(directory, "merges.txt", "a b\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "byte 0x"));
    assert_null(tokenizer);
}

/* A vocabulary of all bytes in their printable stand-ins, then "ab", "abc" and a control token. */
static void put_byte_vocabulary(const char *directory) {
    struct buf text = {0};
    int stand_in = 256;
    buf_puts(&text, "{");
    for (int byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        buf_printf(&text, "\"\\u%04x\":%d,", printable ? byte : stand_in, byte);
        stand_in += !printable;
    }
    buf_puts(&text, "\"ab\":256,\"abc\":257,\"<|im_end|>\":258}");
    put(directory, "vocab.json", text.data);
    buf_deinit(&text);
}

static void a_merges_file_that_was_cut_off_is_refused(void **state) {
    (void)state;
    struct tokenizer *tokenizer = NULL;
    const char *directory = fresh();
    put_byte_vocabulary(directory);
    put(directory, "merges.txt", "#version: 0.2\na b\n");
    ASSERT_FAILS(STATUS_FORMAT, tokenizer_open(directory, &tokenizer));
    assert_non_null(strstr(status_message(), "merges for 1 tokens are missing, the first with id 257"));
    put(directory, "merges.txt", "#version: 0.2\na b\nab c\n");
    ASSERT_OK(tokenizer_open(directory, &tokenizer));
    tokenizer_close(&tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_derived_vectors),
        cmocka_unit_test(reads_the_llama_cpp_vectors),
        cmocka_unit_test(control_tokens_come_only_when_asked),
        cmocka_unit_test(merges_with_a_version_line_are_the_same),
        cmocka_unit_test(wordpiece_cuts_greedily),
        cmocka_unit_test(a_control_token_of_the_vocabulary_is_no_word),
        cmocka_unit_test(malformed_utf8_is_refused_and_ids_kept),
        cmocka_unit_test(what_is_not_built_is_refused_by_name),
        cmocka_unit_test(broken_files_give_one_clear_error),
        cmocka_unit_test(missing_merges_are_refused),
        cmocka_unit_test(a_merges_file_that_was_cut_off_is_refused),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, make_scratch, remove_scratch);
}
