/* Where two blocks differ: the loop that reads all weights, and so the one that decides the speed of encoding. */
#include <string.h>

#include "common/weights/delta_block.h"

/* How far ahead of the comparison memory is asked, in elements; the hardware's own prefetching stops at each page and
 * while a block is coded. */
#define AHEAD 2048

/* Bit j of differs: element first + j changed. Four at a time without a branch on how many there are, as at lr 1e-6 an
 * AdamW step leaves one or two in 64: what is written behind the count is overwritten by the next. */
static inline uint32_t list_bits(uint64_t differs, uint32_t first, uint32_t count, uint16_t *at) {
    uint32_t end = count + (uint32_t)__builtin_popcountll(differs);
    do {
        for (uint32_t i = 0; i < 4; i++) {
            at[count + i] = (uint16_t)(first + (uint32_t)__builtin_ctzll(differs | 1ull << 63));
            differs &= differs - 1;
        }
        count += 4;
    } while (count < end);
    return end;
}

static inline uint64_t compare_plain(const uint16_t *before, const uint16_t *after, uint32_t elements) {
    uint64_t differs = 0;
    for (uint32_t i = 0; i < elements; i++)
        differs |= (uint64_t)(before[i] != after[i]) << i;
    return differs;
}

/* COMPARE: 64 elements' bits. */
#define FIND(COMPARE)                                                                                                  \
    do {                                                                                                               \
        uint32_t count = 0, i = 0;                                                                                     \
        for (; i + 64 <= elements; i += 64) {                                                                          \
            __builtin_prefetch(before + i + AHEAD);                                                                    \
            __builtin_prefetch(before + i + AHEAD + 32);                                                               \
            __builtin_prefetch(after + i + AHEAD);                                                                     \
            __builtin_prefetch(after + i + AHEAD + 32);                                                                \
            uint64_t differs = COMPARE(before + i, after + i);                                                         \
            count = list_bits(differs, i, count, out->at);                                                             \
        }                                                                                                              \
        uint64_t rest = compare_plain(before + i, after + i, elements - i);                                            \
        if (rest)                                                                                                      \
            count = list_bits(rest, i, count, out->at);                                                                \
        out->count = count;                                                                                            \
    } while (0)

static inline uint64_t compare_words(const uint16_t *before, const uint16_t *after) {
    return memcmp(before, after, 64 * sizeof *before) ? compare_plain(before, after, 64) : 0;
}

static void find_by_words(const uint16_t *before, const uint16_t *after, uint32_t elements,
                          struct delta_changes *out) {
    FIND(compare_words);
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx2"))) static inline __m256i same16(const uint16_t *before, const uint16_t *after) {
    return _mm256_cmpeq_epi16(_mm256_loadu_si256((const __m256i *)(const void *)before),
                              _mm256_loadu_si256((const __m256i *)(const void *)after));
}

/* Packing puts the quarters in the order 0 2 1 3. */
__attribute__((target("avx2"))) static inline uint32_t same32(const uint16_t *before, const uint16_t *after) {
    __m256i packed = _mm256_packs_epi16(same16(before, after), same16(before + 16, after + 16));
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xD8));
}

__attribute__((target("avx2"))) static inline uint64_t compare_vectors(const uint16_t *before, const uint16_t *after) {
    return ~(same32(before, after) | (uint64_t)same32(before + 32, after + 32) << 32);
}

__attribute__((target("avx2,bmi,popcnt"))) static void
find_by_vectors(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out) {
    FIND(compare_vectors);
}
#endif

void delta_find(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt"))
        find_by_vectors(before, after, elements, out);
    else
#endif
        find_by_words(before, after, elements, out);
    for (uint32_t i = 0; i < out->count; i++)
        out->step[i] = (uint16_t)(after[out->at[i]] - before[out->at[i]]);
}
