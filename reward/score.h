/* Score answers to one question: read the final answer out of the text, compare it with the gold aliases, give a verdict.
 *
 * A gold_set is prepared once a question and never changes afterwards, so any number of threads may score against it.
 * Scoring allocates nothing, takes time linear in the text and at most SCORE_STACK_BYTES of stack, and has a verdict for
 * every input: text is data (I5), malformed UTF-8 included.
 *
 * A question without aliases is unanswerable: the right answer is to abstain. ABSTAIN, WRONG and MALFORMED are then the
 * only verdicts; CORRECT and PROCESS_CORRECT cannot occur. */
#ifndef CANDOR_REWARD_SCORE_H
#define CANDOR_REWARD_SCORE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"
#include "common/base/verdict.h"

#define SCORE_STACK_BYTES 131072  /* three struct normal, rounded up; gold_set_create stays below it too */
#define GOLD_ALIASES_MAX 4096     /* the longest list in TriviaQA has about 400 */
#define GOLD_TEXT_BYTES_MAX 65536 /* the question, or one alias */

struct question_golds {
    const char *question;       /* NUL-terminated; "" when unknown */
    const char *const *aliases; /* [alias_count] NUL-terminated */
    size_t alias_count;         /* 0: unanswerable */
};

struct gold_set;

/* Copies what it needs; golds are borrowed for the call. STATUS_LIMIT above the limits, STATUS_NO_MEMORY. */
enum status gold_set_create(const struct question_golds *golds, struct gold_set **out_set);
void gold_set_destroy(struct gold_set **set);

struct score {
    enum verdict verdict;
    size_t final_start, final_bytes; /* the final answer as a range of the text; 0, 0 when there is none */
};

/* A model's output with its reasoning; the final answer is its last complete boxed[...], \boxed{...} or
 * <answer>...</answer>. text: text_bytes long, any bytes, not NUL-terminated; borrowed for the call. An output cut off
 * at the length limit needs no mark: an unfinished box is no answer.
 *
 * The order of judgement: a final that begins with Unknown abstains; one that matches is correct; else the right answer
 * in the reasoning is process-correct; else wrong, or malformed where there is no final. */
void score_answer(const struct gold_set *set, const char *text, size_t text_bytes, struct score *out_score);

/* The text is itself the final answer, a word or a sentence, of somebody who was not trained against this matcher: what
 * matches is correct even if hedged, and a refusal anywhere in a sentence abstains. Its first NORMAL_TOKENS_MAX tokens
 * count. Never PROCESS_CORRECT; MALFORMED only when empty. */
void score_plain(const struct gold_set *set, const char *text, size_t text_bytes, struct score *out_score);

#endif
