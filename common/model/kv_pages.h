/* Which page of the key/value cache holds which positions of which sequence. Host bookkeeping only: the pages' contents are the
 * device's (infer.c).
 *
 * Invariants (kv_pages_check):
 *   P1 a page is free, or its reference count is the number of sequences that list it.
 *   P2 a sequence of n positions lists at least the pages for n positions.
 *   P3 the page in which a sequence ends (if not full) is listed by that sequence alone: so appending never writes to a page
 *      that somebody else reads.
 * Nothing is allocated after create. One thread. */
#ifndef CANDOR_MODEL_KV_PAGES_H
#define CANDOR_MODEL_KV_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/compute/ops.h"

struct kv_sequence {
    bool open;
    int32_t length;  /* positions */
    int32_t held;    /* pages listed */
    int32_t *pages;  /* [pages_per_sequence] */
    int32_t pending; /* infer.c: rows of this sequence in the pass being built */
    int32_t view;    /* infer.c: its index in that pass */
};

struct kv_pages {
    int32_t page_count, free_count;
    int32_t *free_pages; /* stack */
    int32_t *references; /* [page_count] */
    int32_t sequence_count, free_handles;
    int32_t *handles; /* stack */
    int32_t pages_per_sequence;
    struct kv_sequence *sequences;
    int32_t *tables; /* [sequence_count, pages_per_sequence] */
};

enum status kv_pages_init(struct kv_pages *kv, int32_t pages, int32_t sequences, int32_t pages_per_sequence);
void kv_pages_deinit(struct kv_pages *kv);

/* STATUS_AGAIN when no handle is free. */
enum status kv_pages_open(struct kv_pages *kv, int32_t *out_sequence);
/* A new sequence that shares the full pages of the first `length` positions. If length ends within a page, its contents must be
 * copied: *out_copy_from, *out_copy_to are that page and the new one, otherwise -1. STATUS_AGAIN when handles or pages are
 * short; nothing is changed then. */
enum status kv_pages_fork(struct kv_pages *kv, int32_t from, int32_t length, int32_t *out_sequence,
                          int32_t *out_copy_from, int32_t *out_copy_to);
void kv_pages_close(struct kv_pages *kv, int32_t sequence);

/* Pages to take so that a sequence holds length + more positions. */
int32_t kv_pages_missing(const struct kv_sequence *sequence, int32_t more);
/* Take them; they are there (the caller counted). */
void kv_pages_grow(struct kv_pages *kv, struct kv_sequence *sequence, int32_t more);

static inline int32_t kv_pages_for(int32_t tokens) {
    return (tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
}

/* Asserts P1 to P3; O(sequences x pages). For tests. */
void kv_pages_check(const struct kv_pages *kv);

#endif
