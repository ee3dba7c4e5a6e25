#include "common/model/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/model/tokenizer_tables.h"

/* ---- lists ---------------------------------------------------------------------------------------------------------
 */

void token_list_deinit(struct token_list *list) {
    free(list->ids);
    *list = (struct token_list){0};
}

enum status token_list_push(struct token_list *list, int32_t id) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        int32_t *grown = realloc(list->ids, capacity * sizeof *grown);
        if (!grown)
            return fail(STATUS_NO_MEMORY, "tokenizer: out of memory at %zu ids", list->count);
        list->ids = grown;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return STATUS_OK;
}

/* ---- life ----------------------------------------------------------------------------------------------------------
 */

enum status tokenizer_open(const char *directory, struct tokenizer **out_tokenizer) {
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return fail(STATUS_NO_MEMORY, "%s: out of memory for a tokenizer", directory);
    enum status status = tokenizer_load(tokenizer, directory);
    if (status != STATUS_OK) {
        tokenizer_close(&tokenizer);
        return status;
    }
    *out_tokenizer = tokenizer;
    return STATUS_OK;
}

void tokenizer_close(struct tokenizer **tokenizer_slot) {
    struct tokenizer *tokenizer = *tokenizer_slot;
    if (!tokenizer)
        return;
    buf_deinit(&tokenizer->text);
    free(tokenizer->entries);
    free(tokenizer->slots);
    free(tokenizer->merges);
    free(tokenizer->added);
    pcre2_code_free(tokenizer->pattern);
    free(tokenizer);
    *tokenizer_slot = NULL;
}

/* ---- queries -------------------------------------------------------------------------------------------------------
 */

bool tokenizer_find(const struct tokenizer *tokenizer, const char *token, int32_t *out_id) {
    size_t bytes = strlen(token);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const struct token_entry *entry = &tokenizer->entries[tokenizer->added[i]];
        if (entry->bytes == bytes && memcmp(tokenizer->text.data + entry->start, token, bytes) == 0) {
            *out_id = tokenizer->added[i];
            return true;
        }
    }
    struct buf raw = {0};
    buf_append(&raw, token, bytes);
    int32_t id = -1;
    if (buf_ok(&raw) && (tokenizer->kind != TOKENIZER_BPE || byte_level_decode(&raw)))
        id = tokenizer_lookup(tokenizer, raw.data, raw.bytes);
    buf_deinit(&raw);
    if (id < 0)
        return false;
    *out_id = id;
    return true;
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer) {
    return tokenizer->entry_count;
}

const int32_t *tokenizer_eos(const struct tokenizer *tokenizer, size_t *out_count) {
    *out_count = tokenizer->eos_count;
    return tokenizer->eos;
}

bool tokenizer_is_eos(const struct tokenizer *tokenizer, int32_t id) {
    for (size_t i = 0; i < tokenizer->eos_count; i++)
        if (tokenizer->eos[i] == id)
            return true;
    return false;
}

/* ---- encode --------------------------------------------------------------------------------------------------------
 */

/* Also tells whether the text may change under NFC: characters below U+0300 never do. */
static enum status check_utf8(const char *text, size_t bytes, bool *out_may_compose) {
    *out_may_compose = false;
    for (size_t at = 0; at < bytes;) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        utf8proc_int32_t code;
        utf8proc_ssize_t step =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &code);
        if (step <= 0)
            return fail(STATUS_UTF8, "text to encode: byte %zu is not utf-8", at);
        *out_may_compose |= code >= 0x300;
        at += (size_t)step;
    }
    return STATUS_OK;
}

