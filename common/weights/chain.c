#include "common/weights/chain.h"

#include <stdlib.h>

#include "common/weights/patch.h"

void chain_destroy(struct chain **chain) {
    for (uint32_t i = 0; *chain && i < (*chain)->hop_count; i++)
        free((*chain)->hops[i].data);
    free(*chain);
    *chain = NULL;
}

uint64_t chain_bytes(const struct chain *chain) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < chain->hop_count; i++)
        bytes += chain->hops[i].bytes;
    return bytes;
}

enum status chain_apply(const struct chain *chain, struct digest held, uint64_t elements, int threads,
                        uint16_t *weights) {
    struct patch *patch;
    TRY(patch_create(chain, held, elements, threads, &patch));
    enum status status = patch_change(patch, threads, weights);
    patch_destroy(&patch);
    return status;
}
