#include "common/hub/work.h"

#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"

/* ---- templates ---- */

/* A deep copy by way of the wire: what could not be sent is refused here, before anybody waits for it. */
static enum status copy_template(struct work *work, uint32_t index, const struct message_lease *slot,
                                 struct buf *frame) {
    struct message message = {.type = MESSAGE_LEASE, .lease = *slot}, copy;
    buf_reset(frame);
    TRY(proto_encode(&message, frame));
    TRY(proto_decode(frame->data, frame->bytes, &work->memory, &copy));
    work->templates[index] = copy.lease;
    return STATUS_OK;
}

static enum status copy_templates(struct work *work, const struct hub_work *offer, uint64_t run_id,
                                  struct digest config) {
    struct buf frame = {0};
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < offer->slot_count; i++) {
        struct message_lease slot = offer->slots[i];
        slot.key = (struct work_key){.run_id = run_id, .stream = offer->stream, .step = offer->step, .slot = i};
        slot.weights = offer->weights;
        slot.version = offer->version;
        slot.priority = offer->priority;
        slot.config = config;
        slot.lease = slot.deadline_ms = 1; /* set when it is granted */
        status = copy_template(work, i, &slot, &frame);
        if (status != STATUS_OK)
            fail_context(status, "step %u, slot %u", offer->step, i);
    }
    buf_deinit(&frame);
    return status;
}

/* ---- work ---- */

enum status work_create(const struct hub_work *offer, uint64_t run_id, struct digest config, int64_t now_ms,
                        struct work **out_work) {
    if (offer->slot_count == 0 || offer->slot_count > SLOTS_MAX)
        return fail(STATUS_LIMIT, "step %u: %u slots, 1 to %u", offer->step, offer->slot_count, SLOTS_MAX);
    struct work *work = calloc(1, sizeof *work);
    if (!work)
        return fail(STATUS_NO_MEMORY, "step %u: no memory", offer->step);
    *work = (struct work){.stream = offer->stream,
                          .step = offer->step,
                          .priority = offer->priority,
                          .version = offer->version,
                          .weights = offer->weights,
                          .slot_count = offer->slot_count,
                          .open_count = offer->slot_count,
                          .offered_ms = now_ms};
    arena_init(&work->memory, SIZE_MAX / 4);
    list_init(&work->open);
    list_init(&work->of_hub);
    work->slots = calloc(work->slot_count, sizeof work->slots[0]);
    work->templates = calloc(work->slot_count, sizeof work->templates[0]);
    enum status status;
    if (!work->slots || !work->templates)
        TRY_GOTO(fail(STATUS_NO_MEMORY, "step %u: no memory", offer->step), failed);
    TRY_GOTO(copy_templates(work, offer, run_id, config), failed);
    for (uint32_t i = 0; i < work->slot_count; i++) {
        list_init(&work->slots[i].leases);
        list_push_back(&work->open, &work->slots[i].open);
    }
    *out_work = work;
    return STATUS_OK;
failed:
    work_destroy(&work);
    return status;
}

void work_destroy(struct work **work) {
    if (!*work)
        return;
    for (uint32_t i = 0; (*work)->slots && i < (*work)->slot_count; i++)
        free((*work)->slots[i].losses);
    free((*work)->slots);
    free((*work)->templates);
    arena_deinit(&(*work)->memory);
    free(*work);
    *work = NULL;
}

uint32_t work_slot_index(const struct work *work, const struct slot *slot) {
    return (uint32_t)(slot - work->slots);
}

void work_reopen(struct work *work, struct slot *slot) {
    if (slot->state != SLOT_LEASED || slot->active > 0)
        return;
    slot->state = SLOT_OPEN;
    if (slot->lost < SUSPECT_LOSSES)
        list_push_front(&work->open, &slot->open);
    else
        list_push_back(&work->open, &slot->open);
    work->open_count++;
}

