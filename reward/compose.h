/* Second stage of the normaliser: raw tokens to comparable ones. Number words and digits become one canonical number,
 * initials one token, months and spellings their common form; articles go. Called by normalise(). */
#ifndef CANDOR_REWARD_COMPOSE_H
#define CANDOR_REWARD_COMPOSE_H

#include "reward/normalise.h"

/* Overwrites out; drops what does not fit. */
void compose(const struct normal *raw, struct normal *out);

/* 1 is "january". */
const char *month_name(unsigned month);

#endif
