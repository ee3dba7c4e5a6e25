#include "reward/compose.h"

#include <string.h>

#include "reward/lexicon.h"

const char *month_name(unsigned month) {
    static const char *const names[] = {"january", "february", "march",     "april",   "may",      "june",
                                        "july",    "august",   "september", "october", "november", "december"};
    return names[month - 1];
}

static const char *raw_text(const struct normal *raw, uint32_t i) {
    return raw->text + raw->tokens[i].start;
}

static bool raw_is(const struct normal *raw, uint32_t i, const char *word) {
    size_t bytes = strlen(word);
    return i < raw->token_count && raw->tokens[i].bytes == bytes && memcmp(raw_text(raw, i), word, bytes) == 0;
}

static const struct lexicon_entry *raw_find(const struct normal *raw, uint32_t i) {
    if (i >= raw->token_count || raw->tokens[i].kind != TOKEN_WORD)
        return NULL;
    return lexicon_find(raw_text(raw, i), raw->tokens[i].bytes);
}

static void emit(struct normal *out, const char *text, size_t bytes, enum token_kind kind, unsigned flags) {
    if (out->token_count >= NORMAL_TOKENS_MAX || out->text_bytes + bytes > NORMAL_TEXT_MAX)
        return;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    memcpy(out->text + out->text_bytes, text, bytes);
    out->tokens[out->token_count++] = (struct token){.start = out->text_bytes,
                                                     .hash = hash,
                                                     .bytes = (uint16_t)bytes,
                                                     .kind = (uint8_t)kind,
                                                     .flags = (uint8_t)flags};
    out->text_bytes += (uint32_t)bytes;
}

/* ---- numbers -------------------------------------------------------------------------------------------------------
 */

#define NUMBER_DIGITS_MAX 18 /* of a value that is computed with; longer digit strings are kept as they are */

/* value * 10^-decimals */
struct number {
    uint64_t value;
    unsigned decimals;
};

