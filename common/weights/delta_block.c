#include "common/weights/delta_block.h"

#include <string.h>

#include "common/compute/digest.h"
#include "common/weights/content.h"

#define SPARSE_HEADER_BYTES 4u
#define ESCAPE_BITS (DELTA_ONES_MAX + 16)
#define RICE_MAX 15u
#define CHOOSE_SAMPLES 128u /* for a parameter: within 1 % of the best size on AdamW steps */

_Static_assert(7 + 2 * ESCAPE_BITS <= 64, "two codes behind a started byte fit a window");

/* ---- digest ---- */

/* Element `index` went from old to new: key * (new - old), shifted to its place. */
static inline unsigned __int128 mix_change(uint64_t index, uint16_t old, uint16_t new) {
    uint64_t distance = new > old ? (uint64_t)(new - old) : (uint64_t)(old - new);
    unsigned __int128 product = (unsigned __int128)digest_key(index / 4) * (distance << 16 * (index % 4));
    unsigned __int128 sign = -(unsigned __int128)(new < old);
    return (product ^ sign) - sign;
}

/* ---- steps ---- */

static inline uint16_t fold(uint16_t step) {
    uint32_t sign = step >> 15, distance = sign ? 0x10000u - step : step;
    return (uint16_t)(2 * distance - 2 + sign);
}

static inline uint16_t unfold(uint32_t coded) {
    uint32_t distance = coded / 2 + 1;
    return (uint16_t)(coded & 1 ? 0x10000 - distance : distance);
}

/* ---- bits ---- */

struct bits {
    uint8_t *at;
    uint64_t window;
    uint32_t count; /* below 8 between codes */
};

static inline void put_code(struct bits *bits, uint32_t value, uint32_t k) {
    uint32_t ones = value >> k;
    uint64_t code, length;
    if (ones < DELTA_ONES_MAX) {
        code = ((1u << ones) - 1) | (uint64_t)(value & ((1u << k) - 1)) << (ones + 1);
        length = ones + 1 + k;
    } else {
        code = ((1u << DELTA_ONES_MAX) - 1) | (uint64_t)value << DELTA_ONES_MAX;
        length = ESCAPE_BITS;
    }
    bits->window |= code << bits->count;
    bits->count += (uint32_t)length;
}

static inline void put_bytes(struct bits *bits) {
    memcpy(bits->at, &bits->window, sizeof bits->window);
    bits->at += bits->count / 8;
    bits->window = bits->count < 64 ? bits->window >> (bits->count & ~7u) : 0;
    bits->count &= 7;
}

/* The code at the window's low end, which holds 28 bits at least; returns its length. */
static inline uint32_t take_code(uint64_t window, uint32_t k, uint32_t *out_value) {
    uint32_t ones = (uint32_t)__builtin_ctzll(~window | 1ull << DELTA_ONES_MAX);
    if (ones == DELTA_ONES_MAX) {
        *out_value = (uint32_t)(window >> DELTA_ONES_MAX) & 0xFFFF;
        return ESCAPE_BITS;
    }
    *out_value = ones << k | ((uint32_t)(window >> (ones + 1)) & ((1u << k) - 1));
    return ones + 1 + k;
}

/* ---- encoding ---- */

/* Of every stride-th value. */
static uint64_t code_bits(const uint16_t *values, uint32_t count, uint32_t stride, uint32_t k) {
    uint32_t bits = 0; /* at most 2^16 codes of 28 */
    for (uint32_t i = 0; i < count; i += stride) {
        uint32_t ones = (uint32_t)values[i] >> k;
        bits += ones < DELTA_ONES_MAX ? ones + 1 + k : ESCAPE_BITS;
    }
    return bits;
}

/* The parameter with the fewest bits of a sample: they fall, then rise. */
static uint8_t choose(const uint16_t *values, uint32_t count) {
    uint32_t stride = count / CHOOSE_SAMPLES + 1;
    uint64_t best = UINT64_MAX;
    uint8_t best_k = 0;
    for (uint8_t k = 0; k <= RICE_MAX; k++) {
        uint64_t bits = code_bits(values, count, stride, k);
        if (bits > best)
            break;
        if (bits < best)
            best_k = k;
        best = bits;
    }
    return best_k;
}

static uint32_t encode_dense(const uint16_t *before, const uint16_t *after, uint32_t elements, uint8_t *out) {
    *out++ = DELTA_DENSE;
    for (uint32_t i = 0; i < elements; i++) {
        uint16_t step = (uint16_t)(after[i] - before[i]);
        memcpy(out + i * sizeof step, &step, sizeof step);
    }
    return DELTA_BLOCK_BYTES(elements);
}

