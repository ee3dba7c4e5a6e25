/* Byte-level BPE over one word: a linked list of symbols and a heap of possible merges, lowest rank first and leftmost
 * first among equals, as in huggingface/tokenizers. O(n log n), so a hostile word of a megabyte is no matter. */
#include "common/model/tokenizer_tables.h"

#include <stdlib.h>
#include <string.h>

struct symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t left, right;
};

struct candidate {
    int32_t rank, at;
    int32_t left_id, right_id; /* as they were when this was pushed: stale when they changed */
    int32_t id;
};

struct bpe_scratch {
    size_t capacity; /* in symbols; a word of n symbols pushes at most 3 n candidates */
    struct symbol *symbols;
    struct candidate *heap;
    size_t heap_count;
};

void bpe_scratch_free(struct bpe_scratch **scratch) {
    if (*scratch) {
        free((*scratch)->symbols);
        free((*scratch)->heap);
        free(*scratch);
        *scratch = NULL;
    }
}

static enum status scratch_reserve(struct bpe_scratch **scratch, size_t symbols) {
    if (*scratch && (*scratch)->capacity >= symbols)
        return STATUS_OK;
    size_t capacity = symbols < 256 ? 256 : symbols;
    bpe_scratch_free(scratch);
    struct bpe_scratch *made = calloc(1, sizeof *made);
    if (made) {
        made->capacity = capacity;
        made->symbols = malloc(capacity * sizeof *made->symbols);
        made->heap = malloc(3 * capacity * sizeof *made->heap);
    }
    *scratch = made;
    if (!made || !made->symbols || !made->heap) {
        bpe_scratch_free(scratch);
        return fail(STATUS_NO_MEMORY, "tokenizer: out of memory for a word of %zu bytes", symbols);
    }
    return STATUS_OK;
}

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct bpe_scratch *scratch, const struct candidate *candidate) {
    size_t at = scratch->heap_count++;
    while (at > 0 && before(candidate, &scratch->heap[(at - 1) / 2])) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = *candidate;
}

static struct candidate heap_pop(struct bpe_scratch *scratch) {
    struct candidate top = scratch->heap[0], last = scratch->heap[--scratch->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= scratch->heap_count)
            break;
        if (child + 1 < scratch->heap_count && before(&scratch->heap[child + 1], &scratch->heap[child]))
            child++;
        if (!before(&scratch->heap[child], &last))
            break;
        scratch->heap[at] = scratch->heap[child];
        at = child;
    }
    scratch->heap[at] = last;
    return top;
}

/* The pair that begins at symbol `at` becomes a candidate when a merge is known for it. */
static void consider(const struct tokenizer *tokenizer, struct bpe_scratch *scratch, int32_t at) {
    if (at < 0 || scratch->symbols[at].right < 0)
        return;
    int32_t left_id = scratch->symbols[at].id, right_id = scratch->symbols[scratch->symbols[at].right].id;
    const struct merge *merge = tokenizer_merge(tokenizer, left_id, right_id);
    if (merge)
        heap_push(scratch, &(struct candidate){merge->rank, at, left_id, right_id, merge->id});
}

enum status bpe_encode_word(const struct tokenizer *tokenizer, const char *word, size_t bytes,
                            struct bpe_scratch **scratch_slot, struct token_list *out_ids) {
    TRY(scratch_reserve(scratch_slot, bytes));
    struct bpe_scratch *scratch = *scratch_slot;
    struct symbol *symbols = scratch->symbols;
    int32_t count = (int32_t)bytes;
    for (int32_t i = 0; i < count; i++)
        symbols[i] = (struct symbol){tokenizer->byte_ids[(unsigned char)word[i]], i - 1, i + 1 < count ? i + 1 : -1};
    scratch->heap_count = 0;
    for (int32_t i = 0; i < count; i++)
        consider(tokenizer, scratch, i);
    while (scratch->heap_count > 0) {
        struct candidate best = heap_pop(scratch);
        struct symbol *left = &symbols[best.at];
        if (left->id != best.left_id || left->right < 0 || symbols[left->right].id != best.right_id)
            continue; /* one of the two is part of another merge by now */
        struct symbol *right = &symbols[left->right];
        left->id = best.id;
        left->right = right->right;
        if (right->right >= 0)
            symbols[right->right].left = best.at;
        right->id = -1;
        right->right = -1;
        consider(tokenizer, scratch, left->left);
        consider(tokenizer, scratch, best.at);
    }
    for (int32_t i = 0; i >= 0 && count > 0; i = symbols[i].right)
        TRY(token_list_push(out_ids, symbols[i].id));
    return STATUS_OK;
}
