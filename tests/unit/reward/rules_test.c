/* Each rule pays what DESIGN section 10 says, on groups that tell the rules apart. */
#include "tests/support/test.h"

#include "common/base/run_config.h"
#include "reward/rules.h"

#define C VERDICT_CORRECT
#define P VERDICT_PROCESS_CORRECT
#define U VERDICT_ABSTAIN
#define W VERDICT_WRONG
#define M VERDICT_MALFORMED

/* One sample of each kind: some sample is correct. And the same without it. */
static const enum verdict some_right[5] = {C, P, U, W, M};
static const enum verdict none_right[5] = {W, P, U, W, M};

static void check(const char *name, struct rule_context context, const enum verdict *verdicts, const float *expected) {
    const struct rule *rule = rule_find(name);
    assert_non_null(rule);
    float rewards[5];
    rule_apply(rule, &context, verdicts, 5, rewards);
    for (size_t i = 0; i < 5; i++) {
        if (rewards[i] != expected[i])
            fail_msg("%s pays %g for %s, expected %g", name, (double)rewards[i], verdict_name(verdicts[i]),
                     (double)expected[i]);
    }
}

static const float known[5] = {1, 0.5f, 0, 0, 0};
static const float unknown[5] = {0, 0, 1, 0, 0};
static const float nothing[5] = {0, 0, 0, 0, 0};

static void both_pays_the_truth_where_it_is_found_and_unknown_elsewhere(void **state) {
    (void)state;
    check("both", (struct rule_context){.base_known_k = -1}, some_right, known);
    check("both", (struct rule_context){.base_known_k = 16}, none_right, unknown);
}

static void fact_and_caution_are_the_halves_of_both(void **state) {
    (void)state;
    check("fact", (struct rule_context){0}, some_right, known);
    check("fact", (struct rule_context){0}, none_right, nothing);
    check("caution", (struct rule_context){0}, some_right, nothing);
    check("caution", (struct rule_context){0}, none_right, unknown);
}

static void fact_then_caution_switches_at_its_step(void **state) {
    (void)state;
    check("fact-then-caution", (struct rule_context){.step = 99, .switch_step = 100}, some_right, known);
    check("fact-then-caution", (struct rule_context){.step = 99, .switch_step = 100}, none_right, nothing);
    check("fact-then-caution", (struct rule_context){.step = 100, .switch_step = 100}, some_right, nothing);
    check("fact-then-caution", (struct rule_context){.step = 100, .switch_step = 100}, none_right, unknown);
}

static void anchored_never_pays_unknown_for_what_the_base_model_knew(void **state) {
    (void)state;
    const float known_but_missed[5] = {0, 0.5f, 0, 0, 0};
    check("anchored", (struct rule_context){.base_known_k = 1, .anchor_k = 1}, none_right, known_but_missed);
    check("anchored", (struct rule_context){.base_known_k = 3, .anchor_k = 4}, none_right, unknown);
    check("anchored", (struct rule_context){.base_known_k = 0, .anchor_k = 1}, some_right, known);
    check("anchored", (struct rule_context){.base_known_k = -1, .anchor_k = 1}, none_right, unknown);
}

static void ternary_and_threshold_price_a_wrong_answer(void **state) {
    (void)state;
    const float ternary[5] = {1, -1, 0, -1, -1};
    const float three[5] = {1, -3, 0, -3, -3};
    const float free_of_charge[5] = {1, 0, 0, 0, 0};
    check("ternary", (struct rule_context){0}, some_right, ternary);
    check("threshold", (struct rule_context){.threshold_t = 0.75}, some_right, three);
    check("threshold", (struct rule_context){.threshold_t = 0.5}, some_right, ternary);
    check("threshold", (struct rule_context){.threshold_t = 0}, some_right, free_of_charge);
}

static bool configuration_takes(const char *rule) {
    struct run_config *config = NULL;
    if (run_config_load(NULL, NULL, 0, &config) != STATUS_OK)
        return false;
    snprintf(config->data_knowledge, sizeof config->data_knowledge, "knowledge.jsonl"); /* anchored wants it */
    snprintf(config->reward_rule, sizeof config->reward_rule, "%s", rule);
    bool takes = run_config_check(config) == STATUS_OK;
    free(config);
    return takes;
}

static void malformed_pays_as_wrong_under_every_rule(void **state) {
    (void)state;
    size_t count;
    const struct rule *rules = rule_table(&count);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < count; i++) {
        for (uint32_t step = 0; step < 2; step++) {
            const enum verdict *groups[2] = {some_right, none_right};
            for (size_t g = 0; g < 2; g++) {
                struct rule_context context = {
                    .step = step, .switch_step = 1, .base_known_k = 2, .anchor_k = 1, .threshold_t = 0.9};
                float rewards[5];
                rule_apply(&rules[i], &context, groups[g], 5, rewards);
                assert_true(rewards[3] == rewards[4]);
            }
        }
        assert_ptr_equal(rule_find(rules[i].name), &rules[i]);
        assert_true(configuration_takes(rules[i].name));
    }
    assert_null(rule_find("boht"));
    assert_false(configuration_takes("boht"));
    assert_true(configuration_takes("custom-mine"));
}

static void an_unanswerable_question_rewards_abstaining_most(void **state) {
    (void)state;
    const enum verdict verdicts[5] = {U, W, W, M, U};
    const char *names[] = {"both", "caution", "anchored", "ternary", "threshold"};
    for (size_t i = 0; i < 5; i++) {
        struct rule_context context = {.base_known_k = 0, .anchor_k = 1, .threshold_t = 0.75};
        float rewards[5];
        rule_apply(rule_find(names[i]), &context, verdicts, 5, rewards);
        assert_true(rewards[0] > rewards[1] && rewards[1] == rewards[3] && rewards[0] == rewards[4]);
    }
}

static void verdicts_are_tallied(void **state) {
    (void)state;
    uint32_t counts[VERDICT_COUNT];
    const enum verdict verdicts[6] = {C, P, U, W, M, U};
    verdict_tally(verdicts, 6, counts);
    assert_int_equal(counts[C], 1);
    assert_int_equal(counts[U], 2);
    assert_int_equal(counts[M], 1);
}

static void verdict_names_read_back(void **state) {
    (void)state;
    for (int i = 0; i < VERDICT_COUNT; i++) {
        enum verdict verdict = VERDICT_COUNT;
        assert_true(verdict_find(verdict_name((enum verdict)i), &verdict));
        assert_int_equal(verdict, i);
    }
    enum verdict verdict;
    assert_false(verdict_find("right", &verdict));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_pays_the_truth_where_it_is_found_and_unknown_elsewhere),
        cmocka_unit_test(fact_and_caution_are_the_halves_of_both),
        cmocka_unit_test(fact_then_caution_switches_at_its_step),
        cmocka_unit_test(anchored_never_pays_unknown_for_what_the_base_model_knew),
        cmocka_unit_test(ternary_and_threshold_price_a_wrong_answer),
        cmocka_unit_test(malformed_pays_as_wrong_under_every_rule),
        cmocka_unit_test(an_unanswerable_question_rewards_abstaining_most),
        cmocka_unit_test(verdicts_are_tallied),
        cmocka_unit_test(verdict_names_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
