#include "learner/loss.h"

#include "common/compute/math.h"

#define IMPORTANCE_MAX 2.0f /* truncated importance sampling; DESIGN section 7 */

void loss_settings_from(const struct run_config *config, struct loss_settings *out_settings) {
    *out_settings = (struct loss_settings){
        .type = (enum loss_type)config->loss_type,
        .ratio = (enum ratio_level)config->loss_ratio,
        .term = (enum policy_term)config->loss_term,
        .clip_low = config->loss_clip_low,
        .clip_high = config->loss_clip_high,
        .dual_clip = config->loss_dual_clip,
        .kl = config->loss_kl,
        .kl_input_clamp = config->loss_kl_input_clamp,
        .kl_value_clamp = config->loss_kl_value_clamp,
        .kl_bias_correction = config->loss_kl_bias_correction,
        .answer_tokens_max = (uint32_t)config->sample_max_new_tokens,
    };
}

static double at_least_one(double value) {
    return value < 1 ? 1 : value;
}

double loss_scale(const struct loss_settings *settings, const struct loss_counts *counts, uint32_t answer_tokens) {
    double answers = at_least_one((double)counts->step_answers);
    switch (settings->type) {
    case LOSS_DAPO:
        return 1 / at_least_one((double)counts->step_tokens);
    case LOSS_GRPO:
        return 1 / (answers * at_least_one(answer_tokens));
    case LOSS_BNPO:
        return 1 / (at_least_one(counts->batches) * at_least_one((double)counts->batch_tokens));
    case LOSS_DR_GRPO:
        return 1 / (answers * at_least_one(settings->answer_tokens_max));
    }
    ASSERT(!"a loss type outside the enum");
}

/* A term's value and its slope by the log-probability of the token (at sequence level, by the mean of them). */
struct term {
    double value, slope;
};

static struct term clip_term(const struct loss_settings *settings, double ratio, double advantage) {
    double low = 1 - settings->clip_low, high = 1 + settings->clip_high;
    double bounded = settings->dual_clip > 0 && ratio > settings->dual_clip ? settings->dual_clip : ratio;
    double clamped = ratio < low ? low : ratio > high ? high : ratio;
    double first = bounded * advantage, second = clamped * advantage;
    /* d ratio / d lp = ratio. Where both arguments are equal they have the same slope, but at the edge of the range. */
    double slope_first = bounded == ratio ? ratio * advantage : 0;
    double slope_second = clamped == ratio ? ratio * advantage : 0;
    if (first < second)
        return (struct term){-first, -slope_first};
    if (second < first)
        return (struct term){-second, -slope_second};
    return (struct term){-first, -0.5 * (slope_first + slope_second)};
}

static struct term policy_term(const struct loss_settings *settings, double ratio, double advantage, double lp) {
    if (advantage == 0)
        return (struct term){0, 0};
    if (settings->term == POLICY_CLIP)
        return clip_term(settings, ratio, advantage);
    double bounded = ratio > settings->clip_high ? settings->clip_high : ratio;
    return (struct term){-bounded * advantage * lp, -bounded * advantage};
}

/* k3 of d = reference - lp and its derivative by lp, -(exp(d) - 1); clamped as verl does. */
static struct term k3_term(const struct loss_settings *settings, float reference, float lp) {
    double d = (double)reference - (double)lp;
    bool held = settings->kl_input_clamp > 0 && fabs(d) > settings->kl_input_clamp;
    if (held)
        d = d > 0 ? settings->kl_input_clamp : -settings->kl_input_clamp;
    double k;
    if (fabs(d) <= 0.25) { /* its series, as the difference would cancel; the rest is below 1e-11 of it */
        double q = 1 + d / 8 * (1 + d / 9 * (1 + d / 10));
        q = 1 + d / 3 * (1 + d / 4 * (1 + d / 5 * (1 + d / 6 * (1 + d / 7 * q))));
        k = d * d / 2 * q;
    } else {
        k = (double)exp_f32((float)d) - d - 1;
    }
    double slope = held ? 0 : -(k + d);
    if (settings->kl_value_clamp > 0 && k > settings->kl_value_clamp)
        return (struct term){settings->kl_value_clamp, 0};
    return (struct term){k, slope};
}

