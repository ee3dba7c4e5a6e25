#include "common/transport/outbox.h"

#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/plant.h"
#include "proto/proto.h"

/* Each entry is in the list of all, by age, and in one of waiting (by age) or flying (by the time it was sent). */
struct node {
    struct outbox_entry entry; /* first: an entry is its node */
    struct link all, turn;
    char *memory;
};

struct outbox {
    uint64_t bytes_max, used, reserved;
    struct link all, waiting, flying;
    uint32_t count, flying_count;
    struct map by_lease;
};

/* NULL at the end of the list. */
static struct node *of_all(const struct outbox *outbox, struct link *link) {
    return link == &outbox->all ? NULL : LIST_ELEMENT(link, struct node, all);
}

static struct node *of_turn(const struct link *head, struct link *link) {
    return link == head ? NULL : LIST_ELEMENT(link, struct node, turn);
}

/* ---- life ---- */

enum status outbox_create(uint64_t bytes_max, struct outbox **out_outbox) {
    struct outbox *outbox = calloc(1, sizeof *outbox);
    if (!outbox)
        return fail(STATUS_NO_MEMORY, "outbox: no memory");
    outbox->bytes_max = bytes_max;
    list_init(&outbox->all);
    list_init(&outbox->waiting);
    list_init(&outbox->flying);
    *out_outbox = outbox;
    return STATUS_OK;
}

void outbox_destroy(struct outbox **outbox) {
    if (!*outbox)
        return;
    outbox_clear(*outbox);
    map_deinit(&(*outbox)->by_lease);
    free(*outbox);
    *outbox = NULL;
}

enum status outbox_reserve(struct outbox *outbox, uint64_t bytes) {
    if (bytes > outbox_room(outbox))
        return STATUS_AGAIN;
    outbox->reserved += bytes;
    return STATUS_OK;
}

void outbox_unreserve(struct outbox *outbox, uint64_t bytes) {
    ASSERT(bytes <= outbox->reserved);
    outbox->reserved -= bytes;
}

enum status outbox_put(struct outbox *outbox, const struct work_key *key, uint64_t lease, uint64_t tag,
                       struct buf *take_frame, int64_t now_ms) {
    if (map_get(&outbox->by_lease, lease))
        return fail(STATUS_EXISTS, "outbox: lease %llu is already inside", (unsigned long long)lease);
    if (take_frame->bytes > outbox_room(outbox))
        return STATUS_AGAIN;
    struct node *node = calloc(1, sizeof *node);
    if (!node || map_put(&outbox->by_lease, lease, node) != STATUS_OK) {
        free(node);
        return fail(STATUS_NO_MEMORY, "outbox: no memory");
    }
    size_t bytes = take_frame->bytes;
    node->memory = buf_take(take_frame, NULL);
    node->entry = (struct outbox_entry){
        .key = *key, .lease = lease, .frame = node->memory, .bytes = bytes, .tag = tag, .added_ms = now_ms};
    outbox->used += bytes;
    outbox->count++;
    list_push_back(&outbox->all, &node->all);
    list_push_back(&outbox->waiting, &node->turn);
    return STATUS_OK;
}

static void drop(struct outbox *outbox, struct node *node) {
    list_remove(&node->turn);
    list_remove(&node->all);
    outbox->count--;
    outbox->flying_count -= node->entry.receiver != 0;
    map_remove(&outbox->by_lease, node->entry.lease);
    outbox->used -= node->entry.bytes;
    free(node->memory);
    free(node);
}

struct outbox_entry *outbox_find(struct outbox *outbox, const struct work_key *key, uint64_t lease) {
    struct node *node = map_get(&outbox->by_lease, lease);
    return node && work_key_equal(&node->entry.key, key) ? &node->entry : NULL;
}

bool outbox_remove(struct outbox *outbox, const struct work_key *key, uint64_t lease) {
    struct outbox_entry *entry = outbox_find(outbox, key, lease);
    if (entry)
        drop(outbox, (struct node *)entry);
    return entry != NULL;
}

bool outbox_remove_lease(struct outbox *outbox, uint64_t lease) {
    struct node *node = map_get(&outbox->by_lease, lease);
    if (node)
        drop(outbox, node);
    return node != NULL;
}

