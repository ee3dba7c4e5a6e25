#include "reward/match.h"

#include <string.h>

#include "reward/alike.h"

#define SQUEEZED_BYTES_LEAST 6 /* shorter aliases stand inside unrelated words */
#define INSIDE_BYTES_LEAST 4   /* factuality.md 3.3 */
#define NAME_TOKENS_MOST 4
#define NAME_GAP 3 /* tokens from the first to the last name, at most */
#define RECALL_LEAST 0.6

const char *match_rule_name(enum match_rule rule) {
    static const char *const names[MATCH_RULE_COUNT] = {"none",     "same",   "span", "alike",      "date", "year",
                                                        "squeezed", "inside", "name", "first-last", "f1",   "recall"};
    return (unsigned)rule < MATCH_RULE_COUNT ? names[rule] : "?";
}

static bool is_exact(const struct token *token) {
    return token->kind != TOKEN_WORD;
}

static bool find_exact(struct token_list list, struct token_list in, uint32_t from, uint32_t to, uint32_t i) {
    for (uint32_t j = from; j < to; j++) {
        if (token_same(list, i, in, j))
            return true;
    }
    return false;
}

/* Every number and month of a stands in b. */
static bool numbers_within(struct token_list a, struct token_list b) {
    for (uint32_t i = 0; i < a.count; i++) {
        if (is_exact(&a.tokens[i]) && !find_exact(a, b, 0, b.count, i))
            return false;
    }
    return true;
}

/* A date's parts in any order ("4 July 1776", "July 4th, 1776"), close together. */
static bool date_within(struct token_list date, struct token_list final) {
    uint32_t width = date.count + 3;
    for (uint32_t from = 0; from < final.count; from++) {
        if (!is_exact(&final.tokens[from]))
            continue;
        uint32_t to = from + width < final.count ? from + width : final.count, i = 0;
        while (i < date.count && (!is_exact(&date.tokens[i]) || find_exact(date, final, from, to, i)))
            i++;
        if (i == date.count)
            return true;
    }
    return false;
}

static bool is_year(struct token_list list, uint32_t i) {
    return list.tokens[i].kind == TOKEN_NUMBER && list.tokens[i].bytes == 4 && *token_text(list, i) <= '2';
}

/* The year of a date, where its day and month are not asked for: "1977" for "September 19, 1977". Whatever else of a
 * date the final says must be right. */
static bool year_of_date(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (!alias->coarse || !numbers_within(final, gold))
        return false;
    for (uint32_t i = 0; i < gold.count; i++) {
        if (is_year(gold, i) && find_exact(gold, final, 0, final.count, i))
            return true;
    }
    return false;
}

static bool is_short(struct token_list final) {
    return final.count <= SHORT_TOKENS;
}

/* Some token of the final is not in the question: "river" does not answer "which river". The final is a span of the
 * alias. */
static bool adds_to_question(struct token_list gold, struct token_list final) {
    for (uint32_t i = 0; i < gold.count; i++) {
        if ((gold.tokens[i].flags & TOKEN_ASKED) == 0 && find_exact(gold, final, 0, final.count, i))
            return true;
    }
    return false;
}

/* The final is a part of the alias that can stand for it: "Oslo" of "Oslo, Norway", "Mulgrew" of "Kate Mulgrew"; not a
 * first name, not a year of a full date, not one of two names. */
static bool stands_for(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (final.text_bytes < INSIDE_BYTES_LEAST || (alias->listed && alias->exact_count == 0))
        return false;
    if (alias->person && final.count == 1 && token_same(final, 0, gold, 0))
        return false;
    return token_span(final, gold) && numbers_within(gold, final) && adds_to_question(gold, final);
}

/* The alias is a substring once spaces are taken out, which mends lost spaces. Numbers are only taken from sentences,
 * where a footnote mark may be glued behind ("in 19871"), and not out of the middle of a longer number. */
static bool stands_squeezed(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (gold.text_bytes < SQUEEZED_BYTES_LEAST || (alias->exact_count > 0 && is_short(final)))
        return false;
    const char *found = memmem(final.text, final.text_bytes, gold.text, gold.text_bytes);
    bool digit_before = found != NULL && found > final.text && found[-1] >= '0' && found[-1] <= '9';
    return found != NULL && !(digit_before && gold.tokens[0].kind == TOKEN_NUMBER);
}

static bool is_name(struct token_list list) {
    return list.count >= 2 && list.count <= NAME_TOKENS_MOST && (list.tokens[0].flags & TOKEN_IDEOGRAPH) == 0;
}

static bool same_name(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (alias->exact_count > 0 || !alias->capitalised || !is_name(gold) || !is_name(final))
        return false;
    return gold.tokens[gold.count - 1].bytes >= 4 && token_alike(gold, gold.count - 1, final, final.count - 1) &&
           *token_text(gold, 0) == *token_text(final, 0);
}

