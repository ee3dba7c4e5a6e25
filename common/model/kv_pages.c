#include "common/model/kv_pages.h"

#include <stdlib.h>
#include <string.h>

enum status kv_pages_init(struct kv_pages *kv, int32_t pages, int32_t sequences, int32_t pages_per_sequence) {
    *kv = (struct kv_pages){.page_count = pages,
                            .free_count = pages,
                            .sequence_count = sequences,
                            .free_handles = sequences,
                            .pages_per_sequence = pages_per_sequence};
    kv->free_pages = calloc((size_t)pages, sizeof *kv->free_pages);
    kv->references = calloc((size_t)pages, sizeof *kv->references);
    kv->handles = calloc((size_t)sequences, sizeof *kv->handles);
    kv->sequences = calloc((size_t)sequences, sizeof *kv->sequences);
    kv->tables = calloc((size_t)sequences * (size_t)pages_per_sequence, sizeof *kv->tables);
    if (!kv->free_pages || !kv->references || !kv->handles || !kv->sequences || !kv->tables) {
        kv_pages_deinit(kv);
        return fail(STATUS_NO_MEMORY, "no memory for the tables of %d pages and %d sequences", pages, sequences);
    }
    for (int32_t i = 0; i < pages; i++) /* the lowest is taken first */
        kv->free_pages[i] = pages - 1 - i;
    for (int32_t i = 0; i < sequences; i++) {
        kv->handles[i] = sequences - 1 - i;
        kv->sequences[i].pages = kv->tables + (size_t)i * (size_t)pages_per_sequence;
        kv->sequences[i].view = -1;
    }
    return STATUS_OK;
}

void kv_pages_deinit(struct kv_pages *kv) {
    free(kv->free_pages);
    free(kv->references);
    free(kv->handles);
    free(kv->sequences);
    free(kv->tables);
    *kv = (struct kv_pages){0};
}

static int32_t take_page(struct kv_pages *kv) {
    ASSERT(kv->free_count > 0);
    int32_t page = kv->free_pages[--kv->free_count];
    ASSERT(kv->references[page] == 0); /* P1 */
    kv->references[page] = 1;
    return page;
}

static void drop_page(struct kv_pages *kv, int32_t page) {
    ASSERT(kv->references[page] > 0); /* P1 */
    if (--kv->references[page] == 0)
        kv->free_pages[kv->free_count++] = page;
}

enum status kv_pages_open(struct kv_pages *kv, int32_t *out_sequence) {
    if (kv->free_handles == 0)
        return fail(STATUS_AGAIN, "all %d sequences are in use", kv->sequence_count);
    int32_t s = kv->handles[--kv->free_handles];
    struct kv_sequence *sequence = &kv->sequences[s];
    sequence->open = true;
    sequence->length = 0;
    sequence->held = 0;
    *out_sequence = s;
    return STATUS_OK;
}

enum status kv_pages_fork(struct kv_pages *kv, int32_t from, int32_t length, int32_t *out_sequence,
                          int32_t *out_copy_from, int32_t *out_copy_to) {
    const struct kv_sequence *parent = &kv->sequences[from];
    ASSERT(parent->open && length >= 0 && length <= parent->length);
    int32_t full = length / KV_PAGE_TOKENS, part = length % KV_PAGE_TOKENS;
    int32_t child = -1;
    if (part > 0 && kv->free_count == 0)
        return fail(STATUS_AGAIN, "all %d pages are in use", kv->page_count);
    TRY(kv_pages_open(kv, &child));
    struct kv_sequence *sequence = &kv->sequences[child];
    for (int32_t i = 0; i < full; i++) {
        sequence->pages[i] = parent->pages[i];
        kv->references[parent->pages[i]]++;
    }
    if (part > 0)
        sequence->pages[full] = take_page(kv); /* P3 */
    sequence->held = full + (part > 0);
    sequence->length = length;
    *out_copy_from = part > 0 ? parent->pages[full] : -1;
    *out_copy_to = part > 0 ? sequence->pages[full] : -1;
    *out_sequence = child;
    return STATUS_OK;
}

void kv_pages_close(struct kv_pages *kv, int32_t s) {
    ASSERT(s >= 0 && s < kv->sequence_count && kv->sequences[s].open);
    struct kv_sequence *sequence = &kv->sequences[s];
    for (int32_t i = sequence->held; i-- > 0;)
        drop_page(kv, sequence->pages[i]);
    sequence->open = false;
    sequence->length = 0;
    sequence->held = 0;
    kv->handles[kv->free_handles++] = s;
}

int32_t kv_pages_missing(const struct kv_sequence *sequence, int32_t more) {
    int32_t wanted = kv_pages_for(sequence->length + more);
    return wanted > sequence->held ? wanted - sequence->held : 0;
}

void kv_pages_grow(struct kv_pages *kv, struct kv_sequence *sequence, int32_t more) {
    int32_t wanted = kv_pages_for(sequence->length + more);
    ASSERT(wanted <= kv->pages_per_sequence);
    while (sequence->held < wanted)
        sequence->pages[sequence->held++] = take_page(kv);
}

void kv_pages_check(const struct kv_pages *kv) {
    int64_t listed = 0, referenced = 0;
    for (int32_t s = 0; s < kv->sequence_count; s++) {
        const struct kv_sequence *sequence = &kv->sequences[s];
        ASSERT(sequence->open || sequence->held == 0);
        ASSERT(sequence->held >= kv_pages_for(sequence->length)); /* P2 */
        for (int32_t i = 0; i < sequence->held; i++)
            ASSERT(kv->references[sequence->pages[i]] > 0); /* P1 */
        if (sequence->length % KV_PAGE_TOKENS != 0)
            ASSERT(kv->references[sequence->pages[sequence->length / KV_PAGE_TOKENS]] == 1); /* P3 */
        listed += sequence->held;
    }
    int32_t used = 0;
    for (int32_t page = 0; page < kv->page_count; page++) {
        referenced += kv->references[page];
        used += kv->references[page] > 0;
    }
    ASSERT(listed == referenced && used + kv->free_count == kv->page_count); /* P1 */
}
