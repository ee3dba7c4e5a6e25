/* Text, one folded code point at a time: lower case, compatibility forms, no accents, ASCII for the letters that do not
 * decompose (ø, ł, æ ...), dashes and apostrophes unified. Any bytes are readable: a malformed byte is a break.
 *
 * ASCII takes a table; everything else goes through utf8proc. Reads each byte once; state is on the caller's stack. */
#ifndef CANDOR_REWARD_FOLD_H
#define CANDOR_REWARD_FOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum glyph_kind {
    GLYPH_END,
    GLYPH_SPACE,
    GLYPH_BREAK,      /* punctuation, symbols, malformed bytes */
    GLYPH_APOSTROPHE, /* ' and its curly forms */
    GLYPH_DASH,       /* hyphen, en dash, em dash, minus */
    GLYPH_LETTER,
    GLYPH_DIGIT,     /* ASCII after folding */
    GLYPH_IDEOGRAPH, /* Han, Hiragana, Katakana: a token each, as these scripts put no spaces */
};

struct glyph {
    enum glyph_kind kind;
    int32_t code_point; /* folded */
    bool upper;         /* the source was upper case */
};

#define FOLD_QUEUE 36 /* twice 18, the longest compatibility decomposition: a part may become two letters */

struct fold {
    const char *text;
    size_t bytes, position; /* position: the next unread byte */
    int32_t queue[FOLD_QUEUE];
    unsigned queued, next;
    bool upper;
};

void fold_init(struct fold *fold, const char *text, size_t bytes);
struct glyph fold_next(struct fold *fold);

/* The raw byte offset bytes ahead of position, 0 beyond the end: for looking ahead in ASCII. */
static inline char fold_peek(const struct fold *fold, size_t offset) {
    return offset < fold->bytes - fold->position ? fold->text[fold->position + offset] : '\0';
}

#endif