/* ---- sending ---- */

struct outbox_entry *outbox_due(struct outbox *outbox, int64_t now_ms, int64_t resend_ms) {
    struct node *node = of_turn(&outbox->waiting, outbox->waiting.next);
    if (node)
        return &node->entry;
    node = of_turn(&outbox->flying, outbox->flying.next);
    return node && now_ms - node->entry.sent_ms >= resend_ms ? &node->entry : NULL;
}

void outbox_sent(struct outbox *outbox, struct outbox_entry *entry, uint64_t receiver, int64_t now_ms) {
    ASSERT(receiver != 0);
    struct node *node = (struct node *)entry;
    list_remove(&node->turn);
    outbox->flying_count += entry->receiver == 0;
    entry->receiver = receiver;
    entry->sent_ms = now_ms;
    entry->sends++;
    list_push_back(&outbox->flying, &node->turn);
}

/* Back among the waiting at its age. */
static void wait_again(struct outbox *outbox, struct node *node) {
    list_remove(&node->turn);
    outbox->flying_count--;
    node->entry.receiver = 0;
    struct link *before = outbox->waiting.previous;
    while (before != &outbox->waiting && of_turn(&outbox->waiting, before)->entry.added_ms > node->entry.added_ms)
        before = before->previous;
    list_insert_after(before, &node->turn);
}

uint32_t outbox_lost(struct outbox *outbox, uint64_t receiver) {
    uint32_t count = 0;
    struct link *next;
    for (struct link *link = outbox->flying.next; link != &outbox->flying; link = next) {
        struct node *node = of_turn(&outbox->flying, link);
        next = link->next;
        if (node->entry.receiver == receiver) {
            if (PLANTED(LOST_FORGOTTEN))
                drop(outbox, node);
            else
                wait_again(outbox, node);
            count++;
        }
    }
    return count;
}

struct outbox_entry *outbox_next(struct outbox *outbox, struct outbox_entry *entry) {
    struct node *node = of_all(outbox, entry ? ((struct node *)entry)->all.next : outbox->all.next);
    return node ? &node->entry : NULL;
}

uint32_t outbox_clear(struct outbox *outbox) {
    uint32_t count = outbox->count;
    while (!list_empty(&outbox->all))
        drop(outbox, of_all(outbox, outbox->all.next));
    return count;
}

/* ---- queries ---- */

uint32_t outbox_count(const struct outbox *outbox) {
    return outbox->count;
}

uint32_t outbox_flying(const struct outbox *outbox) {
    return outbox->flying_count;
}

uint64_t outbox_bytes(const struct outbox *outbox) {
    return outbox->used;
}

uint64_t outbox_room(const struct outbox *outbox) {
    return outbox->bytes_max - outbox->used - outbox->reserved;
}

int64_t outbox_age_ms(const struct outbox *outbox, int64_t now_ms) {
    return outbox->count ? now_ms - of_all(outbox, outbox->all.next)->entry.added_ms : 0;
}

void outbox_check(const struct outbox *outbox) {
    uint64_t bytes = 0;
    uint32_t count = 0, flying = 0;
    for (struct link *link = outbox->all.next; link != &outbox->all; link = link->next) {
        const struct node *node = of_all(outbox, link);
        bytes += node->entry.bytes;
        count++;
        flying += node->entry.receiver != 0;
        ASSERT(map_get(&outbox->by_lease, node->entry.lease) == node);
    }
    ASSERT(bytes == outbox->used && count == outbox->count && flying == outbox->flying_count);
    ASSERT(outbox->used + outbox->reserved <= outbox->bytes_max); /* O1 */
    for (struct link *link = outbox->flying.next; link != &outbox->flying; link = link->next, flying--)
        ASSERT(of_turn(&outbox->flying, link)->entry.receiver != 0); /* O3 */
    for (struct link *link = outbox->waiting.next; link != &outbox->waiting; link = link->next, count--)
        ASSERT(of_turn(&outbox->waiting, link)->entry.receiver == 0); /* O3 */
    ASSERT(flying == 0 && count == outbox->flying_count);
    ASSERT(outbox->by_lease.count == outbox->count);
}
