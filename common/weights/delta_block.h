/* One block of a delta (delta.h). Private to common/weights.
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

#define DELTA_BLOCK 65536u /* elements: an index fits 16 bits; old and new fit an L2 cache */
#define DELTA_ONES_MAX 12u
#define DELTA_DENSE 0xFFu
#define DELTA_BLOCK_BYTES(count) (1 + 2 * (count)) /* at most */
/* What encoding may touch: it tries sparse before it settles for dense, and the last code is written as a whole window. */
#define DELTA_BLOCK_ROOM (4 + 7 * DELTA_BLOCK + 8)

/* The changed elements of a block, in order. Scratch of a thread. */
struct delta_changes {
    uint32_t count;
    uint16_t at[DELTA_BLOCK];
    uint16_t step[DELTA_BLOCK]; /* as coded */
};

/* Find what differs: at alone. */
void delta_find(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out);

/* Write a block of elements into out [DELTA_BLOCK_ROOM]; returns its bytes, 0 when nothing changed. */
uint32_t delta_block_encode(const uint16_t *before, const uint16_t *after, uint32_t elements,
                            struct delta_changes *scratch, uint8_t *out);

/* Apply a block to weights [elements]. first: index of its first element in the buffer; sum: the change of the digest is
 * added. NULL, or what is wrong with it: then nothing was written. */
const char *delta_block_apply(const uint8_t *data, uint32_t bytes, uint32_t elements, uint64_t first, bool back,
                              struct delta_changes *scratch, uint16_t *weights, unsigned __int128 *sum);

#endif
