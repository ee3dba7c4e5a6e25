#include "reward/gold.h"

#include <stdlib.h>
#include <string.h>

#include "reward/alike.h"

/* yes, no and other words of closed classes stand in any reasoning. */
static bool is_closed_class(struct token_list list) {
    static const char *const words[] = {"yes",    "no",    "true",   "false", "none",  "both",  "neither",
                                        "either", "male",  "female", "north", "south", "east",  "west",
                                        "left",   "right", "more",   "less",  "black", "white", "red",
                                        "blue",   "green", "other",  "many",  "first", "last"};
    for (size_t i = 0; list.count == 1 && i < sizeof words / sizeof words[0]; i++) {
        if (list.text_bytes == strlen(words[i]) && memcmp(list.text, words[i], list.text_bytes) == 0)
            return true;
    }
    return false;
}

#define REASONING_BYTES_LEAST 4 /* factuality.md 3.3: shorter aliases are found by chance */
#define REASONING_DIGITS_LEAST 2
#define REASONING_TOKENS_MOST 32 /* fits the overlap of two windows of reasoning */

static bool is_sought_in_reasoning(const struct alias *alias) {
    struct token_list list = alias->list;
    size_t least =
        list.count == 1 && list.tokens[0].kind == TOKEN_NUMBER ? REASONING_DIGITS_LEAST : REASONING_BYTES_LEAST;
    return list.text_bytes >= least && list.count <= REASONING_TOKENS_MOST && !alias->stop_only && !alias->asked &&
           !is_closed_class(list);
}

/* "Simon and Garfunkel": one of them does not answer the question. */
static bool names_several(struct token_list list) {
    for (uint32_t i = 1; i + 1 < list.count; i++) {
        if (list.tokens[i].bytes == 3 && memcmp(token_text(list, i), "and", 3) == 0)
            return true;
    }
    return false;
}

static bool asks_who(struct token_list question) {
    for (uint32_t i = 0; i < question.count; i++) {
        struct token token = question.tokens[i];
        if (token.bytes >= 3 && token.bytes <= 5 &&
            memcmp(token_text(question, i), "who", 3) == 0) /* who, whom, whose */
            return true;
    }
    return false;
}

static bool asks_day_or_month(struct token_list question) {
    static const char *const words[] = {"day", "month", "date", "days", "months", "dates"};
    for (uint32_t i = 0; i < question.count; i++) {
        for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
            if (question.tokens[i].bytes == strlen(words[w]) &&
                memcmp(token_text(question, i), words[w], strlen(words[w])) == 0)
                return true;
        }
    }
    return false;
}

static bool all_capitalised(struct token_list list) {
    for (uint32_t i = 0; i < list.count; i++) {
        if ((list.tokens[i].flags & TOKEN_UPPER) == 0)
            return false;
    }
    return true;
}

static void describe(struct alias *alias, struct token_list question) {
    struct token_list list = alias->list;
    for (uint32_t i = 0; i < list.count; i++) {
        alias->content_count += (list.tokens[i].flags & TOKEN_STOP) == 0;
        alias->exact_count += list.tokens[i].kind != TOKEN_WORD;
    }
    alias->stop_only = alias->content_count == 0;
    alias->date = alias->exact_count >= 2 && alias->exact_count == alias->content_count;
    alias->coarse = alias->date && !asks_day_or_month(question);
    alias->capitalised = all_capitalised(list);
    alias->person =
        list.count >= 2 && list.count <= 4 && alias->exact_count == 0 && alias->capitalised && asks_who(question);
    alias->listed = names_several(list);
    alias->asked = token_span(list, question);
    alias->in_reasoning = is_sought_in_reasoning(alias);
}

static bool is_repeated(const struct gold_set *set, struct token_list list) {
    for (uint32_t i = 0; i < set->alias_count; i++) {
        struct token_list other = set->aliases[i].list;
        if (list.count == other.count && list.text_bytes == other.text_bytes &&
            memcmp(list.text, other.text, list.text_bytes) == 0)
            return true;
    }
    return false;
}

static void mark_asked(struct token *tokens, struct token_list list, struct token_list question) {
    for (uint32_t i = 0; i < list.count; i++) {
        for (uint32_t j = 0; j < question.count; j++) {
            if (token_alike(list, i, question, j))
                tokens[i].flags |= TOKEN_ASKED;
        }
    }
}