static enum status encode_bpe_words(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                    struct token_list *out_ids) {
    enum status status = STATUS_OK;
    struct bpe_scratch *scratch = NULL;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return fail(STATUS_NO_MEMORY, "tokenizer: out of memory for matching");
    for (size_t at = 0; at < bytes;) {
        int found = pcre2_match(tokenizer->pattern, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK, match, NULL);
        size_t from = bytes, to = bytes;
        if (found > 0) {
            from = pcre2_get_ovector_pointer(match)[0];
            to = pcre2_get_ovector_pointer(match)[1];
        } else if (found != PCRE2_ERROR_NOMATCH) {
            status = fail(STATUS_LIMIT, "text to encode: splitting fails at byte %zu (pcre2 error %d)", at, found);
            break;
        }
        ASSERT(to > at);
        if (from > at) /* what the pattern leaves out is a word too */
            TRY_GOTO(bpe_encode_word(tokenizer, text + at, from - at, &scratch, out_ids), out);
        if (to > from)
            TRY_GOTO(bpe_encode_word(tokenizer, text + from, to - from, &scratch, out_ids), out);
        at = to;
    }
out:
    bpe_scratch_free(&scratch);
    pcre2_match_data_free(match);
    return status;
}

static enum status encode_bpe(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                              struct token_list *out_ids) {
    bool may_compose;
    TRY(check_utf8(text, bytes, &may_compose));
    if (!tokenizer->nfc || !may_compose)
        return encode_bpe_words(tokenizer, text, bytes, out_ids);
    utf8proc_uint8_t *composed;
    utf8proc_ssize_t count = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &composed,
                                          UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (count < 0)
        return fail(STATUS_NO_MEMORY, "text to encode: %s", utf8proc_errmsg(count));
    enum status status = encode_bpe_words(tokenizer, (const char *)composed, (size_t)count, out_ids);
    free(composed);
    return status;
}

/* One word: the longest entry that begins it, then the longest piece that goes on, and so to the end; when there is
 * none the whole word is unknown. */
static enum status encode_pieces(const struct tokenizer *tokenizer, const char *word, size_t bytes,
                                 struct token_list *out_ids) {
    size_t kept = out_ids->count, prefix = strlen(tokenizer->prefix);
    char piece[4 * WORD_CHARS_MAX + sizeof tokenizer->prefix];
    size_t chars = 0;
    for (size_t i = 0; i < bytes; i++)
        chars += (word[i] & 0xC0) != 0x80;
    if (chars > tokenizer->word_chars_max)
        return token_list_push(out_ids, tokenizer->unknown);
    memcpy(piece, tokenizer->prefix, prefix);
    for (size_t from = 0, to; from < bytes; from = to) {
        int32_t id = -1;
        for (to = bytes; to > from && id < 0; to -= id < 0) {
            memcpy(piece + prefix, word + from, to - from);
            const char *begin = from ? piece : piece + prefix;
            id = tokenizer_lookup(tokenizer, begin, (size_t)(piece + prefix + (to - from) - begin));
            if (id >= 0 && tokenizer->entries[id].flags & ENTRY_SPECIAL)
                id = -1; /* text never becomes a control token */
        }
        if (id < 0) {
            out_ids->count = kept;
            return token_list_push(out_ids, tokenizer->unknown);
        }
        TRY(token_list_push(out_ids, id));
    }
    return STATUS_OK;
}

/* Bytes of white space at the start of text (Unicode White_Space), 0 when there is none. */
static size_t white_space(const char *text, size_t bytes) {
    if (bytes == 0)
        return 0;
    utf8proc_int32_t code = (unsigned char)text[0];
    utf8proc_ssize_t step = 1;
    if (code >= 0x80)
        step = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &code);
    bool white = (code >= 9 && code <= 13) || code == 0x20 || code == 0x85;
    if (code >= 0xa0) {
        utf8proc_category_t category = utf8proc_category(code);
        white =
            category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
    }
    return white ? (size_t)step : 0;
}

static enum status encode_wordpiece(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                    struct token_list *out_ids) {
    bool unused;
    TRY(check_utf8(text, bytes, &unused));
    for (size_t at = 0; at < bytes;) {
        size_t space = white_space(text + at, bytes - at);
        if (space) {
            at += space;
            continue;
        }
        size_t to = at;
        while (to < bytes && white_space(text + to, bytes - to) == 0)
            to++;
        TRY(encode_pieces(tokenizer, text + at, to - at, out_ids));
        at = to;
    }
    return STATUS_OK;
}

static enum status encode_plain(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                struct token_list *out_ids) {
    if (bytes == 0)
        return STATUS_OK;
    return tokenizer->kind == TOKENIZER_BPE ? encode_bpe(tokenizer, text, bytes, out_ids)
                                            : encode_wordpiece(tokenizer, text, bytes, out_ids);
}

