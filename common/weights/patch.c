#include "common/weights/patch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/compute/digest.h"
#include "common/compute/ops.h"
#include "common/weights/delta_block.h"
#include "common/weights/share.h"

/* What one thread decodes. */
struct part {
    uint64_t begin, end;   /* blocks */
    uint64_t first, count; /* changes: where they begin, how many there are */
    struct patch *patch;
    const struct delta *deltas; /* [hop_count] */
    const struct chain *chain;
    uint64_t offsets[CHAIN_HOPS_MAX]; /* in each delta: of the first block's bytes */
    struct delta_changes *scratch;
    uint16_t *moved; /* [DELTA_BLOCK] sums of steps, zero between blocks */
    const char *wrong;
    uint64_t wrong_block;
};

/* What a delta of nothing looks like beside `moved`. */
static const uint16_t unmoved[DELTA_BLOCK];

/* ---- decoding ---- */

static void turn_round(uint16_t *step, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        step[i] = (uint16_t)-step[i];
}

/* Of a single delta: its changes are the patch's. */
static const char *decode_one(struct part *part, uint64_t b, uint32_t *out_count) {
    const struct delta *delta = part->deltas;
    uint32_t bytes = delta_block_bytes(delta, b);
    uint16_t *at = part->patch->at + part->first + part->count, *step = part->patch->step + part->first + part->count;
    *out_count = 0;
    if (!bytes)
        return NULL;
    const char *wrong = delta_block_decode(delta->first + part->offsets[0], bytes,
                                           delta_block_elements(delta->elements, b), at, step, out_count);
    part->offsets[0] += bytes;
    if (!wrong && part->chain->hops[0].direction == DELTA_BACK)
        turn_round(step, *out_count);
    return wrong;
}

/* Of several: steps of one element add up. */
static const char *decode_all(struct part *part, uint64_t b, uint32_t *out_count) {
    struct delta_changes *changes = part->scratch;
    uint32_t elements = delta_block_elements(part->patch->elements, b);
    for (uint32_t h = 0; h < part->chain->hop_count; h++) {
        uint32_t bytes = delta_block_bytes(&part->deltas[h], b);
        if (!bytes)
            continue;
        const char *wrong = delta_block_decode(part->deltas[h].first + part->offsets[h], bytes, elements, changes->at,
                                               changes->step, &changes->count);
        if (wrong)
            return wrong;
        part->offsets[h] += bytes;
        if (part->chain->hops[h].direction == DELTA_BACK)
            turn_round(changes->step, changes->count);
        for (uint32_t i = 0; i < changes->count; i++)
            part->moved[changes->at[i]] = (uint16_t)(part->moved[changes->at[i]] + changes->step[i]);
    }
    delta_find(unmoved, part->moved, elements, changes);
    for (uint32_t i = 0; i < changes->count; i++)
        part->moved[changes->at[i]] = 0;
    memcpy(part->patch->at + part->first + part->count, changes->at, changes->count * sizeof *changes->at);
    memcpy(part->patch->step + part->first + part->count, changes->step, changes->count * sizeof *changes->step);
    *out_count = changes->count;
    return NULL;
}

static void *decode_part(void *argument) {
    struct part *part = argument;
    for (uint64_t b = part->begin; b < part->end && !part->wrong; b++) {
        uint32_t count = 0;
        part->wrong = part->scratch ? decode_all(part, b, &count) : decode_one(part, b, &count);
        part->wrong_block = b;
        part->patch->count[b] = count;
        part->count += count;
    }
    return NULL;
}

/* Changes that block b can have at most, by the heads of its deltas; offsets move on to the next block. */
static uint32_t most_changes(const struct chain *chain, const struct delta *deltas, uint64_t b, uint64_t *offsets) {
    uint32_t elements = delta_block_elements(deltas->elements, b);
    uint64_t most = 0;
    for (uint32_t h = 0; h < chain->hop_count; h++) {
        uint32_t bytes = delta_block_bytes(&deltas[h], b);
        if (bytes)
            most += delta_block_count(deltas[h].first + offsets[h], bytes, elements);
        offsets[h] += bytes;
    }
    return most < elements ? (uint32_t)most : elements;
}

