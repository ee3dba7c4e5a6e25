/* Text to token ids and back, from an ordinary Hugging Face directory.
 *
 * Two kinds are read, anything else is refused by its name:
 *   BPE        byte-level BPE as Qwen2 and Qwen2.5 use it: NFC, the Qwen2 split pattern (digits one at a time), merges in rank
 *              order. From tokenizer.json, or vocab.json + merges.txt (+ added_tokens.json, tokenizer_config.json).
 *   WordPiece  words between white space, each cut greedily into the longest pieces ("Oak" "##ford"). From tokenizer.json.
 *              The demo's world uses it: every word of its plain English is one or two tokens.
 * Added tokens (<|im_end|>, ...) are matched before normalisation, longest first, and only when asked: text that a user or a
 * model wrote never turns into a control token by accident.
 *
 * A tokenizer never changes after tokenizer_open: any number of threads may encode and decode with it.
 * Source: huggingface/tokenizers (models bpe and wordpiece), transformers' Qwen2 tokenizer. */
#ifndef CANDOR_MODEL_TOKENIZER_H
#define CANDOR_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define TOKENIZER_FILE_BYTES_MAX (256u << 20) /* a 151k vocabulary with merges is 7 to 11 MB */
#define TOKENIZER_IDS_MAX (1 << 20)
#define TOKENIZER_TEXT_BYTES_MAX (1u << 20) /* one text to encode; NFC of nothing but combining marks is quadratic */
#define TOKENIZER_EOS_MAX 8

struct tokenizer;

/* A growable list of ids. All zeros is an empty list. */
struct token_list {
    int32_t *ids;
    size_t count, capacity;
};
void token_list_deinit(struct token_list *list);
enum status token_list_push(struct token_list *list, int32_t id);

/* Reads the tokenizer of a model directory. STATUS_NOT_FOUND when the files are absent, STATUS_FORMAT when they are broken
 * (a merge without its token, two tokens with one id, a gap in the ids), STATUS_UNSUPPORTED for another kind, STATUS_LIMIT. */
enum status tokenizer_open(const char *directory, struct tokenizer **out_tokenizer);
void tokenizer_close(struct tokenizer **tokenizer);

/* Append the ids of text to out_ids.
 *   text           utf-8, text_bytes long, not NUL-terminated; borrowed for the call
 *   allow_special  true: added tokens written in the text become their ids; false: they are text like any other
 * STATUS_UTF8 if text is malformed, STATUS_LIMIT above TOKENIZER_TEXT_BYTES_MAX; out_ids is then as it was. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t text_bytes, bool allow_special,
                             struct token_list *out_ids);

/* Append the text of ids [count]. Bytes that do not form utf-8 become U+FFFD, as in Hugging Face.
 *   skip_special  leave out added tokens that are marked special
 * STATUS_FORMAT for an id outside the vocabulary. */
enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                             struct buf *out_text);

/* The id of an added token or a whole vocabulary entry, written as in the files ("<|im_end|>"). */
bool tokenizer_find(const struct tokenizer *tokenizer, const char *token, int32_t *out_id);

/* The last id + 1. Rows of the model's embedding from here on are padding and are masked (DESIGN section 6). */
int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

/* Ids that end an answer: <|im_end|> and <|endoftext|> where they exist, and eos_token of tokenizer_config.json. At least
 * one. [out_count] ids, ascending, owned by the tokenizer. */
const int32_t *tokenizer_eos(const struct tokenizer *tokenizer, size_t *out_count);
bool tokenizer_is_eos(const struct tokenizer *tokenizer, int32_t id);

#endif