static uint32_t encode_sparse(const struct delta_changes *changes, uint8_t gap_k, uint8_t step_k, uint8_t *out) {
    uint16_t last = (uint16_t)(changes->count - 1);
    out[0] = gap_k;
    out[1] = step_k;
    memcpy(out + 2, &last, sizeof last);
    struct bits bits = {.at = out + SPARSE_HEADER_BYTES};
    for (uint32_t i = 0; i < changes->count; i++) {
        put_code(&bits, changes->at[i], gap_k);
        put_code(&bits, changes->step[i], step_k);
        put_bytes(&bits);
    }
    return (uint32_t)(bits.at - out) + (bits.count > 0);
}

/* at becomes gaps, step is filled in. */
static void measure(const uint16_t *before, const uint16_t *after, struct delta_changes *changes) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < changes->count; i++) {
        uint32_t at = changes->at[i];
        changes->at[i] = (uint16_t)(at - next);
        changes->step[i] = fold((uint16_t)(after[at] - before[at]));
        next = at + 1;
    }
}

uint32_t delta_block_encode(const uint16_t *before, const uint16_t *after, uint32_t elements,
                            struct delta_changes *scratch, uint8_t *out) {
    delta_find(before, after, elements, scratch);
    if (scratch->count == 0)
        return 0;
    measure(before, after, scratch);
    uint8_t gap_k = choose(scratch->at, scratch->count), step_k = choose(scratch->step, scratch->count);
    uint32_t bytes = encode_sparse(scratch, gap_k, step_k, out);
    return bytes < DELTA_BLOCK_BYTES(elements) ? bytes : encode_dense(before, after, elements, out);
}

/* ---- applying ---- */

static void apply_dense(const uint8_t *data, uint32_t elements, uint64_t first, bool back, uint16_t *weights,
                        unsigned __int128 *sum) {
    struct digest before = content_digest(weights, first * sizeof *weights, elements * sizeof *weights);
    for (uint32_t i = 0; i < elements; i++) {
        uint16_t step;
        memcpy(&step, data + i * sizeof step, sizeof step);
        weights[i] = (uint16_t)(back ? weights[i] - step : weights[i] + step);
    }
    struct digest after = content_digest(weights, first * sizeof *weights, elements * sizeof *weights);
    *sum += digest_to_u128(digest_subtract(after, before));
}

static inline uint64_t load_window(const uint8_t *at, const uint8_t *end) {
    uint64_t window = 0;
    if (end - at >= (ptrdiff_t)sizeof window)
        memcpy(&window, at, sizeof window);
    else if (at < end)
        memcpy(&window, at, (size_t)(end - at));
    return window;
}

/* All codes into out, at as positions; their weights are asked of memory meanwhile. NULL, or what is wrong. */
static const char *decode_sparse(const uint8_t *data, uint32_t bytes, uint32_t elements, const uint16_t *weights,
                                 struct delta_changes *out) {
    uint16_t last;
    if (bytes < SPARSE_HEADER_BYTES || data[0] > RICE_MAX || data[1] > RICE_MAX)
        return "neither sparse nor dense";
    uint32_t gap_k = data[0], step_k = data[1];
    memcpy(&last, data + 2, sizeof last);
    out->count = (uint32_t)last + 1;
    const uint8_t *end = data + bytes;
    data += SPARSE_HEADER_BYTES;
    uint64_t bit = 0, bits = 8 * (uint64_t)(end - data);
    uint32_t next = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        uint32_t gap, step;
        uint64_t window = load_window(data + bit / 8, end) >> bit % 8;
        uint32_t length = take_code(window, gap_k, &gap);
        length += take_code(window >> length, step_k, &step);
        bit += length;
        if (bit > bits)
            return "its codes go on behind its end";
        if (gap >= elements - next || step > 0xFFFF)
            return "an element behind its end";
        __builtin_prefetch(&weights[next + gap], 1);
        out->at[i] = (uint16_t)(next + gap);
        out->step[i] = (uint16_t)step;
        next += gap + 1;
    }
    if ((bit + 7) / 8 * 8 != bits || load_window(data + bit / 8, end) >> bit % 8 != 0)
        return "bytes behind its last code";
    return NULL;
}

const char *delta_block_apply(const uint8_t *data, uint32_t bytes, uint32_t elements, uint64_t first, bool back,
                              struct delta_changes *scratch, uint16_t *weights, unsigned __int128 *sum) {
    if (bytes == DELTA_BLOCK_BYTES(elements) && data[0] == DELTA_DENSE) {
        apply_dense(data + 1, elements, first, back, weights, sum);
        return NULL;
    }
    const char *wrong = decode_sparse(data, bytes, elements, weights, scratch);
    if (wrong)
        return wrong;
    unsigned __int128 change = 0;
    for (uint32_t i = 0; i < scratch->count; i++) {
        uint16_t *weight = &weights[scratch->at[i]], old = *weight, step = unfold(scratch->step[i]);
        *weight = (uint16_t)(back ? old - step : old + step);
        change += mix_change(first + scratch->at[i], old, *weight);
    }
    *sum += change;
    return NULL;
}
