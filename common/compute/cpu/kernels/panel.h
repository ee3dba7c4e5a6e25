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

/* Where the turned weights are: rows [LANES] pointers at the first of `depth` elements; to [depth][STRIP] takes one
 * vector of each panel row. Both return how much of depth they did. */
#if defined(__AVX512F__)
static inline void turn(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    /* r[4q + c], 128-bit lane l: elements 4l + c of rows 4q .. 4q+3. Now gather the lanes of the four q. */
    for (int c = 0; c < 4; c++) {
        __m512i low01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x44), high01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xee);
        __m512i low23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x44);
        __m512i high23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xee);
        t[c] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
        t[8 + c] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}

static inline int64_t turn_bf16(float *to, const uint16_t *const rows[LANES], int64_t depth) {
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000u);
    int64_t p = 0;
    for (; p + 32 <= depth; p += 32) {
        __m512i r[16];
        for (int j = 0; j < 16; j++)
            r[j] = _mm512_loadu_si512(rows[j] + p);
        turn(r);
        for (int i = 0; i < 16; i++) {
            _mm512_storeu_si512(to + (p + 2 * i) * STRIP, _mm512_slli_epi32(r[i], 16));
            _mm512_storeu_si512(to + (p + 2 * i + 1) * STRIP, _mm512_and_si512(r[i], odd));
        }
    }
    return p;
}

static inline int64_t turn_f32(float *to, const float *const rows[LANES], int64_t depth) {
    int64_t p = 0;
    for (; p + 16 <= depth; p += 16) {
        __m512i r[16];
        for (int j = 0; j < 16; j++)
            r[j] = _mm512_loadu_si512(rows[j] + p);
        turn(r);
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(to + (p + i) * STRIP, r[i]);
    }
    return p;
}
#elif defined(__AVX2__)
static inline void turn(__m256i r[8]) {
    __m256i t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm256_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2x128_si256(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2x128_si256(r[c], r[4 + c], 0x31);
    }
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

static inline int64_t turn_bf16(float *to, const uint16_t *const rows[LANES], int64_t depth) {
    const __m256i odd = _mm256_set1_epi32((int)0xffff0000u);
    int64_t p = 0;
    for (; p + 16 <= depth; p += 16)
        for (int half = 0; half < 2; half++) {
            __m256i r[8];
            for (int j = 0; j < 8; j++)
                r[j] = _mm256_loadu_si256((const __m256i_u *)(rows[8 * half + j] + p));
            turn(r);
            for (int i = 0; i < 8; i++) {
                float *at = to + (p + 2 * i) * STRIP + 8 * half;
                _mm256_storeu_si256((__m256i_u *)at, _mm256_slli_epi32(r[i], 16));
                _mm256_storeu_si256((__m256i_u *)(at + STRIP), _mm256_and_si256(r[i], odd));
            }
        }
    return p;
}

static inline int64_t turn_f32(float *to, const float *const rows[LANES], int64_t depth) {
    int64_t p = 0;
    for (; p + 8 <= depth; p += 8)
        for (int half = 0; half < 2; half++) {
            __m256i r[8];
            for (int j = 0; j < 8; j++)
                r[j] = _mm256_loadu_si256((const __m256i_u *)(rows[8 * half + j] + p));
            turn(r);
            for (int i = 0; i < 8; i++)
                _mm256_storeu_si256((__m256i_u *)(to + (p + i) * STRIP + 8 * half), r[i]);
        }
    return p;
}
#else
static inline int64_t turn_bf16(float *to, const uint16_t *const rows[LANES], int64_t depth) {
    (void)to, (void)rows, (void)depth;
    return 0;
}

static inline int64_t turn_f32(float *to, const float *const rows[LANES], int64_t depth) {
    (void)to, (void)rows, (void)depth;
    return 0;
}
#endif

/* panel = w[j0 .. , p0 .. p0+depth]^T for w [n,k]. Columns past n hold the last row again; they are never written out.
 */
static inline void panel_turn(float *panel, struct weight w, int64_t n, int64_t k, int64_t j0, int64_t p0,
                              int64_t depth) {
    for (int64_t vector = 0; vector < PANEL_VECTORS; vector++) {
        float *to = panel + vector * LANES;
        const float *wide[LANES];
        const uint16_t *narrow[LANES];
        for (int64_t j = 0; j < LANES; j++) {
            int64_t row = least_i64(j0 + vector * LANES + j, n - 1);
            wide[j] = (const float *)w.data + row * k + p0;
            narrow[j] = (const uint16_t *)w.data + row * k + p0;
        }
        bool f32 = w.type == DTYPE_F32;
        for (int64_t p = f32 ? turn_f32(to, wide, depth) : turn_bf16(to, narrow, depth); p < depth; p++)
            for (int64_t j = 0; j < LANES; j++)
                to[p * STRIP + j] = f32 ? wide[j][p] : f32_of_bf16(narrow[j][p]);
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
