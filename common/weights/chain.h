/* Deltas one behind the other, each forward or back: a way from the weights that are held to those that are wanted. */
#ifndef CANDOR_WEIGHTS_CHAIN_H
#define CANDOR_WEIGHTS_CHAIN_H

#include "common/weights/delta.h"

/* STORE_DELTAS_MAX: from the oldest version that is served to the newest. */
#define CHAIN_HOPS_MAX 64

enum delta_direction { DELTA_FORWARD, DELTA_BACK };

struct chain_hop {
    uint8_t *data; /* a delta of `bytes`, only read; chain_destroy frees it */
    uint64_t bytes;
    enum delta_direction direction;
};

struct chain {
    uint32_t version; /* that it leads to */
    struct digest from, to;
    uint32_t hop_count;
    struct chain_hop hops[CHAIN_HOPS_MAX];
};

void chain_destroy(struct chain **chain);
uint64_t chain_bytes(const struct chain *chain);

/* Change weights [elements] in place, by way of a patch (patch.h): its failures, and then they are what they were before.
 * held: digest of what they are. */
enum status chain_apply(const struct chain *chain, struct digest held, uint64_t elements, int threads,
                        uint16_t *weights);

#endif
