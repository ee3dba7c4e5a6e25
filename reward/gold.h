/* A question's gold aliases, prepared for matching. Immutable after creation. */
#ifndef CANDOR_REWARD_GOLD_H
#define CANDOR_REWARD_GOLD_H

#include "reward/normalise.h"
#include "reward/score.h"

#define ALIAS_TOKENS_MAX 128 /* of a longer alias the first ones count */

struct alias {
    struct token *block; /* owned: the tokens, and the text behind them */
    struct token_list list;
    uint32_t content_count; /* tokens that are not stop words */
    uint32_t exact_count;   /* numbers and months: compared as such, never left out */
    bool date;              /* numbers, months and stop words alone, two or more */
    bool coarse;            /* a date whose day and month the question does not ask for: its year will do */
    bool stop_only;         /* "It", "The The": only the very same answer matches */
    bool listed;            /* names several things: "Simon and Garfunkel" */
    bool capitalised;       /* every token begins with a capital: a name */
    bool person;            /* "who" is asked, and this reads like first and last names */
    bool asked;             /* a span of the question */
    bool in_reasoning;      /* long and rare enough to look for in the reasoning (factuality.md 3.3) */
};

struct gold_set {
    struct alias *aliases;
    uint32_t alias_count;   /* 0: unanswerable */
    uint64_t reasoning[16]; /* a bit for the hash of the first token of each alias with in_reasoning */
};

#endif