static bool takes_part(const struct loss_answer *answer, uint32_t t) {
    return !answer->mask || answer->mask[t];
}

static float sequence_log_ratio(const struct loss_answer *answer, uint32_t tokens) {
    double sum = 0;
    for (uint32_t t = 0; t < answer->count; t++)
        if (takes_part(answer, t))
            sum += (double)(answer->lp[t] - answer->old[t]);
    return (float)(sum / at_least_one(tokens));
}

static void count_ratio(const struct loss_settings *settings, double ratio, float advantage, struct loss_sums *sums) {
    double high = settings->term == POLICY_CISPO ? settings->clip_high : 1 + settings->clip_high;
    sums->clipped_high += advantage > 0 && ratio > high;
    if (settings->term == POLICY_CLIP) {
        sums->clipped_low += advantage < 0 && ratio < 1 - settings->clip_low;
        sums->clipped_dual += advantage < 0 && settings->dual_clip > 0 && ratio > settings->dual_clip;
    }
    sums->ratio += ratio;
    sums->ratio_max = ratio > sums->ratio_max ? ratio : sums->ratio_max;
}

/* Adds one token's terms; returns what they give to the slope by the sequence's mean log-ratio (0 at token level). */
static double add_token(const struct loss_settings *settings, const struct loss_answer *answer, uint32_t t,
                        double ratio, double scale, float *out_dlp, struct loss_sums *sums) {
    double lp = (double)answer->lp[t], weight = answer->weight ? (double)answer->weight[t] : 1;
    struct term policy = policy_term(settings, ratio, (double)answer->advantage, lp);
    double value = weight * policy.value, own = 0, shared = 0;
    bool by_mean = settings->ratio == RATIO_SEQUENCE;
    if (by_mean && settings->term == POLICY_CLIP)
        shared = weight * policy.slope;
    else
        own = weight * policy.slope;
    if (settings->kl > 0) {
        struct term k3 = k3_term(settings, answer->reference[t], answer->lp[t]);
        double factor = settings->kl_bias_correction ? ratio : 1;
        value += settings->kl * factor * k3.value;
        own += settings->kl * factor * k3.slope;
        if (settings->kl_bias_correction)
            *(by_mean ? &shared : &own) += settings->kl * ratio * k3.value;
        sums->kl += factor * k3.value;
    }
    count_ratio(settings, ratio, answer->advantage, sums);
    double drift = (double)answer->old[t] - lp;
    sums->drift += drift;
    sums->drift_max = fabs(drift) > sums->drift_max ? fabs(drift) : sums->drift_max;
    sums->loss += scale * value;
    sums->tokens++;
    out_dlp[t] = (float)(scale * own);
    return shared;
}

void loss_answer(const struct loss_settings *settings, const struct loss_answer *answer, double scale, float *out_dlp,
                 struct loss_sums *sums) {
    uint32_t tokens = 0;
    for (uint32_t t = 0; t < answer->count; t++)
        tokens += takes_part(answer, t);
    bool by_mean = settings->ratio == RATIO_SEQUENCE;
    double ratio = by_mean ? (double)exp_f32(sequence_log_ratio(answer, tokens)) : 0, shared = 0;
    for (uint32_t t = 0; t < answer->count; t++) {
        out_dlp[t] = 0;
        if (!takes_part(answer, t))
            continue;
        if (!by_mean)
            ratio = (double)exp_f32(answer->lp[t] - answer->old[t]);
        shared += add_token(settings, answer, t, ratio, scale, out_dlp, sums);
    }
    if (!by_mean)
        return;
    for (uint32_t t = 0; t < answer->count; t++) /* d mean / d lp = 1 / tokens */
        if (takes_part(answer, t))
            out_dlp[t] = (float)((double)out_dlp[t] + scale * shared / tokens);
}

void loss_importance(const float *own, const float *behaviour, uint32_t count, float *out_weight) {
    for (uint32_t t = 0; t < count; t++) {
        float weight = exp_f32(own[t] - behaviour[t]);
        out_weight[t] = weight < IMPORTANCE_MAX ? weight : IMPORTANCE_MAX;
    }
}
