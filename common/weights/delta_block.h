/* One block of a delta (delta.h): the list of its changes, and the bytes that this list is coded as. Private to
 * common/weights and to the device's twin of delta_find.
 *
 *   sparse   gap_k u8 <= 15, step_k u8 <= 15, count - 1 u16, then for each changed element two codes, LSB first, the last
 *            byte filled with zeros:
 *              gap    unchanged elements since the changed one before, Rice coded with gap_k
 *              step   how far the bit pattern moved: +1, -1, +2, -2 ... as 0, 1, 2, 3 ..., Rice coded with step_k
 *   dense    0xFF, then the difference after - before modulo 2^16 of every element; whenever sparse is not smaller
 *
 * Rice code of v with k: v >> k ones, a zero, the low k bits; a v >> k of DELTA_ONES_MAX or more: DELTA_ONES_MAX ones,
 * then v in 16 bits. Steps have a long tail (weights near zero), and so a code stays within 28 bits: both fit one
 * 64-bit window. */
#ifndef CANDOR_WEIGHTS_DELTA_BLOCK_H
#define CANDOR_WEIGHTS_DELTA_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/compute/ops.h"
#include "common/weights/delta.h"

#define DELTA_BLOCK ((uint32_t)CHANGE_BLOCK) /* elements: an index fits 16 bits; old and new fit an L2 cache */
#define DELTA_ONES_MAX 12u
#define DELTA_DENSE 0xFFu
#define DELTA_BLOCK_BYTES(count) (1 + 2 * (count)) /* at most */
/* What encoding may touch: it tries sparse before it settles for dense, and the last code is written as a whole window. */
#define DELTA_BLOCK_ROOM (4 + 7 * DELTA_BLOCK + 8)
/* What finding may touch behind the last change. */
#define DELTA_FIND_SLACK 8

/* The changed elements of a block, ascending, and after - before of each, modulo 2^16: never 0. Scratch of a thread. */
struct delta_changes {
    uint32_t count;
    uint16_t at[DELTA_BLOCK + DELTA_FIND_SLACK];
    uint16_t step[DELTA_BLOCK];
};

/* Of a delta's block b: elements of weights, and bytes by its table. */
uint32_t delta_block_elements(uint64_t elements, uint64_t block);
uint32_t delta_block_bytes(const struct delta *delta, uint64_t block);

/* Where before and after [elements] differ. */
void delta_find(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out);

/* Write the changes of a block of elements into out [DELTA_BLOCK_ROOM]; returns its bytes, 0 when there are none.
 * at and step are used up. */
uint32_t delta_block_encode(struct delta_changes *changes, uint32_t elements, uint8_t *out);

/* The changes that a block [bytes > 0] of elements would have, by its head alone: at most elements. */
uint32_t delta_block_count(const uint8_t *data, uint32_t bytes, uint32_t elements);

/* Read a block [bytes > 0]. NULL, or what is wrong with it.
 *   at, step  [delta_block_count], written; out_count of them hold changes */
const char *delta_block_decode(const uint8_t *data, uint32_t bytes, uint32_t elements, uint16_t *at, uint16_t *step,
                               uint32_t *out_count);

/* Change a block's weights by each step, or by its opposite when back; returns what that adds to the digest. first: index in the
 * buffer of the block's first element. */
unsigned __int128 delta_changes_apply(const uint16_t *at, const uint16_t *step, uint32_t count, uint64_t first,
                                      bool back, uint16_t *weights);
/* What delta_changes_apply forward would return; weights stay as they are. */
unsigned __int128 delta_changes_digest(const uint16_t *at, const uint16_t *step, uint32_t count, uint64_t first,
                                       const uint16_t *weights);

#endif
