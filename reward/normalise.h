/* Text to comparable tokens: TriviaQA's normalisation (lower case, punctuation is a space, articles go) with what it
 * leaves apart folded together: accents, ligatures, full-width forms        fold.h 1,234 and 1 234, 03 and 3, 36.0 and
 * 36, 21st, twenty-one, 2.5 million, Henry VIII    one number token each 1946-47 and 1946-1947; 2004-03-15, 15.3.2004
 * and March 15, 2004; Sept and September  the same date tokens U.S. and US, J. R. R. and JRR               one token
 *   wasErnest, Lewis1                           two tokens (words glued by lost spaces or a footnote mark)
 *   Hart's and Hart; km and kilometres; St and Saint
 * Han and kana are a token a character.
 *
 * Linear in the text, bounded by NORMAL_TOKENS_MAX and NORMAL_TEXT_MAX; nothing is allocated. */
#ifndef CANDOR_REWARD_NORMALISE_H
#define CANDOR_REWARD_NORMALISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NORMAL_TOKENS_MAX 1024 /* about 6 kB of English: any sentence, and a window of reasoning */
#define NORMAL_TEXT_MAX 8192
#define TOKEN_BYTES_MAX 64 /* a longer run of letters is cut into tokens of this length */

enum token_kind { TOKEN_WORD, TOKEN_NUMBER, TOKEN_MONTH };

#define TOKEN_STOP 1u   /* stop word or weekday: no answer by itself */
#define TOKEN_UPPER 2u  /* began with a capital */
#define TOKEN_CAPS 4u   /* all capitals */
#define TOKEN_DOTTED 8u /* a full stop follows */
#define TOKEN_GAP 16u   /* punctuation other than a full stop or dash stands before it */
#define TOKEN_ASKED 32u /* stands in the question too (set by gold_set_create on aliases) */
#define TOKEN_IDEOGRAPH 64u
#define TOKEN_COMMA 128u /* a comma, semicolon or slash stands before it */

struct token {
    uint32_t start; /* in struct normal's text */
    uint32_t hash;  /* of the token's bytes */
    uint16_t bytes;
    uint8_t kind;  /* enum token_kind */
    uint8_t flags; /* TOKEN_ */
};

/* Tokens stand in text one after another without separators, so text is also the answer with its spaces squeezed out.
 */
struct normal {
    uint32_t token_count, text_bytes;
    struct token tokens[NORMAL_TOKENS_MAX];
    char text[NORMAL_TEXT_MAX];
};

/* Returns how much of the text was read: all of it, or up to where out is full. */
size_t normalise(const char *text, size_t bytes, struct normal *out);

/* A view on tokens, of a struct normal or of an alias kept in a gold_set. */
struct token_list {
    const struct token *tokens;
    const char *text;
    uint32_t count, text_bytes;
};
struct token_list normal_list(const struct normal *normal);

static inline const char *token_text(struct token_list list, uint32_t i) {
    return list.text + list.tokens[i].start;
}

bool token_same(struct token_list a, uint32_t i, struct token_list b, uint32_t j);

/* needle stands in hay as a run of whole tokens. An empty needle does not. */
bool token_span(struct token_list needle, struct token_list hay);

#endif
