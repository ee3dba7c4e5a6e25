#include "common/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/status.h"

#define ALIGNMENT ((size_t)16)
#define BLOCK_BYTES ((size_t)4096) /* the first; each later one is at least twice the one before */

struct arena_block {
    struct arena_block *next;
    size_t bytes, used;
    _Alignas(16) char data[];
};

void arena_init(struct arena *arena, size_t bytes_max) {
    *arena = (struct arena){.bytes_max = bytes_max};
}

void arena_deinit(struct arena *arena) {
    struct arena_block *next;
    for (struct arena_block *block = arena->blocks; block; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (struct arena){.bytes_max = arena->bytes_max};
}

void arena_reset(struct arena *arena) {
    struct arena_block *kept = arena->blocks;
    if (!kept)
        return;
    arena->blocks = kept->next;
    arena_deinit(arena);
    kept->next = NULL;
    kept->used = 0;
    arena->blocks = kept;
}

void *arena_alloc(struct arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 4)
        return NULL;
    size_t padded = (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (padded > arena->bytes_max - arena->used)
        return NULL;
    struct arena_block *block = arena->blocks;
    if (!block || padded > block->bytes - block->used) {
        size_t size = block ? 2 * block->bytes : BLOCK_BYTES;
        if (size > arena->bytes_max)
            size = arena->bytes_max & ~(ALIGNMENT - 1);
        if (size < padded)
            size = padded;
        if (!(block = malloc(sizeof *block + size)))
            return NULL;
        *block = (struct arena_block){.next = arena->blocks, .bytes = size};
        arena->blocks = block;
    }
    void *memory = block->data + block->used;
    block->used += padded;
    arena->used += padded;
    ASSERT(arena->used <= arena->bytes_max);
    return memory;
}

char *arena_copy(struct arena *arena, const void *data, size_t bytes) {
    if (bytes == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(arena, bytes + 1);
    if (!copy)
        return NULL;
    if (bytes > 0)
        memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    return copy;
}
