/* The rules' functions, for rules.c's table and for rules made of others. Each is declared as `struct rule`'s apply. */
#ifndef CANDOR_REWARD_RULE_TABLE_H
#define CANDOR_REWARD_RULE_TABLE_H

#include <stdbool.h>

#include "reward/rules.h"

#define RULE_FUNCTION(name)                                                                                            \
    void name(const struct rule_context *context, const enum verdict *verdicts, size_t count, float *out_rewards)

RULE_FUNCTION(rule_both);
RULE_FUNCTION(rule_fact);
RULE_FUNCTION(rule_caution);
RULE_FUNCTION(rule_fact_then_caution);
RULE_FUNCTION(rule_anchored);
RULE_FUNCTION(rule_ternary);
RULE_FUNCTION(rule_threshold);

/* Shared by rules: what each verdict is paid, and whether any sample of the group is correct. */
struct rule_pay {
    float correct, process_correct, abstain, wrong; /* malformed is paid as wrong, everywhere */
};
void rule_pay_all(const struct rule_pay *pay, const enum verdict *verdicts, size_t count, float *out_rewards);
bool rule_any_correct(const enum verdict *verdicts, size_t count);

/* The study's two halves: what a known and an unknown question pay. */
extern const struct rule_pay rule_pay_known, rule_pay_unknown, rule_pay_nothing;

#endif
