/* The tables of a tokenizer: what is put in, how it is found, what a whole tokenizer must have. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/base/hash.h"
#include "common/model/tokenizer_tables.h"

#define ADDED_MAX 4096 /* they are matched one after the other; Qwen2.5 has 22 */

/* QWEN2_PATTERN, in which \s means Unicode White_Space; PCRE2's own \s has one character more, U+180E. */
#define QWEN2_PATTERN_PCRE2                                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\p{White_Space}\\p{L}\\p{N}]+[\\r\\n]*|"   \
    "\\p{White_Space}*[\\r\\n]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+"

/* ---- bytes and their printable stand-ins ---------------------------------------------------------------------------
 */

/* GPT-2's table: a printable Latin-1 byte stands for itself, the n-th of the others (0-32, 127-160, 173) is U+0100 + n.
 */
static int byte_of(int32_t code) {
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return code;
    if (code >= 256 && code <= 288)
        return code - 256;
    if (code >= 289 && code <= 322)
        return code - 289 + 127;
    return code == 323 ? 173 : -1;
}

bool byte_level_decode(struct buf *text) {
    size_t written = 0;
    for (size_t at = 0; at < text->bytes;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t step =
            utf8proc_iterate((const utf8proc_uint8_t *)text->data + at, (utf8proc_ssize_t)(text->bytes - at), &code);
        int byte = step > 0 ? byte_of(code) : -1;
        if (byte < 0)
            return false;
        text->data[written++] = (char)byte;
        at += (size_t)step;
    }
    text->bytes = written;
    return true;
}

/* ---- entries -------------------------------------------------------------------------------------------------------
 */

static enum status grow_entries(struct tokenizer *tokenizer, size_t wanted) {
    if (wanted <= tokenizer->entry_capacity)
        return STATUS_OK;
    size_t capacity = tokenizer->entry_capacity ? tokenizer->entry_capacity : 1024;
    while (capacity < wanted)
        capacity *= 2;
    struct token_entry *grown = realloc(tokenizer->entries, capacity * sizeof *grown);
    if (!grown)
        return fail(STATUS_NO_MEMORY, "tokenizer: out of memory for %zu entries", capacity);
    memset(grown + tokenizer->entry_capacity, 0, (capacity - tokenizer->entry_capacity) * sizeof *grown);
    tokenizer->entries = grown;
    tokenizer->entry_capacity = capacity;
    return STATUS_OK;
}

enum status tokenizer_add_entry(struct tokenizer *tokenizer, int64_t id, const char *bytes, size_t count,
                                uint32_t flags) {
    if (id < 0 || id >= TOKENIZER_IDS_MAX)
        return fail(STATUS_LIMIT, "token \"%.*s\": id %lld; ids go from 0 to %d", (int)(count < 64 ? count : 64), bytes,
                    (long long)id, TOKENIZER_IDS_MAX - 1);
    if (count == 0 && flags & ENTRY_ADDED)
        return fail(STATUS_FORMAT, "id %lld: an added token without text", (long long)id);
    TRY(grow_entries(tokenizer, (size_t)id + 1));
    struct token_entry *entry = &tokenizer->entries[id];
    if (entry->flags) {
        bool same = entry->bytes == count && memcmp(tokenizer->text.data + entry->start, bytes, count) == 0;
        if (!same || (entry->flags & flags & ENTRY_MODEL))
            return fail(STATUS_FORMAT, "id %lld stands for two tokens, \"%.*s\" and \"%.*s\"", (long long)id,
                        (int)(entry->bytes < 64 ? entry->bytes : 64), tokenizer->text.data + entry->start,
                        (int)(count < 64 ? count : 64), bytes);
        entry->flags |= flags;
        return STATUS_OK;
    }
    if (tokenizer->text.bytes > UINT32_MAX / 2)
        return fail(STATUS_LIMIT, "the vocabulary's text is too long");
    *entry = (struct token_entry){(uint32_t)tokenizer->text.bytes, (uint32_t)count, flags | ENTRY_PRESENT};
    buf_append(&tokenizer->text, bytes, count);
    if (id >= tokenizer->entry_count)
        tokenizer->entry_count = (int32_t)id + 1;
    return buf_ok(&tokenizer->text) ? STATUS_OK : fail(STATUS_NO_MEMORY, "tokenizer: out of memory for the vocabulary");
}

/* ---- look-up --------------------------------------------------------------------------------------------------------
 */