static uint64_t power_of_ten(unsigned exponent) {
    uint64_t power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

/* A digit token. False when it is too long. */
static bool read_digits(const struct normal *raw, uint32_t i, struct number *out) {
    const char *text = raw_text(raw, i);
    size_t bytes = raw->tokens[i].bytes;
    *out = (struct number){0, 0};
    bool point = false;
    if (bytes > NUMBER_DIGITS_MAX)
        return false;
    for (size_t k = 0; k < bytes; k++) {
        if (text[k] == '.') {
            point = true;
            continue;
        }
        out->value = out->value * 10 + (uint64_t)(text[k] - '0');
        out->decimals += point;
    }
    return true;
}

static void emit_number(struct normal *out, struct number number, unsigned flags) {
    while (number.decimals > 0 && number.value % 10 == 0) {
        number.value /= 10;
        number.decimals--;
    }
    char text[NUMBER_DIGITS_MAX + 24];
    size_t end = sizeof text, begin = end;
    for (unsigned k = 0; number.value > 0 || k <= number.decimals; k++) {
        if (k == number.decimals && k > 0)
            text[--begin] = '.';
        text[--begin] = (char)('0' + number.value % 10);
        number.value /= 10;
    }
    emit(out, text + begin, end - begin, TOKEN_NUMBER, flags);
}

/* A number phrase as far as it is read: total + group, times 10^-decimals. group is the part below the last magnitude.
 */
struct phrase {
    uint64_t total, group;
    unsigned decimals, last_magnitude;
    bool closed; /* nothing can follow: an ordinal, or digits without a magnitude */
};

#define GROUP_LIMIT 1000000 /* keeps total below 10^18 with the largest magnitude, 10^12 */

static bool is_number_word(const struct lexicon_entry *entry) {
    return entry != NULL &&
           (entry->kind == LEXICON_UNIT || entry->kind == LEXICON_TENS || entry->kind == LEXICON_ORDINAL);
}

/* Whether a number word may continue the group: "twenty" + "one", "hundred" + "five", but not "two" + "four". */
static bool group_takes(uint64_t group, const struct lexicon_entry *entry) {
    if (entry->kind == LEXICON_TENS || entry->value >= 10)
        return group % 100 == 0;
    return group % 10 == 0 && (group == 0 || group % 100 == 0 || group % 100 >= 20) && entry->value > 0;
}

/* The first token of a phrase: digits or a number word. False when token i is neither. */
static bool begin_phrase(const struct normal *raw, uint32_t i, struct phrase *out) {
    *out = (struct phrase){.last_magnitude = 15};
    if (raw->tokens[i].kind == TOKEN_NUMBER) {
        struct number digits;
        if (!read_digits(raw, i, &digits))
            return false;
        const struct lexicon_entry *next = raw_find(raw, i + 1);
        out->group = digits.value;
        out->decimals = digits.decimals;
        out->closed = next == NULL || next->kind != LEXICON_MAGNITUDE || digits.value >= GROUP_LIMIT;
        return true;
    }
    const struct lexicon_entry *first = raw_find(raw, i);
    if (!is_number_word(first))
        return false;
    out->group = first->value;
    out->closed = first->kind == LEXICON_ORDINAL;
    return true;
}

/* "thousand" and so on: magnitudes must fall, so "two million three thousand" is one number, "one thousand two
 * thousand" two. */
static bool take_magnitude(struct phrase *phrase, unsigned exponent) {
    if (phrase->group == 0 || phrase->group >= GROUP_LIMIT || exponent >= phrase->last_magnitude)
        return false;
    phrase->last_magnitude = exponent;
    while (phrase->decimals > 0 && exponent > 0)
        phrase->decimals--, exponent--;
    phrase->total += phrase->group * power_of_ten(exponent);
    phrase->group = 0;
    phrase->closed = phrase->decimals > 0;
    return true;
}

/* The next token of a phrase at k, with an "and" before it. Returns the tokens used, 0 at the end of the phrase. */
static uint32_t extend_phrase(const struct normal *raw, uint32_t k, struct phrase *phrase) {
    uint32_t used = 1;
    const struct lexicon_entry *entry = raw_find(raw, k);
    if (entry == NULL || phrase->closed)
        return 0;
    if (entry->kind == LEXICON_MAGNITUDE)
        return take_magnitude(phrase, entry->value) ? 1 : 0;
    if (phrase->decimals > 0)
        return 0;
    if (entry->kind == LEXICON_HUNDRED) {
        if (phrase->group == 0 || phrase->group >= 100)
            return 0;
        phrase->group *= 100;
        return 1;
    }
    if (raw_is(raw, k, "and") && (phrase->total > 0 || phrase->group >= 100)) {
        entry = raw_find(raw, k + 1);
        used = 2;
    }
    if (!is_number_word(entry) || phrase->total + phrase->group == 0 || !group_takes(phrase->group, entry))
        return 0;
    phrase->group += entry->value;
    phrase->closed = entry->kind == LEXICON_ORDINAL;
    return used;
}

/* The number phrase at i: digits, number words, or digits with a magnitude behind. Returns the tokens used, 0 when
 * there is none. */
static uint32_t read_number(const struct normal *raw, uint32_t i, struct number *out) {
    struct phrase phrase;
    if (!begin_phrase(raw, i, &phrase))
        return 0;
    uint32_t count = 1, used;
    while ((used = extend_phrase(raw, i + count, &phrase)) > 0)
        count += used;
    *out = (struct number){phrase.total + phrase.group, phrase.decimals};
    return count;
}

/* II, VIII, XIV: 0 when not a Roman numeral that may be read as a number. Single letters, and forms that are rather
 * words or abbreviations (XL, LI), are not. */
static unsigned roman_value(const char *text, size_t bytes) {
    static const struct {
        const char *digits;
        unsigned value, most;
    } parts[] = {{"l", 50, 1}, {"xl", 40, 1}, {"x", 10, 3}, {"ix", 9, 1}, {"v", 5, 1}, {"iv", 4, 1}, {"i", 1, 3}};
    unsigned value = 0;
    size_t at = 0;
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        size_t length = strlen(parts[p].digits);
        for (unsigned k = 0; k < parts[p].most && bytes - at >= length; k++) {
            if (memcmp(text + at, parts[p].digits, length) != 0)
                break;
            value += parts[p].value;
            at += length;
        }
    }
    bool is_word = bytes < 2 || (bytes == 2 && value >= 40);
    return at == bytes && !is_word ? value : 0;
}

/* ---- words ---------------------------------------------------------------------------------------------------------
 */

static bool is_initial(const struct token *token) {
    return token->kind == TOKEN_WORD && token->bytes == 1 && (token->flags & (TOKEN_UPPER | TOKEN_DOTTED)) != 0;
}

