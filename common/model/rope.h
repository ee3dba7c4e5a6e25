/* The table of rotary positions: cos and sin of position x theta^(-2i/D), computed in double, kept in fp32. */
#ifndef CANDOR_MODEL_ROPE_H
#define CANDOR_MODEL_ROPE_H

#include <stdint.h>

/* out_table [positions, head_dim/2, 2]: cos, sin. head_dim is a power of two. Uses additions, products and square roots
 * only, which IEEE 754 rounds alike everywhere: the table, and with it every activation, has the same bits on every host
 * (libm picks variants by CPU). Error of cos and sin below 1e-11 up to position 2^24. */
void rope_table_fill(float *out_table, int32_t positions, int32_t head_dim, double theta);

#endif
