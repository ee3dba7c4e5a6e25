#include "common/weights/delta.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/compute/digest.h"
#include "common/weights/delta_block.h"
#include "common/weights/patch.h"
#include "common/weights/share.h"

static const char magic[8] = {'C', 'A', 'N', 'D', 'O', 'R', 'D', '1'};

/* ---- blocks ---- */

static uint64_t count_blocks(uint64_t elements) {
    return (elements + DELTA_BLOCK - 1) / DELTA_BLOCK;
}

uint32_t delta_block_elements(uint64_t elements, uint64_t block) {
    uint64_t left = elements - block * DELTA_BLOCK;
    return left < DELTA_BLOCK ? (uint32_t)left : DELTA_BLOCK;
}

uint32_t delta_block_bytes(const struct delta *delta, uint64_t block) {
    uint32_t bytes;
    memcpy(&bytes, delta->table + block * sizeof bytes, sizeof bytes);
    return bytes;
}

uint64_t delta_bytes_max(uint64_t elements) {
    return DELTA_HEADER_BYTES + count_blocks(elements) * (sizeof(uint32_t) + 1) + elements * sizeof(uint16_t);
}

/* ---- encoding: a range of blocks, one a thread ---- */

struct range {
    uint64_t first, end; /* blocks */
    struct delta_changes *scratch;
    enum status status;
    const uint16_t *before, *after; /* or lists: */
    const uint32_t *listed;         /* [blocks] changes of each; NULL: before and after */
    const uint16_t *at, *step;      /* of the range's first block on */
    uint64_t elements, changed;
    uint32_t *table; /* [blocks] */
    uint8_t *data;   /* the first range's begins with room for header and table */
    uint64_t bytes, capacity;
};

static uint32_t share_out(struct range *ranges, uint64_t blocks, int threads) {
    uint32_t count = share_parts(blocks, threads);
    for (uint32_t i = 0; i < count; i++) {
        ranges[i].first = share_begin(blocks, count, i);
        ranges[i].end = share_begin(blocks, count, i + 1);
    }
    return count;
}

static enum status make_room(struct range *range) {
    if (range->bytes + DELTA_BLOCK_ROOM <= range->capacity)
        return STATUS_OK;
    uint64_t capacity = range->bytes + range->bytes / 2 + 4 * DELTA_BLOCK_ROOM;
    uint8_t *data = realloc(range->data, capacity);
    if (!data)
        return STATUS_NO_MEMORY;
    range->data = data;
    range->capacity = capacity;
    return STATUS_OK;
}

static void take_listed(struct range *range, uint32_t count) {
    range->scratch->count = count;
    if (count) {
        memcpy(range->scratch->at, range->at, count * sizeof *range->at);
        memcpy(range->scratch->step, range->step, count * sizeof *range->step);
    }
    range->at += count;
    range->step += count;
}

static void *encode_range(void *argument) {
    struct range *range = argument;
    for (uint64_t b = range->first; b < range->end; b++) {
        uint64_t first = b * DELTA_BLOCK;
        uint32_t elements = delta_block_elements(range->elements, b);
        range->status = make_room(range);
        if (range->status != STATUS_OK)
            break;
        if (range->listed)
            take_listed(range, range->listed[b]);
        else
            delta_find(range->before + first, range->after + first, elements, range->scratch);
        range->table[b] = delta_block_encode(range->scratch, elements, range->data + range->bytes);
        range->bytes += range->table[b];
        range->changed += range->scratch->count;
    }
    return NULL;
}

static void put_header(uint8_t *out, uint64_t elements, struct digest base, struct digest result) {
    const uint64_t words[5] = {elements, base.low, base.high, result.low, result.high};
    memcpy(out, magic, sizeof magic);
    memcpy(out + sizeof magic, words, sizeof words);
}

/* The other ranges' blocks behind those of the first, and the table before them: [bytes], or NULL. */
static uint8_t *join(struct range *ranges, uint32_t count, const uint32_t *table, uint64_t *out_bytes) {
    uint64_t bytes = 0, at = ranges[0].bytes;
    for (uint32_t i = 0; i < count; i++)
        bytes += ranges[i].bytes;
    uint8_t *data = realloc(ranges[0].data, bytes);
    if (!data)
        return NULL;
    ranges[0].data = NULL;
    for (uint32_t i = 1; i < count; at += ranges[i++].bytes)
        if (ranges[i].bytes)
            memcpy(data + at, ranges[i].data, ranges[i].bytes);
    uint64_t blocks = ranges[count - 1].end;
    if (blocks)
        memcpy(data + DELTA_HEADER_BYTES, table, blocks * sizeof *table);
    *out_bytes = bytes;
    return data;
}

/* ranges of the elements, each with its memory. */
static enum status prepare(struct range *ranges, uint32_t count, const struct range *common) {
    enum status status = STATUS_OK;
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct range *range = &ranges[i];
        for (uint64_t b = i ? ranges[i - 1].first : 0; common->listed && b < range->first; b++)
            skipped += common->listed[b];
        range->before = common->before;
        range->after = common->after;
        range->listed = common->listed;
        range->at = common->listed ? common->at + skipped : NULL;
        range->step = common->listed ? common->step + skipped : NULL;
        range->elements = common->elements;
        range->table = common->table;
        range->scratch = malloc(sizeof *range->scratch);
        status = range->scratch ? make_room(range) : STATUS_NO_MEMORY;
        if (status != STATUS_OK)
            break;
    }
    return status;
}

