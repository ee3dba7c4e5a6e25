/* Any bytes are scored, both ways, against aliases of any bytes: input = question, aliases and text, each ended by a
 * NUL but the text, which takes the rest. Beside not crashing, a score must name a verdict and a range inside the text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "reward/score.h"

#define ALIASES 4

static const char *take_string(const uint8_t **data, size_t *bytes) {
    const uint8_t *end = memchr(*data, 0, *bytes);
    if (end == NULL)
        return "";
    const char *text = (const char *)*data;
    *bytes -= (size_t)(end + 1 - *data);
    *data = end + 1;
    return text;
}

static void check(const struct score *score, size_t text_bytes, bool answerable) {
    ASSERT((unsigned)score->verdict < VERDICT_COUNT);
    ASSERT(score->final_start <= text_bytes && score->final_bytes <= text_bytes - score->final_start);
    ASSERT(answerable || (score->verdict != VERDICT_CORRECT && score->verdict != VERDICT_PROCESS_CORRECT));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    const char *aliases[ALIASES];
    struct question_golds golds = {.question = take_string(&data, &bytes), .aliases = aliases};
    for (; golds.alias_count < ALIASES && memchr(data, 0, bytes) != NULL; golds.alias_count++)
        aliases[golds.alias_count] = take_string(&data, &bytes);
    struct gold_set *set;
    struct score score;
    if (gold_set_create(&golds, &set) != STATUS_OK)
        return 0;
    char *text = malloc(bytes > 0 ? bytes : 1); /* its own block: a read past its end is caught */
    if (text != NULL) {
        if (bytes > 0)
            memcpy(text, data, bytes);
        score_answer(set, text, bytes, &score);
        check(&score, bytes, golds.alias_count > 0);
        score_plain(set, text, bytes, &score);
        check(&score, bytes, golds.alias_count > 0);
    }
    free(text);
    gold_set_destroy(&set);
    return 0;
}
