/* The way with the fewest bytes to a version (sync.h). Private to common/weights. */
#ifndef CANDOR_WEIGHTS_ROUTE_H
#define CANDOR_WEIGHTS_ROUTE_H

#include "common/weights/sync.h"

/* What is known: manifests, and how many bytes of each snapshot are still to fetch. */
struct route_map {
    const struct message_manifest *snapshots, *deltas;
    const uint64_t *snapshot_left; /* [snapshot_count] */
    uint32_t snapshot_count, delta_count;
};

struct route_hop {
    uint32_t delta; /* index in map.deltas */
    enum delta_direction direction;
};

struct route {
    int32_t snapshot; /* index: load it, and look for a way again; -1: the hops */
    uint32_t hop_count;
    struct route_hop hops[CHAIN_HOPS_MAX];
};

/* False: no way. held zero: nothing is held. */
bool route_find(const struct route_map *map, struct digest held, struct digest wanted, struct route *out_route);

#endif
