#include "common/weights/delta.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/compute/digest.h"
#include "common/weights/delta_block.h"

static const char magic[8] = {'C', 'A', 'N', 'D', 'O', 'R', 'D', '1'};
#define THREADS_MAX 64
/* Below so many blocks a thread costs more than it saves. */
#define BLOCKS_PER_THREAD 16

static uint64_t count_blocks(uint64_t elements) {
    return (elements + DELTA_BLOCK - 1) / DELTA_BLOCK;
}

static uint32_t block_elements(uint64_t elements, uint64_t block) {
    uint64_t left = elements - block * DELTA_BLOCK;
    return left < DELTA_BLOCK ? (uint32_t)left : DELTA_BLOCK;
}

uint64_t delta_bytes_max(uint64_t elements) {
    return DELTA_HEADER_BYTES + count_blocks(elements) * (sizeof(uint32_t) + 1) + elements * sizeof(uint16_t);
}

/* ---- a range of blocks, one a thread ---- */

struct range {
    uint64_t first, end; /* blocks */
    struct delta_changes *scratch;
    unsigned __int128 sum; /* change of the digest */
    enum status status;
    /* encoding */
    const uint16_t *before, *after;
    uint64_t elements, changed;
    uint32_t *table; /* [end - first] */
    uint8_t *data;
    uint64_t bytes, capacity;
    /* applying */
    const struct delta *delta;
    uint64_t offset; /* of the first block's bytes */
    uint16_t *weights;
    bool back;
    uint64_t done;     /* blocks below were applied */
    const char *wrong; /* with block `done` */
};

static uint32_t share_out(struct range *ranges, uint64_t blocks, int threads) {
    uint64_t count = blocks / BLOCKS_PER_THREAD, most = threads < THREADS_MAX ? (uint64_t)threads : THREADS_MAX;
    count = count < most ? count : most;
    count = count ? count : 1;
    for (uint64_t i = 0; i < count; i++) {
        ranges[i].first = blocks * i / count;
        ranges[i].end = blocks * (i + 1) / count;
    }
    return (uint32_t)count;
}

/* A range whose thread cannot be had is worked through here. */
static void run_ranges(struct range *ranges, uint32_t count, void *(*work)(void *)) {
    pthread_t threads[THREADS_MAX];
    bool started[THREADS_MAX] = {false};
    for (uint32_t i = 1; i < count; i++)
        started[i] = pthread_create(&threads[i], NULL, work, &ranges[i]) == 0;
    for (uint32_t i = 0; i < count; i++)
        if (!started[i])
            work(&ranges[i]);
    for (uint32_t i = 1; i < count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}

/* ---- encoding ---- */

static enum status make_room(struct range *range) {
    if (range->capacity - range->bytes >= DELTA_BLOCK_ROOM)
        return STATUS_OK;
    uint64_t capacity = range->capacity + range->capacity / 2 + 4 * DELTA_BLOCK_ROOM;
    uint8_t *data = realloc(range->data, capacity);
    if (!data)
        return STATUS_NO_MEMORY;
    range->data = data;
    range->capacity = capacity;
    return STATUS_OK;
}

static void *encode_range(void *argument) {
    struct range *range = argument;
    for (uint64_t b = range->first; b < range->end && range->status == STATUS_OK; b++) {
        uint64_t first = b * DELTA_BLOCK;
        range->status = make_room(range);
        if (range->status != STATUS_OK)
            break;
        uint32_t bytes =
            delta_block_encode(range->before + first, range->after + first, block_elements(range->elements, b),
                               range->scratch, range->data + range->bytes);
        range->table[b - range->first] = bytes;
        range->bytes += bytes;
        range->changed += range->scratch->count;
    }
    return NULL;
}

static void put_header(uint8_t *out, uint64_t elements, struct digest base, struct digest result) {
    const uint64_t words[5] = {elements, base.low, base.high, result.low, result.high};
    memcpy(out, magic, sizeof magic);
    memcpy(out + sizeof magic, words, sizeof words);
}

/* Header, tables and blocks of all ranges in one piece. */
static uint8_t *join(const struct range *ranges, uint32_t count, uint64_t elements, struct digest base,
                     struct digest result, uint64_t *out_bytes) {
    uint64_t blocks = count_blocks(elements), bytes = DELTA_HEADER_BYTES + blocks * sizeof(uint32_t);
    uint8_t *at_table, *at;
    for (uint32_t i = 0; i < count; i++)
        bytes += ranges[i].bytes;
    uint8_t *data = malloc(bytes);
    if (!data)
        return NULL;
    put_header(data, elements, base, result);
    at_table = data + DELTA_HEADER_BYTES;
    at = at_table + blocks * sizeof(uint32_t);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t table_bytes = (ranges[i].end - ranges[i].first) * sizeof(uint32_t);
        if (table_bytes)
            memcpy(at_table, ranges[i].table, table_bytes);
        if (ranges[i].bytes)
            memcpy(at, ranges[i].data, ranges[i].bytes);
        at_table += table_bytes;
        at += ranges[i].bytes;
    }
    *out_bytes = bytes;
    return data;
}

