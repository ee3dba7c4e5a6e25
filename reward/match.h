/* A final answer against the gold aliases. The rules in the order tried; each was measured on human judgements by
 * candor-bench-reward (reward/README.md has the table). A final of at most SHORT_TOKENS tokens is short, else a
 * sentence. */
#ifndef CANDOR_REWARD_MATCH_H
#define CANDOR_REWARD_MATCH_H

#include "reward/gold.h"
#include "reward/normalise.h"

#define SHORT_TOKENS 8

enum match_rule {
    MATCH_NONE,
    MATCH_SAME,       /* the same letters and digits, whatever the spaces */
    MATCH_SPAN,       /* the alias is a run of the final's tokens */
    MATCH_ALIKE,      /* ... in other forms of its words */
    MATCH_DATE,       /* all of the alias' date stands close together in the final */
    MATCH_YEAR,       /* ... or its year, where no more is asked for */
    MATCH_SQUEEZED,   /* the alias is a substring when spaces are taken out */
    MATCH_INSIDE,     /* a short final is a run of the alias' tokens */
    MATCH_NAME,       /* a short final: initial of the first name, and the last name */
    MATCH_FIRST_LAST, /* first and last name, middle names left out */
    MATCH_F1,         /* a short final: token F1 */
    MATCH_RECALL,     /* a sentence holds most of the alias' content words */
    MATCH_RULE_COUNT
};

const char *match_rule_name(enum match_rule rule);

struct match {
    enum match_rule rule;
    const struct alias *alias; /* NULL with MATCH_NONE */
};

/* The alias that reads the same if there is one, else the first alias, and the first rule, that takes the final for it.
 * Time: aliases' tokens times the final's tokens. */
struct match match_final(const struct gold_set *set, struct token_list final);

#endif
