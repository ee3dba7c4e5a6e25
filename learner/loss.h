/* The objective: from log-probabilities of an answer's tokens to its loss and dL/dlp (objective reference, section 1).
 *
 * Policy term of a token, with A the answer's advantage and r = exp(lp - old):
 *   clip    l = -min( min(r, dual) A, clamp(r; 1 - low, 1 + high) A )     dual = 0: no bound
 *   cispo   l = -stop_gradient(min(r, high)) A lp
 * At ratio level `sequence` r is one number an answer, exp of the mean of lp - old over its tokens. A weight (actors of
 * another class) multiplies l. Then KL is added, k3 against the reference: d = ref - lp, k = exp(d) - d - 1,
 * coefficient kl. The terms of all tokens are summed, each times the scale that the aggregation gives its answer
 * (loss_scale).
 *
 * Guards: a masked token is skipped before anything is computed from it, so whatever stands there changes no bit; a
 * zero advantage gives an exact zero, though r may be infinite; the KL clamps are verl's, with gradient 0 outside.
 * Nothing else is hidden: an infinite loss stays infinite, and the optimiser skips the step.
 *
 * exp is Candor's own (common/compute/math.h); products and sums are in double, in token order. Pure functions. */
#ifndef CANDOR_LEARNER_LOSS_H
#define CANDOR_LEARNER_LOSS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/run_config.h"

struct loss_settings {
    enum loss_type type;
    enum ratio_level ratio;
    enum policy_term term;
    double clip_low, clip_high;
    double dual_clip;                      /* TRL's delta; 0: none */
    double kl;                             /* coefficient; 0: no KL, no reference */
    double kl_input_clamp, kl_value_clamp; /* 0: none */
    bool kl_bias_correction;               /* k times r, not detached (TRL's use_bias_correction_kl) */
    uint32_t answer_tokens_max;            /* dr_grpo divides by it */
};

void loss_settings_from(const struct run_config *config, struct loss_settings *out_settings);

/* What the aggregations divide by; counts of unmasked tokens and of answers that take part. */
struct loss_counts {
    uint64_t step_tokens, step_answers; /* of the whole step */
    uint64_t batch_tokens;              /* of the micro-batch (bnpo) */
    uint32_t batches;                   /* micro-batches of the step (bnpo) */
};

/* The factor of each token's term, for an answer of answer_tokens unmasked tokens; every divisor is at least 1.
 *   dapo 1/step_tokens   grpo 1/(step_answers answer_tokens)   bnpo 1/(batches batch_tokens)
 *   dr_grpo 1/(step_answers answer_tokens_max) */
double loss_scale(const struct loss_settings *settings, const struct loss_counts *counts, uint32_t answer_tokens);

struct loss_answer {
    uint32_t count;
    const float *lp;        /* [count] of the policy */
    const float *old;       /* [count] of the policy that answered */
    const float *reference; /* [count]; read only when kl > 0 */
    const float *weight;    /* [count], NULL: all 1 */
    const uint8_t *mask;    /* [count] 1: takes part; NULL: all do */
    float advantage;
};

/* Sums over unmasked tokens, for the step's figures. Starts as zeros. */
struct loss_sums {
    double loss; /* the aggregated loss */
    uint64_t tokens;
    uint64_t clipped_low;  /* r < 1 - low and A < 0 */
    uint64_t clipped_high; /* r > 1 + high and A > 0 */
    uint64_t clipped_dual; /* r > dual and A < 0 */
    double kl;             /* sum of k, clamped as trained */
    double ratio;          /* sum of r */
    double ratio_max;
    double drift;     /* sum of old - lp: k1 estimate of KL(old || policy) */
    double drift_max; /* greatest |lp - old| */
};

/* One answer: writes out_dlp [count] and adds to sums. */
void loss_answer(const struct loss_settings *settings, const struct loss_answer *answer, double scale, float *out_dlp,
                 struct loss_sums *sums);

/* Weights for an answer of another class of actor: out[i] = min(exp(own[i] - behaviour[i]), 2). */
void loss_importance(const float *own, const float *behaviour, uint32_t count, float *out_weight);

#endif