enum status delta_encode(const uint16_t *before, const uint16_t *after, uint64_t elements, struct digest base,
                         struct digest result, int threads, uint8_t **out_data, uint64_t *out_bytes,
                         uint64_t *out_changed) {
    struct range ranges[THREADS_MAX] = {{0}};
    uint64_t changed = 0;
    uint32_t count = share_out(ranges, count_blocks(elements), threads);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < count; i++) {
        struct range *range = &ranges[i];
        range->before = before;
        range->after = after;
        range->elements = elements;
        range->scratch = malloc(sizeof *range->scratch);
        range->table = calloc(range->end - range->first + 1, sizeof *range->table);
        if (!range->scratch || !range->table)
            status = STATUS_NO_MEMORY;
    }
    if (status == STATUS_OK)
        run_ranges(ranges, count, encode_range);
    for (uint32_t i = 0; i < count; i++) {
        status = ranges[i].status != STATUS_OK ? ranges[i].status : status;
        changed += ranges[i].changed;
    }
    uint8_t *data = status == STATUS_OK ? join(ranges, count, elements, base, result, out_bytes) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        free(ranges[i].scratch);
        free(ranges[i].table);
        free(ranges[i].data);
    }
    if (!data)
        return fail(STATUS_NO_MEMORY, "delta: no memory for that of %llu weights", (unsigned long long)elements);
    *out_data = data;
    if (out_changed)
        *out_changed = changed;
    return STATUS_OK;
}

/* ---- reading ---- */

static uint32_t table_entry(const struct delta *delta, uint64_t block) {
    uint32_t bytes;
    memcpy(&bytes, delta->table + block * sizeof bytes, sizeof bytes);
    return bytes;
}

static enum status check_table(const struct delta *delta) {
    uint64_t left = delta->bytes - (uint64_t)(delta->first - (delta->table - DELTA_HEADER_BYTES));
    for (uint64_t b = 0; b < delta->blocks; b++) {
        uint32_t bytes = table_entry(delta, b), most = DELTA_BLOCK_BYTES(block_elements(delta->elements, b));
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

/* ---- applying ---- */

static void *apply_range(void *argument) {
    struct range *range = argument;
    const uint8_t *at = range->delta->first + range->offset;
    for (range->done = range->first; range->done < range->end; range->done++) {
        uint32_t bytes = table_entry(range->delta, range->done);
        uint64_t first = range->done * DELTA_BLOCK;
        if (bytes)
            range->wrong = delta_block_apply(at, bytes, block_elements(range->delta->elements, range->done), first,
                                             range->back, range->scratch, range->weights + first, &range->sum);
        if (range->wrong)
            break;
        at += bytes;
    }
    return NULL;
}

/* The applied blocks of every range the other way: they were decoded once, so this cannot fail. */
static void undo(struct range *ranges, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        ranges[i].end = ranges[i].done;
        ranges[i].back = !ranges[i].back;
        ranges[i].wrong = NULL;
    }
    run_ranges(ranges, count, apply_range);
}

static enum status apply(const struct delta *delta, bool back, uint16_t *weights, struct digest held,
                         struct digest wanted, struct range *ranges, uint32_t count) {
    uint64_t offset = 0, block = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (; block < ranges[i].first; block++)
            offset += table_entry(delta, block);
        ranges[i].delta = delta;
        ranges[i].offset = offset;
        ranges[i].weights = weights;
        ranges[i].back = back;
        ranges[i].scratch = malloc(sizeof *ranges[i].scratch);
        if (!ranges[i].scratch)
            return fail(STATUS_NO_MEMORY, "delta: no memory to apply it");
    }
    run_ranges(ranges, count, apply_range);
    enum status status = STATUS_OK;
    unsigned __int128 sum = digest_to_u128(held);
    for (uint32_t i = 0; i < count; i++) {
        sum += ranges[i].sum;
        if (ranges[i].wrong && status == STATUS_OK)
            status = fail(STATUS_FORMAT, "delta: block %llu: %s", (unsigned long long)ranges[i].done, ranges[i].wrong);
    }
    if (status == STATUS_OK && !digest_equal(digest_of_u128(sum), wanted) && !PLANTED(DELTA_UNVERIFIED)) {
        char found[DIGEST_HEX_BYTES], right[DIGEST_HEX_BYTES];
        digest_format(digest_of_u128(sum), found);
        digest_format(wanted, right);
        status = fail(STATUS_MISMATCH, "delta: it leads to weights %s; right would be %s", found, right);
    }
    if (status != STATUS_OK)
        undo(ranges, count);
    return status;
}

enum status delta_apply(const struct delta *delta, enum delta_direction direction, struct digest held,
                        uint64_t elements, int threads, uint16_t *weights) {
    bool back = direction == DELTA_BACK;
    struct digest from = back ? delta->result : delta->base, to = back ? delta->base : delta->result;
    if (delta->elements != elements)
        return fail(STATUS_MISMATCH, "delta: of %llu weights; these are %llu", (unsigned long long)delta->elements,
                    (unsigned long long)elements);
    if (!digest_equal(held, from)) {
        char found[DIGEST_HEX_BYTES], right[DIGEST_HEX_BYTES];
        digest_format(held, found);
        digest_format(from, right);
        return fail(STATUS_MISMATCH, "delta: weights %s are held; it is one from %s", found, right);
    }
    struct range ranges[THREADS_MAX] = {{0}};
    uint32_t count = share_out(ranges, delta->blocks, threads);
    enum status status = apply(delta, back, weights, held, to, ranges, count);
    for (uint32_t i = 0; i < count; i++)
        free(ranges[i].scratch);
    return status;
}
