#include "common/weights/route.h"

#include <string.h>

#define NODES_MAX (2 * SYNC_DELTAS_MAX + 1)

/* A version: bytes of deltas from it to the wanted one, and the first of them. */
struct node {
    struct digest weights;
    uint64_t cost;
    uint32_t hop_count; /* to the wanted one */
    struct route_hop next;
};

struct search {
    struct node nodes[NODES_MAX];
    uint32_t count;
};

static struct node *find(struct search *search, struct digest weights) {
    for (uint32_t i = 0; i < search->count; i++)
        if (digest_equal(search->nodes[i].weights, weights))
            return &search->nodes[i];
    return NULL;
}

/* Go from -> to -> ... -> wanted, if that is shorter than what is known of `from`. */
static bool relax(struct search *search, struct digest from, struct digest to, uint64_t bytes, struct route_hop hop) {
    const struct node *end = find(search, to);
    if (!end || end->hop_count == CHAIN_HOPS_MAX)
        return false;
    struct node *node = find(search, from);
    uint64_t cost = end->cost + bytes;
    if (node && node->cost <= cost)
        return false;
    if (!node)
        node = &search->nodes[search->count++];
    *node = (struct node){from, cost, end->hop_count + 1, hop};
    return true;
}

/* Bellman and Ford: at most a round for each hop; costs only fall. */
static void search_from(const struct route_map *map, struct digest wanted, struct search *out) {
    out->count = 1;
    out->nodes[0] = (struct node){.weights = wanted};
    bool changed = true;
    for (uint32_t round = 0; changed && round < CHAIN_HOPS_MAX; round++) {
        changed = false;
        for (uint32_t i = 0; i < map->delta_count; i++) {
            const struct message_manifest *delta = &map->deltas[i];
            uint64_t bytes = delta->payload_bytes;
            changed |= relax(out, delta->base, delta->weights, bytes, (struct route_hop){i, DELTA_FORWARD});
            changed |= relax(out, delta->weights, delta->base, bytes, (struct route_hop){i, DELTA_BACK});
        }
    }
}

static bool follow(const struct route_map *map, struct search *search, struct digest from, struct route *out_route) {
    struct route route = {.snapshot = -1};
    const struct node *node = find(search, from);
    while (node && node->cost > 0) {
        if (route.hop_count == CHAIN_HOPS_MAX)
            return false;
        route.hops[route.hop_count++] = node->next;
        const struct message_manifest *delta = &map->deltas[node->next.delta];
        node = find(search, node->next.direction == DELTA_FORWARD ? delta->weights : delta->base);
    }
    *out_route = route;
    return true;
}

bool route_find(const struct route_map *map, struct digest held, struct digest wanted, struct route *out_route) {
    struct search search;
    search_from(map, wanted, &search);
    const struct node *node = digest_is_zero(held) ? NULL : find(&search, held);
    uint64_t best = node ? node->cost : UINT64_MAX;
    int32_t snapshot = -1;
    for (uint32_t i = 0; i < map->snapshot_count; i++) {
        const struct node *end = find(&search, map->snapshots[i].weights);
        uint64_t left = map->snapshot_left[i];
        if (end && left <= UINT64_MAX - end->cost && left + end->cost < best) {
            best = left + end->cost;
            snapshot = (int32_t)i;
        }
    }
    if (best == UINT64_MAX)
        return false;
    if (snapshot < 0)
        return follow(map, &search, held, out_route);
    out_route->snapshot = snapshot;
    out_route->hop_count = 0;
    return true;
}
