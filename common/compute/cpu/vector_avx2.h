/* v16 as two AVX2 registers; see vector.h. */
#include <immintrin.h>

typedef struct {
    __m256 low, high;
} v16;
typedef v16 m16;

static inline v16 v16_set(float value) {
    return (v16){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

static inline v16 v16_zero(void) {
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

static inline v16 v16_load(const float *from) {
    return (v16){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

static inline void v16_store(float *to, v16 value) {
    _mm256_storeu_ps(to, value.low);
    _mm256_storeu_ps(to + 8, value.high);
}

static inline v16 v16_load_part(const float *from, int n) {
    float all[LANES] = {0};
    memcpy(all, from, (size_t)n * sizeof *from);
    return v16_load(all);
}

static inline void v16_store_part(float *to, v16 value, int n) {
    float all[LANES];
    v16_store(all, value);
    memcpy(to, all, (size_t)n * sizeof *to);
}

static inline v16 v16_load_bf16(const uint16_t *from) {
    __m256i both = _mm256_loadu_si256((const __m256i_u *)from);
    __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(both));
    __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(both, 1));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}

#define V16_LIFT(name, instruction)                                                                                    \
    static inline v16 name(v16 a, v16 b) {                                                                             \
        return (v16){instruction(a.low, b.low), instruction(a.high, b.high)};                                          \
    }
V16_LIFT(v16_add, _mm256_add_ps)
V16_LIFT(v16_sub, _mm256_sub_ps)
V16_LIFT(v16_mul, _mm256_mul_ps)
V16_LIFT(v16_div, _mm256_div_ps)
V16_LIFT(v16_max, _mm256_max_ps)
V16_LIFT(v16_min, _mm256_min_ps)
#undef V16_LIFT

static inline v16 v16_sqrt(v16 a) {
    return (v16){_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)};
}

/* a*b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

static inline m16 v16_less(v16 a, v16 b) {
    return (m16){_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)};
}

static inline m16 v16_equal(v16 a, v16 b) {
    return (m16){_mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ)};
}

/* m ? a : b */
static inline v16 v16_select(m16 m, v16 a, v16 b) {
    return (v16){_mm256_blendv_ps(b.low, a.low, m.low), _mm256_blendv_ps(b.high, a.high, m.high)};
}

static inline __m256 m256_scale(__m256 p, __m256 n) {
    __m256i exponent = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(exponent, 1), bias = _mm256_set1_epi32(127);
    __m256i rest = _mm256_sub_epi32(exponent, half);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

/* p * 2^n for whole n in -126 .. 128 */
static inline v16 v16_scale(v16 p, v16 n) {
    return (v16){m256_scale(p.low, n.low), m256_scale(p.high, n.high)};
}

static inline float v16_sum(v16 a) {
    __m256 eight = _mm256_add_ps(a.low, a.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float v16_most(v16 a) {
    __m256 eight = _mm256_max_ps(a.low, a.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Eight sums over lanes i and i+4, i+2, i+1, as v16_sum goes on after its first step. */
static inline __m256 m256_sums(const __m256 a[8]) {
    __m256 four[4], two[2];
    for (int i = 0; i < 4; i++)
        four[i] =
            _mm256_add_ps(_mm256_permute2f128_ps(a[i], a[i + 4], 0x20), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    for (int i = 0; i < 2; i++)
        two[i] = _mm256_add_ps(_mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),
                               _mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88), _mm256_shuffle_ps(two[0], two[1], 0xdd));
}

/* Lane i is v16_sum(a[i]). a is destroyed. */
static inline v16 v16_sums(v16 a[LANES]) {
    __m256 eight[LANES];
    for (int i = 0; i < LANES; i++)
        eight[i] = _mm256_add_ps(a[i].low, a[i].high);
    return (v16){m256_sums(eight), m256_sums(eight + 8)};
}

/* See vector_portable.h: master = (w << 16) + signed remainder. */
static inline v16 v16_join(const uint16_t *w, const uint16_t *remainder) {
    v16 r;
    for (int half = 0; half < 2; half++) {
        __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)(w + 8 * half)));
        __m256i low = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i_u *)(remainder + 8 * half)));
        __m256 joined = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(high, 16), low));
        *(half ? &r.high : &r.low) = joined;
    }
    return r;
}

static inline void v16_split(v16 value, uint16_t *w, uint16_t *remainder) {
    __m256i low = _mm256_castps_si256(value.low), high = _mm256_castps_si256(value.high);
    __m256i half = _mm256_set1_epi32(0x8000), mask = _mm256_set1_epi32(0xffff);
    __m256i tops = _mm256_packus_epi32(_mm256_srli_epi32(_mm256_add_epi32(low, half), 16),
                                       _mm256_srli_epi32(_mm256_add_epi32(high, half), 16));
    __m256i rests = _mm256_packus_epi32(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
    _mm256_storeu_si256((__m256i_u *)w, _mm256_permute4x64_epi64(tops, 0xd8));
    _mm256_storeu_si256((__m256i_u *)remainder, _mm256_permute4x64_epi64(rests, 0xd8));
}
