#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "learner/loss.h"

/* The worked example of objective reference 1.10: two answers of two and three tokens. */
static const float lp[] = {-.5f, -1.2f, -2, -.3f, -.7f};
static const float old[] = {-.8f, -1.1f, -1.5f, -.9f, -.7f};
static const float reference[] = {-.6f, -1.0f, -1.9f, -.3f, -1.7f};
static const float advantage[] = {1.5f, -.5f};
static const uint32_t counts[] = {2, 3};

static struct loss_settings standard(enum loss_type type) {
    return (struct loss_settings){.type = type, .clip_low = .2, .clip_high = .28, .answer_tokens_max = 4};
}

static double run(const struct loss_settings *settings, float dlp[5]) {
    struct loss_counts divisors = {.step_tokens = 5, .step_answers = 2, .batch_tokens = 5, .batches = 1};
    struct loss_sums sums = {0};
    for (int i = 0, at = 0; i < 2; at += (int)counts[i], i++) {
        struct loss_answer answer = {
            .count = counts[i], .lp = lp + at, .old = old + at, .reference = reference + at, .advantage = advantage[i]};
        loss_answer(settings, &answer, loss_scale(settings, &divisors, counts[i]), dlp + at, &sums);
    }
    return sums.loss;
}

static void check(const struct loss_settings *settings, double loss, const double want[5]) {
    float dlp[5];
    double got = run(settings, dlp);
    if (fabs(got - loss) > 2e-6)
        fail_msg("loss %.9g, want %.9g", got, loss);
    for (int t = 0; t < 5; t++)
        if (fabs((double)dlp[t] - want[t]) > 6e-6) /* the table has five digits */
            fail_msg("dlp[%d] = %.9g, want %.9g", t, (double)dlp[t], want[t]);
}

static void grpo_is_the_mean_over_answers_of_the_token_mean(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_GRPO);
    check(&settings, -.517471, (double[]){0, -.33931, 0, .15184, .08333});
}

static void kl_is_k3_added_per_token(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_GRPO);
    settings.kl = .04;
    check(&settings, -.514721, (double[]){.00095, -.34153, -.00070, .15184, .08755});
    settings.kl_bias_correction = true;
    check(&settings, -.514738, (double[]){.00135, -.34112, -.00040, .15184, .09000});
}

static void dual_clip_bounds_the_ratio_of_bad_answers(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_GRPO);
    settings.dual_clip = 1.5;
    check(&settings, -.544314, (double[]){0, -.33931, 0, 0, .08333});
}

static void dapo_is_the_token_mean_of_the_step(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    check(&settings, -.293239, (double[]){0, -.27145, 0, .18221, .10000});
    settings.type = LOSS_BNPO; /* one micro-batch: the same */
    check(&settings, -.293239, (double[]){0, -.27145, 0, .18221, .10000});
    settings.type = LOSS_DAPO;
    settings.kl = .04;
    check(&settings, -.290045, (double[]){.00076, -.27322, -.00084, .18221, .10506});
}

static void dr_grpo_divides_by_the_longest_answer_allowed(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DR_GRPO);
    check(&settings, -.183275, (double[]){0, -.16966, 0, .11388, .06250});
}

static void sequence_level_spreads_the_ratios_slope(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_GRPO);
    settings.ratio = RATIO_SEQUENCE;
    check(&settings, -.570404, (double[]){-.41444, -.41444, .08616, .08616, .08616});
    float dlp[5];
    settings.type = LOSS_DAPO;
    assert_true(fabs(run(&settings, dlp) + .352934) < 2e-6);
}

static void cispo_bounds_the_ratio_by_high_alone(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    settings.term = POLICY_CISPO;
    settings.clip_high = 5;
    check(&settings, .282251, (double[]){-.40496, -.27145, .06065, .18221, .1});
    settings.clip_high = .28;
    check(&settings, .058800, (double[]){-.084, -.084, .028, .028, .028});
}

static void masked_tokens_change_no_bit_whatever_they_hold(void **state) {
    (void)state;
    static const float poison[] = {200, -200, INFINITY, -INFINITY, NAN};
    static const uint8_t mask[] = {1, 0, 1, 0, 1};
    for (int variant = 0; variant < 8; variant++) {
        struct loss_settings settings = standard(LOSS_DAPO);
        settings.ratio = variant & 1 ? RATIO_SEQUENCE : RATIO_TOKEN;
        settings.term = variant & 2 ? POLICY_CISPO : POLICY_CLIP;
        settings.kl = variant & 4 ? .04 : 0;
        float want[5], got[5], a[5], b[5], c[5];
        struct loss_sums clean = {0};
        struct loss_answer answer = {.count = 5, .lp = a, .old = b, .reference = c, .mask = mask, .advantage = 1.5f};
        for (int t = 0; t < 5; t++) {
            a[t] = mask[t] ? lp[t] : 0;
            b[t] = mask[t] ? old[t] : 0;
            c[t] = mask[t] ? reference[t] : 0;
        }
        loss_answer(&settings, &answer, .2, want, &clean);
        assert_int_equal(clean.tokens, 3);
        assert_true(clean.loss != 0 && want[2] != 0 && want[1] == 0);
        for (int p = 0; p < 125; p++) {
            for (int t = 1; t < 5; t += 2) {
                a[t] = poison[p % 5];
                b[t] = poison[p / 5 % 5];
                c[t] = poison[p / 25];
            }
            struct loss_sums sums = {0};
            loss_answer(&settings, &answer, .2, got, &sums);
            assert_memory_equal(got, want, sizeof want);
            assert_memory_equal(&sums, &clean, sizeof sums);
        }
    }
}

