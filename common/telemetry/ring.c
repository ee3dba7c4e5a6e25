#include "common/telemetry/ring.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PUSH_TRIES 4 /* a push that finds the ring full this often gives up: it must never wait for another thread */

struct cell {
    atomic_size_t sequence;
    struct record record;
};

struct ring {
    size_t mask;
    atomic_size_t head, tail; /* next to take, next to fill */
    struct cell cells[];
};

enum status ring_create(uint32_t capacity, struct ring **out_ring) {
    ASSERT(capacity > 0 && (capacity & (capacity - 1)) == 0);
    struct ring *ring = calloc(1, sizeof *ring + capacity * sizeof ring->cells[0]);
    if (!ring)
        return fail(STATUS_NO_MEMORY, "telemetry: no memory for %u records", capacity);
    ring->mask = capacity - 1;
    for (size_t i = 0; i < capacity; i++)
        atomic_init(&ring->cells[i].sequence, i);
    *out_ring = ring;
    return STATUS_OK;
}

void ring_destroy(struct ring **ring) {
    free(*ring);
    *ring = NULL;
}

/* Only the pairs in use are copied. */
static void copy_record(struct record *to, const struct record *from) {
    memcpy(to, from, offsetof(struct record, pairs) + from->pair_count * sizeof from->pairs[0]);
}

/* Claim the cell at *index whose sequence is position + turn; NULL when there is none (full, or empty). */
static struct cell *claim(struct ring *ring, atomic_size_t *index, size_t turn, size_t *out_position) {
    size_t position = atomic_load_explicit(index, memory_order_relaxed);
    for (;;) {
        struct cell *cell = &ring->cells[position & ring->mask];
        size_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
        ptrdiff_t ahead = (ptrdiff_t)(sequence - (position + turn));
        if (ahead < 0)
            return NULL;
        if (ahead > 0) {
            position = atomic_load_explicit(index, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(index, &position, position + 1, memory_order_relaxed,
                                                         memory_order_relaxed)) {
            *out_position = position;
            return cell;
        }
    }
}

static bool try_push(struct ring *ring, const struct record *record) {
    size_t position;
    struct cell *cell = claim(ring, &ring->tail, 0, &position);
    if (!cell)
        return false;
    copy_record(&cell->record, record);
    atomic_store_explicit(&cell->sequence, position + 1, memory_order_release);
    return true;
}

/* out_record may be NULL: the record is thrown away. */
static bool take(struct ring *ring, struct record *out_record) {
    size_t position;
    struct cell *cell = claim(ring, &ring->head, 1, &position);
    if (!cell)
        return false;
    if (out_record)
        copy_record(out_record, &cell->record);
    atomic_store_explicit(&cell->sequence, position + ring->mask + 1, memory_order_release);
    return true;
}

bool ring_try_pop(struct ring *ring, struct record *out_record) {
    return take(ring, out_record);
}

uint32_t ring_push(struct ring *ring, const struct record *record) {
    uint32_t lost = 0;
    for (int i = 0; i < PUSH_TRIES; i++) {
        if (try_push(ring, record))
            return lost;
        lost += take(ring, NULL);
    }
    return lost + 1; /* the new one is lost too */
}