static bool first_and_last(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (alias->exact_count > 0 || gold.count < 3 || (gold.tokens[0].flags & TOKEN_IDEOGRAPH) != 0)
        return false;
    uint32_t starts = is_short(final) ? 1 : final.count; /* a short final is the name, a sentence holds it */
    for (uint32_t i = 0; i < starts && i + 1 < final.count; i++) {
        if (!token_same(gold, 0, final, i))
            continue;
        for (uint32_t j = i + 1; j <= i + NAME_GAP && j < final.count; j++) {
            if (token_same(gold, gold.count - 1, final, j))
                return true;
        }
    }
    return false;
}

/* How many of the alias' tokens the final has, each of its tokens counted once. */
struct overlap {
    uint32_t all, content; /* content: without stop words */
    bool news;             /* a content word of two or more letters that is not in the question */
};

static bool take_token(struct token_list gold, uint32_t i, struct token_list final, uint64_t *used, bool exact) {
    for (uint32_t j = 0; j < final.count; j++) {
        if ((used[j / 64] >> (j % 64) & 1) != 0)
            continue;
        if (exact ? token_same(gold, i, final, j) : token_alike(gold, i, final, j)) {
            used[j / 64] |= UINT64_C(1) << (j % 64);
            return true;
        }
    }
    return false;
}

static struct overlap count_overlap(struct token_list gold, struct token_list final) {
    uint64_t used[NORMAL_TOKENS_MAX / 64] = {0};
    struct overlap overlap = {0};
    for (uint32_t i = 0; i < gold.count; i++) {
        const struct token *token = &gold.tokens[i];
        if (!take_token(gold, i, final, used, true) && !take_token(gold, i, final, used, false))
            continue;
        overlap.all++;
        if ((token->flags & TOKEN_STOP) != 0)
            continue;
        overlap.content++;
        if ((token->flags & TOKEN_ASKED) == 0 && (token->bytes >= 2 || is_exact(token)))
            overlap.news = true;
    }
    return overlap;
}

/* Few shared words say little: "Harlem River" is not "East River", "Man" not "Isle of Man", "Kate" not "Kate Mulgrew".
 */
static bool says_enough(const struct alias *alias, struct token_list final, struct overlap overlap) {
    struct token_list gold = alias->list;
    if (overlap.all >= 2 || gold.count == 1)
        return true;
    if (final.count > 1 || (alias->listed && alias->exact_count == 0))
        return false;
    if (alias->person && !token_alike(gold, gold.count - 1, final, 0))
        return false;
    return final.text_bytes >= INSIDE_BYTES_LEAST || is_exact(&final.tokens[0]);
}

static enum match_rule match_words(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (!numbers_within(gold, final))
        return MATCH_NONE;
    struct overlap overlap = count_overlap(gold, final);
    if (!overlap.news)
        return MATCH_NONE;
    if (!is_short(final)) {
        /* Beside two numbers the one word is likely a month of another language, or a unit. */
        bool every = alias->exact_count >= 2 && alias->content_count <= 3;
        double least = every ? alias->content_count : RECALL_LEAST * alias->content_count;
        return overlap.content >= least ? MATCH_RECALL : MATCH_NONE;
    }
    bool numbers_agree = alias->exact_count == 0 || numbers_within(final, gold);
    bool half = 4 * overlap.all >= gold.count + final.count; /* F1 = 2 shared / (gold + final) >= .5 */
    return half && numbers_agree && says_enough(alias, final, overlap) ? MATCH_F1 : MATCH_NONE;
}

static bool reads_the_same(struct token_list gold, struct token_list final) {
    return gold.text_bytes == final.text_bytes && memcmp(gold.text, final.text, gold.text_bytes) == 0 &&
           numbers_within(gold, final); /* "9:15" is not "91 5" */
}

static enum match_rule match_alias(const struct alias *alias, struct token_list final) {
    struct token_list gold = alias->list;
    if (alias->stop_only)
        return MATCH_NONE;
    if (token_span(gold, final))
        return MATCH_SPAN;
    if (alias->date && date_within(gold, final))
        return MATCH_DATE;
    if (year_of_date(alias, final))
        return MATCH_YEAR;
    if (token_span_alike(gold, final))
        return MATCH_ALIKE;
    if (stands_squeezed(alias, final))
        return MATCH_SQUEEZED;
    if (is_short(final) && stands_for(alias, final))
        return MATCH_INSIDE;
    if (is_short(final) && same_name(alias, final))
        return MATCH_NAME;
    if (first_and_last(alias, final))
        return MATCH_FIRST_LAST;
    return match_words(alias, final);
}

struct match match_final(const struct gold_set *set, struct token_list final) {
    if (final.count == 0)
        return (struct match){MATCH_NONE, NULL};
    for (uint32_t i = 0; i < set->alias_count; i++) {
        if (reads_the_same(set->aliases[i].list, final))
            return (struct match){MATCH_SAME, &set->aliases[i]};
    }
    for (uint32_t i = 0; i < set->alias_count; i++) {
        enum match_rule rule = match_alias(&set->aliases[i], final);
        if (rule != MATCH_NONE)
            return (struct match){rule, &set->aliases[i]};
    }
    return (struct match){MATCH_NONE, NULL};
}
