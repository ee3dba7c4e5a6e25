/* exp, log and 1/sqrt for the forward pass, sampling and the loss: Candor's own, because glibc picks variants by CPU
 * and the last bit must not depend on the host (DESIGN section 5.2). Plain IEEE single operations and fmaf in one
 * written order, so every compiler and every machine gives the same bits. cpu/vector.h holds the 16-lane twin of
 * exp_f32 with equal bits.
 *
 * Accuracy against libm in double: exp_f32 within 1.1 ulp, log_f32 within 1, rsqrt_f32 within 1.5, the first two never
 * falling where the function rises (tests/unit/compute/math_test.c). Polynomials: Cephes (S. Moshier), expf and logf.
 */
#ifndef CANDOR_COMPUTE_MATH_H
#define CANDOR_COMPUTE_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Host code, C or C++, and kernels. */
#if defined(__CUDACC__)
#define HOST_DEVICE static inline __host__ __device__
#else
#define HOST_DEVICE static inline
#endif

#define EXP_LOG2E 1.44269504088896341f
#define EXP_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to the nearest integer */
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW -2.12194440e-4f
#define EXP_LEAST -87.33654f /* below: 0, so that no subnormal is made */
#define EXP_MOST 88.72283f   /* above: infinity */
#define EXP_P0 1.9875691500e-4f
#define EXP_P1 1.3981999507e-3f
#define EXP_P2 8.3334519073e-3f
#define EXP_P3 4.1665795894e-2f
#define EXP_P4 1.6666665459e-1f
#define EXP_P5 5.0000001201e-1f

HOST_DEVICE uint32_t bits_of_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

HOST_DEVICE float f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

HOST_DEVICE float f32_of_bf16(uint16_t bits) {
    return f32_of_bits((uint32_t)bits << 16);
}

/* To nearest, ties to even; NaN stays NaN. */
HOST_DEVICE uint16_t bf16_of_f32(float value) {
    uint32_t bits = bits_of_f32(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* e^x. -infinity gives 0, infinity gives infinity, NaN gives NaN; exp_f32(0) is exactly 1. */
HOST_DEVICE float exp_f32(float x) {
    float clamped = x > EXP_LEAST ? x : EXP_LEAST; /* a NaN becomes EXP_LEAST and is put back at the end */
    clamped = clamped < EXP_MOST ? clamped : EXP_MOST;
    float n = fmaf(clamped, EXP_LOG2E, EXP_MAGIC) - EXP_MAGIC;
    float r = fmaf(n, -EXP_LN2_HIGH, clamped);
    r = fmaf(n, -EXP_LN2_LOW, r);
    float p = fmaf(EXP_P0, r, EXP_P1);
    p = fmaf(p, r, EXP_P2);
    p = fmaf(p, r, EXP_P3);
    p = fmaf(p, r, EXP_P4);
    p = fmaf(p, r, EXP_P5);
    p = fmaf(p, r * r, r) + 1.0f;
    /* 2^n in two factors: n = 128 has no float of its own. */
    int32_t exponent = (int32_t)n, first = exponent >> 1;
    float y = p * f32_of_bits((uint32_t)(first + 127) << 23) * f32_of_bits((uint32_t)(exponent - first + 127) << 23);
    y = x < EXP_LEAST ? 0.0f : y;
    y = x > EXP_MOST ? f32_of_bits(0x7f800000u) : y;
    return x == x ? y : x;
}

/* Natural logarithm. 0 gives -infinity, infinity gives infinity, below 0 and NaN give NaN. */
HOST_DEVICE float log_f32(float x) {
    if (!(x > 0.0f))
        return x == 0.0f ? -f32_of_bits(0x7f800000u) : f32_of_bits(0x7fc00000u);
    if (x > 3.40282347e38f)
        return x;
    int32_t exponent = 0;
    if (x < 1.17549435e-38f) { /* subnormal */
        x *= 8388608.0f;
        exponent = -23;
    }
    uint32_t bits = bits_of_f32(x);
    exponent += (int32_t)(bits >> 23) - 126;
    float m = f32_of_bits((bits & 0x007fffffu) | 0x3f000000u); /* [0.5, 1) */
    if (m < 0.707106781186547524f) {
        exponent--;
        m += m;
    }
    m -= 1.0f;
    float e = (float)exponent, z = m * m;
    float p = fmaf(7.0376836292e-2f, m, -1.1514610310e-1f);
    p = fmaf(p, m, 1.1676998740e-1f);
    p = fmaf(p, m, -1.2420140846e-1f);
    p = fmaf(p, m, 1.4249322787e-1f);
    p = fmaf(p, m, -1.6668057665e-1f);
    p = fmaf(p, m, 2.0000714765e-1f);
    p = fmaf(p, m, -2.4999993993e-1f);
    p = fmaf(p, m, 3.3333331174e-1f);
    float y = p * m * z;
    y = fmaf(e, EXP_LN2_LOW, y);
    y = fmaf(-0.5f, z, y);
    return fmaf(e, EXP_LN2_HIGH, m + y);
}

/* 1/sqrt(x) by the correctly rounded square root and division, which IEEE 754 fixes to the bit. */
HOST_DEVICE float rsqrt_f32(float x) {
    return 1.0f / sqrtf(x);
}

#endif