/* U.S., J. R. R.: a run of two or more initials is one token. Returns the tokens used. */
static uint32_t emit_initials(const struct normal *raw, uint32_t i, struct normal *out) {
    char text[TOKEN_BYTES_MAX];
    uint32_t count = 0;
    while (i + count < raw->token_count && count < 8 && is_initial(&raw->tokens[i + count]) &&
           (count == 0 || (raw->tokens[i + count].flags & TOKEN_GAP) == 0)) {
        text[count] = *raw_text(raw, i + count);
        count++;
    }
    if (count < 2)
        return 0;
    if (count >= 3 && memcmp(text, "usa", 3) == 0)
        emit(out, "us", 2, TOKEN_WORD, TOKEN_UPPER | TOKEN_CAPS);
    else
        emit(out, text, count, TOKEN_WORD, TOKEN_UPPER | TOKEN_CAPS);
    return count;
}

/* Countries better known by their initials. */
static uint32_t emit_country(const struct normal *raw, uint32_t i, struct normal *out) {
    if (!raw_is(raw, i, "united"))
        return 0;
    if (raw_is(raw, i + 1, "kingdom")) {
        emit(out, "uk", 2, TOKEN_WORD, TOKEN_UPPER | TOKEN_CAPS);
        return 2;
    }
    if (!raw_is(raw, i + 1, "states"))
        return 0;
    emit(out, "us", 2, TOKEN_WORD, TOKEN_UPPER | TOKEN_CAPS);
    return raw_is(raw, i + 2, "of") && raw_is(raw, i + 3, "america") ? 4 : 2;
}

static bool beside_number(const struct normal *raw, uint32_t i) {
    return (i > 0 && raw->tokens[i - 1].kind == TOKEN_NUMBER) ||
           (i + 1 < raw->token_count && raw->tokens[i + 1].kind == TOKEN_NUMBER);
}

static void emit_word(const struct normal *raw, uint32_t i, bool keep_articles, struct normal *out) {
    const struct token *token = &raw->tokens[i];
    const struct lexicon_entry *entry = lexicon_find(raw_text(raw, i), token->bytes);
    if (entry == NULL) {
        unsigned roman = roman_value(raw_text(raw, i), token->bytes);
        bool lower_is_clear = token->bytes >= 3 || raw_is(raw, i, "ii");
        if (roman > 0 && i > 0 && ((token->flags & TOKEN_CAPS) != 0 || lower_is_clear)) {
            emit_number(out, (struct number){roman, 0}, token->flags);
            return;
        }
        emit(out, raw_text(raw, i), token->bytes, TOKEN_WORD, token->flags);
        return;
    }
    bool last = i + 1 == raw->token_count || (raw->tokens[i + 1].flags & TOKEN_GAP) != 0;
    switch (entry->kind) {
    case LEXICON_ARTICLE: /* "Hepatitis A" and "n/a" keep their letter */
        if (keep_articles || (last && token->bytes == 1))
            emit(out, entry->word, token->bytes, TOKEN_WORD, token->flags | TOKEN_STOP);
        return;
    case LEXICON_DROP:
        if (!beside_number(raw, i))
            emit(out, entry->word, token->bytes, TOKEN_WORD, token->flags);
        return;
    case LEXICON_MONTH:
    case LEXICON_MONTH_MAYBE:
        if (entry->kind == LEXICON_MONTH || beside_number(raw, i))
            emit(out, entry->replacement, strlen(entry->replacement), TOKEN_MONTH, token->flags);
        else
            emit(out, entry->word, token->bytes, TOKEN_WORD, token->flags);
        return;
    case LEXICON_SAME:
        emit(out, entry->replacement, strlen(entry->replacement), TOKEN_WORD, token->flags);
        return;
    case LEXICON_STOP:
    case LEXICON_WEEKDAY:
        emit(out, entry->word, token->bytes, TOKEN_WORD, token->flags | TOKEN_STOP);
        return;
    default:
        emit(out, entry->word, token->bytes, TOKEN_WORD, token->flags);
    }
}

static void compose_all(const struct normal *raw, bool keep_articles, struct normal *out) {
    out->token_count = out->text_bytes = 0;
    for (uint32_t i = 0; i < raw->token_count;) {
        struct number number;
        uint32_t used = emit_initials(raw, i, out);
        if (used == 0)
            used = emit_country(raw, i, out);
        if (used == 0 && (used = read_number(raw, i, &number)) > 0)
            emit_number(out, number, raw->tokens[i].flags);
        if (used == 0 && raw->tokens[i].kind == TOKEN_WORD)
            emit_word(raw, i, keep_articles, out), used = 1;
        if (used == 0)
            emit(out, raw_text(raw, i), raw->tokens[i].bytes, (enum token_kind)raw->tokens[i].kind, 0), used = 1;
        i += used;
    }
}

void compose(const struct normal *raw, struct normal *out) {
    compose_all(raw, false, out);
    if (out->token_count == 0) /* "The The" */
        compose_all(raw, true, out);
}