/* Each part's place in the deltas and in the lists; returns the room that all of them need. */
static uint64_t lay_out(struct part *parts, uint32_t part_count, const struct chain *chain, const struct delta *deltas,
                        struct patch *patch) {
    uint64_t offsets[CHAIN_HOPS_MAX] = {0}, room = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        struct part *part = &parts[i];
        *part = (struct part){.begin = share_begin(patch->blocks, part_count, i),
                              .end = share_begin(patch->blocks, part_count, i + 1),
                              .first = room,
                              .patch = patch,
                              .deltas = deltas,
                              .chain = chain};
        memcpy(part->offsets, offsets, sizeof offsets);
        for (uint64_t b = part->begin; b < part->end; b++)
            room += most_changes(chain, deltas, b, offsets);
    }
    return room;
}

static bool allocate(struct patch *patch, struct part *parts, uint32_t part_count, uint64_t room, bool merge) {
    patch->at = malloc((room + 1) * sizeof *patch->at);
    patch->step = malloc((room + 1) * sizeof *patch->step);
    bool all = patch->at && patch->step;
    for (uint32_t i = 0; i < part_count && merge; i++) {
        parts[i].scratch = malloc(sizeof *parts[i].scratch);
        parts[i].moved = calloc(DELTA_BLOCK, sizeof *parts[i].moved);
        all = all && parts[i].scratch && parts[i].moved;
    }
    return all;
}

/* Close the gaps between the parts. */
static enum status gather(struct patch *patch, const struct part *parts, uint32_t part_count) {
    for (uint32_t i = 0; i < part_count; i++) {
        const struct part *part = &parts[i];
        if (part->wrong)
            return fail(STATUS_FORMAT, "delta: block %llu: %s", (unsigned long long)part->wrong_block, part->wrong);
        memmove(patch->at + patch->changes, patch->at + part->first, part->count * sizeof *patch->at);
        memmove(patch->step + patch->changes, patch->step + part->first, part->count * sizeof *patch->step);
        patch->changes += part->count;
    }
    return STATUS_OK;
}

static enum status decode(struct patch *patch, const struct chain *chain, const struct delta *deltas, int threads) {
    struct part *parts = malloc(SHARE_PARTS_MAX * sizeof *parts);
    if (!parts)
        return fail(STATUS_NO_MEMORY, "version %u: no memory to decode its deltas", patch->version);
    uint32_t part_count = share_parts(patch->blocks, threads);
    uint64_t room = lay_out(parts, part_count, chain, deltas, patch);
    enum status status = STATUS_OK;
    if (allocate(patch, parts, part_count, room, chain->hop_count > 1)) {
        share_run(parts, sizeof *parts, part_count, decode_part);
        status = gather(patch, parts, part_count);
    } else {
        status =
            fail(STATUS_NO_MEMORY, "version %u: no memory for %llu changes", patch->version, (unsigned long long)room);
    }
    for (uint32_t i = 0; i < part_count; i++) {
        free(parts[i].scratch);
        free(parts[i].moved);
    }
    free(parts);
    return status;
}

/* ---- creation ---- */

/* Each delta begins where the one before ended; `at` becomes the last one's end. */
static enum status open_deltas(const struct chain *chain, uint64_t elements, struct digest *at, struct delta *deltas) {
    for (uint32_t h = 0; h < chain->hop_count; h++) {
        struct delta *delta = &deltas[h];
        TRY(delta_open(chain->hops[h].data, chain->hops[h].bytes, delta));
        bool back = chain->hops[h].direction == DELTA_BACK;
        if (delta->elements != elements)
            return fail(STATUS_MISMATCH, "delta: of %llu weights; these are %llu", (unsigned long long)delta->elements,
                        (unsigned long long)elements);
        struct digest from = back ? delta->result : delta->base;
        if (!digest_equal(*at, from)) {
            char found[DIGEST_HEX_BYTES], right[DIGEST_HEX_BYTES];
            digest_format(*at, found);
            digest_format(from, right);
            return fail(STATUS_MISMATCH, "delta: weights %s are held; it is one from %s", found, right);
        }
        *at = back ? delta->base : delta->result;
    }
    return STATUS_OK;
}

