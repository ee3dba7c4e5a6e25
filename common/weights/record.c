#include "common/weights/record.h"

#include <stdlib.h>
#include <string.h>

/* One in so many weights may have changed before another piece is recorded. A change takes four bytes: beyond it the lists soon are
 * as long as the weights, which are read instead. If all of a 7B model's changed, its lists would be of 30 GB. */
#define CHANGED_SHARE 4

struct record {
    struct device *device;
    uint16_t *before; /* device [RECORD_PIECE] */
    struct patch patch;
    uint64_t capacity; /* of its lists */
    bool whole;        /* no piece is missing so far */
};

static enum status allocate(struct record *record, uint64_t blocks) {
    struct patch *patch = &record->patch;
    void *before = NULL;
    patch->count = calloc(blocks + 1, sizeof *patch->count);
    patch->at = malloc(sizeof *patch->at);
    patch->step = malloc(sizeof *patch->step);
    record->capacity = 1;
    if (!patch->count || !patch->at || !patch->step)
        return fail(STATUS_NO_MEMORY, "no memory to record changes in");
    TRY(record->device->ops->allocate(record->device, (size_t)RECORD_PIECE * sizeof *record->before, &before));
    record->before = before;
    return STATUS_OK;
}

enum status record_create(struct device *device, uint64_t elements, struct record **out_record) {
    ASSERT(device->ops->find_changes);
    struct record *record = calloc(1, sizeof *record);
    if (!record)
        return fail(STATUS_NO_MEMORY, "no memory to record changes in");
    record->device = device;
    record->patch.elements = elements;
    record->patch.blocks = (elements + CHANGE_BLOCK - 1) / CHANGE_BLOCK;
    enum status status = allocate(record, record->patch.blocks);
    if (status != STATUS_OK)
        record_destroy(&record);
    else
        *out_record = record;
    return status;
}

void record_destroy(struct record **record) {
    struct record *r = *record;
    if (!r)
        return;
    if (r->before)
        r->device->ops->release(r->device, r->before);
    free(r->patch.count);
    free(r->patch.at);
    free(r->patch.step);
    free(r);
    *record = NULL;
}

void record_begin(struct record *record) {
    struct patch *patch = &record->patch;
    memset(patch->count, 0, patch->blocks * sizeof *patch->count);
    patch->changes = 0;
    record->whole = true;
}

static bool make_room(struct record *record, uint64_t more) {
    struct patch *patch = &record->patch;
    if (record->capacity - patch->changes >= more)
        return true;
    uint64_t capacity = record->capacity + record->capacity / 2 + more;
    uint16_t *at = realloc(patch->at, capacity * sizeof *at);
    patch->at = at ? at : patch->at;
    uint16_t *step = at ? realloc(patch->step, capacity * sizeof *step) : NULL;
    patch->step = step ? step : patch->step;
    record->capacity = step ? capacity : record->capacity;
    return step;
}

void record_before(struct record *record, const uint16_t *weights, int64_t first, int64_t count) {
    ASSERT(first % CHANGE_BLOCK == 0 && count <= RECORD_PIECE);
    record->whole = record->whole && record->patch.changes <= record->patch.elements / CHANGED_SHARE &&
                    make_room(record, (uint64_t)count);
    if (!record->whole)
        return;
    record->device->ops->copy(record->device, record->before, weights + first, (size_t)count * sizeof *weights);
}

void record_after(struct record *record, const uint16_t *weights, int64_t first, int64_t count) {
    struct patch *patch = &record->patch;
    struct device *device = record->device;
    uint32_t *counts = patch->count + first / CHANGE_BLOCK;
    if (!record->whole)
        return;
    device->ops->find_changes(device, counts, patch->at + patch->changes, patch->step + patch->changes, record->before,
                              weights + first, count);
    for (int64_t b = 0; b * CHANGE_BLOCK < count; b++)
        patch->changes += counts[b];
}

const struct patch *record_patch(struct record *record, struct digest from, struct digest to) {
    record->patch.from = from;
    record->patch.to = to;
    return record->whole ? &record->patch : NULL;
}