void work_finish(struct work *work, struct slot *slot, enum slot_state state) {
    ASSERT(slot->state == SLOT_OPEN || slot->state == SLOT_LEASED); /* I2 */
    if (slot->state == SLOT_OPEN) {
        list_remove(&slot->open);
        work->open_count--;
    }
    slot->state = (uint8_t)state;
    work->done++;
}

void work_check(const struct work *work) {
    uint32_t open = 0, done = 0, linked = 0;
    for (uint32_t i = 0; i < work->slot_count; i++) {
        const struct slot *slot = &work->slots[i];
        uint32_t active = 0;
        for (struct link *link = slot->leases.next; link != &slot->leases; link = link->next) {
            const struct lease *lease = LIST_ELEMENT(link, struct lease, of_slot);
            ASSERT(lease->slot == slot && lease->work == work);
            active += lease->status == LEASE_STATUS_ACTIVE;
        }
        bool over = slot->state == SLOT_FILLED || slot->state == SLOT_SKIPPED;
        ASSERT(active == slot->active);
        ASSERT((slot->state == SLOT_LEASED) == (active > 0)); /* I2 */
        ASSERT(!over || list_empty(&slot->leases));           /* a finished slot has nobody working for it */
        ASSERT(slot->lost <= LOSSES_MAX);                     /* I8 */
        open += slot->state == SLOT_OPEN;
        done += over;
    }
    for (struct link *link = work->open.next; link != &work->open; link = link->next, linked++)
        ASSERT(LIST_ELEMENT(link, struct slot, open)->state == SLOT_OPEN);
    ASSERT(open == work->open_count && linked == open && done == work->done);
}

/* ---- past ---- */

void past_init(struct past *past) {
    *past = (struct past){0};
    list_init(&past->works);
}

static void forget(struct past *past, struct past_work *work) {
    list_remove(&work->of_past);
    past->work_count--;
    past->slot_count -= work->slot_count;
    free(work->digests);
    free(work->same_class);
    free(work);
}

void past_deinit(struct past *past) {
    while (!list_empty(&past->works))
        forget(past, LIST_ELEMENT(past->works.next, struct past_work, of_past));
}

void past_add(struct past *past, const struct work *work, struct digest canary) {
    past_remove(past, work->stream, work->step);
    while (past->work_count > 0 &&
           (past->work_count == PAST_WORKS_MAX || past->slot_count + work->slot_count > PAST_SLOTS_MAX))
        forget(past, LIST_ELEMENT(past->works.next, struct past_work, of_past));
    struct past_work *kept = calloc(1, sizeof *kept);
    struct digest *digests = calloc(work->slot_count, sizeof *digests);
    bool *same_class = calloc(work->slot_count, sizeof *same_class);
    if (!kept || !digests || !same_class) {
        free(kept);
        free(digests);
        free(same_class);
        return;
    }
    *kept = (struct past_work){.stream = work->stream,
                               .step = work->step,
                               .slot_count = work->slot_count,
                               .weights = work->weights,
                               .canary = canary,
                               .digests = digests,
                               .same_class = same_class};
    for (uint32_t i = 0; i < work->slot_count; i++) {
        digests[i] = work->slots[i].digest;
        same_class[i] = work->slots[i].same_class;
    }
    list_push_back(&past->works, &kept->of_past);
    past->work_count++;
    past->slot_count += work->slot_count;
}

void past_remove(struct past *past, uint8_t stream, uint32_t step) {
    for (struct link *link = past->works.next; link != &past->works; link = link->next) {
        struct past_work *work = LIST_ELEMENT(link, struct past_work, of_past);
        if (work->stream == stream && work->step == step) {
            forget(past, work);
            return;
        }
    }
}

const struct past_work *past_find(const struct past *past, uint8_t stream, uint32_t step) {
    for (struct link *link = past->works.next; link != &past->works; link = link->next) {
        const struct past_work *work = LIST_ELEMENT(link, struct past_work, of_past);
        if (work->stream == stream && work->step == step)
            return work;
    }
    return NULL;
}
