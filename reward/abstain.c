#include "reward/abstain.h"

#include <string.h>

/* Normalised phrases, a space between tokens. A final that is one of them, or begins with one, abstains. */
static const char *const phrases[] = {
    "unknown",
    "unknowable",
    "unsure",
    "uncertain",
    "idk",
    "unclear",
    "undetermined",
    "unspecified",
    "i do not know",
    "i don t know",
    "do not know",
    "don t know",
    "dont know",
    "i dont know",
    "i am not sure",
    "i m not sure",
    "im not sure",
    "not sure",
    "not certain",
    "i am unsure",
    "i m unsure",
    "i am not certain",
    "i have no idea",
    "no idea",
    "i cannot determine",
    "i can not determine",
    "i can t determine",
    "cannot determine",
    "can not determine",
    "can t determine",
    "cannot be determined",
    "can not be determined",
    "unable to determine",
    "i am unable to",
    "i m unable to",
    "unable to answer",
    "cannot answer",
    "can not answer",
    "i cannot answer",
    "i can t answer",
    "no answer",
    "not known",
    "it is unknown",
    "it is not known",
    "it s unknown",
    "answer is unknown",
    "answer unknown",
    "not enough information",
    "insufficient information",
    "no information",
    "not available",
    "information not available",
    "n a",
    "na",
    "not applicable",
    "not specified",
    "not provided",
    "not mentioned",
    "no reliable information",
    "nevim",
    "neznamy",
    "neznama",
    "nezname",
    "neznamo",
    "未 知",
    "不 知 道",
    "不 清 楚",
    "不 确 定",
    "无 法 确 定",
    "我 不 知 道",
};

/* Refusals that sentences use; each is clear wherever it stands. */
static const char *const refusals[] = {
    "i do not know",
    "i don t know",
    "i am not sure",
    "i m not sure",
    "i do not have",
    "i don t have",
    "i am unable to",
    "i m unable to",
    "i cannot provide",
    "i can t provide",
    "i cannot answer",
    "i can t answer",
    "i cannot determine",
    "i can t determine",
    "i could not find",
    "i couldn t find",
    "i cannot find",
    "i can t find",
    "i am not aware",
    "i m not aware",
    "i am not familiar",
    "i m not familiar",
    "i have no information",
    "is not known",
    "is unknown",
    "unable to determine",
    "unable to provide",
    "unable to find",
    "cannot be determined",
    "can not be determined",
    "not enough information",
    "insufficient information",
    "no information",
    "not enough context",
    "does not exist",
    "do not exist",
    "doesn t exist",
    "no record of",
    "no such",
    "not recognized",
    "typo",
    "seems to be misunderstanding",
    "more context",
    "more information",
    "information is not available",
    "is not publicly available",
    "is not available",
    "nemam k dispozici",
    "nejsou mi znamy",
    "nemohu",
    "bohuzel",
    "无 法 确 定",
    "不 知 道",
    "没 有 足 够",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The phrase's tokens stand at list[from]. Returns how many, 0 when they do not. */
static uint32_t phrase_at(const char *phrase, struct token_list list, uint32_t from) {
    uint32_t count = 0;
    for (const char *word = phrase; *word != '\0'; count++) {
        size_t bytes = strcspn(word, " ");
        if (from + count >= list.count || list.tokens[from + count].bytes != bytes ||
            memcmp(token_text(list, from + count), word, bytes) != 0)
            return 0;
        word += bytes;
        word += *word == ' ';
    }
    return count;
}

static uint32_t longest_at(const char *const *set, size_t count, struct token_list list, uint32_t from) {
    uint32_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        if (*set[i] != *token_text(list, from))
            continue;
        uint32_t tokens = phrase_at(set[i], list, from);
        longest = tokens > longest ? tokens : longest;
    }
    return longest;
}

uint32_t abstain_prefix(const struct gold_set *set, struct token_list final) {
    uint32_t prefix = final.count == 0 ? 0 : longest_at(phrases, COUNT(phrases), final, 0);
    struct token_list said = {final.tokens, final.text, prefix, 0};
    for (uint32_t i = 0; prefix > 0 && i < set->alias_count; i++) {
        struct token_list gold = set->aliases[i].list;
        if (gold.count < prefix)
            continue;
        gold.count = prefix;
        if (token_span(said, gold))
            return 0;
    }
    return prefix;
}

bool abstain_anywhere(struct token_list final) {
    for (uint32_t i = 0; i < final.count; i++) {
        if (longest_at(refusals, COUNT(refusals), final, i) > 0)
            return true;
    }
    return false;
}
