#include "reward/normalise.h"

#include <string.h>

#include "reward/compose.h"
#include "reward/fold.h"

/* First stage: code points to raw tokens. Numbers are digits with grouping removed; words are words. */
struct splitter {
    struct fold fold;
    struct normal *out;
    bool open;         /* a token is being built: out->tokens[out->token_count] */
    bool gap;          /* punctuation was passed since the last token */
    bool comma;        /* ... a comma, semicolon or slash among it */
    bool lower_last;   /* the last letter was lower case */
    bool point;        /* the open number has its decimal point */
    bool grouped;      /* the open number has separators of thousands */
    bool after_letter; /* the last glyph was a letter: an apostrophe here may begin a possessive */
    char century[2];   /* of the number before a dash: 1946-47 */
    bool century_waits;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct token *open_token(struct splitter *s) {
    return &s->out->tokens[s->out->token_count];
}

static void close_token(struct splitter *s) {
    if (s->open)
        s->out->token_count++;
    s->open = false;
}

static bool full(const struct splitter *s) {
    return s->out->token_count + 4 > NORMAL_TOKENS_MAX || s->out->text_bytes + 2 * TOKEN_BYTES_MAX > NORMAL_TEXT_MAX;
}

static void begin_token(struct splitter *s, enum token_kind kind, bool upper) {
    close_token(s);
    unsigned flags = (s->gap ? TOKEN_GAP : 0) | (s->comma ? TOKEN_COMMA : 0) | (upper ? TOKEN_UPPER | TOKEN_CAPS : 0);
    *open_token(s) = (struct token){.start = s->out->text_bytes, .kind = (uint8_t)kind, .flags = (uint8_t)flags};
    s->open = true;
    s->gap = s->comma = s->point = s->grouped = false;
}

static void put_byte(struct splitter *s, char byte) {
    struct token *token = open_token(s);
    if (token->bytes >= TOKEN_BYTES_MAX) { /* the rest goes on as a token of its own */
        begin_token(s, (enum token_kind)token->kind, false);
        token = open_token(s);
    }
    s->out->text[s->out->text_bytes++] = byte;
    token->bytes++;
}

static void put_code_point(struct splitter *s, int32_t c) {
    if (c < 0x80) {
        put_byte(s, (char)c);
        return;
    }
    if (open_token(s)->bytes + 4 > TOKEN_BYTES_MAX)
        begin_token(s, TOKEN_WORD, false);
    if (c < 0x800) {
        put_byte(s, (char)(0xC0 | c >> 6));
    } else {
        if (c < 0x10000) {
            put_byte(s, (char)(0xE0 | c >> 12));
        } else {
            put_byte(s, (char)(0xF0 | c >> 18));
            put_byte(s, (char)(0x80 | (c >> 12 & 0x3F)));
        }
        put_byte(s, (char)(0x80 | (c >> 6 & 0x3F)));
    }
    put_byte(s, (char)(0x80 | (c & 0x3F)));
}

static void put_number(struct splitter *s, unsigned value) {
    char digits[10];
    unsigned count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    begin_token(s, TOKEN_NUMBER, false);
    while (count > 0)
        put_byte(s, digits[--count]);
}

/* Digits ahead of offset, at most most; the value in *out. */
static unsigned peek_digits(const struct fold *fold, size_t offset, unsigned most, unsigned *out) {
    unsigned count = 0;
    *out = 0;
    while (count < most && is_digit(fold_peek(fold, offset + count)))
        *out = *out * 10 + (unsigned)(fold_peek(fold, offset + count++) - '0');
    return count;
}

/* 2004-03-15, 3/15/2004 (also 15/3/2004 where that alone is a date), 15.3.2004: tokens month, day, year. The position
 * is behind the first digit. */
static bool try_date(struct splitter *s) {
    struct fold *fold = &s->fold;
    fold->position--;
    unsigned part[3] = {0}, digits[3] = {0};
    size_t offset = digits[0] = peek_digits(fold, 0, 5, &part[0]);
    char separator = fold_peek(fold, offset);
    bool date = separator == '-' || separator == '/' || separator == '.';
    for (unsigned i = 1; i < 3 && date; i++) {
        date = fold_peek(fold, offset) == separator;
        offset += 1 + (digits[i] = peek_digits(fold, offset + 1, 5, &part[i]));
        date = date && digits[i] > 0;
    }
    unsigned year = 0, month = 0, day = 0;
    if (digits[0] == 4 && separator == '-') {
        year = part[0], month = part[1], day = part[2];
        date = date && digits[1] == 2 && digits[2] == 2;
    } else {
        year = part[2], month = part[0], day = part[1];
        if (separator != '/' || month > 12)
            month = part[1], day = part[0];
        date = date && digits[2] == 4 && digits[0] <= 2 && digits[1] <= 2;
    }
    if (!date || month < 1 || month > 12 || day < 1 || day > 31 || is_digit(fold_peek(fold, offset))) {
        fold->position++;
        return false;
    }
    fold->position += offset;
    begin_token(s, TOKEN_MONTH, false);
    for (const char *name = month_name(month); *name != '\0'; name++)
        put_byte(s, *name);
    put_number(s, day);
    put_number(s, year);
    close_token(s);
    return true;
}

/* Exactly three digits stand at offset. */
static bool group_ahead(const struct fold *fold, size_t offset) {
    unsigned value;
    return peek_digits(fold, offset, 4, &value) == 3;
}

/* Between the digits of an open number: its decimal point, a separator of thousands, an ordinal's ending, the dash of a
 * range of years. True when the glyph was used up. */
static bool inside_number(struct splitter *s, struct glyph glyph) {
    struct fold *fold = &s->fold;
    struct token *token = open_token(s);
    if (glyph.code_point == '.' && !s->point && is_digit(fold_peek(fold, 0))) {
        s->point = true;
        put_byte(s, '.');
        return true;
    }
    bool separator = glyph.code_point == ',' || glyph.kind == GLYPH_SPACE;
    if (separator && !s->point && (s->grouped || token->bytes <= 3) && group_ahead(fold, 0)) {
        s->grouped = true;
        return true;
    }
    if (glyph.code_point == ',' && !s->point &&
        is_digit(fold_peek(fold, 0))) { /* 84,3: the continent's decimal point */
        s->point = true;
        put_byte(s, '.');
        return true;
    }
    unsigned end;
    if (glyph.kind == GLYPH_DASH && token->bytes == 4 && peek_digits(fold, 0, 3, &end) == 2 &&
        fold_peek(fold, 2) != '-') {
        memcpy(s->century, s->out->text + token->start, 2);
        s->century_waits = true;
    }
    return false;
}

/* 21st: the ending is skipped. The position is behind a digit. */
static void skip_ordinal(struct fold *fold) {
    char a = (char)(fold_peek(fold, 0) | 32), b = (char)(fold_peek(fold, 1) | 32);
    bool ordinal = (a == 's' && b == 't') || (a == 'n' && b == 'd') || (a == 'r' && b == 'd') || (a == 't' && b == 'h');
    if (ordinal && !is_letter(fold_peek(fold, 2)) && !is_digit(fold_peek(fold, 2)))
        fold->position += 2;
}

static void on_digit(struct splitter *s, struct glyph glyph) {
    bool number = s->open && open_token(s)->kind == TOKEN_NUMBER;
    if (!number) {
        if (s->fold.next == s->fold.queued && try_date(s))
            return;
        begin_token(s, TOKEN_NUMBER, false);
        if (s->century_waits) {
            put_byte(s, s->century[0]);
            put_byte(s, s->century[1]);
        }
        s->century_waits = false;
    }
    put_byte(s, (char)glyph.code_point);
    skip_ordinal(&s->fold);
}

static void on_letter(struct splitter *s, struct glyph glyph) {
    char next = fold_peek(&s->fold, 0);
    bool word = s->open && open_token(s)->kind == TOKEN_WORD;
    bool glued = word && glyph.upper && s->lower_last && next >= 'a' && next <= 'z';
    if (!word || glued)
        begin_token(s, TOKEN_WORD, glyph.upper);
    if (!glyph.upper)
        open_token(s)->flags &= (uint8_t)~TOKEN_CAPS;
    put_code_point(s, glyph.code_point);
    s->lower_last = !glyph.upper;
}

static void put_and(struct splitter *s) {
    begin_token(s, TOKEN_WORD, false);
    put_byte(s, 'a');
    put_byte(s, 'n');
    put_byte(s, 'd');
    close_token(s);
}

static void on_mark(struct splitter *s, struct glyph glyph) {
    struct fold *fold = &s->fold;
    bool number = s->open && open_token(s)->kind == TOKEN_NUMBER;
    if (number && inside_number(s, glyph))
        return;
    bool was_open = s->open;
    close_token(s);
    if (glyph.kind == GLYPH_APOSTROPHE) { /* Hart's: the s goes */
        char s_letter = fold_peek(fold, 0), behind = s_letter == '\0' ? '\0' : fold_peek(fold, 1);
        if (was_open && !number && (s_letter | 32) == 's' && !is_letter(behind) && !is_digit(behind))
            fold->position++;
    } else if (glyph.code_point == '&') {
        put_and(s);
    } else if (glyph.code_point == '.') {
        if (was_open)
            s->out->tokens[s->out->token_count - 1].flags |= TOKEN_DOTTED;
    } else if (glyph.code_point == '\\' && is_letter(fold_peek(fold, 0))) {
        while (is_letter(fold_peek(fold, 0))) /* a LaTeX command: \text{Paris} */
            fold->position++;
    } else if (glyph.kind == GLYPH_BREAK && glyph.code_point != '$' && glyph.code_point != '%') {
        s->gap = true;
        s->comma = s->comma || glyph.code_point == ',' || glyph.code_point == ';' || glyph.code_point == '/';
    }
}

static size_t split(const char *text, size_t bytes, struct normal *out) {
    struct splitter s = {.out = out};
    out->token_count = out->text_bytes = 0;
    fold_init(&s.fold, text, bytes);
    for (;;) {
        if (full(&s))
            break;
        struct glyph glyph = fold_next(&s.fold);
        if (glyph.kind == GLYPH_END)
            break;
        if (glyph.kind == GLYPH_LETTER) {
            on_letter(&s, glyph);
        } else if (glyph.kind == GLYPH_DIGIT) {
            on_digit(&s, glyph);
        } else if (glyph.kind == GLYPH_IDEOGRAPH) {
            begin_token(&s, TOKEN_WORD, false);
            open_token(&s)->flags |= TOKEN_IDEOGRAPH;
            put_code_point(&s, glyph.code_point);
            close_token(&s);
        } else {
            on_mark(&s, glyph);
        }
        if (glyph.kind != GLYPH_DASH && glyph.kind != GLYPH_DIGIT)
            s.century_waits = false;
    }
    close_token(&s);
    return s.fold.position;
}

/* "!!!", "?": an answer of signs alone is one token of them. */
static void split_signs(const char *text, size_t bytes, struct normal *out) {
    struct splitter s = {.out = out};
    out->token_count = out->text_bytes = 0;
    fold_init(&s.fold, text, bytes < TOKEN_BYTES_MAX ? bytes : TOKEN_BYTES_MAX);
    for (struct glyph glyph = fold_next(&s.fold); glyph.kind != GLYPH_END; glyph = fold_next(&s.fold)) {
        if (glyph.kind == GLYPH_SPACE || glyph.code_point == '\0')
            continue;
        if (!s.open)
            begin_token(&s, TOKEN_WORD, false);
        put_code_point(&s, glyph.code_point);
    }
    close_token(&s);
}

size_t normalise(const char *text, size_t bytes, struct normal *out) {
    struct normal raw;
    size_t used = split(text, bytes, &raw);
    if (raw.token_count == 0)
        split_signs(text, bytes, &raw);
    compose(&raw, out);
    return used;
}

struct token_list normal_list(const struct normal *normal) {
    return (struct token_list){normal->tokens, normal->text, normal->token_count, normal->text_bytes};
}

bool token_same(struct token_list a, uint32_t i, struct token_list b, uint32_t j) {
    const struct token *x = &a.tokens[i], *y = &b.tokens[j];
    return x->hash == y->hash && x->bytes == y->bytes && memcmp(a.text + x->start, b.text + y->start, x->bytes) == 0;
}

bool token_span(struct token_list needle, struct token_list hay) {
    for (uint32_t i = 0; needle.count > 0 && i + needle.count <= hay.count; i++) {
        uint32_t k = 0;
        while (k < needle.count && token_same(needle, k, hay, i + k))
            k++;
        if (k == needle.count)
            return true;
    }
    return false;
}
