#include "reward/alike.h"

#include <string.h>

#define STEM_BYTES_LEAST 4
#define LATIN_STEM_BYTES_LEAST 6 /* keeps Maria and Marius, Carla and Carlus apart */
#define ENDING_BYTES_MOST 4
#define SLIP_BYTES_LEAST 6

static bool is_among(const char *ending, size_t bytes, const char *const *endings, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strlen(endings[i]) == bytes && memcmp(endings[i], ending, bytes) == 0)
            return true;
    }
    return false;
}

static bool is_ending(const char *ending, size_t bytes, size_t stem_bytes) {
    static const char *const english[] = {
        "",    "s",   "es",  "e",   "d",    "ed",  "ing", "er",   "ers",  "or",   "ors",  "ion",  "al",  "an",
        "ans", "ian", "n",   "ns",  "y",    "ies", "ic",  "ity",  "ish",  "ive",  "ly",   "ure",  "ain", "ar",
        "age", "ry",  "ist", "ism", "ment", "ise", "ize", "ness", "ists", "ised", "ized", "ions", "ians"};
    static const char *const latin[] = {"a", "um", "us", "on", "i", "ae", "os", "is"};
    return is_among(ending, bytes, english, sizeof english / sizeof english[0]) ||
           (stem_bytes >= LATIN_STEM_BYTES_LEAST && is_among(ending, bytes, latin, sizeof latin / sizeof latin[0]));
}

/* Equal but for one letter put in, left out or exchanged, or two neighbours in the wrong order. prefix: the bytes they
 * share from the start. */
static bool one_slip(const char *x, size_t x_bytes, const char *y, size_t y_bytes, size_t prefix) {
    const char *a = x + prefix, *b = y + prefix;
    size_t a_rest = x_bytes - prefix, b_rest = y_bytes - prefix;
    if (a_rest == b_rest)
        return memcmp(a + 1, b + 1, a_rest - 1) == 0 ||
               (a_rest >= 2 && a[0] == b[1] && a[1] == b[0] && memcmp(a + 2, b + 2, a_rest - 2) == 0);
    if (a_rest == b_rest + 1)
        return memcmp(a + 1, b, b_rest) == 0;
    return b_rest == a_rest + 1 && memcmp(b + 1, a, a_rest) == 0;
}

bool token_alike(struct token_list a, uint32_t i, struct token_list b, uint32_t j) {
    const struct token *x = &a.tokens[i], *y = &b.tokens[j];
    const char *p = a.text + x->start, *q = b.text + y->start;
    if (*p != *q)
        return false;
    if (token_same(a, i, b, j))
        return true;
    if (x->kind != TOKEN_WORD || y->kind != TOKEN_WORD || x->bytes < STEM_BYTES_LEAST || y->bytes < STEM_BYTES_LEAST)
        return false;
    size_t least = x->bytes < y->bytes ? x->bytes : y->bytes, most = x->bytes < y->bytes ? y->bytes : x->bytes;
    size_t prefix = 1;
    while (prefix < least && p[prefix] == q[prefix])
        prefix++;
    if (prefix >= STEM_BYTES_LEAST && most - prefix <= ENDING_BYTES_MOST && 2 * prefix >= most &&
        is_ending(p + prefix, x->bytes - prefix, prefix) && is_ending(q + prefix, y->bytes - prefix, prefix))
        return true;
    return least >= SLIP_BYTES_LEAST && one_slip(p, x->bytes, q, y->bytes, prefix);
}

bool token_span_alike(struct token_list needle, struct token_list hay) {
    for (uint32_t i = 0; needle.count > 0 && i + needle.count <= hay.count; i++) {
        uint32_t k = 0;
        while (k < needle.count && token_alike(needle, k, hay, i + k))
            k++;
        if (k == needle.count)
            return true;
    }
    return false;
}