static void zero_advantage_is_exact_zero_even_where_the_ratio_overflows(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    float dlp[1], far[] = {-200}, near[] = {0};
    struct loss_answer answer = {.count = 1, .lp = near, .old = far, .advantage = 0};
    struct loss_sums sums = {0};
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(sums.loss == 0 && dlp[0] == 0);
    answer.advantage = 1; /* clipped from above */
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(fabs(sums.loss + 1.28) < 1e-12 && dlp[0] == 0);
    answer.advantage = -1; /* without a dual clip the loss is infinite, and says so */
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(isinf(sums.loss));
    settings.dual_clip = 3;
    sums = (struct loss_sums){0};
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(sums.loss == 3 && dlp[0] == 0);
    assert_int_equal(sums.clipped_dual, 1);
}

static void on_policy_the_ratio_is_exactly_one(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    float dlp[5];
    struct loss_answer answer = {.count = 5, .lp = lp, .old = lp, .advantage = .75f};
    struct loss_sums sums = {0};
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(sums.ratio == 5 && sums.ratio_max == 1 && sums.drift_max == 0 && sums.loss == -3.75);
    for (int t = 0; t < 5; t++)
        assert_true(dlp[t] == -.75f);
}

static void kl_clamps_hold_value_and_slope(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    settings.kl = 1;
    float dlp[3], policy[] = {-1, -30, -1}, model[] = {-1.5f, -1, -41};
    struct loss_answer answer = {.count = 3, .lp = policy, .old = policy, .reference = model, .advantage = 0};
    struct loss_sums sums = {0};
    settings.kl_input_clamp = 20;
    settings.kl_value_clamp = 10;
    loss_answer(&settings, &answer, 1, dlp, &sums);
    /* d = -.5: free; d = 29: value clamp; d = -40: input clamped to -20, k = e^-20 + 19, then value clamp */
    assert_true(fabs(sums.kl - (exp(-.5) - .5 + 20)) < 1e-6);
    assert_true(fabs((double)dlp[0] - (1 - exp(-.5))) < 1e-6);
    assert_true(dlp[1] == 0 && dlp[2] == 0);
    settings.kl_value_clamp = 0;
    sums = (struct loss_sums){0};
    loss_answer(&settings, &answer, 1, dlp, &sums);
    assert_true(fabs(sums.kl - (exp(-.5) - .5 + (exp(20) - 21) + 19)) < 100 && dlp[1] == 0 && dlp[2] == 0);
}

static void small_kl_does_not_cancel(void **state) {
    (void)state;
    struct loss_settings settings = standard(LOSS_DAPO);
    settings.kl = 1;
    for (double d = 1e-6; d < 2; d *= 1.7) {
        float dlp[1], zero[] = {0}, model[] = {(float)d};
        struct loss_answer answer = {.count = 1, .lp = zero, .old = zero, .reference = model, .advantage = 0};
        struct loss_sums sums = {0};
        loss_answer(&settings, &answer, 1, dlp, &sums);
        double x = (double)model[0], want = expm1(x) - x;
        if (x < 1e-3)
            want = x * x / 2 * (1 + x / 3);
        assert_true(fabs(sums.kl / want - 1) < 1e-5);
        assert_true(fabs((double)dlp[0] / -expm1(x) - 1) < 1e-5);
    }
}

static void importance_weights_are_truncated_at_two(void **state) {
    (void)state;
    float own[] = {-1, -1, -1}, behaviour[] = {-1, -3, -.5f}, weight[3], dlp[3], plain[3];
    loss_importance(own, behaviour, 3, weight);
    assert_true(weight[0] == 1 && weight[1] == 2);
    assert_true(fabs((double)weight[2] - exp(-.5)) < 1e-6);
    struct loss_settings settings = standard(LOSS_DAPO);
    struct loss_answer answer = {.count = 3, .lp = own, .old = own, .advantage = 1};
    struct loss_sums sums = {0};
    loss_answer(&settings, &answer, 1, plain, &sums);
    answer.weight = weight;
    loss_answer(&settings, &answer, 1, dlp, &sums);
    for (int t = 0; t < 3; t++)
        assert_true(dlp[t] == weight[t] * plain[t]);
}

static void divisors_are_never_zero(void **state) {
    (void)state;
    static const enum loss_type types[] = {LOSS_DAPO, LOSS_GRPO, LOSS_BNPO, LOSS_DR_GRPO};
    for (int i = 0; i < 4; i++) {
        struct loss_settings settings = {.type = types[i]};
        struct loss_counts none = {0};
        assert_true(loss_scale(&settings, &none, 0) == 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grpo_is_the_mean_over_answers_of_the_token_mean),
        cmocka_unit_test(kl_is_k3_added_per_token),
        cmocka_unit_test(dual_clip_bounds_the_ratio_of_bad_answers),
        cmocka_unit_test(dapo_is_the_token_mean_of_the_step),
        cmocka_unit_test(dr_grpo_divides_by_the_longest_answer_allowed),
        cmocka_unit_test(sequence_level_spreads_the_ratios_slope),
        cmocka_unit_test(cispo_bounds_the_ratio_by_high_alone),
        cmocka_unit_test(masked_tokens_change_no_bit_whatever_they_hold),
        cmocka_unit_test(zero_advantage_is_exact_zero_even_where_the_ratio_overflows),
        cmocka_unit_test(on_policy_the_ratio_is_exactly_one),
        cmocka_unit_test(kl_clamps_hold_value_and_slope),
        cmocka_unit_test(small_kl_does_not_cancel),
        cmocka_unit_test(importance_weights_are_truncated_at_two),
        cmocka_unit_test(divisors_are_never_zero),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