/* The added token that begins here, the longest one, or -1. */
static int32_t match_added(const struct tokenizer *tokenizer, const char *text, size_t bytes) {
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const struct token_entry *entry = &tokenizer->entries[tokenizer->added[i]];
        const char *token = tokenizer->text.data + entry->start;
        if (token[0] == text[0] && entry->bytes <= bytes && memcmp(token, text, entry->bytes) == 0)
            return tokenizer->added[i];
    }
    return -1;
}

static enum status encode_all(const struct tokenizer *tokenizer, const char *text, size_t bytes, bool allow_special,
                              struct token_list *out_ids) {
    size_t from = 0;
    for (size_t at = 0; allow_special && at < bytes;) {
        int32_t id = match_added(tokenizer, text + at, bytes - at);
        if (id < 0) {
            at++;
            continue;
        }
        TRY(encode_plain(tokenizer, text + from, at - from, out_ids));
        TRY(token_list_push(out_ids, id));
        from = at += tokenizer->entries[id].bytes;
    }
    return encode_plain(tokenizer, text + from, bytes - from, out_ids);
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t text_bytes, bool allow_special,
                             struct token_list *out_ids) {
    if (text_bytes > TOKENIZER_TEXT_BYTES_MAX)
        return fail(STATUS_LIMIT, "text to encode: %zu bytes; at most %u", text_bytes, TOKENIZER_TEXT_BYTES_MAX);
    size_t kept = out_ids->count;
    enum status status = encode_all(tokenizer, text, text_bytes, allow_special, out_ids);
    if (status != STATUS_OK)
        out_ids->count = kept;
    return status;
}

/* ---- decode --------------------------------------------------------------------------------------------------------
 */

/* Append bytes; each longest beginning of a character that does not end well becomes one U+FFFD (Rust's
 * from_utf8_lossy). */
static void put_lossy(struct buf *out, const char *bytes, size_t count) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)bytes, *end = at + count;
    while (at < end) {
        const utf8proc_uint8_t *from = at;
        utf8proc_int32_t code;
        utf8proc_ssize_t step;
        while (at < end && (step = utf8proc_iterate(at, end - at, &code)) > 0)
            at += step;
        buf_append(out, from, (size_t)(at - from));
        if (at == end)
            break;
        buf_append(out, "\xEF\xBF\xBD", 3);
        utf8proc_uint8_t lead = *at++;
        size_t more = lead >= 0xC2 && lead <= 0xDF   ? 1
                      : lead >= 0xE0 && lead <= 0xEF ? 2
                      : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                     : 0;
        utf8proc_uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        utf8proc_uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        for (; more > 0 && at < end && *at >= low && *at <= high; more--, at++) {
            low = 0x80;
            high = 0xBF;
        }
    }
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                             struct buf *out_text) {
    struct buf raw = {0};
    size_t prefix = strlen(tokenizer->prefix);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->entry_count) {
            buf_deinit(&raw);
            return fail(STATUS_FORMAT, "token %zu: id %d is outside the vocabulary of %d", i, ids[i],
                        tokenizer->entry_count);
        }
        const struct token_entry *entry = &tokenizer->entries[ids[i]];
        const char *text = tokenizer->text.data + entry->start;
        if (skip_special && entry->flags & ENTRY_SPECIAL)
            continue;
        bool goes_on = prefix && entry->bytes >= prefix && memcmp(text, tokenizer->prefix, prefix) == 0;
        if (tokenizer->kind == TOKENIZER_WORDPIECE && raw.bytes > 0 && !goes_on)
            buf_append(&raw, " ", 1);
        size_t cut = goes_on && raw.bytes > 0 ? prefix : 0;
        buf_append(&raw, text + cut, entry->bytes - cut);
    }
    bool complete = buf_ok(&raw);
    put_lossy(out_text, raw.data, raw.bytes);
    buf_append(out_text, "", 0);
    buf_deinit(&raw);
    return complete && buf_ok(out_text) ? STATUS_OK
                                        : fail(STATUS_NO_MEMORY, "tokenizer: out of memory for decoded text");
}