static uint8_t *encode(struct range *ranges, uint32_t count, const struct range *common, uint64_t *out_bytes,
                       uint64_t *out_changed) {
    uint64_t blocks = count_blocks(common->elements), changed = 0;
    ranges[0].bytes = DELTA_HEADER_BYTES + blocks * sizeof *common->table;
    enum status status = prepare(ranges, count, common);
    if (status == STATUS_OK)
        share_run(ranges, sizeof *ranges, count, encode_range);
    for (uint32_t i = 0; i < count; i++) {
        status = ranges[i].status != STATUS_OK ? ranges[i].status : status;
        changed += ranges[i].changed;
    }
    *out_changed = changed;
    return status == STATUS_OK ? join(ranges, count, common->table, out_bytes) : NULL;
}

/* common: what all ranges share. */
static enum status encode_all(struct range *common, struct digest base, struct digest result, int threads,
                              uint8_t **out_data, uint64_t *out_bytes, uint64_t *out_changed) {
    struct range ranges[SHARE_PARTS_MAX] = {{0}};
    uint64_t changed = 0, bytes = 0, blocks = count_blocks(common->elements);
    uint32_t count = share_out(ranges, blocks, threads);
    common->table = malloc((blocks + 1) * sizeof *common->table);
    uint8_t *data = common->table ? encode(ranges, count, common, &bytes, &changed) : NULL;
    free(common->table);
    for (uint32_t i = 0; i < count; i++) {
        free(ranges[i].scratch);
        free(ranges[i].data);
    }
    if (!data)
        return fail(STATUS_NO_MEMORY, "delta: no memory for that of %llu weights",
                    (unsigned long long)common->elements);
    put_header(data, common->elements, base, result);
    *out_data = data;
    *out_bytes = bytes;
    if (out_changed)
        *out_changed = changed;
    return STATUS_OK;
}

enum status delta_encode(const uint16_t *before, const uint16_t *after, uint64_t elements, struct digest base,
                         struct digest result, int threads, uint8_t **out_data, uint64_t *out_bytes,
                         uint64_t *out_changed) {
    struct range common = {.before = before, .after = after, .elements = elements};
    return encode_all(&common, base, result, threads, out_data, out_bytes, out_changed);
}

enum status delta_encode_patch(const struct patch *patch, int threads, uint8_t **out_data, uint64_t *out_bytes) {
    struct range common = {.listed = patch->count, .at = patch->at, .step = patch->step, .elements = patch->elements};
    return encode_all(&common, patch->from, patch->to, threads, out_data, out_bytes, NULL);
}

/* ---- reading ---- */

static enum status check_table(const struct delta *delta) {
    uint64_t left = delta->bytes - (uint64_t)(delta->first - (delta->table - DELTA_HEADER_BYTES));
    for (uint64_t b = 0; b < delta->blocks; b++) {
        uint32_t bytes = delta_block_bytes(delta, b),
                 most = DELTA_BLOCK_BYTES(delta_block_elements(delta->elements, b));
        if (bytes > most || bytes > left)
            return fail(STATUS_FORMAT, "delta: block %llu of %u bytes; right would be at most %llu",
                        (unsigned long long)b, bytes, (unsigned long long)(most < left ? most : left));
        left -= bytes;
    }
    if (left)
        return fail(STATUS_FORMAT, "delta: %llu bytes behind its last block", (unsigned long long)left);
    return STATUS_OK;
}

enum status delta_open(const void *data, uint64_t bytes, struct delta *out_delta) {
    uint64_t words[5];
    if (bytes < DELTA_HEADER_BYTES || memcmp(data, magic, sizeof magic) != 0)
        return fail(STATUS_FORMAT, "delta: %llu bytes that do not begin as one", (unsigned long long)bytes);
    memcpy(words, (const uint8_t *)data + sizeof magic, sizeof words);
    uint64_t blocks = words[0] / DELTA_BLOCK + (words[0] % DELTA_BLOCK != 0);
    if (blocks > (bytes - DELTA_HEADER_BYTES) / sizeof(uint32_t) || blocks > UINT32_MAX)
        return fail(STATUS_FORMAT, "delta: %llu bytes are too few for %llu weights", (unsigned long long)bytes,
                    (unsigned long long)words[0]);
    struct delta delta = {.elements = words[0],
                          .base = {.low = words[1], .high = words[2]},
                          .result = {.low = words[3], .high = words[4]},
                          .bytes = bytes,
                          .blocks = (uint32_t)blocks,
                          .table = (const uint8_t *)data + DELTA_HEADER_BYTES};
    delta.first = delta.table + blocks * sizeof(uint32_t);
    TRY(check_table(&delta));
    *out_delta = delta;
    return STATUS_OK;
}
