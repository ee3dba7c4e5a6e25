/* The words the normaliser knows: number words, months, articles, stop words, and spellings of one word. English, as
 * the published question sets are; other languages pass through untouched. */
#ifndef CANDOR_REWARD_LEXICON_H
#define CANDOR_REWARD_LEXICON_H

#include <stddef.h>
#include <stdint.h>

enum lexicon_kind {
    LEXICON_UNIT, /* zero .. nineteen; value */
    LEXICON_TENS, /* twenty .. ninety */
    LEXICON_HUNDRED,
    LEXICON_MAGNITUDE,   /* thousand, million ...: value is the power of ten */
    LEXICON_ORDINAL,     /* first .. nineteenth, twentieth, thirtieth ...; value */
    LEXICON_MONTH,       /* replacement is the whole name */
    LEXICON_MONTH_MAYBE, /* a month only beside a number: "may", "march", "jan" */
    LEXICON_WEEKDAY,
    LEXICON_ARTICLE,
    LEXICON_STOP, /* carries no answer by itself */
    LEXICON_SAME, /* replacement is the spelling that all its variants take */
    LEXICON_DROP, /* said or left out alike: "percent" */
};

struct lexicon_entry {
    const char *word;
    enum lexicon_kind kind;
    uint16_t value;
    const char *replacement;
};

/* word: folded, not NUL-terminated. NULL when not in the lexicon. */
const struct lexicon_entry *lexicon_find(const char *word, size_t bytes);

/* The whole table, sorted by word (a test checks it). */
const struct lexicon_entry *lexicon_table(size_t *out_count);

#endif
