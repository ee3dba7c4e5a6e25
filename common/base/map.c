#include "common/base/map.h"

#include <stdlib.h>

/* Finalizer of MurmurHash3: every bit of the key moves every bit of the place. */
static uint32_t place_of(const struct map *map, uint64_t key) {
    key ^= key >> 33;
    key *= 0xff51afd7ed558ccdu;
    key ^= key >> 33;
    key *= 0xc4ceb9fe1a85ec53u;
    key ^= key >> 33;
    return (uint32_t)key & (map->capacity - 1);
}

void map_init(struct map *map) {
    *map = (struct map){0};
}

void map_deinit(struct map *map) {
    free(map->entries);
    map_init(map);
}

/* The key's entry, or the free one where it would go; capacity > count. */
static struct map_entry *find(const struct map *map, uint64_t key) {
    uint32_t place = place_of(map, key);
    while (map->entries[place].value && map->entries[place].key != key)
        place = (place + 1) & (map->capacity - 1);
    return &map->entries[place];
}

void *map_get(const struct map *map, uint64_t key) {
    return map->count > 0 ? find(map, key)->value : NULL;
}

static enum status grow(struct map *map) {
    struct map larger = {.capacity = map->capacity ? 2 * map->capacity : 16, .count = map->count};
    larger.entries = calloc(larger.capacity, sizeof larger.entries[0]);
    if (!larger.entries)
        return fail(STATUS_NO_MEMORY, "map of %u entries: no memory", larger.capacity);
    for (uint32_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].value)
            *find(&larger, map->entries[i].key) = map->entries[i];
    }
    free(map->entries);
    *map = larger;
    return STATUS_OK;
}

enum status map_put(struct map *map, uint64_t key, void *value) {
    ASSERT(value);
    if (4 * (map->count + 1) > 3 * map->capacity)
        TRY(grow(map));
    struct map_entry *entry = find(map, key);
    if (!entry->value)
        map->count++;
    *entry = (struct map_entry){.key = key, .value = value};
    return STATUS_OK;
}

void *map_remove(struct map *map, uint64_t key) {
    if (map->count == 0)
        return NULL;
    struct map_entry *entry = find(map, key);
    void *value = entry->value;
    if (!value)
        return NULL;
    map->count--;
    /* Close the gap: an entry behind it moves up unless its own place lies behind the gap. */
    uint32_t mask = map->capacity - 1, gap = (uint32_t)(entry - map->entries);
    for (uint32_t next = (gap + 1) & mask; map->entries[next].value; next = (next + 1) & mask) {
        uint32_t home = place_of(map, map->entries[next].key);
        if (((next - home) & mask) >= ((next - gap) & mask)) {
            map->entries[gap] = map->entries[next];
            gap = next;
        }
    }
    map->entries[gap] = (struct map_entry){0};
    return value;
}
