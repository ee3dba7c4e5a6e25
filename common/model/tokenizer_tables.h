/* Inside a tokenizer: what tokenizer_load.c fills, tokenizer.c owns and tokenizer_bpe.c walks. Not for other files. */
#ifndef CANDOR_MODEL_TOKENIZER_TABLES_H
#define CANDOR_MODEL_TOKENIZER_TABLES_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/model/tokenizer.h"

#define WORD_CHARS_MAX 100 /* huggingface's default */

enum tokenizer_kind { TOKENIZER_BPE, TOKENIZER_WORDPIECE };

enum {
    ENTRY_PRESENT = 1,
    ENTRY_ADDED = 2,   /* matched before normalisation, when asked */
    ENTRY_SPECIAL = 4, /* left out by skip_special */
    ENTRY_MODEL = 8,   /* in the model's vocabulary, so ordinary text may become it */
};

/* One id. A BPE entry holds raw bytes (not their printable stand-ins), any other entry its text. */
struct token_entry {
    uint32_t start, bytes; /* in text */
    uint32_t flags;
};

/* One merge: two neighbours become one id. An open-addressed slot; id 0 with pair 0 and used false is empty. */
struct merge {
    uint64_t pair; /* left << 32 | right */
    int32_t rank, id;
    bool used;
};

struct tokenizer {
    enum tokenizer_kind kind;
    bool nfc;
    struct buf text;             /* all entries, end to end */
    struct token_entry *entries; /* [entry_count] by id */
    int32_t entry_count;
    size_t entry_capacity;

    int32_t *slots; /* hash table of the model's vocabulary: id, or -1 */
    uint32_t slot_mask;

    struct merge *merges; /* BPE: hash table by pair */
    uint32_t merge_mask, merge_count;
    int32_t byte_ids[256]; /* BPE: the id of each single byte */
    pcre2_code *pattern;   /* BPE: the split */

    int32_t unknown;       /* WordPiece: the id of a word that no pieces make */
    char prefix[16];       /* WordPiece: of a piece that goes on */
    size_t word_chars_max; /* a longer word is unknown; at most WORD_CHARS_MAX */

    int32_t *added; /* [added_count] ids of added tokens, longest first */
    size_t added_count;

    int32_t eos[TOKENIZER_EOS_MAX];
    size_t eos_count;
};

/* Fill an all-zero tokenizer from a directory; on failure the caller closes what was made. */
enum status tokenizer_load(struct tokenizer *tokenizer, const char *directory);

/* Rank-ordered merges over one word of raw bytes; ids are appended. */
struct bpe_scratch;
enum status bpe_encode_word(const struct tokenizer *tokenizer, const char *word, size_t bytes,
                            struct bpe_scratch **scratch, struct token_list *out_ids);
void bpe_scratch_free(struct bpe_scratch **scratch);

/* Put an id into the tables. STATUS_FORMAT when the id is taken by another text. */
enum status tokenizer_add_entry(struct tokenizer *tokenizer, int64_t id, const char *bytes, size_t count,
                                uint32_t flags);
/* Once all entries of the model are in: make them findable. name is what errors call the file. */
enum status tokenizer_index(struct tokenizer *tokenizer, const char *name);
/* The next merge in rank order, its halves as in the file (both are overwritten). Needs the index. */
enum status tokenizer_add_merge(struct tokenizer *tokenizer, const char *name, struct buf *left, struct buf *right);
/* A token for each byte, merges, the split pattern. */
enum status tokenizer_finish_bpe(struct tokenizer *tokenizer, const char *name);
/* Added tokens longest first, then by id, so that what is matched never depends on the order of files. */
enum status tokenizer_sort_added(struct tokenizer *tokenizer);
/* BPE: a merge makes every token of the vocabulary that is no single byte and no control token. A merges file that was cut off
 * would give other ids without a word. */
enum status tokenizer_check_merges(const struct tokenizer *tokenizer, const char *name);
/* Every id from 0 to the last has a token. */
enum status tokenizer_check_gaps(const struct tokenizer *tokenizer, const char *name);

/* The model's entry with exactly these bytes, or -1. */
int32_t tokenizer_lookup(const struct tokenizer *tokenizer, const char *bytes, size_t count);
const struct merge *tokenizer_merge(const struct tokenizer *tokenizer, int32_t left, int32_t right);

/* <|...|> */
bool tokenizer_is_control(const char *text, size_t bytes);

/* Printable stand-ins of byte-level BPE back to raw bytes, in place; false when a character stands for no byte. */
bool byte_level_decode(struct buf *text);

#endif
