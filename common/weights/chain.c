#include "common/weights/chain.h"

#include <stdio.h>
#include <stdlib.h>

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

/* held becomes the digest at the hop's other end. */
static enum status apply_hop(const struct chain_hop *hop, bool undo, struct digest *held, uint64_t elements,
                             int threads, uint16_t *weights) {
    struct delta delta;
    TRY(delta_open(hop->data, hop->bytes, &delta));
    bool back = (hop->direction == DELTA_BACK) != undo;
    TRY(delta_apply(&delta, back ? DELTA_BACK : DELTA_FORWARD, *held, elements, threads, weights));
    *held = back ? delta.base : delta.result;
    return STATUS_OK;
}

enum status chain_apply(const struct chain *chain, struct digest held, uint64_t elements, int threads,
                        uint16_t *weights) {
    uint32_t done = 0;
    enum status status = STATUS_OK;
    for (; done < chain->hop_count && status == STATUS_OK; done += status == STATUS_OK)
        status = apply_hop(&chain->hops[done], false, &held, elements, threads, weights);
    if (status == STATUS_OK && !digest_equal(held, chain->to))
        status = fail(STATUS_MISMATCH, "version %u: its deltas lead to other weights than announced", chain->version);
    if (status == STATUS_OK)
        return STATUS_OK;
    char reason[STATUS_MESSAGE_BYTES];
    snprintf(reason, sizeof reason, "%s", status_message());
    while (done-- > 0)
        if (apply_hop(&chain->hops[done], true, &held, elements, threads, weights) != STATUS_OK)
            return fail(STATUS_AGAIN, "%s; and there is no way back: %s", reason, status_message());
    return fail(status, "%s", reason);
}
