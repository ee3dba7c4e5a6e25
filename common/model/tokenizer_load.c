/* Files into tables. Settings that would change a single id are checked one by one: what is not built is refused by
 * name. */
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/json_cursor.h"
#include "common/model/tokenizer_tables.h"

#define SETTING_BYTES_MAX (16u << 20) /* one member of tokenizer.json beside vocabulary and merges */

/* As in Qwen2's tokenizer.json. */
#define QWEN2_PATTERN                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"  \
    "\\s+(?!\\S)|\\s+"

/* The vocabulary object, token to id. */
static enum status load_vocabulary(struct tokenizer *tokenizer, struct json_cursor cursor) {
    struct buf token = {0};
    enum status status = STATUS_OK;
    bool more;
    TRY_GOTO(json_cursor_enter_object(&cursor), out);
    for (;;) {
        int64_t id;
        TRY_GOTO(json_cursor_key(&cursor, &token, &more), out);
        if (!more)
            break;
        TRY_GOTO(json_cursor_int(&cursor, &id), out);
        if (tokenizer->kind == TOKENIZER_BPE && !byte_level_decode(&token)) {
            status = json_cursor_fail(&cursor, "a token that is not byte-level text");
            goto out;
        }
        status = tokenizer_add_entry(tokenizer, id, token.data, token.bytes, ENTRY_MODEL);
        if (status != STATUS_OK) {
            fail_context(status, "%s", cursor.name);
            goto out;
        }
    }
out:
    buf_deinit(&token);
    return status;
}

/* "left right" */
static enum status add_merge_line(struct tokenizer *tokenizer, const char *name, const char *line, size_t bytes,
                                  struct buf *left, struct buf *right) {
    const char *space = memchr(line, ' ', bytes);
    if (!space || memchr(space + 1, ' ', bytes - (size_t)(space + 1 - line)))
        return fail(STATUS_FORMAT, "%s: merge %u is \"%.*s\"; it should be two tokens and one space", name,
                    tokenizer->merge_count + 1, (int)(bytes < 64 ? bytes : 64), line);
    buf_reset(left);
    buf_reset(right);
    buf_append(left, line, (size_t)(space - line));
    buf_append(right, space + 1, bytes - (size_t)(space + 1 - line));
    return tokenizer_add_merge(tokenizer, name, left, right);
}

/* Of tokenizer.json: strings "left right", in newer files pairs of strings. */
static enum status load_merges_json(struct tokenizer *tokenizer, struct json_cursor cursor) {
    struct buf line = {0}, left = {0}, right = {0};
    enum status status = STATUS_OK;
    bool more;
    TRY_GOTO(json_cursor_enter_array(&cursor), out);
    for (;;) {
        TRY_GOTO(json_cursor_next(&cursor, &more), out);
        if (!more)
            break;
        if (json_cursor_peek(&cursor) == '"') {
            TRY_GOTO(json_cursor_string(&cursor, &line), out);
            TRY_GOTO(add_merge_line(tokenizer, cursor.name, line.data, line.bytes, &left, &right), out);
            continue;
        }
        TRY_GOTO(json_cursor_enter_array(&cursor), out);
        struct buf *parts[2] = {&left, &right};
        for (int i = 0; i < 3; i++) {
            TRY_GOTO(json_cursor_next(&cursor, &more), out);
            if (more != (i < 2)) {
                status = json_cursor_fail(&cursor, "a merge should be two tokens");
                goto out;
            }
            if (i < 2)
                TRY_GOTO(json_cursor_string(&cursor, parts[i]), out);
        }
        TRY_GOTO(tokenizer_add_merge(tokenizer, cursor.name, &left, &right), out);
    }
out:
    buf_deinit(&line);
    buf_deinit(&left);
    buf_deinit(&right);
    return status;
}

static enum status load_merges_text(struct tokenizer *tokenizer, const char *path) {
    struct fs_map map;
    TRY(fs_map_open(path, &map));
    struct buf left = {0}, right = {0};
    enum status status = STATUS_OK;
    const char *at = map.data, *end = at + map.bytes;
    if (map.bytes > TOKENIZER_FILE_BYTES_MAX) {
        status = fail(STATUS_LIMIT, "%s: %zu bytes; at most %u", path, map.bytes, TOKENIZER_FILE_BYTES_MAX);
        goto out;
    }
    bool first = true;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((stop ? stop : end) - at);
        size_t kept = bytes && at[bytes - 1] == '\r' ? bytes - 1 : bytes;
        bool version = first && kept >= 8 && memcmp(at, "#version", 8) == 0;
        if (kept && !version)
            TRY_GOTO(add_merge_line(tokenizer, path, at, kept, &left, &right), out);
        first = false;
        at += bytes + (stop != NULL);
    }
