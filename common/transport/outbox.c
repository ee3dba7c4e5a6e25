#include "common/transport/outbox.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "proto/proto.h"

struct links {
    struct node *previous, *next;
};

/* Each entry is in the list of all, by age, and in one of waiting (by age) or flying (by the time it was sent). */
struct node {
    struct outbox_entry entry; /* first: an entry is its node */
    struct links all, turn;
    char *memory;
};

struct list {
    struct node *first, *last;
    uint32_t count;
};

struct outbox {
    uint64_t bytes_max, used, reserved;
    struct list all, waiting, flying;
    struct map by_lease;
};

/* ---- lists; the member of the links is named by its offset ---- */

#define ALL offsetof(struct node, all)
#define TURN offsetof(struct node, turn)

static struct links *links_of(struct node *node, size_t member) {
    return (struct links *)(void *)((char *)node + member);
}

/* Put node behind `before`; NULL: first. */
static void list_insert(struct list *list, size_t member, struct node *node, struct node *before) {
    struct node *after = before ? links_of(before, member)->next : list->first;
    *links_of(node, member) = (struct links){.previous = before, .next = after};
    if (before)
        links_of(before, member)->next = node;
    else
        list->first = node;
    if (after)
        links_of(after, member)->previous = node;
    else
        list->last = node;
    list->count++;
}

static void list_remove(struct list *list, size_t member, struct node *node) {
    struct links *links = links_of(node, member);
    if (links->previous)
        links_of(links->previous, member)->next = links->next;
    else
        list->first = links->next;
    if (links->next)
        links_of(links->next, member)->previous = links->previous;
    else
        list->last = links->previous;
    list->count--;
}

static struct list *turn_of(struct outbox *outbox, const struct node *node) {
    return node->entry.receiver ? &outbox->flying : &outbox->waiting;
}

/* ---- life ---- */

enum status outbox_create(uint64_t bytes_max, struct outbox **out_outbox) {
    struct outbox *outbox = calloc(1, sizeof *outbox);
    if (!outbox)
        return fail(STATUS_NO_MEMORY, "outbox: no memory");
    outbox->bytes_max = bytes_max;
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
    list_insert(&outbox->all, ALL, node, outbox->all.last);
    list_insert(&outbox->waiting, TURN, node, outbox->waiting.last);
    return STATUS_OK;
}

static void drop(struct outbox *outbox, struct node *node) {
    list_remove(turn_of(outbox, node), TURN, node);
    list_remove(&outbox->all, ALL, node);
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
    if (outbox->waiting.first)
        return &outbox->waiting.first->entry;
    struct node *node = outbox->flying.first;
    return node && now_ms - node->entry.sent_ms >= resend_ms ? &node->entry : NULL;
}

void outbox_sent(struct outbox *outbox, struct outbox_entry *entry, uint64_t receiver, int64_t now_ms) {
    ASSERT(receiver != 0);
    struct node *node = (struct node *)entry;
    list_remove(turn_of(outbox, node), TURN, node);
    entry->receiver = receiver;
    entry->sent_ms = now_ms;
    entry->sends++;
    list_insert(&outbox->flying, TURN, node, outbox->flying.last);
}

/* Back among the waiting at its age. */
static void wait_again(struct outbox *outbox, struct node *node) {
    list_remove(&outbox->flying, TURN, node);
    node->entry.receiver = 0;
    struct node *before = outbox->waiting.last;
    while (before && before->entry.added_ms > node->entry.added_ms)
        before = before->turn.previous;
    list_insert(&outbox->waiting, TURN, node, before);
}

uint32_t outbox_lost(struct outbox *outbox, uint64_t receiver) {
    uint32_t count = 0;
    struct node *next;
    for (struct node *node = outbox->flying.first; node; node = next) {
        next = node->turn.next;
        if (node->entry.receiver == receiver) {
            wait_again(outbox, node);
            count++;
        }
    }
    return count;
}

struct outbox_entry *outbox_next(struct outbox *outbox, struct outbox_entry *entry) {
    struct node *node = entry ? ((struct node *)entry)->all.next : outbox->all.first;
    return node ? &node->entry : NULL;
}

uint32_t outbox_clear(struct outbox *outbox) {
    uint32_t count = outbox->all.count;
    while (outbox->all.first)
        drop(outbox, outbox->all.first);
    return count;
}

/* ---- queries ---- */

uint32_t outbox_count(const struct outbox *outbox) {
    return outbox->all.count;
}

uint32_t outbox_flying(const struct outbox *outbox) {
    return outbox->flying.count;
}

uint64_t outbox_bytes(const struct outbox *outbox) {
    return outbox->used;
}

uint64_t outbox_room(const struct outbox *outbox) {
    return outbox->bytes_max - outbox->used - outbox->reserved;
}

int64_t outbox_age_ms(const struct outbox *outbox, int64_t now_ms) {
    return outbox->all.first ? now_ms - outbox->all.first->entry.added_ms : 0;
}

void outbox_check(const struct outbox *outbox) {
    uint64_t bytes = 0;
    uint32_t flying = 0;
    for (const struct node *node = outbox->all.first; node; node = node->all.next) {
        bytes += node->entry.bytes;
        flying += node->entry.receiver != 0;
        ASSERT(map_get(&outbox->by_lease, node->entry.lease) == node);
    }
    ASSERT(bytes == outbox->used);
    ASSERT(outbox->used + outbox->reserved <= outbox->bytes_max);                 /* O1 */
    ASSERT(flying == outbox->flying.count);                                      /* O3 */
    ASSERT(outbox->waiting.count + flying == outbox->all.count);                 /* O3 */
    ASSERT(outbox->by_lease.count == outbox->all.count);
}
