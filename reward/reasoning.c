#include "reward/reasoning.h"

#include <string.h>
#include <strings.h>

#include "common/base/hash.h"
#include "reward/extract.h"

#define WINDOW_BYTES 4096
#define OVERLAP_BYTES 512 /* an alias that is longer may be missed where two windows meet */
#define ANSWER_IS_BYTES 64
#define PART_TOKENS_MOST 4 /* of an item of a list; a longer part between commas is prose */

/* Items of a list that follow token `at` in its sentence: parts between commas of at most PART_TOKENS_MOST tokens,
 * after the rest of its own part. */
static uint32_t items_after(struct token_list list, uint32_t at) {
    uint32_t items = 0, tokens = 0;
    bool own = true, stop = false;
    for (uint32_t i = at; i < list.count && !stop && ++tokens <= PART_TOKENS_MOST; i++) {
        stop = (list.tokens[i].flags & TOKEN_DOTTED) != 0;
        if (stop || i + 1 == list.count || (list.tokens[i + 1].flags & TOKEN_COMMA) != 0) {
            items += !own;
            own = false;
            tokens = 0;
        }
    }
    return items;
}

/* Items before it; the first may have prose in front: "It is one of London, Paris ...". */
static uint32_t items_before(struct token_list list, uint32_t at) {
    uint32_t items = 0, tokens = 0;
    bool own = true;
    for (uint32_t i = at + 1; i-- > 0 && (i == at || (list.tokens[i].flags & TOKEN_DOTTED) == 0);) {
        if (++tokens > PART_TOKENS_MOST)
            return items + !own;
        if (i == 0 || (list.tokens[i].flags & TOKEN_COMMA) != 0) {
            items += !own;
            own = false;
            tokens = 0;
        }
    }
    return items + (!own && tokens > 0);
}

/* The alias of `count` tokens at i stands in a list: "Paris, London, Rome, Berlin". */
static bool in_list(struct token_list list, uint32_t i, uint32_t count) {
    return items_before(list, i) + items_after(list, i + count - 1) >= REASONING_CANDIDATES_MAX;
}

static bool alias_at(const struct gold_set *set, struct token_list list, uint32_t i) {
    uint32_t hash = list.tokens[i].hash;
    if ((set->reasoning[hash / 64 % 16] >> (hash % 64) & 1) == 0)
        return false;
    for (uint32_t a = 0; a < set->alias_count; a++) {
        const struct alias *alias = &set->aliases[a];
        if (!alias->in_reasoning || alias->list.count > list.count - i)
            continue;
        uint32_t k = 0;
        while (k < alias->list.count && token_same(alias->list, k, list, i + k))
            k++;
        if (k == alias->list.count && !in_list(list, i, k))
            return true;
    }
    return false;
}

static bool window_holds_gold(const struct gold_set *set, const char *text, size_t bytes, size_t *out_used) {
    struct normal window;
    *out_used = normalise(text, bytes, &window);
    for (uint32_t i = 0; i < window.token_count; i++) {
        if (alias_at(set, normal_list(&window), i))
            return true;
    }
    return false;
}

static bool text_holds_gold(const struct gold_set *set, const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t used, window = bytes - at < WINDOW_BYTES ? bytes - at : WINDOW_BYTES;
        if (window_holds_gold(set, text + at, window, &used))
            return true;
        if (at + used >= bytes)
            break;
        at += used > 2 * OVERLAP_BYTES ? used - OVERLAP_BYTES : used;
    }
    return false;
}

/* All of text but what stands between <information> and </information>. */
static bool own_text_holds_gold(const struct gold_set *set, const char *text, size_t bytes) {
    static const char opens[] = "<information>", closes[] = "</information>";
    for (size_t at = 0; at < bytes;) {
        const char *open = memmem(text + at, bytes - at, opens, sizeof opens - 1);
        size_t end = open == NULL ? bytes : (size_t)(open - text);
        if (text_holds_gold(set, text + at, end - at))
            return true;
        const char *close = open == NULL ? NULL : memmem(open, bytes - end, closes, sizeof closes - 1);
        at = close == NULL ? bytes : (size_t)(close - text) + sizeof closes - 1;
    }
    return false;
}

struct candidates {
    uint64_t hashes[REASONING_CANDIDATES_MAX];
    unsigned count; /* REASONING_CANDIDATES_MAX + 1: too many */
};

static void add_candidate(struct candidates *candidates, const char *text, size_t bytes) {
    uint64_t hash = hash64(text, bytes);
    for (unsigned i = 0; i < candidates->count && i < REASONING_CANDIDATES_MAX; i++) {
        if (candidates->hashes[i] == hash)
            return;
    }
    if (candidates->count < REASONING_CANDIDATES_MAX)
        candidates->hashes[candidates->count] = hash;
    candidates->count++;
}

/* "answer is X", "answer: X": X up to the end of the clause. */
static void add_stated(struct candidates *candidates, const char *text, size_t bytes) {
    static const char *const leads[] = {"answer is ", "answer: "};
    for (size_t i = 0; i < bytes; i++) {
        if ((text[i] | 32) != 'a')
            continue;
        for (size_t k = 0; k < 2; k++) {
            size_t lead = strlen(leads[k]);
            if (bytes - i <= lead || strncasecmp(text + i, leads[k], lead) != 0)
                continue;
            const char *stated = text + i + lead;
            size_t rest = bytes - i - lead, length = 0;
            while (length < rest && length < ANSWER_IS_BYTES && strchr(".,;\n", stated[length]) == NULL)
                length++;
            add_candidate(candidates, stated, length);
        }
    }
}

static bool lists_candidates(const char *text, size_t bytes) {
    struct candidates candidates = {.count = 0};
    struct box box = {.open = bytes};
    while (candidates.count <= REASONING_CANDIDATES_MAX && box_find_last(text, bytes, box.open, &box))
        add_candidate(&candidates, text + box.start, box.bytes);
    if (candidates.count <= REASONING_CANDIDATES_MAX)
        add_stated(&candidates, text, bytes);
    return candidates.count > REASONING_CANDIDATES_MAX;
}

bool reasoning_holds_gold(const struct gold_set *set, const char *text, size_t text_bytes, size_t reasoning_bytes) {
    return own_text_holds_gold(set, text, reasoning_bytes) && !lists_candidates(text, text_bytes);
}
