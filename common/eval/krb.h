/* Knowledge-Relative Balance: correctness and caution of a policy against what its base model itself knows.
 *
 * Three outcome files over the same questions: `knowledge`, the base model under the forced-answer prompt (k of 16:
 * kappa = k/16); `base`, an independent second batch under the same prompt (c0, w0); `policy` (c, w).
 *   C = sum kappa c / sum kappa c0            correctness kept; above 1: half-known turned into known
 *   S = 1 - sum (1-kappa) w / sum (1-kappa) w0  caution gained; 1: never wrong where the base does not know
 *   KRB = C + S - 1                           0 for the base, for always-Unknown, and for any abstention blind to knowledge
 * J* is the best KRB that choosing when to abstain can give; above it, new correctness is proven.
 * Source: reference factuality.md section 2.2. */
#ifndef CANDOR_EVAL_KRB_H
#define CANDOR_EVAL_KRB_H

#include <stdint.h>

#include "common/eval/metrics.h"

struct interval {
    double value, low, high; /* 95 % */
};

struct krb {
    uint32_t questions;
    struct interval c, s, krb;
    double best_abstention; /* J* */
};

/* Questions are those of `policy` that match the filter and stand in both other files. Intervals: `draws` bootstrap draws by
 * RNG_BOOTSTRAP of the seed: questions resampled within each set; within a question policy and base outcomes redrawn
 * (multinomial) and k (binomial). STATUS_MISMATCH when no question is in all three; STATUS_UNSUPPORTED when C or S is undefined
 * (the base is never right, or never wrong). */
enum status krb_compute(struct outcome_file *knowledge, struct outcome_file *base, const struct outcome_file *policy,
                        const struct outcome_filter *filter, uint64_t seed, uint32_t draws, struct krb *out_krb);

/* KRB of b minus KRB of a over the questions that both have, with paired draws. */
enum status krb_compare(struct outcome_file *knowledge, struct outcome_file *base, const struct outcome_file *a,
                        struct outcome_file *b, const struct outcome_filter *filter, uint64_t seed, uint32_t draws,
                        struct interval *out_difference);

#endif
