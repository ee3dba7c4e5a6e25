/* The objective against TRL's own code: every aggregation, KL on, off and bias-corrected, clips active on both sides, dual clip,
 * sequence level, CISPO; advantages at each scale. trl_loss.json is written by make_trl_loss.py. */
#include "tests/support/test.h"

#include <math.h>

#include "common/base/json.h"
#include "learner/advantage.h"
#include "learner/loss.h"

#define ANSWERS_MAX 64
#define LONGEST 16

static json_t *golden;

static uint32_t floats(const json_t *array, float *out, uint32_t most) {
    uint32_t count = (uint32_t)json_array_size(array);
    assert_true(count <= most);
    for (uint32_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        out[i] = json_is_null(value) ? NAN : (float)json_number_value(value);
    }
    return count;
}

static double real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static int64_t choice(const json_t *object, const char *key, const char *const *names, int64_t count) {
    const char *text = json_string_value(json_object_get(object, key));
    for (int64_t i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    fail_msg("%s: %s", key, text);
    return 0;
}

static struct loss_settings settings_of(const json_t *step) {
    static const char *const types[] = {"dapo", "grpo", "bnpo", "dr_grpo"};
    static const char *const ratios[] = {"token", "sequence"};
    static const char *const terms[] = {"clip", "cispo"};
    return (struct loss_settings){
        .type = (enum loss_type)choice(step, "type", types, 4),
        .ratio = (enum ratio_level)choice(step, "ratio", ratios, 2),
        .term = (enum policy_term)choice(step, "term", terms, 2),
        .clip_low = real(step, "clip_low"),
        .clip_high = real(step, "clip_high"),
        .dual_clip = real(step, "dual_clip"),
        .kl = real(step, "kl"),
        .kl_bias_correction = json_is_true(json_object_get(step, "kl_bias_correction")),
        .answer_tokens_max = (uint32_t)real(golden, "max_length"),
    };
}

static void check_step(const json_t *step) {
    struct loss_settings settings = settings_of(step);
    const json_t *lp_rows = json_object_get(golden, "lp");
    uint32_t answers = (uint32_t)json_array_size(lp_rows), batches = (uint32_t)real(golden, "accumulation");
    uint32_t per_batch = answers / batches;
    float lp[LONGEST], old[LONGEST], reference[LONGEST], dlp[LONGEST], want[LONGEST], advantages[ANSWERS_MAX];
    floats(json_object_get(golden, "answer_advantages"), advantages, ANSWERS_MAX);
    struct loss_counts counts = {.step_answers = answers, .batches = batches};
    for (uint32_t i = 0; i < answers; i++)
        counts.step_tokens += json_array_size(json_array_get(lp_rows, i));
    struct loss_sums sums = {0};
    char shown[64];
    snprintf(shown, sizeof shown, "%s %s %s kl %g dual %g", json_string_value(json_object_get(step, "trl_type")),
             json_string_value(json_object_get(step, "ratio")), json_string_value(json_object_get(step, "term")),
             settings.kl, settings.dual_clip);
    for (uint32_t i = 0; i < answers; i++) {
        if (i % per_batch == 0) {
            counts.batch_tokens = 0;
            for (uint32_t j = i; j < i + per_batch; j++)
                counts.batch_tokens += json_array_size(json_array_get(lp_rows, j));
        }
        struct loss_answer answer = {.lp = lp, .old = old, .reference = reference, .advantage = advantages[i]};
        answer.count = floats(json_array_get(lp_rows, i), lp, LONGEST);
        floats(json_array_get(json_object_get(golden, "old"), i), old, LONGEST);
        floats(json_array_get(json_object_get(golden, "reference"), i), reference, LONGEST);
        floats(json_array_get(json_object_get(step, "dlp"), i), want, LONGEST);
        loss_answer(&settings, &answer, loss_scale(&settings, &counts, answer.count), dlp, &sums);
        for (uint32_t t = 0; t < answer.count;
             t++) /* TRL works in fp32; its sums over an answer differ in the last digits */
            if (fabs((double)dlp[t] - (double)want[t]) > 2e-7 + 2e-6 * fabs((double)want[t]))
                fail_msg("%s: answer %u token %u: %.9g, TRL has %.9g", shown, i, t, (double)dlp[t], (double)want[t]);
    }
    if (fabs(sums.loss - real(step, "loss")) > 2e-6 * (fabs(real(step, "loss")) + 0.1))
        fail_msg("%s: loss %.9g, TRL has %.9g", shown, sums.loss, real(step, "loss"));
}

static void loss_and_gradient_are_trls(void **state) {
    (void)state;
    const json_t *steps = json_object_get(golden, "steps");
    assert_true(json_array_size(steps) == 36);
    for (size_t i = 0; i < json_array_size(steps); i++)
        check_step(json_array_get(steps, i));
}

static void the_data_clip_on_both_sides(void **state) {
    (void)state;
    struct loss_settings settings = settings_of(json_array_get(json_object_get(golden, "steps"), 0));
    settings.dual_clip = 3;
    struct loss_sums sums = {0};
    float lp[LONGEST], old[LONGEST], dlp[LONGEST], advantages[ANSWERS_MAX];
    uint32_t answers = floats(json_object_get(golden, "answer_advantages"), advantages, ANSWERS_MAX);
    for (uint32_t i = 0; i < answers; i++) {
        struct loss_answer answer = {.lp = lp, .old = old, .advantage = advantages[i]};
        answer.count = floats(json_array_get(json_object_get(golden, "lp"), i), lp, LONGEST);
        floats(json_array_get(json_object_get(golden, "old"), i), old, LONGEST);
        loss_answer(&settings, &answer, 1, dlp, &sums);
    }
    assert_true(sums.clipped_low > 0 && sums.clipped_high > 0 && sums.clipped_dual > 0);
}

static void advantages_are_trls(void **state) {
    (void)state;
    static const char *const scales[] = {"group", "batch", "none"};
    const json_t *cases = json_object_get(golden, "advantages");
    assert_true(json_array_size(cases) == 3);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *one = json_array_get(cases, c);
        float rewards[ANSWERS_MAX], want[ANSWERS_MAX], got[ANSWERS_MAX];
        uint32_t total = floats(json_object_get(one, "rewards"), rewards, ANSWERS_MAX),
                 group = (uint32_t)real(one, "group");
        floats(json_object_get(one, "advantages"), want, ANSWERS_MAX);
        uint32_t counts[ANSWERS_MAX];
        bool dead[ANSWERS_MAX];
        for (uint32_t g = 0; g < total / group; g++)
            counts[g] = group;
        struct advantage_stats stats;
        advantage_compute((enum advantage_scale)choice(one, "scale", scales, 3), 1e-4, rewards, counts, total / group,
                          got, dead, &stats);
        for (uint32_t i = 0; i < total; i++)
            if (fabsf(got[i] - want[i]) > 1e-6f)
                fail_msg("%s[%u]: %.9g, TRL has %.9g", scales[c], i, (double)got[i], (double)want[i]);
    }
}

int main(void) {
    if (json_read_file(SOURCE_DIR "/tests/golden/learner/trl_loss.json", 1 << 20, &golden) != STATUS_OK) {
        printf("%s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradient_are_trls),
        cmocka_unit_test(the_data_clip_on_both_sides),
        cmocka_unit_test(advantages_are_trls),
    };
    int failed = cmocka_run_group_tests_name("trl_loss", tests, NULL, NULL);
    json_decref(golden);
    return failed;
}
