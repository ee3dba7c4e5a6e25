/* Where two blocks differ: the loop that reads all weights, and so the one that decides the speed of encoding. */
#include <string.h>

#include "common/weights/delta_block.h"

/* Elements [begin, elements), four at a time while they can be. */
static void find_by_words(const uint16_t *before, const uint16_t *after, uint32_t begin, uint32_t elements,
                          struct delta_changes *out) {
    uint32_t count = out->count;
    for (uint32_t i = begin; i < elements; i += 4) {
        uint64_t a = 0, b = 0;
        size_t bytes = elements - i < 4 ? (elements - i) * sizeof *before : sizeof a;
        memcpy(&a, before + i, bytes);
        memcpy(&b, after + i, bytes);
        if (a == b)
            continue;
        for (uint32_t j = i; j < elements && j < i + 4; j++)
            if (before[j] != after[j])
                out->at[count++] = (uint16_t)j;
    }
    out->count = count;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* 32 elements at a time: bits 2j of a mask are of element j. */
__attribute__((target("avx2"))) static uint32_t find_by_vectors(const uint16_t *before, const uint16_t *after,
                                                                uint32_t elements, struct delta_changes *out) {
    uint32_t i = 0, count = 0;
    for (; i + 32 <= elements; i += 32) {
        __m256i low = _mm256_cmpeq_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(before + i)),
                                         _mm256_loadu_si256((const __m256i *)(const void *)(after + i)));
        __m256i high = _mm256_cmpeq_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(before + i + 16)),
                                          _mm256_loadu_si256((const __m256i *)(const void *)(after + i + 16)));
        uint64_t same = (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
        for (uint64_t differs = ~same & 0x5555555555555555u; differs; differs &= differs - 1)
            out->at[count++] = (uint16_t)(i + (uint32_t)__builtin_ctzll(differs) / 2);
    }
    out->count = count;
    return i;
}

void delta_find(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out) {
    out->count = 0;
    uint32_t begin = __builtin_cpu_supports("avx2") ? find_by_vectors(before, after, elements, out) : 0;
    find_by_words(before, after, begin, elements, out);
}
#else
void delta_find(const uint16_t *before, const uint16_t *after, uint32_t elements, struct delta_changes *out) {
    out->count = 0;
    find_by_words(before, after, 0, elements, out);
}
#endif
