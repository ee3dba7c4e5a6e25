#include "common/base/rng.h"

#include <math.h>

#include "common/base/status.h"

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out_words[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out_words[0] = c0;
    out_words[1] = c1;
    out_words[2] = c2;
    out_words[3] = c3;
}

void rng_words(const struct rng_key *key, uint32_t position, uint32_t out_words[4]) {
    uint32_t counter[4] = {position, (uint32_t)key->sample | (uint32_t)key->stream << 16, key->slot, key->step};
    uint32_t words[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)};
    philox4x32_10(counter, words, out_words);
}

float rng_uniform(const struct rng_key *key, uint32_t position) {
    uint32_t words[4];
    rng_words(key, position, words);
    /* 23 bits and the half: every value is exact in fp32, so the result is never 1. */
    return ((float)(words[0] >> 9) + 0.5f) * 0x1p-23f;
}

uint32_t rng_below(const struct rng_key *key, uint32_t position, uint32_t bound) {
    ASSERT(bound > 0);
    uint32_t words[4];
    rng_words(key, position, words);
    uint64_t wide = (uint64_t)words[0] << 32 | words[1];
    return (uint32_t)(((unsigned __int128)wide * bound) >> 64);
}

double rng_normal(const struct rng_key *key, uint32_t position) {
    uint32_t words[4];
    rng_words(key, position, words);
    double u = ((double)words[0] + 0.5) * 0x1p-32;
    double v = (double)words[1] * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rng_shuffle(const struct rng_key *key, uint32_t *items, uint32_t count) {
    for (uint32_t i = count; i-- > 1;) {
        uint32_t j = rng_below(key, i, i + 1);
        uint32_t held = items[i];
        items[i] = items[j];
        items[j] = held;
    }
}
