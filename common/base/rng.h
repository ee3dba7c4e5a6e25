/* Random numbers as a pure function (DESIGN section 5.1): Philox4x32-10, keyed by the seed, counter = (position, sample and
 * stream, slot, step). There is no generator with state anywhere in Candor: who draws names the place it draws for, so the
 * result does not depend on who draws, when, or what was drawn before.
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11; checked against Random123's vectors. */
#ifndef CANDOR_BASE_RNG_H
#define CANDOR_BASE_RNG_H

#include <stdint.h>

/* Streams never meet, whatever the other coordinates are. The numbers are part of the determinism contract. */
enum rng_stream {
    RNG_SAMPLE = 1,       /* training rollouts: step, slot, sample, position */
    RNG_EVAL = 2,         /* evaluation rollouts */
    RNG_GENERATE = 3,     /* candor generate, filter, knowledge map */
    RNG_ORDER = 4,        /* order of questions */
    RNG_INIT = 5,         /* weight initialisation: slot = tensor, position = element */
    RNG_SFT = 6,          /* order and masks of supervised examples */
    RNG_WORLD = 7,        /* the demo's world of facts */
    RNG_DATA = 8,         /* splits and mixes */
    RNG_BOOTSTRAP = 9,    /* confidence intervals */
    RNG_TEST = 10,
};

struct rng_key {
    uint64_t seed;
    uint32_t step;
    uint32_t slot;
    uint16_t sample;
    uint16_t stream; /* enum rng_stream */
};

/* Four 32-bit words for one place. */
void rng_words(const struct rng_key *key, uint32_t position, uint32_t out_words[4]);

/* Uniform in (0, 1), never 0 and never 1: (23 high bits of word 0 + 0.5) * 2^-23, exact in fp32. */
float rng_uniform(const struct rng_key *key, uint32_t position);

/* Uniform in [0, bound) without modulo bias worth the name (64-bit multiply-shift); bound > 0. */
uint32_t rng_below(const struct rng_key *key, uint32_t position, uint32_t bound);

/* Standard normal (Box-Muller in double). Set-up and tests only: uses libm, so its last bit may differ between hosts
 * unless the result is rounded to bf16. */
double rng_normal(const struct rng_key *key, uint32_t position);

/* Fisher-Yates over items [0, count) of 32-bit values, positions count-1 .. 1 of the key. */
void rng_shuffle(const struct rng_key *key, uint32_t *items, uint32_t count);

/* The bare block function, for tests and twins. */
void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out_words[4]);

#endif
