#include "common/weights/delta_block.h"

#include <string.h>

#include "common/compute/digest.h"

#define SPARSE_HEADER_BYTES 4u
#define ESCAPE_BITS (DELTA_ONES_MAX + 16)
#define RICE_MAX 15u
#define CHOOSE_SAMPLES 128u /* for a parameter: within 1 % of the best size on AdamW steps */

_Static_assert(7 + 2 * ESCAPE_BITS < 64, "two codes behind a started byte fit a window");

/* ---- steps ---- */

/* Signs are as good as random, so neither way has a branch on them. */
static inline uint16_t fold(uint16_t step) {
    uint16_t sign = (uint16_t) - (step >> 15), distance = (uint16_t)((step ^ sign) - sign);
    return (uint16_t)(2 * distance - 2 - sign);
}

static inline uint16_t unfold(uint32_t coded) {
    uint32_t distance = coded / 2 + 1, sign = -(coded & 1);
    return (uint16_t)((distance ^ sign) - sign);
}

/* ---- encoding ---- */

struct code {
    uint64_t bits;
    uint32_t length;
};

static inline struct code code_of(uint32_t value, uint32_t k) {
    uint32_t ones = value >> k;
    if (ones >= DELTA_ONES_MAX)
        return (struct code){((1u << DELTA_ONES_MAX) - 1) | (uint64_t)value << DELTA_ONES_MAX, ESCAPE_BITS};
    uint64_t low = value & ((1u << k) - 1);
    return (struct code){((1u << ones) - 1) | low << (ones + 1), ones + 1 + k};
}

/* Of every stride-th value. */
static uint64_t code_bits(const uint16_t *values, uint32_t count, uint32_t stride, uint32_t k) {
    uint32_t bits = 0; /* at most 2^16 codes of 28 */
    for (uint32_t i = 0; i < count; i += stride) {
        uint32_t ones = (uint32_t)values[i] >> k;
        bits += ones < DELTA_ONES_MAX ? ones + 1 + k : ESCAPE_BITS;
    }
    return bits;
}

/* The parameter, k or above, with the fewest bits of a sample: they fall, then rise. */
static uint32_t choose(const uint16_t *values, uint32_t count, uint32_t k) {
    uint32_t stride = count / CHOOSE_SAMPLES + 1;
    uint64_t best = code_bits(values, count, stride, k);
    while (k < RICE_MAX) {
        uint64_t bits = code_bits(values, count, stride, k + 1);
        if (bits > best)
            break;
        best = bits;
        k++;
    }
    return k;
}

/* Gaps of this mean have their best parameter there or above: log2 of half of it. */
static uint32_t lowest_gap_k(uint32_t elements, uint32_t count) {
    uint32_t mean = elements / count;
    return mean < 4 ? 0 : 30 - (uint32_t)__builtin_clz(mean);
}

/* at becomes gaps, step is folded. */
static void measure(struct delta_changes *changes) {
    for (uint32_t i = changes->count - 1; i > 0; i--)
        changes->at[i] = (uint16_t)(changes->at[i] - changes->at[i - 1] - 1);
    for (uint32_t i = 0; i < changes->count; i++)
        changes->step[i] = fold(changes->step[i]);
}

static uint32_t encode_dense(const struct delta_changes *measured, uint32_t elements, uint8_t *out) {
    out[0] = DELTA_DENSE;
    memset(out + 1, 0, elements * sizeof(uint16_t));
    uint32_t at = 0;
    for (uint32_t i = 0; i < measured->count; i++, at++) {
        uint16_t step = unfold(measured->step[i]);
        at += measured->at[i];
        memcpy(out + 1 + at * sizeof step, &step, sizeof step);
    }
    return DELTA_BLOCK_BYTES(elements);
}

static uint32_t encode_sparse(const struct delta_changes *measured, uint32_t gap_k, uint32_t step_k, uint8_t *out) {
    uint16_t last = (uint16_t)(measured->count - 1);
    out[0] = (uint8_t)gap_k;
    out[1] = (uint8_t)step_k;
    memcpy(out + 2, &last, sizeof last);
    uint8_t *at = out + SPARSE_HEADER_BYTES;
    uint64_t window = 0;
    uint32_t bits = 0; /* in the window: below 8 between elements */
    for (uint32_t i = 0; i <= last; i++) {
        struct code gap = code_of(measured->at[i], gap_k), step = code_of(measured->step[i], step_k);
        window |= (gap.bits | step.bits << gap.length) << bits;
        bits += gap.length + step.length;
        memcpy(at, &window, sizeof window);
        at += bits / 8;
        window >>= bits & ~7u;
        bits &= 7;
    }
    return (uint32_t)(at - out) + (bits > 0);
}

uint32_t delta_block_encode(struct delta_changes *changes, uint32_t elements, uint8_t *out) {
    if (changes->count == 0)
        return 0;
    measure(changes);
    uint32_t gap_k = choose(changes->at, changes->count, lowest_gap_k(elements, changes->count));
    uint32_t step_k = choose(changes->step, changes->count, 0);
    uint32_t bytes = encode_sparse(changes, gap_k, step_k, out);
    return bytes < DELTA_BLOCK_BYTES(elements) ? bytes : encode_dense(changes, elements, out);
}

/* ---- decoding ---- */

static bool is_dense(const uint8_t *data, uint32_t bytes, uint32_t elements) {
    return bytes == DELTA_BLOCK_BYTES(elements) && data[0] == DELTA_DENSE;
}

