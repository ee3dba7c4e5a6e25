/* A hash table from 64-bit numbers to pointers. It owns neither; how many go in is the caller's limit. */
#ifndef CANDOR_BASE_MAP_H
#define CANDOR_BASE_MAP_H

#include <stdint.h>

#include "common/base/status.h"

struct map_entry {
    uint64_t key;
    void *value; /* NULL: free */
};

struct map {
    struct map_entry *entries; /* [capacity], a power of two; linear probing */
    uint32_t count, capacity;
};

void map_init(struct map *map); /* all zeros is also valid */
void map_deinit(struct map *map);

/* NULL when absent. */
void *map_get(const struct map *map, uint64_t key);
/* value is not NULL; replaces what was there. STATUS_NO_MEMORY. */
enum status map_put(struct map *map, uint64_t key, void *value);
/* What was there, or NULL. */
void *map_remove(struct map *map, uint64_t key);

#endif