static enum status create(struct patch *patch, const struct chain *chain, int threads) {
    struct delta deltas[CHAIN_HOPS_MAX];
    struct digest end = patch->from;
    TRY(open_deltas(chain, patch->elements, &end, deltas));
    if (!digest_equal(end, chain->to))
        return fail(STATUS_MISMATCH, "version %u: its deltas lead to other weights than announced", chain->version);
    patch->blocks = chain->hop_count ? deltas[0].blocks : 0;
    patch->count = malloc((patch->blocks + 1) * sizeof *patch->count);
    if (!patch->count)
        return fail(STATUS_NO_MEMORY, "version %u: no memory to decode its deltas", chain->version);
    return decode(patch, chain, deltas, threads);
}

enum status patch_create(const struct chain *chain, struct digest held, uint64_t elements, int threads,
                         struct patch **out_patch) {
    struct patch *patch = calloc(1, sizeof *patch);
    if (!patch)
        return fail(STATUS_NO_MEMORY, "version %u: no memory to decode its deltas", chain->version);
    patch->version = chain->version;
    patch->from = held;
    patch->to = chain->to;
    patch->elements = elements;
    enum status status = create(patch, chain, threads);
    if (status != STATUS_OK)
        patch_destroy(&patch);
    else
        *out_patch = patch;
    return status;
}

void patch_destroy(struct patch **patch) {
    if (*patch) {
        free((*patch)->count);
        free((*patch)->at);
        free((*patch)->step);
    }
    free(*patch);
    *patch = NULL;
}

/* ---- use ---- */

/* What one thread verifies or applies. */
struct slice {
    uint64_t begin, end; /* blocks */
    const struct patch *patch;
    const uint16_t *at, *step; /* of its first block */
    const uint16_t *read;
    uint16_t *write;
    bool back;
    unsigned __int128 sum; /* change of the digest */
};

static uint32_t slice_patch(const struct patch *patch, int threads, struct slice *slices) {
    uint32_t count = share_parts(patch->blocks, threads);
    uint64_t first = 0;
    for (uint32_t i = 0; i < count; i++) {
        slices[i] = (struct slice){.begin = share_begin(patch->blocks, count, i),
                                   .end = share_begin(patch->blocks, count, i + 1),
                                   .patch = patch,
                                   .at = patch->at + first,
                                   .step = patch->step + first};
        for (uint64_t b = slices[i].begin; b < slices[i].end; b++)
            first += patch->count[b];
    }
    return count;
}

static void *verify_slice(void *argument) {
    struct slice *slice = argument;
    const uint16_t *at = slice->at, *step = slice->step;
    for (uint64_t b = slice->begin; b < slice->end; b++) {
        uint32_t count = slice->patch->count[b];
        uint64_t first = b * DELTA_BLOCK;
        slice->sum += delta_changes_digest(at, step, count, first, slice->read + first);
        at += count;
        step += count;
    }
    return NULL;
}

static enum status check_end(const struct patch *patch, struct digest end) {
    if (digest_equal(end, patch->to) || PLANTED(DELTA_UNVERIFIED))
        return STATUS_OK;
    char found[DIGEST_HEX_BYTES], right[DIGEST_HEX_BYTES];
    digest_format(end, found);
    digest_format(patch->to, right);
    return fail(STATUS_MISMATCH, "version %u: its deltas lead to weights %s; right would be %s", patch->version, found,
                right);
}

enum status patch_verify(const struct patch *patch, int threads, const uint16_t *weights) {
    struct slice slices[SHARE_PARTS_MAX];
    uint32_t count = slice_patch(patch, threads, slices);
    for (uint32_t i = 0; i < count; i++)
        slices[i].read = weights;
    share_run(slices, sizeof *slices, count, verify_slice);
    struct digest end = patch->from;
    for (uint32_t i = 0; i < count; i++)
        end = digest_add(end, digest_of_u128(slices[i].sum));
    return check_end(patch, end);
}

