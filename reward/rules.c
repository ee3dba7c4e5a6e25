#include "reward/rules.h"

#include <string.h>

#include "common/base/status.h"
#include "reward/rule_table.h"

static const struct rule table[] = {
    {"both", "right answers pay where one sample is right, Unknown where none is", rule_both},
    {"fact", "right answers pay, Unknown pays nothing", rule_fact},
    {"caution", "Unknown pays where no sample is right, nothing else pays", rule_caution},
    {"fact-then-caution", "fact before reward.switch_step, caution from it on", rule_fact_then_caution},
    {"anchored", "as both, but what the base model knew never pays for Unknown", rule_anchored},
    {"ternary", "right 1, Unknown 0, wrong -1", rule_ternary},
    {"threshold", "right 1, Unknown 0, wrong -t/(1-t) with t = reward.threshold_t", rule_threshold},
};

const struct rule *rule_table(size_t *out_count) {
    *out_count = sizeof table / sizeof table[0];
    return table;
}

const struct rule *rule_find(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(name, table[i].name) == 0)
            return &table[i];
    }
    return NULL;
}

void rule_apply(const struct rule *rule, const struct rule_context *context, const enum verdict *verdicts, size_t count,
                float *out_rewards) {
    for (size_t i = 0; i < count; i++)
        ASSERT((unsigned)verdicts[i] < VERDICT_COUNT);
    rule->apply(context, verdicts, count, out_rewards);
}

void verdict_tally(const enum verdict *verdicts, size_t count, uint32_t out_counts[VERDICT_COUNT]) {
    memset(out_counts, 0, VERDICT_COUNT * sizeof out_counts[0]);
    for (size_t i = 0; i < count; i++) {
        ASSERT((unsigned)verdicts[i] < VERDICT_COUNT);
        out_counts[verdicts[i]]++;
    }
}

const struct rule_pay rule_pay_known = {.correct = 1, .process_correct = 0.5f};
const struct rule_pay rule_pay_unknown = {.abstain = 1};
const struct rule_pay rule_pay_nothing = {.correct = 0};

void rule_pay_all(const struct rule_pay *pay, const enum verdict *verdicts, size_t count, float *out_rewards) {
    const float paid[VERDICT_COUNT] = {
        [VERDICT_CORRECT] = pay->correct, [VERDICT_PROCESS_CORRECT] = pay->process_correct,
        [VERDICT_ABSTAIN] = pay->abstain, [VERDICT_WRONG] = pay->wrong,
        [VERDICT_MALFORMED] = pay->wrong,
    };
    for (size_t i = 0; i < count; i++)
        out_rewards[i] = paid[verdicts[i]];
}

bool rule_any_correct(const enum verdict *verdicts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (verdicts[i] == VERDICT_CORRECT)
            return true;
    }
    return false;
}
