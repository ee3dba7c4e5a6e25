/* bf16 on the host: the upper half of an fp32. */
#ifndef CANDOR_MODEL_BF16_H
#define CANDOR_MODEL_BF16_H

#include <stdint.h>

/* Bits of an fp32 to the nearest bf16, ties to even; NaN stays NaN. */
static inline uint16_t bf16_round(uint32_t bits) {
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint32_t bf16_expand(uint16_t half) {
    return (uint32_t)half << 16;
}

#endif
