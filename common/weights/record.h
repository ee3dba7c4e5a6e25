/* What an update of a device's weights changes, found on the device while the update is made: so neither the weights before it
 * nor those after it have to cross to the host, and no second copy of them lies on the device. Whoever updates does so a
 * piece at a time:
 *
 *   record_begin; for each piece, ascending: record_before, the update of the piece, record_after
 *
 * The lists are a patch (patch.h): a host's copy of the version before becomes the version after by patch_copy, and its delta
 * has the bytes of delta_encode. One thread, the device's. */
#ifndef CANDOR_WEIGHTS_RECORD_H
#define CANDOR_WEIGHTS_RECORD_H

#include "common/compute/ops.h"
#include "common/weights/patch.h"

/* Elements of a piece, but of the last: a multiple of every block that an update is made of. */
#define RECORD_PIECE ((int64_t)CHANGE_BLOCKS_MAX * CHANGE_BLOCK)

struct record;

/* For a device with find_changes, and bf16 weights of so many elements. Takes a piece's bytes of its memory. */
enum status record_create(struct device *device, uint64_t elements, struct record **out_record);
void record_destroy(struct record **record);

/* Nothing has changed. */
void record_begin(struct record *record);
void record_before(struct record *record, const uint16_t *weights, int64_t first, int64_t count);
void record_after(struct record *record, const uint16_t *weights, int64_t first, int64_t count);

/* What changed since record_begin, which led from the digest `from` to `to`; borrowed until the next. NULL: there was no memory
 * for it, or so much changed that the lists would be no shorter than the weights; whoever asks has to read these. */
const struct patch *record_patch(struct record *record, struct digest from, struct digest to);

#endif
