/* Whether two tokens are forms of one word: equal, one stem with two endings, or one slip of the pen apart. */
#ifndef CANDOR_REWARD_ALIKE_H
#define CANDOR_REWARD_ALIKE_H

#include "reward/normalise.h"

bool token_alike(struct token_list a, uint32_t i, struct token_list b, uint32_t j);

/* token_span with token_alike. */
bool token_span_alike(struct token_list needle, struct token_list hay);

#endif
