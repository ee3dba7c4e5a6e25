/* AdamW's moments in eight bits: blocks of MOMENT_BLOCK elements, each with its greatest magnitude in fp32, and a byte an
 * element that says which of 256 fixed shares of it the moment is. The shares lie dense near 1 and reach down to 1e-6 or less
 * ("dynamic" quantisation). Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", section 2, and
 * create_dynamic_map and quantize_blockwise of bitsandbytes.
 *
 * Of v > 0 never comes 0, but the least share, 3.25e-7: where v is below 1.6e-7 of the block's greatest (a gradient below 1/2500
 * of it), m still is not 0, and the next step would be m / eps. Measured with gradients of which the logarithm varies by 3:
 * steps of 4e7 learning rates with it at 0, of at most 2.5 so. Rounding v up errs to the small step. ("Memory Efficient
 * Optimizers with 4-bit States" found zero to be the trouble of v, and leaves it out as well.) What never had a gradient
 * stays 0.
 *
 * The nearest share is found by the leading bits of a number's pattern: between two neighbours of MOMENT_KEYS lies at most
 * one border between codes, so one table and one comparison do. Everything here is one rounded operation after another, so
 * host and device have the same bits. */
#ifndef CANDOR_COMPUTE_MOMENTS_H
#define CANDOR_COMPUTE_MOMENTS_H

#include <stdint.h>

#include "common/compute/math.h"

#define MOMENT_CODES 256
#define MOMENT_ZERO_M 127 /* the code of 0; below it lie negative shares, down to -0.993 */
#define MOMENT_ZERO_V 0
#define MOMENT_MOST 3.40282347e38f /* v is no greater, so that a block cannot become infinite or NaN */

/* A key is the exponent and seven bits behind it, from 2^-23, below which no share but 0 lies, to 1; then the same for negative
 * numbers. Seven, because shares near 1 lie 0.007 apart. */
#define MOMENT_KEY_SHIFT 16
#define MOMENT_KEY_LEAST 0x3400u
#define MOMENT_KEYS_POSITIVE (0x3f80u - MOMENT_KEY_LEAST + 1)
#define MOMENT_KEYS (2 * MOMENT_KEYS_POSITIVE)

struct moment_codes {
    float share[MOMENT_CODES];  /* of each code, ascending; the last is 1 */
    float border[MOMENT_CODES]; /* above it (and not at it) the next code is the nearest; the last is never exceeded */
    uint8_t below[MOMENT_KEYS]; /* borders below all numbers with this key */
};

struct moment_tables {
    struct moment_codes m, v;
};

/* The i-th share above 0. Decade d of 7 is (0.1, 1) / 10^(6 - d) in first_parts 2^d equal parts: their middles. */
static inline float moment_share(int i, int first_parts) {
    double scale = 1e6;
    int parts = first_parts;
    for (; i >= parts; parts *= 2, scale /= 10)
        i -= parts;
    return (float)((0.1 + 0.9 * (i + 0.5) / parts) / scale);
}

static inline int moment_borders_below(const struct moment_codes *codes, float number) {
    int count = 0, end = MOMENT_CODES - 1;
    while (count < end) {
        int middle = (count + end) / 2;
        if (codes->border[middle] < number)
            count = middle + 1;
        else
            end = middle;
    }
    return count;
}

static inline void moment_codes_fill(struct moment_codes *codes, int zero) {
    for (int i = 1; zero + i < MOMENT_CODES - 1; i++) {
        codes->share[zero + i] = moment_share(i - 1, zero == MOMENT_ZERO_V ? 2 : 1);
        if (i <= zero)
            codes->share[zero - i] = -codes->share[zero + i];
    }
    codes->share[zero] = 0.0f;
    codes->share[MOMENT_CODES - 1] = codes->border[MOMENT_CODES - 1] = 1.0f;
    for (int k = 0; k < MOMENT_CODES - 1; k++)
        codes->border[k] = 0.5f * (codes->share[k] + codes->share[k + 1]);
    if (zero == MOMENT_ZERO_V)
        codes->border[0] = 0.0f; /* what is above 0 does not become 0 */
    for (uint32_t key = 0; key < MOMENT_KEYS_POSITIVE; key++) {
        float from = f32_of_bits((key + MOMENT_KEY_LEAST) << MOMENT_KEY_SHIFT);
        float to = f32_of_bits((key + MOMENT_KEY_LEAST + 1) << MOMENT_KEY_SHIFT);
        codes->below[key] = (uint8_t)moment_borders_below(codes, key == 0 ? 0.0f : from);
        codes->below[MOMENT_KEYS_POSITIVE + key] = (uint8_t)moment_borders_below(codes, -to);
    }
}

static inline void moment_tables_fill(struct moment_tables *out_tables) {
    moment_codes_fill(&out_tables->m, MOMENT_ZERO_M);
    moment_codes_fill(&out_tables->v, MOMENT_ZERO_V);
}

/* Of a number in [-1, 1]. */
HOST_DEVICE uint32_t moment_key(float number) {
    uint32_t bits = bits_of_f32(number), size = (bits & 0x7fffffffu) >> MOMENT_KEY_SHIFT;
    size = size > MOMENT_KEY_LEAST ? size : MOMENT_KEY_LEAST;
    return size - MOMENT_KEY_LEAST + (bits >> 31) * MOMENT_KEYS_POSITIVE;
}

#endif