static enum status add_alias(struct gold_set *set, struct token_list question, const char *text, size_t bytes,
                             struct normal *scratch) {
    normalise(text, bytes, scratch);
    if (scratch->token_count > ALIAS_TOKENS_MAX) {
        scratch->token_count = ALIAS_TOKENS_MAX;
        scratch->text_bytes = scratch->tokens[ALIAS_TOKENS_MAX].start;
    }
    if (scratch->token_count == 0 || is_repeated(set, normal_list(scratch)))
        return STATUS_OK;
    size_t token_bytes = scratch->token_count * sizeof(struct token);
    struct token *block = malloc(token_bytes + scratch->text_bytes);
    if (block == NULL)
        return fail(STATUS_NO_MEMORY, "gold aliases: out of memory");
    memcpy(block, scratch->tokens, token_bytes);
    char *kept = (char *)block + token_bytes;
    memcpy(kept, scratch->text, scratch->text_bytes);
    struct alias *alias = &set->aliases[set->alias_count++];
    alias->block = block;
    alias->list = (struct token_list){block, kept, scratch->token_count, scratch->text_bytes};
    mark_asked(block, alias->list, question);
    describe(alias, question);
    if (alias->in_reasoning)
        set->reasoning[block->hash / 64 % 16] |= UINT64_C(1) << (block->hash % 64);
    return STATUS_OK;
}

/* "Life of Pi (novel)" also stands for "Life of Pi": out = text without its bracketed parts. */
static size_t without_brackets(const char *text, size_t bytes, char *out) {
    size_t depth = 0, count = 0;
    for (size_t i = 0; i < bytes; i++) {
        bool opens = text[i] == '(' || text[i] == '[', closes = text[i] == ')' || text[i] == ']';
        depth += opens;
        if (depth == 0)
            out[count++] = text[i];
        depth -= closes && depth > 0;
    }
    return depth == 0 ? count : 0; /* unbalanced: no such form */
}

static enum status add_forms(struct gold_set *set, struct token_list question, const char *text,
                             struct normal *scratch) {
    size_t bytes = strlen(text);
    if (bytes > GOLD_TEXT_BYTES_MAX)
        return fail(STATUS_LIMIT, "gold alias: %zu bytes, at most %d are taken", bytes, GOLD_TEXT_BYTES_MAX);
    TRY(add_alias(set, question, text, bytes, scratch));
    if (strpbrk(text, "([") == NULL)
        return STATUS_OK;
    char *stripped = malloc(bytes);
    if (stripped == NULL)
        return fail(STATUS_NO_MEMORY, "gold aliases: out of memory");
    enum status status = add_alias(set, question, stripped, without_brackets(text, bytes, stripped), scratch);
    free(stripped);
    return status;
}

enum status gold_set_create(const struct question_golds *golds, struct gold_set **out_set) {
    size_t question_bytes = strlen(golds->question);
    if (golds->alias_count > GOLD_ALIASES_MAX)
        return fail(STATUS_LIMIT, "gold aliases: %zu, at most %d are taken", golds->alias_count, GOLD_ALIASES_MAX);
    if (question_bytes > GOLD_TEXT_BYTES_MAX)
        return fail(STATUS_LIMIT, "question: %zu bytes, at most %d are taken", question_bytes, GOLD_TEXT_BYTES_MAX);
    enum status status = STATUS_OK;
    struct normal question, scratch;
    struct gold_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return fail(STATUS_NO_MEMORY, "gold aliases: out of memory");
    set->aliases = calloc(2 * golds->alias_count + 1, sizeof *set->aliases); /* each with and without its brackets */
    if (set->aliases == NULL)
        TRY_GOTO(fail(STATUS_NO_MEMORY, "gold aliases: out of memory"), failed);
    normalise(golds->question, question_bytes, &question);
    for (size_t i = 0; i < golds->alias_count; i++)
        TRY_GOTO(add_forms(set, normal_list(&question), golds->aliases[i], &scratch), failed);
    *out_set = set;
    return STATUS_OK;
failed:
    gold_set_destroy(&set);
    return status;
}

void gold_set_destroy(struct gold_set **set) {
    if (*set == NULL)
        return;
    for (uint32_t i = 0; i < (*set)->alias_count; i++)
        free((*set)->aliases[i].block);
    free((*set)->aliases);
    free(*set);
    *set = NULL;
}
