#include "reward/score.h"

#include <string.h>

#include "reward/abstain.h"
#include "reward/extract.h"
#include "reward/gold.h"
#include "reward/match.h"
#include "reward/reasoning.h"

/* A boxed final answer is read more strictly than free text, because a model is trained against this. Naming several
 * things must not pay: what stands first is the answer, and what follows a comma or "and" may only add to it ("Oslo,
 * Norway"). Nor may the answer be wrapped into a list or a long text. */
#define EXTRA_PARTS_MOST 3
#define EXTRA_TOKENS_MOST 24

static bool is_word(struct token_list list, uint32_t i, const char *word) {
    size_t bytes = strlen(word);
    return list.tokens[i].bytes == bytes && memcmp(token_text(list, i), word, bytes) == 0;
}

/* "July 4, 1776": the comma before token i parts nothing. */
static bool is_date_comma(struct token_list list, uint32_t i) {
    return list.tokens[i].kind == TOKEN_NUMBER &&
           (list.tokens[i - 1].kind == TOKEN_MONTH || (i >= 2 && list.tokens[i - 2].kind == TOKEN_MONTH));
}

/* i > 0 */
static bool begins_part(struct token_list list, uint32_t i) {
    bool comma = (list.tokens[i].flags & TOKEN_COMMA) != 0 && !is_date_comma(list, i);
    return comma || is_word(list, i, "and");
}

static uint32_t count_parts(struct token_list list) {
    uint32_t parts = 1;
    for (uint32_t i = 1; i < list.count; i++)
        parts += begins_part(list, i);
    return parts;
}

static struct token_list first_parts(struct token_list list, uint32_t parts) {
    for (uint32_t i = 1; i < list.count; i++) {
        if (begins_part(list, i) && --parts == 0)
            return (struct token_list){list.tokens, list.text, i, list.tokens[i].start};
    }
    return list;
}

/* The final says one thing, and that is right: it matches with as many of its first parts as the alias has. */
static bool says_just_that(const struct gold_set *set, struct token_list final) {
    struct match match = match_final(set, final);
    if (match.rule == MATCH_NONE || match.rule == MATCH_SAME)
        return match.rule == MATCH_SAME;
    struct token_list gold = match.alias->list;
    uint32_t parts = count_parts(gold);
    if (count_parts(final) > parts + EXTRA_PARTS_MOST || final.count > 4 * gold.count + EXTRA_TOKENS_MOST)
        return false;
    struct token_list first = first_parts(final, parts);
    return first.count == final.count || match_final(set, first).rule != MATCH_NONE;
}

/* Bytes of text up to the next sign that offers an alternative ("or", a semicolon, a bar, a new line, a slash with
 * spaces); *out_skip is the length of that sign, 0 at the end of the text. */
static size_t find_alternative(const char *text, size_t bytes, size_t *out_skip) {
    for (size_t i = 0; i < bytes; i++) {
        size_t rest = bytes - i;
        *out_skip = text[i] == ';' || text[i] == '|' || text[i] == '\n' ? 1 : 0;
        if (rest >= 4 && memcmp(text + i, " or ", 4) == 0)
            *out_skip = 4;
        if (rest >= 3 && memcmp(text + i, " / ", 3) == 0)
            *out_skip = 3;
        if (*out_skip > 0)
            return i;
    }
    *out_skip = 0;
    return bytes;
}

/* The final answer is right. Where it offers alternatives each of them must be, unless an alias reads just like it; signs alone
 * ("boxed[;]") offer nothing. */
static bool final_is_right(const struct gold_set *set, const char *text, size_t bytes, struct token_list final) {
    size_t skip, end = find_alternative(text, bytes, &skip);
    if (skip == 0)
        return says_just_that(set, final);
    if (match_final(set, final).rule == MATCH_SAME)
        return true;
    bool right = false;
    for (size_t at = 0; at < bytes; at += end + skip) {
        struct normal part;
        end = find_alternative(text + at, bytes - at, &skip);
        normalise(text + at, end, &part);
        if (part.token_count > 0 && !(right = says_just_that(set, normal_list(&part))))
            return false;
    }
    return right;
}

static enum verdict judge_boxed(const struct gold_set *set, const char *text, size_t text_bytes, struct box box) {
    struct normal final;
    normalise(text + box.start, box.bytes, &final);
    /* First: "Unknown, perhaps Paris" must not be paid both ways. */
    if (abstain_prefix(set, normal_list(&final)) > 0)
        return VERDICT_ABSTAIN;
    if (final_is_right(set, text + box.start, box.bytes, normal_list(&final)))
        return VERDICT_CORRECT;
    return reasoning_holds_gold(set, text, text_bytes, box.open) ? VERDICT_PROCESS_CORRECT : VERDICT_WRONG;
}

void score_answer(const struct gold_set *set, const char *text, size_t text_bytes, struct score *out_score) {
    struct box box;
    if (box_find_last(text, text_bytes, text_bytes, &box)) {
        *out_score = (struct score){judge_boxed(set, text, text_bytes, box), box.start, box.bytes};
        return;
    }
    bool process = reasoning_holds_gold(set, text, text_bytes, text_bytes);
    *out_score = (struct score){process ? VERDICT_PROCESS_CORRECT : VERDICT_MALFORMED, 0, 0};
}

void score_plain(const struct gold_set *set, const char *text, size_t text_bytes, struct score *out_score) {
    struct normal final;
    normalise(text, text_bytes, &final);
    struct token_list list = normal_list(&final);
    enum verdict verdict = VERDICT_WRONG;
    if (list.count == 0)
        verdict = VERDICT_MALFORMED;
    else if (match_final(set, list).rule != MATCH_NONE)
        verdict = VERDICT_CORRECT;
    else if (abstain_prefix(set, list) > 0 || abstain_anywhere(list))
        verdict = VERDICT_ABSTAIN;
    *out_score = (struct score){verdict, 0, verdict == VERDICT_MALFORMED ? 0 : text_bytes};
}
