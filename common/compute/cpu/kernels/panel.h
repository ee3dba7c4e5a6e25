/* Panels of a matrix product's right side: [depth][STRIP] of fp32, laid out once and used for all rows of a task. A
 * strip is PANEL_VECTORS vectors wide.
 *
 * A weight w [n,k] must be turned for y = x w^T. bf16 is turned as pairs: two neighbours along k are one 32-bit lane,
 * so a transpose of 32-bit lanes moves both, and a shift and a mask take them apart into fp32. */
#ifndef CANDOR_COMPUTE_CPU_PANEL_H
#define CANDOR_COMPUTE_CPU_PANEL_H

#include "common/compute/cpu/kernels/kernels.h"

#if defined(__AVX512F__)
#define PANEL_VECTORS 2
#else
#define PANEL_VECTORS 1
#endif
#define STRIP (PANEL_VECTORS * LANES)
/* Weights of more elements come from memory each time; asking for smaller ones costs more than it saves. Measured:
 * reading the vocabulary matrix of the 0.5B shape for one row takes half the time, laying out a cached panel a quarter
 * more. */
#define PREFETCH_LEAST (4 << 20)

/* Sixteen bytes of each of LANES rows become four vectors of 32-bit lanes: vector c has lane j = element c of row j. */
#if defined(__AVX512F__)
typedef __m512i turned;

static inline void turn(turned to[4], const void *const rows[LANES], int64_t byte) {
    __m512i r[4];
    for (int i = 0; i < 4; i++) {
        __m128i part[4];
        for (int q = 0; q < 4; q++)
            part[q] = _mm_loadu_si128((const __m128i_u *)((const char *)rows[4 * q + i] + byte));
        r[i] = _mm512_inserti32x4(_mm512_castsi128_si512(part[0]), part[1], 1);
        r[i] = _mm512_inserti32x4(_mm512_inserti32x4(r[i], part[2], 2), part[3], 3);
    }
    __m512i low01 = _mm512_unpacklo_epi32(r[0], r[1]), high01 = _mm512_unpackhi_epi32(r[0], r[1]);
    __m512i low23 = _mm512_unpacklo_epi32(r[2], r[3]), high23 = _mm512_unpackhi_epi32(r[2], r[3]);
    to[0] = _mm512_unpacklo_epi64(low01, low23);
    to[1] = _mm512_unpackhi_epi64(low01, low23);
    to[2] = _mm512_unpacklo_epi64(high01, high23);
    to[3] = _mm512_unpackhi_epi64(high01, high23);
}

static inline void turned_store(float *to, turned value) {
    _mm512_storeu_si512(to, value);
}

static inline turned turned_even(turned pair) {
    return _mm512_slli_epi32(pair, 16);
}

static inline turned turned_odd(turned pair) {
    return _mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000u));
}
#elif defined(__AVX2__)
typedef struct {
    __m256i half[2];
} turned;

static inline void turn(turned to[4], const void *const rows[LANES], int64_t byte) {
    for (int h = 0; h < 2; h++) {
        __m256i r[4];
        for (int i = 0; i < 4; i++) {
            __m128i low = _mm_loadu_si128((const __m128i_u *)((const char *)rows[8 * h + i] + byte));
            __m128i high = _mm_loadu_si128((const __m128i_u *)((const char *)rows[8 * h + 4 + i] + byte));
            r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
        }
        __m256i low01 = _mm256_unpacklo_epi32(r[0], r[1]), high01 = _mm256_unpackhi_epi32(r[0], r[1]);
        __m256i low23 = _mm256_unpacklo_epi32(r[2], r[3]), high23 = _mm256_unpackhi_epi32(r[2], r[3]);
        to[0].half[h] = _mm256_unpacklo_epi64(low01, low23);
        to[1].half[h] = _mm256_unpackhi_epi64(low01, low23);
        to[2].half[h] = _mm256_unpacklo_epi64(high01, high23);
        to[3].half[h] = _mm256_unpackhi_epi64(high01, high23);
    }
}

static inline void turned_store(float *to, turned value) {
    _mm256_storeu_si256((__m256i_u *)to, value.half[0]);
    _mm256_storeu_si256((__m256i_u *)(to + 8), value.half[1]);
}

static inline turned turned_even(turned pair) {
    return (turned){{_mm256_slli_epi32(pair.half[0], 16), _mm256_slli_epi32(pair.half[1], 16)}};
}

static inline turned turned_odd(turned pair) {
    __m256i mask = _mm256_set1_epi32((int)0xffff0000u);
    return (turned){{_mm256_and_si256(pair.half[0], mask), _mm256_and_si256(pair.half[1], mask)}};
}
#endif

/* To [depth][STRIP] one vector of each row, from LANES rows of `depth` elements. What lies `ahead` bytes further is
 * asked for (0: nothing), as the hardware does not foresee sixteen rows at once. */
static inline void turn_rows(float *to, const void *const rows[LANES], enum dtype type, int64_t depth, int64_t ahead) {
    int64_t p = 0;
    (void)ahead;
#if defined(__AVX2__)
    for (; type == DTYPE_BF16 && p + 8 <= depth; p += 8) {
        turned pairs[4];
        if (p % 32 == 0 && ahead > 0)
            for (int j = 0; j < LANES; j++)
                __builtin_prefetch((const char *)rows[j] + 2 * p + ahead, 0, 2);
        turn(pairs, rows, 2 * p);
        for (int i = 0; i < 4; i++) {
            turned_store(to + (p + 2 * i) * STRIP, turned_even(pairs[i]));
            turned_store(to + (p + 2 * i + 1) * STRIP, turned_odd(pairs[i]));
        }
    }
    for (; type == DTYPE_F32 && p + 4 <= depth; p += 4) {
        turned values[4];
        turn(values, rows, 4 * p);
        for (int i = 0; i < 4; i++)
            turned_store(to + (p + i) * STRIP, values[i]);
    }
#endif
    for (; p < depth; p++)
        for (int64_t j = 0; j < LANES; j++)
            to[p * STRIP + j] =
                type == DTYPE_F32 ? ((const float *)rows[j])[p] : f32_of_bf16(((const uint16_t *)rows[j])[p]);
}

/* panel = w[j0 .. , p0 .. p0+depth]^T for w [n,k]. Columns past n hold the last row again; they are never written out.
 */
static inline void panel_turn(float *panel, struct weight w, int64_t n, int64_t k, int64_t j0, int64_t p0,
                              int64_t depth) {
    int64_t ahead = n * k > PREFETCH_LEAST ? STRIP * k * 2 : 0; /* the next strip */
    for (int64_t vector = 0; vector < PANEL_VECTORS; vector++) {
        float *to = panel + vector * LANES;
        const void *rows[LANES];
        for (int64_t j = 0; j < LANES; j++) {
            int64_t row = least_i64(j0 + vector * LANES + j, n - 1);
            rows[j] = (const char *)w.data + (row * k + p0) * (int64_t)dtype_bytes(w.type);
        }
        turn_rows(to, rows, w.type, depth, ahead);
    }
}

/* panel = w[p0 .. p0+depth, j0 ..] for w [k,n]; columns past n are 0. */
static inline void panel_copy(float *panel, struct weight w, int64_t n, int64_t j0, int64_t p0, int64_t depth) {
    int64_t columns = n - j0;
    for (int64_t p = 0; p < depth; p++) {
        int64_t at = (p0 + p) * n + j0;
        for (int64_t i = 0; i < STRIP; i += LANES)
            v16_store(panel + p * STRIP + i, columns > i ? weight_load(w, at + i, columns - i) : v16_zero());
    }
}

#endif
