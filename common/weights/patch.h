/* What a chain of deltas changes, decoded: made and verified beside the generation that still reads the old weights, so
 * that the pause of generation is a scatter (DESIGN section 8).
 *
 * A patch of several deltas holds what they change together: an element that moved away and came back is not in it.
 *
 * What is trusted: that the weights are still those of the digest `held`. The result's digest follows from that and from
 * the changed elements alone, so a damaged or foreign delta always shows; weights that were damaged in memory show in
 * the canary, which is computed from what the device really holds.
 *
 * Memory: 4 bytes for each change: a thirtieth of the snapshot at 1.5 % changed, twice the snapshot at the most. */
#ifndef CANDOR_WEIGHTS_PATCH_H
#define CANDOR_WEIGHTS_PATCH_H

#include "common/compute/device.h"
#include "common/weights/chain.h"

/* Lists of changes, block after block, packed: what ops->apply_changes of a device takes. */
struct patch {
    uint32_t version;
    struct digest from, to;
    uint64_t elements, blocks;
    uint32_t *count;     /* [blocks] changes of each block of DELTA_BLOCK elements */
    uint16_t *at, *step; /* [changes] place within the block, ascending; steps are never 0 */
    uint64_t changes;
};

/* Decode a chain that begins at `held`, and merge it. STATUS_MISMATCH when it begins elsewhere, when its deltas do not
 * join, do not end at chain->to, or are of another number of elements; STATUS_FORMAT for a damaged block;
 * STATUS_NO_MEMORY. */
enum status patch_create(const struct chain *chain, struct digest held, uint64_t elements, int threads,
                         struct patch **out_patch);
void patch_destroy(struct patch **patch);

/* Whether it leads from these weights [elements], which are only read, to patch->to: STATUS_MISMATCH. */
enum status patch_verify(const struct patch *patch, int threads, const uint16_t *weights);
/* to [elements] = the weights, changed. */
void patch_copy(const struct patch *patch, int threads, const uint16_t *weights, uint16_t *to);
/* Both in one, for weights that nobody reads meanwhile: they are changed, or as they were with STATUS_MISMATCH. */
enum status patch_change(const struct patch *patch, int threads, uint16_t *weights);
/* Change the weights, which are what patch_verify read. */
void patch_apply(const struct patch *patch, int threads, uint16_t *weights);
/* Change a device's weights. On the CPU they are what patch_verify read; elsewhere nobody has verified the patch, the device
 * does: STATUS_MISMATCH, and they are as they were. */
enum status patch_apply_on(const struct patch *patch, struct device *device, uint16_t *weights);

#endif
