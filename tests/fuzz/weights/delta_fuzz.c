/* Any bytes as a delta onto weights of a fixed pattern: it is refused and nothing changed, or it is undone exactly by
 * going back. Base and result digests are made to fit, so that a fuzzer gets behind them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/weights/content.h"
#include "common/weights/delta.h"
#include "common/weights/delta_block.h"

#define ELEMENTS_MAX (1u << 18)

static void fill(uint16_t *weights, uint64_t elements) {
    for (uint64_t i = 0; i < elements; i++)
        weights[i] = (uint16_t)(i * 2654435761u >> 11);
}

/* The result that these changes lead to, by applying them where no digest is checked: block by block. Zero: refused. */
static bool find_result(const struct delta *delta, uint16_t *weights, struct digest *out_result) {
    static struct delta_changes scratch;
    const uint8_t *at = delta->first;
    for (uint64_t b = 0; b < delta->blocks; b++) {
        unsigned __int128 sum = 0;
        uint64_t first = b * DELTA_BLOCK, left = delta->elements - first;
        uint32_t bytes;
        memcpy(&bytes, delta->table + b * sizeof bytes, sizeof bytes);
        if (bytes && delta_block_apply(at, bytes, left < DELTA_BLOCK ? (uint32_t)left : DELTA_BLOCK, first, false,
                                       &scratch, weights + first, &sum))
            return false;
        at += bytes;
    }
    *out_result = content_digest(weights, 0, delta->elements * sizeof *weights);
    return true;
}

static void apply(const struct delta *delta) {
    uint64_t bytes = delta->elements * sizeof(uint16_t);
    uint16_t *weights = malloc(bytes + 1), *first = malloc(bytes + 1);
    if (weights != NULL && first != NULL) {
        fill(weights, delta->elements);
        fill(first, delta->elements);
        struct delta known = *delta;
        known.base = content_digest(first, 0, bytes);
        bool whole = find_result(&known, weights, &known.result);
        fill(weights, delta->elements);
        enum status status = delta_apply(&known, DELTA_FORWARD, known.base, known.elements, 1, weights);
        ASSERT((status == STATUS_OK) == whole);
        if (status == STATUS_OK)
            status = delta_apply(&known, DELTA_BACK, known.result, known.elements, 1, weights);
        ASSERT(memcmp(weights, first, bytes) == 0);
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
        apply(&delta);
    free(copy);
    return 0;
}
