/* Unknown: whether a final answer says that it does not know. */
#ifndef CANDOR_REWARD_ABSTAIN_H
#define CANDOR_REWARD_ABSTAIN_H

#include "reward/gold.h"
#include "reward/normalise.h"

/* Tokens of the phrase ("unknown", "not sure", "i do not know" ...) that the final begins with; 0 when it begins with
 * none, or when an alias begins with the same words ("Unknown Pleasures", "Na"). */
uint32_t abstain_prefix(const struct gold_set *set, struct token_list final);

/* A sentence says somewhere that its author does not know. For answers in free text, which do not follow a format. */
bool abstain_anywhere(struct token_list final);

#endif
