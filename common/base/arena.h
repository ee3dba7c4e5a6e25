/* A bump allocator with a limit: many small allocations that are freed together. Blocks never move, so pointers stay good
 * until reset. What input makes a program allocate comes out of an arena, whose limit is then the input's (I4). */
#ifndef CANDOR_BASE_ARENA_H
#define CANDOR_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used, bytes_max;     /* bytes handed out, with padding; the most that may be */
};

void arena_init(struct arena *arena, size_t bytes_max);
void arena_deinit(struct arena *arena);
/* Forget everything; the newest block, which is the largest, is kept for the next round. */
void arena_reset(struct arena *arena);

/* 16-byte aligned, not cleared. NULL above the limit or without memory; bytes may be 0. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* A copy with a NUL behind it, which is not counted. */
char *arena_copy(struct arena *arena, const void *data, size_t bytes);

#endif