uint32_t delta_block_count(const uint8_t *data, uint32_t bytes, uint32_t elements) {
    uint16_t last = 0;
    if (is_dense(data, bytes, elements))
        return elements;
    if (bytes >= SPARSE_HEADER_BYTES)
        memcpy(&last, data + 2, sizeof last);
    return last < elements ? last + 1u : elements;
}

static uint32_t decode_dense(const uint8_t *data, uint32_t elements, uint16_t *out_at, uint16_t *out_step) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < elements; i++) {
        uint16_t step;
        memcpy(&step, data + i * sizeof step, sizeof step);
        out_at[count] = (uint16_t)i; /* behind the last change: overwritten, or element i itself */
        out_step[count] = step;
        count += step != 0;
    }
    return count;
}

/* The bits that follow: at least 56 in the window behind a refill, zeros behind the end. */
struct reader {
    const uint8_t *data;
    uint64_t at, end; /* bytes */
    uint64_t window;
    uint32_t bits;
};

static inline void refill(struct reader *reader) {
    uint64_t next = 0;
    if (__builtin_expect(reader->at + sizeof next <= reader->end, 1))
        memcpy(&next, reader->data + reader->at, sizeof next);
    else if (reader->at < reader->end)
        memcpy(&next, reader->data + reader->at, reader->end - reader->at);
    reader->window |= next << reader->bits;
    reader->at += (63 - reader->bits) / 8;
    reader->bits |= 56;
}

static inline uint32_t take_code(struct reader *reader, uint32_t k) {
    uint64_t window = reader->window;
    uint32_t ones = (uint32_t)__builtin_ctzll(~window | 1ull << DELTA_ONES_MAX), length, value;
    if (__builtin_expect(ones == DELTA_ONES_MAX, 0)) {
        value = (uint32_t)(window >> DELTA_ONES_MAX) & 0xFFFF;
        length = ESCAPE_BITS;
    } else {
        value = ones << k | ((uint32_t)(window >> ones >> 1) & ((1u << k) - 1));
        length = ones + 1 + k;
    }
    reader->window >>= length;
    reader->bits -= length;
    return value;
}

const char *delta_block_decode(const uint8_t *data, uint32_t bytes, uint32_t elements, uint16_t *at, uint16_t *step,
                               uint32_t *out_count) {
    if (is_dense(data, bytes, elements)) {
        *out_count = decode_dense(data + 1, elements, at, step);
        return NULL;
    }
    if (bytes < SPARSE_HEADER_BYTES || data[0] > RICE_MAX || data[1] > RICE_MAX)
        return "neither sparse nor dense";
    uint32_t gap_k = data[0], step_k = data[1], next = 0, count;
    uint16_t last;
    memcpy(&last, data + 2, sizeof last);
    count = (uint32_t)last + 1;
    if (count > elements)
        return "more changes than elements";
    struct reader reader = {.data = data, .at = SPARSE_HEADER_BYTES, .end = bytes};
    for (uint32_t i = 0; i < count; i++) {
        refill(&reader);
        uint32_t gap = take_code(&reader, gap_k), coded = take_code(&reader, step_k);
        if (gap >= elements - next || coded > 0xFFFF)
            return "an element behind its end";
        next += gap;
        at[i] = (uint16_t)next++;
        step[i] = unfold(coded);
    }
    /* What is left in the window is the last byte's filling, unless the window reaches past the end. */
    int64_t left = 8 * ((int64_t)reader.end - (int64_t)reader.at) + reader.bits;
    if (left < 0)
        return "its codes go on behind its end";
    if (left >= 8 || (reader.window & ((1ull << left) - 1)) != 0)
        return "bytes behind its last code";
    *out_count = count;
    return NULL;
}

/* ---- applying ---- */

/* Element `index` went from old to new. No branch on which is the larger: it is as good as random. */
static inline unsigned __int128 mix_change(uint64_t index, uint16_t old, uint16_t new) {
    return digest_to_u128(digest_mix16(index, new)) - digest_to_u128(digest_mix16(index, old));
}

/* Changed elements are some lines apart: memory is asked for this many of them ahead. */
#define CHANGES_AHEAD 32

static inline void ask_ahead(const uint16_t *at, uint32_t i, uint32_t count, const uint16_t *weights) {
    if (i + CHANGES_AHEAD < count)
        __builtin_prefetch(&weights[at[i + CHANGES_AHEAD]], 1);
}

unsigned __int128 delta_changes_apply(const uint16_t *at, const uint16_t *step, uint32_t count, uint64_t first,
                                      bool back, uint16_t *weights) {
    unsigned __int128 sum = 0;
    uint16_t sign = back ? 0xFFFF : 0;
    for (uint32_t i = 0; i < count; i++) {
        ask_ahead(at, i, count, weights);
        uint16_t *weight = &weights[at[i]], old = *weight, new = (uint16_t)(old + (step[i] ^ sign) - sign);
        *weight = new;
        sum += mix_change(first + at[i], old, new);
    }
    return sum;
}

unsigned __int128 delta_changes_digest(const uint16_t *at, const uint16_t *step, uint32_t count, uint64_t first,
                                       const uint16_t *weights) {
    unsigned __int128 sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        ask_ahead(at, i, count, weights);
        uint16_t old = weights[at[i]];
        sum += mix_change(first + at[i], old, (uint16_t)(old + step[i]));
    }
    return sum;
}
