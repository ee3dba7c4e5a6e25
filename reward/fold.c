#include "reward/fold.h"

#include <utf8proc.h>

/* Kind of each ASCII byte. */
#define S GLYPH_SPACE
#define B GLYPH_BREAK
#define L GLYPH_LETTER
#define D GLYPH_DIGIT
#define Q GLYPH_APOSTROPHE
#define H GLYPH_DASH
static const uint8_t ascii_kind[128] = {
    B, B, B, B, B, B, B, B, B, S, S, S, S, S, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, /* controls */
    S, B, B, B, B, B, B, Q, B, B, B, B, B, H, B, B, D, D, D, D, D, D, D, D, D, D, B, B, B, B, B, B, /* space to ? */
    B, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, B, B, B, B, B, /* @ to _ */
    Q, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, B, B, B, B, B, /* ` to DEL */
};
#undef S
#undef B
#undef L
#undef D
#undef Q
#undef H

void fold_init(struct fold *fold, const char *text, size_t bytes) {
    fold->text = text;
    fold->bytes = bytes;
    fold->position = 0;
    fold->queued = fold->next = 0;
    fold->upper = false;
}

/* Letters without a decomposition that people type without their stroke. Case-folded code points. */
static const char *plain_letters(int32_t code_point) {
    switch (code_point) {
    case 0xE6:
        return "ae";
    case 0x153:
        return "oe";
    case 0xF8:
        return "o";
    case 0x142:
        return "l";
    case 0x111:
    case 0xF0:
        return "d";
    case 0xFE:
        return "th";
    case 0x131:
        return "i";
    case 0x127:
        return "h";
    default:
        return NULL;
    }
}

static bool is_stripped_mark(int32_t c) {
    return (c >= 0x300 && c <= 0x36F) || (c >= 0x1DC0 && c <= 0x1DFF) || (c >= 0x20D0 && c <= 0x20FF) ||
           (c >= 0x64B && c <= 0x652) || (c >= 0x591 && c <= 0x5C7);
}

static bool is_ideograph(int32_t c) {
    return (c >= 0x3041 && c <= 0x30FF && c != 0x30FB) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF) ||
           c == 0x3007;
}

static enum glyph_kind kind_of(int32_t c) {
    if (c < 128)
        return (enum glyph_kind)ascii_kind[c];
    if ((c >= 0x2018 && c <= 0x201B) || c == 0x2BC || c == 0xB4)
        return GLYPH_APOSTROPHE;
    if (is_ideograph(c))
        return GLYPH_IDEOGRAPH;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_PD:
        return GLYPH_DASH;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return GLYPH_SPACE;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
        return GLYPH_LETTER;
    default:
        return c == 0x2212 ? GLYPH_DASH : GLYPH_BREAK;
    }
}

/* Decompose the code point at position into the queue. False when nothing of it is left (a mark, an ignorable). */
static bool fill_queue(struct fold *fold) {
    int32_t code_point;
    utf8proc_ssize_t used = utf8proc_iterate((const uint8_t *)fold->text + fold->position,
                                             (utf8proc_ssize_t)(fold->bytes - fold->position), &code_point);
    fold->queued = fold->next = 0;
    if (used <= 0) {
        fold->position++;
        fold->queue[fold->queued++] = '\0'; /* a break */
        return true;
    }
    fold->position += (size_t)used;
    fold->upper = utf8proc_category(code_point) == UTF8PROC_CATEGORY_LU;
    if (code_point == 0xB4) { /* an accent by itself decomposes into a space */
        fold->queue[fold->queued++] = '\'';
        return true;
    }
    int32_t parts[FOLD_QUEUE];
    int boundary = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        code_point, parts, FOLD_QUEUE,
        (utf8proc_option_t)(UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE), &boundary);
    if (count < 0 || count > FOLD_QUEUE / 2) /* room for two letters a part */
        count = 0;
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        if (is_stripped_mark(parts[i]))
            continue;
        const char *letters = plain_letters(parts[i]);
        if (letters == NULL)
            fold->queue[fold->queued++] = parts[i];
        for (; letters != NULL && *letters != '\0'; letters++)
            fold->queue[fold->queued++] = *letters;
    }
    return fold->queued > 0;
}

struct glyph fold_next(struct fold *fold) {
    for (;;) {
        if (fold->next < fold->queued) {
            int32_t code_point = fold->queue[fold->next++];
            return (struct glyph){kind_of(code_point), code_point, fold->upper};
        }
        if (fold->position >= fold->bytes)
            return (struct glyph){GLYPH_END, 0, false};
        unsigned char byte = (unsigned char)fold->text[fold->position];
        if (byte < 128) {
            fold->position++;
            bool upper = byte >= 'A' && byte <= 'Z';
            return (struct glyph){(enum glyph_kind)ascii_kind[byte], upper ? byte + 32 : byte, upper};
        }
        fill_queue(fold);
    }
}