int32_t tokenizer_lookup(const struct tokenizer *tokenizer, const char *bytes, size_t count) {
    for (uint32_t at = (uint32_t)hash64(bytes, count) & tokenizer->slot_mask;; at = (at + 1) & tokenizer->slot_mask) {
        int32_t id = tokenizer->slots[at];
        if (id < 0)
            return -1;
        const struct token_entry *entry = &tokenizer->entries[id];
        if (entry->bytes == count && memcmp(tokenizer->text.data + entry->start, bytes, count) == 0)
            return id;
    }
}

enum status tokenizer_index(struct tokenizer *tokenizer, const char *name) {
    uint32_t size = 1024;
    while (size < 2 * (uint32_t)tokenizer->entry_count)
        size *= 2;
    tokenizer->slots = malloc(size * sizeof *tokenizer->slots);
    if (!tokenizer->slots)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", name);
    memset(tokenizer->slots, 0xff, size * sizeof *tokenizer->slots);
    tokenizer->slot_mask = size - 1;
    for (int32_t id = 0; id < tokenizer->entry_count; id++) {
        const struct token_entry *entry = &tokenizer->entries[id];
        if (!(entry->flags & ENTRY_MODEL))
            continue;
        const char *text = tokenizer->text.data + entry->start;
        int32_t other = tokenizer_lookup(tokenizer, text, entry->bytes);
        if (other >= 0)
            return fail(STATUS_FORMAT, "%s: \"%.*s\" has two ids, %d and %d", name, (int)entry->bytes, text, other, id);
        uint32_t at = (uint32_t)hash64(text, entry->bytes) & tokenizer->slot_mask;
        while (tokenizer->slots[at] >= 0)
            at = (at + 1) & tokenizer->slot_mask;
        tokenizer->slots[at] = id;
    }
    return STATUS_OK;
}

/* ---- merges --------------------------------------------------------------------------------------------------------
 */

const struct merge *tokenizer_merge(const struct tokenizer *tokenizer, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t at = (uint32_t)((pair * 0x9E3779B97F4A7C15u) >> 32) & tokenizer->merge_mask;
    for (;; at = (at + 1) & tokenizer->merge_mask) {
        const struct merge *merge = &tokenizer->merges[at];
        if (!merge->used)
            return NULL;
        if (merge->pair == pair)
            return merge;
    }
}

static enum status reserve_merges(struct tokenizer *tokenizer, const char *name) {
    uint32_t size = tokenizer->merge_mask ? tokenizer->merge_mask + 1 : 0;
    if (2 * (tokenizer->merge_count + 1) <= size)
        return STATUS_OK;
    uint32_t grown_size = size ? 2 * size : 4096;
    struct merge *old = tokenizer->merges, *grown = calloc(grown_size, sizeof *grown);
    if (!grown)
        return fail(STATUS_NO_MEMORY, "%s: out of memory for merges", name);
    tokenizer->merges = grown;
    tokenizer->merge_mask = grown_size - 1;
    for (uint32_t i = 0; i < size; i++) {
        if (!old[i].used)
            continue;
        uint32_t at = (uint32_t)((old[i].pair * 0x9E3779B97F4A7C15u) >> 32) & tokenizer->merge_mask;
        while (grown[at].used)
            at = (at + 1) & tokenizer->merge_mask;
        grown[at] = old[i];
    }
    free(old);
    return STATUS_OK;
}

enum status tokenizer_add_merge(struct tokenizer *tokenizer, const char *name, struct buf *left, struct buf *right) {
    int32_t ids[3];
    uint32_t rank = tokenizer->merge_count;
    struct buf *parts[2] = {left, right};
    for (int i = 0; i < 2; i++) {
        ids[i] = parts[i]->bytes && byte_level_decode(parts[i])
                     ? tokenizer_lookup(tokenizer, parts[i]->data, parts[i]->bytes)
                     : -1;
        if (ids[i] < 0)
            return fail(STATUS_FORMAT, "%s: merge %u: its %s half is not in the vocabulary", name, rank + 1,
                        i ? "right" : "left");
    }
    buf_append(left, right->data, right->bytes);
    ids[2] = buf_ok(left) ? tokenizer_lookup(tokenizer, left->data, left->bytes) : -1;
    if (ids[2] < 0)
        return fail(STATUS_FORMAT, "%s: merge %u makes a token that is not in the vocabulary", name, rank + 1);
    TRY(reserve_merges(tokenizer, name));
    uint64_t pair = (uint64_t)(uint32_t)ids[0] << 32 | (uint32_t)ids[1];
    uint32_t at = (uint32_t)((pair * 0x9E3779B97F4A7C15u) >> 32) & tokenizer->merge_mask;
    for (; tokenizer->merges[at].used; at = (at + 1) & tokenizer->merge_mask)
        if (tokenizer->merges[at].pair == pair)
            return fail(STATUS_FORMAT, "%s: merge %u stands there twice", name, rank + 1);
    tokenizer->merges[at] = (struct merge){pair, (int32_t)rank, ids[2], true};
    tokenizer->merge_count++;
    return STATUS_OK;
}

