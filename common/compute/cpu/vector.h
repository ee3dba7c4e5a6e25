/* Sixteen floats at once, on three paths: AVX-512 (one register), AVX2 with FMA (two), portable C (an array). One
 * path's file set is compiled per instruction set (path.h), and every path gives the same bits, because a vector has
 * sixteen lanes on each of them, operations are lane by lane, and the one sum across lanes, v16_sum, adds in one order:
 * lane i with i+8, then with i+4, i+2, i+1. The portable path's speed is that of the compiler's fmaf.
 *
 * max and min take the second operand where either is NaN, as x86 does. */
#ifndef CANDOR_COMPUTE_CPU_VECTOR_H
#define CANDOR_COMPUTE_CPU_VECTOR_H

#include <stdint.h>

#include "common/compute/math.h"

#define LANES 16

#if defined(__AVX512F__)
#include "common/compute/cpu/vector_avx512.h"
#elif defined(__AVX2__)
#include "common/compute/cpu/vector_avx2.h"
#else
#include "common/compute/cpu/vector_portable.h"
#endif

/* c - a*b */
static inline v16 v16_fnma(v16 a, v16 b, v16 c) {
    return v16_fma(v16_sub(v16_zero(), a), b, c);
}

/* The twin of exp_f32 in math.h: the same operations in the same order. */
static inline v16 v16_exp(v16 x) {
    v16 least = v16_set(EXP_LEAST), most = v16_set(EXP_MOST), magic = v16_set(EXP_MAGIC);
    v16 clamped = v16_min(v16_max(x, least), most);
    v16 n = v16_sub(v16_fma(clamped, v16_set(EXP_LOG2E), magic), magic);
    v16 r = v16_fma(n, v16_set(-EXP_LN2_HIGH), clamped);
    r = v16_fma(n, v16_set(-EXP_LN2_LOW), r);
    v16 p = v16_fma(v16_set(EXP_P0), r, v16_set(EXP_P1));
    p = v16_fma(p, r, v16_set(EXP_P2));
    p = v16_fma(p, r, v16_set(EXP_P3));
    p = v16_fma(p, r, v16_set(EXP_P4));
    p = v16_fma(p, r, v16_set(EXP_P5));
    p = v16_add(v16_fma(p, v16_mul(r, r), r), v16_set(1.0f));
    v16 y = v16_scale(p, n);
    y = v16_select(v16_less(x, least), v16_zero(), y);
    y = v16_select(v16_less(most, x), v16_set(f32_of_bits(0x7f800000u)), y);
    return v16_select(v16_equal(x, x), y, x);
}

/* 0, 1, ... 15 */
static inline v16 v16_places(void) {
    static const float places[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return v16_load(places);
}

/* n in 0 .. 16 lanes; the others read as zero and are not written. */
static inline v16 v16_load_some(const float *from, int64_t n) {
    return n >= LANES ? v16_load(from) : v16_load_part(from, (int)n);
}

static inline void v16_store_some(float *to, v16 value, int64_t n) {
    if (n >= LANES)
        v16_store(to, value);
    else
        v16_store_part(to, value, (int)n);
}

#endif