out:
    buf_deinit(&left);
    buf_deinit(&right);
    fs_map_close(&map);
    return status;
}

/* ---- added tokens --------------------------------------------------------------------------------------------------
 */

static bool member_true(const json_t *object, const char *key) {
    return json_is_true(json_object_get(object, key));
}

/* {"content", "special", "lstrip", "rstrip", "single_word", "normalized"} */
static enum status add_added(struct tokenizer *tokenizer, const char *name, int64_t id, const json_t *token) {
    const json_t *content = json_object_get(token, "content");
    if (!json_is_string(content))
        return fail(STATUS_FORMAT, "%s: added token %lld has no content", name, (long long)id);
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    static const char *const refused[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (member_true(token, refused[i]))
            return fail(STATUS_UNSUPPORTED, "%s: added token \"%s\" has %s = true: not built", name, text, refused[i]);
    bool ascii = true;
    for (size_t i = 0; i < bytes; i++)
        ascii &= (unsigned char)text[i] < 0x80;
    if (member_true(token, "normalized") && !ascii)
        return fail(STATUS_UNSUPPORTED, "%s: added token \"%s\" is matched after normalisation: not built", name, text);
    uint32_t flags = ENTRY_ADDED | (member_true(token, "special") ? ENTRY_SPECIAL : 0u);
    enum status status = tokenizer_add_entry(tokenizer, id, text, bytes, flags);
    return status == STATUS_OK ? status : fail_context(status, "%s", name);
}

/* The list of tokenizer.json. */
static enum status load_added_list(struct tokenizer *tokenizer, const char *name, const json_t *list) {
    size_t i;
    json_t *token;
    json_array_foreach(list, i, token) {
        int64_t id;
        TRY(json_get_int(token, name, "id", 0, TOKENIZER_IDS_MAX - 1, &id));
        TRY(add_added(tokenizer, name, id, token));
    }
    return STATUS_OK;
}

/* added_tokens.json: text to id. These files do not say what is special; whatever has the <|...|> form is. */
static enum status load_added_file(struct tokenizer *tokenizer, const char *path) {
    json_t *object, *value;
    const char *text;
    TRY(json_read_file(path, SETTING_BYTES_MAX, &object));
    enum status status = STATUS_OK;
    json_object_foreach(object, text, value) {
        size_t bytes = strlen(text);
        bool special = tokenizer_is_control(text, bytes);
        if (!json_is_integer(value)) {
            status = fail(STATUS_FORMAT, "%s: \"%s\" should have an integer id", path, text);
            goto out;
        }
        status = tokenizer_add_entry(tokenizer, json_integer_value(value), text, bytes,
                                     ENTRY_ADDED | (special ? ENTRY_SPECIAL : 0u));
        if (status != STATUS_OK) {
            fail_context(status, "%s", path);
            goto out;
        }
    }
out:
    json_decref(object);
    return status;
}

/* added_tokens_decoder of tokenizer_config.json: id to token. */
static enum status load_added_decoder(struct tokenizer *tokenizer, const char *path, json_t *decoder) {
    const char *key;
    json_t *token;
    json_object_foreach(decoder, key, token) {
        char *end;
        long id = strtol(key, &end, 10);
        if (end == key || *end)
            return fail(STATUS_FORMAT, "%s: added_tokens_decoder: \"%s\" is not an id", path, key);
        TRY(add_added(tokenizer, path, id, token));
    }
    return STATUS_OK;
}

static enum status add_eos(struct tokenizer *tokenizer, int32_t id) {
    if (tokenizer_is_eos(tokenizer, id))
        return STATUS_OK;
    if (tokenizer->eos_count == TOKENIZER_EOS_MAX)
        return fail(STATUS_LIMIT, "more than %d tokens that end an answer", TOKENIZER_EOS_MAX);
    size_t at = tokenizer->eos_count++;
    for (; at > 0 && tokenizer->eos[at - 1] > id; at--)
        tokenizer->eos[at] = tokenizer->eos[at - 1];
    tokenizer->eos[at] = id;
    return STATUS_OK;
}

/* What ends an answer: both of Qwen's, since base models' own files disagree, and what the configuration names. */
static enum status load_eos(struct tokenizer *tokenizer, const char *directory, const json_t *settings) {
    static const char *const ends[] = {"<|im_end|>", "<|endoftext|>"};
    int32_t id;
    for (size_t i = 0; i < 2; i++)
        if (tokenizer_find(tokenizer, ends[i], &id))
            TRY(add_eos(tokenizer, id));
    const json_t *eos = json_object_get(settings, "eos_token");
    if (json_is_object(eos))
        eos = json_object_get(eos, "content");
    if (json_is_string(eos)) {
        if (!tokenizer_find(tokenizer, json_string_value(eos), &id))
            return fail(STATUS_FORMAT, "%s/tokenizer_config.json: eos_token \"%s\" is not in the vocabulary", directory,
                        json_string_value(eos));
        TRY(add_eos(tokenizer, id));
    }
    if (tokenizer->eos_count == 0)
        return fail(STATUS_FORMAT, "%s: no token ends an answer: tokenizer_config.json should name an eos_token",
                    directory);
    return STATUS_OK;
}

/* ---- tokenizer.json ------------------------------------------------------------------------------------------------
 */

/* What walks out of the file: small members parsed, the two large ones as bookmarks. */
struct document {
    const char *name;
    json_t *settings, *model;
    struct json_cursor vocabulary, merges;
    bool has_vocabulary, has_merges;
};

static const char *type_of(const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return json_is_null(object) || !object ? "none" : type ? type : "?";
}

static enum status refuse(const struct document *document, const char *what, const char *read, const char *right) {
    return fail(STATUS_UNSUPPORTED, "%s: %s = %s: not built; %s", document->name, what, read, right);
}

/* A setting that is lost would be one that is off. */
static enum status keep_setting(const struct document *document, json_t *object, const struct buf *key,
                                json_t *take_value) {
    if (json_object_set_new(object, key->data, take_value) == 0)
        return STATUS_OK;
    return fail(STATUS_NO_MEMORY, "%s: no memory to read it", document->name);
}

static enum status walk_model(struct document *document, struct json_cursor *cursor, struct buf *key) {
    bool more;
    TRY(json_cursor_enter_object(cursor));
    for (;;) {
        TRY(json_cursor_key(cursor, key, &more));
        if (!more)
            return STATUS_OK;
        bool vocabulary = strcmp(key->data, "vocab") == 0, merges = strcmp(key->data, "merges") == 0;
        if (vocabulary || merges) {
            json_cursor_peek(cursor);
            *(vocabulary ? &document->vocabulary : &document->merges) = *cursor;
            *(vocabulary ? &document->has_vocabulary : &document->has_merges) = true;
            TRY(json_cursor_skip(cursor));
        } else {
            json_t *value;
            TRY(json_cursor_value(cursor, SETTING_BYTES_MAX, &value));
            TRY(keep_setting(document, document->model, key, value));
        }
    }
}

static enum status walk_document(struct document *document, struct json_cursor *cursor, struct buf *key) {
    bool more;
    TRY(json_cursor_enter_object(cursor));
    for (;;) {
        TRY(json_cursor_key(cursor, key, &more));
        if (!more)
            return json_cursor_end(cursor);
        if (strcmp(key->data, "model") == 0) {
            TRY(walk_model(document, cursor, key));
        } else {
            json_t *value;
            TRY(json_cursor_value(cursor, SETTING_BYTES_MAX, &value));
            TRY(keep_setting(document, document->settings, key, value));
        }
    }
}

/* Members that must be absent, null, false, "" or 0. */
static enum status check_off(const struct document *document, const json_t *object, const char *const *keys) {
    for (; *keys; keys++) {
        const json_t *value = json_object_get(object, *keys);
        bool off = !value || json_is_null(value) || json_is_false(value) ||
                   (json_is_string(value) && json_string_length(value) == 0) ||
                   (json_is_number(value) && json_number_value(value) == 0);
        if (!off)
            return refuse(document, *keys, "set", "it should be absent, false or empty");
    }
    return STATUS_OK;
}

/* Nothing may be put around a text; transformers 5 writes a template that puts nothing. */
static enum status check_post_processor(const struct document *document) {
    const json_t *post = json_object_get(document->settings, "post_processor");
    const char *type = type_of(post);
    bool empty =
        strcmp(type, "TemplateProcessing") == 0 && json_object_size(json_object_get(post, "special_tokens")) == 0;
    if (empty || strcmp(type, "ByteLevel") == 0 || strcmp(type, "none") == 0)
        return STATUS_OK;
    return refuse(document, "post_processor", type, "it should add no tokens");
}

/* Split by Qwen2's pattern, then bytes. */
static enum status check_bpe_split(const struct document *document) {
    const json_t *list = json_object_get(json_object_get(document->settings, "pre_tokenizer"), "pretokenizers");
    const json_t *split = json_array_get(list, 0), *bytes = json_array_get(list, 1);
    if (json_array_size(list) != 2 || strcmp(type_of(split), "Split") != 0 || strcmp(type_of(bytes), "ByteLevel") != 0)
        return refuse(document, "pre_tokenizer", type_of(json_object_get(document->settings, "pre_tokenizer")),
                      "it should be the sequence Split, ByteLevel as in Qwen2");
    const char *pattern = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (!pattern || strcmp(pattern, QWEN2_PATTERN) != 0)
        return refuse(document, "split pattern", pattern ? pattern : "none", "Qwen2's is the one that is built");
    if (!behavior || strcmp(behavior, "Isolated") != 0 || member_true(split, "invert"))
        return refuse(document, "split behavior", behavior ? behavior : "none", "it should be Isolated");
    /* Both default to true where absent. */
    if (!json_is_false(json_object_get(bytes, "add_prefix_space")) ||
        !json_is_false(json_object_get(bytes, "use_regex")))
        return refuse(document, "ByteLevel's add_prefix_space or use_regex", "true", "both should be false");
    return STATUS_OK;
}

static enum status check_bpe(struct tokenizer *tokenizer, const struct document *document) {
    static const char *const off[] = {
        "dropout",       "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
        "ignore_merges", NULL};
    const char *normalizer = type_of(json_object_get(document->settings, "normalizer"));
    const char *decoder = type_of(json_object_get(document->settings, "decoder"));
    TRY(check_off(document, document->model, off));
    TRY(check_bpe_split(document));
    TRY(check_post_processor(document));
    tokenizer->nfc = strcmp(normalizer, "NFC") == 0;
    if (!tokenizer->nfc && strcmp(normalizer, "none") != 0)
        return refuse(document, "normalizer", normalizer, "it should be NFC or none");
    if (strcmp(decoder, "ByteLevel") != 0)
        return refuse(document, "decoder", decoder, "it should be ByteLevel");
    return STATUS_OK;
}

static enum status check_wordpiece(struct tokenizer *tokenizer, const struct document *document) {
    static const char *const none[] = {"normalizer", NULL};
    TRY(check_off(document, document->settings, none));
    TRY(check_post_processor(document));
    const json_t *decoder = json_object_get(document->settings, "decoder");
    const char *split = type_of(json_object_get(document->settings, "pre_tokenizer"));
    if (strcmp(split, "WhitespaceSplit") != 0)
        return refuse(document, "pre_tokenizer", split, "it should be WhitespaceSplit");
    const char *prefix, *decoder_prefix, *unknown;
    TRY(json_get_string(document->model, document->name, "continuing_subword_prefix", &prefix));
    TRY(json_get_string(document->model, document->name, "unk_token", &unknown));
    if (strcmp(type_of(decoder), "WordPiece") != 0 || member_true(decoder, "cleanup"))
        return refuse(document, "decoder", type_of(decoder), "it should be WordPiece without cleanup");
    TRY(json_get_string(decoder, document->name, "prefix", &decoder_prefix));
    if (!*prefix || strlen(prefix) >= sizeof tokenizer->prefix || strcmp(prefix, decoder_prefix) != 0)
        return refuse(document, "continuing_subword_prefix", prefix, "1 to 15 bytes, the decoder's the same");
    int64_t chars;
    TRY(json_get_int(document->model, document->name, "max_input_chars_per_word", 1, WORD_CHARS_MAX, &chars));
    tokenizer->word_chars_max = (size_t)chars;
    strcpy(tokenizer->prefix, prefix);
    tokenizer->unknown = tokenizer_lookup(tokenizer, unknown, strlen(unknown));
    if (tokenizer->unknown < 0)
        return fail(STATUS_FORMAT, "%s: unk_token \"%s\" is not in the vocabulary", document->name, unknown);
    return STATUS_OK;
}

static enum status load_document(struct tokenizer *tokenizer, const struct document *document) {
    const char *type = type_of(document->model);
    /* Files of 2020 leave the type out where it is BPE. */
    bool bpe = strcmp(type, "BPE") == 0 || (strcmp(type, "?") == 0 && document->has_merges);
    if (!bpe && strcmp(type, "WordPiece") != 0)
        return refuse(document, "model type", type, "BPE and WordPiece are");
    if (!document->has_vocabulary)
        return fail(STATUS_FORMAT, "%s: model has no vocab", document->name);
    tokenizer->kind = bpe ? TOKENIZER_BPE : TOKENIZER_WORDPIECE;
    TRY(load_vocabulary(tokenizer, document->vocabulary));
    TRY(tokenizer_index(tokenizer, document->name));
    if (bpe) {
        TRY(check_bpe(tokenizer, document));
        if (document->has_merges)
            TRY(load_merges_json(tokenizer, document->merges));
        TRY(tokenizer_finish_bpe(tokenizer, document->name));
    } else {
        TRY(check_wordpiece(tokenizer, document));
    }
    return load_added_list(tokenizer, document->name, json_object_get(document->settings, "added_tokens"));
}

/* ---- directory ------------------------------------------------------------------------------------------------------
 */

static enum status map_limited(const char *path, struct fs_map *out_map) {
    TRY(fs_map_open(path, out_map));
    if (out_map->bytes <= TOKENIZER_FILE_BYTES_MAX)
        return STATUS_OK;
    size_t bytes = out_map->bytes;
    fs_map_close(out_map);
    return fail(STATUS_LIMIT, "%s: %zu bytes; at most %u", path, bytes, TOKENIZER_FILE_BYTES_MAX);
}

static enum status load_tokenizer_json(struct tokenizer *tokenizer, const char *path) {
    struct fs_map map;
    TRY(map_limited(path, &map));
    struct document document = {.name = path, .settings = json_object(), .model = json_object()};
    struct json_cursor cursor;
    struct buf key = {0};
    json_cursor_init(&cursor, map.data, map.bytes, path);
    enum status status = walk_document(&document, &cursor, &key);
    if (status == STATUS_OK)
        status = load_document(tokenizer, &document);
    buf_deinit(&key);
    json_decref(document.settings);
    json_decref(document.model);
    fs_map_close(&map);
    return status;
}

/* The older pair of files, always byte-level BPE; added tokens stand in two others. */
static enum status load_vocabulary_and_merges(struct tokenizer *tokenizer, const char *directory,
                                              const json_t *settings) {
    char vocabulary[PATH_BYTES], merges[PATH_BYTES], added[PATH_BYTES], config[PATH_BYTES];
    TRY(fs_join(vocabulary, directory, "vocab.json"));
    TRY(fs_join(merges, directory, "merges.txt"));
    TRY(fs_join(added, directory, "added_tokens.json"));
    TRY(fs_join(config, directory, "tokenizer_config.json"));
    struct fs_map map;
    TRY(map_limited(vocabulary, &map));
    struct json_cursor cursor;
    json_cursor_init(&cursor, map.data, map.bytes, vocabulary);
    tokenizer->kind = TOKENIZER_BPE;
    tokenizer->nfc = true;
    enum status status = load_vocabulary(tokenizer, cursor);
    fs_map_close(&map);
    TRY(status);
    TRY(tokenizer_index(tokenizer, vocabulary));
    TRY(load_merges_text(tokenizer, merges));
    TRY(tokenizer_finish_bpe(tokenizer, merges));
    json_t *decoder = json_object_get(settings, "added_tokens_decoder");
    if (json_is_object(decoder))
        return load_added_decoder(tokenizer, config, decoder);
    return fs_exists(added) ? load_added_file(tokenizer, added) : STATUS_OK;
}

enum status tokenizer_load(struct tokenizer *tokenizer, const char *directory) {
    char path[PATH_BYTES], config[PATH_BYTES], vocabulary[PATH_BYTES];
    json_t *settings = NULL;
    TRY(fs_join(path, directory, "tokenizer.json"));
    TRY(fs_join(config, directory, "tokenizer_config.json"));
    TRY(fs_join(vocabulary, directory, "vocab.json"));
    bool whole = fs_exists(path);
    if (!fs_is_directory(directory))
        return fail(STATUS_NOT_FOUND, "%s: no such directory; a model's is wanted", directory);
    if (!whole && !fs_exists(vocabulary))
        return fail(STATUS_NOT_FOUND, "%s: neither tokenizer.json nor vocab.json and merges.txt are there", directory);
    if (fs_exists(config))
        TRY(json_read_file(config, SETTING_BYTES_MAX, &settings));
    enum status status =
        whole ? load_tokenizer_json(tokenizer, path) : load_vocabulary_and_merges(tokenizer, directory, settings);
    TRY_GOTO(status, out);
    TRY_GOTO(tokenizer_check_gaps(tokenizer, directory), out);
    if (tokenizer->kind == TOKENIZER_BPE)
        TRY_GOTO(tokenizer_check_merges(tokenizer, directory), out);
    TRY_GOTO(tokenizer_sort_added(tokenizer), out);
    TRY_GOTO(load_eos(tokenizer, directory, settings), out);
out:
    json_decref(settings);
    return status;
}