/* ---- whole --------------------------------------------------------------------------------------------------------
 */

enum status tokenizer_finish_bpe(struct tokenizer *tokenizer, const char *name) {
    if (tokenizer->merge_count == 0)
        return fail(STATUS_FORMAT, "%s: no merges; a byte-level BPE tokenizer needs them", name);
    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte;
        tokenizer->byte_ids[byte] = tokenizer_lookup(tokenizer, &one, 1);
        if (tokenizer->byte_ids[byte] < 0)
            return fail(STATUS_FORMAT, "%s: byte 0x%02x has no token; a byte-level vocabulary has all 256", name, byte);
    }
    int error;
    PCRE2_SIZE at;
    tokenizer->pattern = pcre2_compile((PCRE2_SPTR)QWEN2_PATTERN_PCRE2, PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &at, NULL);
    if (!tokenizer->pattern)
        return fail(STATUS_UNSUPPORTED, "the installed PCRE2 does not take the split pattern (error %d at %zu)", error,
                    at);
    pcre2_jit_compile(tokenizer->pattern, PCRE2_JIT_COMPLETE); /* without a JIT the same, slower */
    return STATUS_OK;
}

/* Longest first, then by id, so that what is matched never depends on the files' order. */
enum status tokenizer_sort_added(struct tokenizer *tokenizer) {
    size_t count = 0;
    for (int32_t id = 0; id < tokenizer->entry_count; id++)
        count += (tokenizer->entries[id].flags & ENTRY_ADDED) != 0;
    if (count > ADDED_MAX)
        return fail(STATUS_LIMIT, "%zu added tokens; at most %d", count, ADDED_MAX);
    tokenizer->added = malloc((count + 1) * sizeof *tokenizer->added);
    if (!tokenizer->added)
        return fail(STATUS_NO_MEMORY, "tokenizer: out of memory");
    for (int32_t id = 0; id < tokenizer->entry_count; id++) {
        if (!(tokenizer->entries[id].flags & ENTRY_ADDED))
            continue;
        size_t at = tokenizer->added_count++;
        for (; at > 0 && tokenizer->entries[tokenizer->added[at - 1]].bytes < tokenizer->entries[id].bytes; at--)
            tokenizer->added[at] = tokenizer->added[at - 1];
        tokenizer->added[at] = id;
    }
    return STATUS_OK;
}

bool tokenizer_is_control(const char *text, size_t bytes) {
    return bytes > 4 && memcmp(text, "<|", 2) == 0 && memcmp(text + bytes - 2, "|>", 2) == 0;
}

enum status tokenizer_check_merges(const struct tokenizer *tokenizer, const char *name) {
    bool *made = calloc((size_t)tokenizer->entry_count + 1, sizeof *made);
    if (!made)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", name);
    for (uint32_t at = 0; at <= tokenizer->merge_mask; at++)
        if (tokenizer->merges[at].used)
            made[tokenizer->merges[at].id] = true;
    int32_t missing = 0, first = 0;
    for (int32_t id = tokenizer->entry_count - 1; id >= 0; id--) {
        const struct token_entry *entry = &tokenizer->entries[id];
        const char *text = tokenizer->text.data + entry->start;
        if ((entry->flags & (ENTRY_MODEL | ENTRY_ADDED)) != ENTRY_MODEL || entry->bytes == 1 || made[id] ||
            tokenizer_is_control(text, entry->bytes))
            continue;
        missing++;
        first = id;
    }
    free(made);
    if (missing > 0)
        return fail(STATUS_FORMAT, "%s: merges for %d tokens are missing, the first with id %d", name, missing, first);
    return STATUS_OK;
}

enum status tokenizer_check_gaps(const struct tokenizer *tokenizer, const char *directory) {
    for (int32_t id = 0; id < tokenizer->entry_count; id++)
        if (!tokenizer->entries[id].flags)
            return fail(STATUS_FORMAT, "%s: id %d has no token although the ids go on to %d", directory, id,
                        tokenizer->entry_count - 1);
    return STATUS_OK;
}
