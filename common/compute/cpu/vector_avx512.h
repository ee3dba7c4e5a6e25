/* v16 as one AVX-512 register; see vector.h. */
#include <immintrin.h>

typedef __m512 v16;
typedef __mmask16 m16;

static inline v16 v16_set(float value) {
    return _mm512_set1_ps(value);
}

static inline v16 v16_zero(void) {
    return _mm512_setzero_ps();
}

static inline v16 v16_load(const float *from) {
    return _mm512_loadu_ps(from);
}

static inline void v16_store(float *to, v16 value) {
    _mm512_storeu_ps(to, value);
}

static inline m16 m16_first(int n) {
    return (m16)((1u << n) - 1);
}

static inline v16 v16_load_part(const float *from, int n) {
    return _mm512_maskz_loadu_ps(m16_first(n), from);
}

static inline void v16_store_part(float *to, v16 value, int n) {
    _mm512_mask_storeu_ps(to, m16_first(n), value);
}

static inline v16 v16_load_bf16(const uint16_t *from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline v16 v16_add(v16 a, v16 b) {
    return _mm512_add_ps(a, b);
}

static inline v16 v16_sub(v16 a, v16 b) {
    return _mm512_sub_ps(a, b);
}

static inline v16 v16_mul(v16 a, v16 b) {
    return _mm512_mul_ps(a, b);
}

static inline v16 v16_div(v16 a, v16 b) {
    return _mm512_div_ps(a, b);
}

static inline v16 v16_max(v16 a, v16 b) {
    return _mm512_max_ps(a, b);
}

static inline v16 v16_min(v16 a, v16 b) {
    return _mm512_min_ps(a, b);
}

static inline v16 v16_sqrt(v16 a) {
    return _mm512_sqrt_ps(a);
}

/* a*b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline m16 v16_less(v16 a, v16 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline m16 v16_equal(v16 a, v16 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

/* m ? a : b */
static inline v16 v16_select(m16 m, v16 a, v16 b) {
    return _mm512_mask_blend_ps(m, b, a);
}

/* p * 2^n for whole n in -126 .. 128 */
static inline v16 v16_scale(v16 p, v16 n) {
    __m512i exponent = _mm512_cvtps_epi32(n), half = _mm512_srai_epi32(exponent, 1), bias = _mm512_set1_epi32(127);
    __m512i rest = _mm512_sub_epi32(exponent, half);
    p = _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23)));
    return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, bias), 23)));
}

static inline __m256 v16_upper(v16 a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}

static inline float v16_sum(v16 a) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), v16_upper(a));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float v16_most(v16 a) {
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), v16_upper(a));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Lane i is v16_sum(a[i]). a is destroyed. */
static inline v16 v16_sums(v16 a[LANES]) {
    /* Lanes i and i+8 of a[j] and a[j+8]; then i and i+4 of these and of a[j+4], a[j+12]; and so on. */
    for (int j = 0; j < 8; j++)
        a[j] = _mm512_add_ps(_mm512_shuffle_f32x4(a[j], a[j + 8], 0x44), _mm512_shuffle_f32x4(a[j], a[j + 8], 0xee));
    for (int j = 0; j < 4; j++)
        a[j] = _mm512_add_ps(_mm512_shuffle_f32x4(a[j], a[j + 4], 0x88), _mm512_shuffle_f32x4(a[j], a[j + 4], 0xdd));
    for (int j = 0; j < 2; j++)
        a[j] = _mm512_add_ps(_mm512_shuffle_ps(a[2 * j], a[2 * j + 1], 0x44),
                             _mm512_shuffle_ps(a[2 * j], a[2 * j + 1], 0xee));
    __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(a[0], a[1], 0x88), _mm512_shuffle_ps(a[0], a[1], 0xdd));
    /* 128-bit lane l of sums holds vectors of the pairs (0,8 | 4,12): put them in order. */
    return _mm512_shuffle_f32x4(sums, sums, 0xd8);
}

/* See vector_portable.h: master = (w << 16) + signed remainder. */
static inline v16 v16_join(const uint16_t *w, const uint16_t *remainder) {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)w)), 16);
    __m512i low = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i_u *)remainder));
    return _mm512_castsi512_ps(_mm512_add_epi32(high, low));
}

static inline void v16_split(v16 value, uint16_t *w, uint16_t *remainder) {
    __m512i bits = _mm512_castps_si512(value);
    __m512i high = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)), 16);
    _mm256_storeu_si256((__m256i_u *)w, _mm512_cvtepi32_epi16(high));
    _mm256_storeu_si256((__m256i_u *)remainder, _mm512_cvtepi32_epi16(bits));
}
