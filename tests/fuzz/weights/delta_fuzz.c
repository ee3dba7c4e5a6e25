/* Any bytes as a delta onto weights of a fixed pattern: it is refused and nothing changed, or it is undone exactly by
 * going back. Base and result digests are made to fit, so that a fuzzer gets behind them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/weights/content.h"
#include "common/weights/delta.h"
#include "common/weights/delta_block.h"
#include "common/weights/patch.h"

#define ELEMENTS_MAX (1u << 18)

static void fill(uint16_t *weights, uint64_t elements) {
    for (uint64_t i = 0; i < elements; i++)
        weights[i] = (uint16_t)(i * 2654435761u >> 11);
}

/* The result that these changes lead to, by applying them where no digest is checked: block by block. False: refused. */
static bool find_result(const struct delta *delta, uint16_t *weights, struct digest *out_result) {
    static struct delta_changes scratch;
    const uint8_t *at = delta->first;
    for (uint64_t b = 0; b < delta->blocks; b++) {
        uint16_t *block = weights + b * DELTA_BLOCK;
        uint32_t bytes = delta_block_bytes(delta, b), elements = delta_block_elements(delta->elements, b);
        scratch.count = 0;
        if (bytes && delta_block_decode(at, bytes, elements, scratch.at, scratch.step, &scratch.count))
            return false;
        for (uint32_t i = 0; i < scratch.count; i++)
            block[scratch.at[i]] = (uint16_t)(block[scratch.at[i]] + scratch.step[i]);
        at += bytes;
    }
    *out_result = content_digest(weights, 0, delta->elements * sizeof *weights);
    return true;
}

/* The same as a chain there and back in one: it is decoded and merged to no change at all, and refused when it alone is. */
static void there_and_back(const struct delta *known, uint8_t *data, bool whole, uint16_t *weights) {
    struct chain chain = {.to = known->base, .hop_count = 2};
    chain.hops[0] = (struct chain_hop){data, known->bytes, DELTA_FORWARD};
    chain.hops[1] = (struct chain_hop){data, known->bytes, DELTA_BACK};
    struct patch *patch = NULL;
    enum status status = patch_create(&chain, known->base, known->elements, 1, &patch);
    ASSERT((status == STATUS_OK) == whole);
    ASSERT(status != STATUS_OK || (patch->changes == 0 && patch_verify(patch, 1, weights) == STATUS_OK));
    patch_destroy(&patch);
}

static enum status go(const struct delta *known, uint8_t *data, enum delta_direction direction, uint16_t *weights) {
    bool back = direction == DELTA_BACK;
    const struct chain chain = {
        .to = back ? known->base : known->result, .hop_count = 1, .hops = {{data, known->bytes, direction}}};
    return chain_apply(&chain, back ? known->result : known->base, known->elements, 1, weights);
}

static void apply(const struct delta *delta, uint8_t *data) {
    uint64_t bytes = delta->elements * sizeof(uint16_t);
    uint16_t *weights = malloc(bytes + 1), *first = malloc(bytes + 1);
    if (weights != NULL && first != NULL) {
        fill(weights, delta->elements);
        fill(first, delta->elements);
        struct delta known = *delta;
        known.base = content_digest(first, 0, bytes);
        bool whole = find_result(&known, weights, &known.result);
        struct {
            struct digest base, result;
        } header = {known.base, known.result};
        memcpy(data + DELTA_HEADER_BYTES - sizeof header, &header, sizeof header);
        fill(weights, delta->elements);
        enum status status = go(&known, data, DELTA_FORWARD, weights);
        ASSERT((status == STATUS_OK) == whole);
        if (status == STATUS_OK)
            status = go(&known, data, DELTA_BACK, weights);
        ASSERT(memcmp(weights, first, bytes) == 0);
        there_and_back(&known, data, whole, weights);
    }
    free(weights);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct delta delta;
    uint8_t *copy = malloc(bytes > 0 ? bytes : 1); /* its own block: a read past its end is caught */
    if (copy == NULL)
        return 0;
    if (bytes > 0)
        memcpy(copy, data, bytes);
    if (delta_open(copy, bytes, &delta) == STATUS_OK && delta.elements <= ELEMENTS_MAX)
        apply(&delta, copy);
    free(copy);
    return 0;
}
