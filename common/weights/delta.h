/* The difference between two versions of bf16 weights: exact, reversible, small (DESIGN section 8).
 *
 * An AdamW step at lr 1e-6 leaves about 98.5 % of bf16 weights as they are, and moves nearly all others to a
 * neighbouring bit pattern. So what is stored is where they are (gaps, Rice coded) and by how many patterns they moved,
 * modulo 2^16 on the pattern itself: no arithmetic on floats, and the same bytes lead forward and back. A block in
 * which too much changed holds plain 16-bit differences, so a delta never exceeds the snapshot by more than 1 % and a
 * header.
 *
 *   header   "CANDORD1", elements u64, base digest, result digest (low u64, high u64 each)
 *   table    [blocks] u32: bytes of each block of DELTA_BLOCK elements; 0: nothing changed in it
 *   blocks   delta_block.h
 * All little-endian. Blocks are coded alone: threads share them out, and the bytes do not depend on how many there are.
 *
 * Nothing here trusts its input: a delta that arrived is data (I5). Reentrant. */
#ifndef CANDOR_WEIGHTS_DELTA_H
#define CANDOR_WEIGHTS_DELTA_H

#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/status.h"

#define DELTA_HEADER_BYTES 48u

/* The most that a delta of so many elements has. */
uint64_t delta_bytes_max(uint64_t elements);

struct delta {
    uint64_t elements;
    struct digest base, result;
    uint64_t bytes;       /* of it all */
    uint32_t blocks;      /* a model has at most 2^32 of them */
    const uint8_t *table; /* [blocks] u32 */
    const uint8_t *first; /* the first block's bytes */
};

/* What leads from before to after, both [elements] bf16.
 *   base, result  digests of before and after; who applies the delta verifies the result from the changed elements alone
 *   threads      at least 1
 *   out_data     [out_bytes], free()d by the caller
 *   out_changed  elements that differ; may be NULL
 * STATUS_NO_MEMORY. */
enum status delta_encode(const uint16_t *before, const uint16_t *after, uint64_t elements, struct digest base,
                         struct digest result, int threads, uint8_t **out_data, uint64_t *out_bytes,
                         uint64_t *out_changed);

/* The same, byte for byte, from lists of what changed (patch.h). */
struct patch;
enum status delta_encode_patch(const struct patch *patch, int threads, uint8_t **out_data, uint64_t *out_bytes);

/* Read header and table of data [bytes], borrowed while out_delta is used. STATUS_FORMAT with what is wrong. What it changes is
 * decoded, verified and applied by patch.h. */
enum status delta_open(const void *data, uint64_t bytes, struct delta *out_delta);

#endif
