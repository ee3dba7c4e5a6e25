/* The content digest of a flat buffer of parameters (DESIGN section 8): the sum, over all elements, of mix(index, bits)
 * modulo 2^128. It is free of order, and a delta updates it alone: subtract mix(i, old bits), add mix(i, new bits).
 *
 *   mix(i, bits) = key(i / E) * (bits << W*(i mod E))     W = bits of an element (16 or 32), E = 64 / W
 *   key(j)       = the j-th output of SplitMix64 (Steele, Lea, Flood 2014): 64 well mixed bits
 *
 * So E neighbours that share a 64-bit word cost one multiplication: their mixes add up to key(j) * word. Two different
 * buffers of one length collide with probability about 2^-64. It finds corruption and names versions; it is no defence
 * against forgery, as it is linear and has no secret. */
#ifndef CANDOR_COMPUTE_DIGEST_H
#define CANDOR_COMPUTE_DIGEST_H

#include <stdint.h>

#include "common/base/hash.h"
#include "common/compute/math.h"

HOST_DEVICE uint64_t digest_key(uint64_t j) {
    uint64_t z = (j + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

HOST_DEVICE struct digest digest_of_u128(unsigned __int128 value) {
    struct digest digest; /* no compound literal: C++ reads this too */
    digest.low = (uint64_t)value;
    digest.high = (uint64_t)(value >> 64);
    return digest;
}

HOST_DEVICE unsigned __int128 digest_to_u128(struct digest digest) {
    return (unsigned __int128)digest.high << 64 | digest.low;
}

HOST_DEVICE struct digest digest_add(struct digest a, struct digest b) {
    return digest_of_u128(digest_to_u128(a) + digest_to_u128(b));
}

HOST_DEVICE struct digest digest_subtract(struct digest a, struct digest b) {
    return digest_of_u128(digest_to_u128(a) - digest_to_u128(b));
}

/* Element `index` of a bf16 buffer. */
HOST_DEVICE struct digest digest_mix16(uint64_t index, uint16_t bits) {
    return digest_of_u128((unsigned __int128)digest_key(index / 4) * ((uint64_t)bits << 16 * (index % 4)));
}

/* Element `index` of an fp32 buffer. */
HOST_DEVICE struct digest digest_mix32(uint64_t index, uint32_t bits) {
    return digest_of_u128((unsigned __int128)digest_key(index / 2) * ((uint64_t)bits << 32 * (index % 2)));
}

#endif
