/* The tensor core's product. Products of bf16 are exact in fp32; they are added one by one in ascending k, each sum rounded
 * to nearest. A device adds the products of an instruction in an order and with a rounding of its own, so its last bits
 * differ; that is why the twins of matrix products agree to a tolerance. */
#include "tests/support/emulator/primitives.h"

namespace emulator {

void mma_combine(uint32_t, const void *const *in, void *const *out) {
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const mma_operand *o = (const mma_operand *)in[lane];
        unsigned g = lane / 4, q = 2 * (lane % 4);
        for (unsigned i = 0; i < 2; i++) { /* the lower and the higher half of a register */
            for (unsigned r = 0; r < 4; r++)
                a[g + r % 2 * 8][q + r / 2 * 8 + i] = f32_of_bf16((uint16_t)(o->a[r] >> 16 * i));
            for (unsigned r = 0; r < 2; r++)
                b[q + r * 8 + i][g] = f32_of_bf16((uint16_t)(o->b[r] >> 16 * i));
            d[g][q + i] = o->c[i];
            d[g + 8][q + i] = o->c[2 + i];
        }
    }
    for (unsigned row = 0; row < 16; row++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned n = 0; n < 8; n++)
                d[row][n] += a[row][k] * b[k][n];
    for (unsigned lane = 0; lane < WARP; lane++) {
        unsigned g = lane / 4, q = 2 * (lane % 4);
        float *to = (float *)out[lane];
        to[0] = d[g][q];
        to[1] = d[g][q + 1];
        to[2] = d[g + 8][q];
        to[3] = d[g + 8][q + 1];
    }
}

} // namespace emulator