static void *change_slice(void *argument) {
    struct slice *slice = argument;
    const uint16_t *at = slice->at, *step = slice->step;
    for (uint64_t b = slice->begin; b < slice->end; b++) {
        uint32_t count = slice->patch->count[b];
        uint64_t first = b * DELTA_BLOCK;
        slice->sum += delta_changes_apply(at, step, count, first, slice->back, slice->write + first);
        at += count;
        step += count;
    }
    return NULL;
}

enum status patch_change(const struct patch *patch, int threads, uint16_t *weights) {
    struct slice slices[SHARE_PARTS_MAX];
    uint32_t count = slice_patch(patch, threads, slices);
    for (uint32_t i = 0; i < count; i++)
        slices[i].write = weights;
    share_run(slices, sizeof *slices, count, change_slice);
    struct digest end = patch->from;
    for (uint32_t i = 0; i < count; i++) {
        end = digest_add(end, digest_of_u128(slices[i].sum));
        slices[i].back = true;
    }
    enum status status = check_end(patch, end);
    if (status != STATUS_OK)
        share_run(slices, sizeof *slices, count, change_slice);
    return status;
}

static void *apply_slice(void *argument) {
    struct slice *slice = argument;
    const uint16_t *at = slice->at, *step = slice->step;
    for (uint64_t b = slice->begin; b < slice->end; b++) {
        uint32_t count = slice->patch->count[b];
        uint16_t *weights = slice->write + b * DELTA_BLOCK;
        if (slice->read)
            memcpy(weights, slice->read + b * DELTA_BLOCK,
                   delta_block_elements(slice->patch->elements, b) * sizeof *weights);
        for (uint32_t i = 0; i < count; i++)
            weights[at[i]] = (uint16_t)(weights[at[i]] + step[i]);
        at += count;
        step += count;
    }
    return NULL;
}

void patch_copy(const struct patch *patch, int threads, const uint16_t *weights, uint16_t *to) {
    struct slice slices[SHARE_PARTS_MAX];
    uint32_t count = slice_patch(patch, threads, slices);
    for (uint32_t i = 0; i < count; i++) {
        slices[i].read = weights;
        slices[i].write = to;
    }
    share_run(slices, sizeof *slices, count, apply_slice);
}

void patch_apply(const struct patch *patch, int threads, uint16_t *weights) {
    struct slice slices[SHARE_PARTS_MAX];
    uint32_t count = slice_patch(patch, threads, slices);
    for (uint32_t i = 0; i < count; i++)
        slices[i].write = weights;
    share_run(slices, sizeof *slices, count, apply_slice);
}

/* Add all steps, or take them away again; returns the change of the digest. */
static struct digest change_on(const struct patch *patch, struct device *device, bool take_away, uint16_t *weights) {
    struct digest sum = {0, 0}, part;
    uint64_t done = 0;
    for (uint64_t b = 0; b < patch->blocks; b += CHANGE_BLOCKS_MAX) {
        uint64_t first = b * DELTA_BLOCK, count = (uint64_t)CHANGE_BLOCKS_MAX * DELTA_BLOCK;
        count = count < patch->elements - first ? count : patch->elements - first;
        device->ops->apply_changes(device, weights + first, &part, patch->count + b, patch->at + done,
                                   patch->step + done, take_away, (int64_t)first, (int64_t)count);
        sum = digest_add(sum, part);
        for (uint64_t i = b; i < b + CHANGE_BLOCKS_MAX && i < patch->blocks; i++)
            done += patch->count[i];
    }
    return sum;
}

enum status patch_apply_on(const struct patch *patch, struct device *device, uint16_t *weights) {
    if (!device->ops->apply_changes) {
        patch_apply(patch, device->threads, weights);
        return STATUS_OK;
    }
    enum status status = check_end(patch, digest_add(patch->from, change_on(patch, device, false, weights)));
    if (status != STATUS_OK)
        change_on(patch, device, true, weights);
    TRY(device->ops->synchronize(device)); /* a device that failed says so here */
    return status;
}
