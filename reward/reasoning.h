/* Whether the right answer stands in the reasoning before a wrong or missing final answer: process-correct. The guards
 * of factuality.md 3.3 keep a model from earning it by listing candidates or by chance:
 *   - an alias counts as a span of whole tokens, of at least 4 letters or 2 digits, not standing in the question, and
 * not of a closed class (yes, no, north ...)
 *   - at most REASONING_CANDIDATES_MAX different answers are put forward in boxes and after "answer is", and the alias
 * does not stand in a list of more
 *   - what a search tool returned (<information>) is not the model's reasoning */
#ifndef CANDOR_REWARD_REASONING_H
#define CANDOR_REWARD_REASONING_H

#include <stdbool.h>
#include <stddef.h>

#include "reward/gold.h"

#define REASONING_CANDIDATES_MAX 3

/* text[0, text_bytes) is the whole output, of which the first reasoning_bytes are reasoning. Linear. */
bool reasoning_holds_gold(const struct gold_set *set, const char *text, size_t text_bytes, size_t reasoning_bytes);

#endif
