#include "common/hub/lease_table.h"

#include <stdlib.h>

#include "proto/limits.h"

#define PLACE_BITS 16
#define PLACE_MASK ((1u << PLACE_BITS) - 1)
_Static_assert(LEASES_MAX <= 1u << PLACE_BITS, "a place fits the low bits of a lease's number");

enum status lease_table_init(struct lease_table *table, uint64_t incarnation, uint32_t capacity) {
    ASSERT(capacity > 0 && capacity <= LEASES_MAX);
    struct lease_table fresh = {.capacity = capacity};
    fresh.leases = calloc(capacity, sizeof fresh.leases[0]);
    fresh.free_places = calloc(capacity, sizeof fresh.free_places[0]);
    if (!fresh.leases || !fresh.free_places) {
        free(fresh.leases);
        free(fresh.free_places);
        return fail(STATUS_NO_MEMORY, "lease table of %u leases: no memory", capacity);
    }
    /* 46 random bits to start from: with the counter's growth and the place below them, 64 bits are never passed. */
    fresh.first = fresh.next = (incarnation >> 18) + 1;
    *table = fresh;
    list_init(&table->by_deadline);
    list_init(&table->by_age);
    return STATUS_OK;
}

void lease_table_deinit(struct lease_table *table) {
    free(table->leases);
    free(table->free_places);
    *table = (struct lease_table){0};
}

/* Never before the last deadline, whatever the clock gives. */
static int64_t in_order(const struct lease_table *table, int64_t deadline_ms) {
    if (list_empty(&table->by_deadline))
        return deadline_ms;
    int64_t last_ms = LIST_ELEMENT(table->by_deadline.previous, struct lease, by_deadline)->deadline_ms;
    return deadline_ms > last_ms ? deadline_ms : last_ms;
}

struct lease *lease_table_grant(struct lease_table *table, int64_t now_ms, int64_t deadline_ms) {
    if (table->count == table->capacity)
        return NULL;
    uint16_t place = table->free_count > 0 ? table->free_places[--table->free_count] : (uint16_t)table->ever_used++;
    struct lease *lease = &table->leases[place];
    *lease = (struct lease){
        .number = table->next++ << PLACE_BITS | place,
        .status = LEASE_STATUS_ACTIVE,
        .granted_ms = now_ms,
        .deadline_ms = in_order(table, deadline_ms),
    };
    list_init(&lease->of_peer);
    list_init(&lease->of_slot);
    list_push_back(&table->by_deadline, &lease->by_deadline);
    list_push_back(&table->by_age, &lease->by_age);
    table->count++;
    table->active++;
    return lease;
}

struct lease *lease_table_find(const struct lease_table *table, uint64_t number) {
    uint32_t place = number & PLACE_MASK;
    if (place >= table->ever_used)
        return NULL;
    struct lease *lease = &table->leases[place];
    return lease->status != LEASE_STATUS_FREE && lease->number == number ? lease : NULL;
}

bool lease_table_knows(const struct lease_table *table, uint64_t number) {
    uint64_t counter = number >> PLACE_BITS;
    return counter >= table->first && counter < table->next;
}

/* Out of the lists that only ACTIVE leases are in. */
static void deactivate(struct lease_table *table, struct lease *lease) {
    if (lease->status == LEASE_STATUS_ACTIVE)
        table->active--;
    list_remove(&lease->by_deadline);
    list_remove(&lease->by_age);
}

void lease_table_renew(struct lease_table *table, struct lease *lease, int64_t deadline_ms) {
    ASSERT(lease->status == LEASE_STATUS_ACTIVE || lease->status == LEASE_STATUS_EXPIRED);
    lease->deadline_ms = in_order(table, deadline_ms);
    if (lease->status == LEASE_STATUS_EXPIRED) {
        lease->status = LEASE_STATUS_ACTIVE;
        list_push_back(&table->by_age, &lease->by_age);
        table->active++;
    }
    list_remove(&lease->by_deadline);
    list_push_back(&table->by_deadline, &lease->by_deadline);
}

void lease_table_expire(struct lease_table *table, struct lease *lease) {
    ASSERT(lease->status == LEASE_STATUS_ACTIVE);
    deactivate(table, lease);
    lease->status = LEASE_STATUS_EXPIRED;
}

void lease_table_close(struct lease_table *table, struct lease *lease) {
    ASSERT(lease->status == LEASE_STATUS_ACTIVE || lease->status == LEASE_STATUS_EXPIRED);
    deactivate(table, lease);
    list_remove(&lease->of_slot);
    lease->status = LEASE_STATUS_CLOSED;
    lease->slot = NULL;
    lease->work = NULL;
}

void lease_table_free(struct lease_table *table, struct lease *lease) {
    ASSERT(lease->status != LEASE_STATUS_FREE);
    deactivate(table, lease);
    list_remove(&lease->of_slot);
    list_remove(&lease->of_peer);
    lease->status = LEASE_STATUS_FREE;
    table->count--;
    table->free_places[table->free_count++] = (uint16_t)(lease - table->leases);
}

struct lease *lease_table_due(const struct lease_table *table, int64_t now_ms) {
    if (list_empty(&table->by_deadline))
        return NULL;
    struct lease *lease = LIST_ELEMENT(table->by_deadline.next, struct lease, by_deadline);
    return lease->deadline_ms <= now_ms ? lease : NULL;
}

struct lease *lease_table_by_age(const struct lease_table *table, const struct lease *lease) {
    struct link *next = lease ? lease->by_age.next : table->by_age.next;
    return next == &table->by_age ? NULL : LIST_ELEMENT(next, struct lease, by_age);
}

static int64_t later(int64_t time_ms, int64_t by_ms, int64_t latest_ms) {
    return time_ms + by_ms < latest_ms ? time_ms + by_ms : latest_ms;
}

void lease_table_shift(struct lease_table *table, int64_t by_ms, int64_t now_ms, int64_t lease_ms) {
    for (struct link *link = table->by_deadline.next; link != &table->by_deadline; link = link->next) {
        struct lease *lease = LIST_ELEMENT(link, struct lease, by_deadline);
        lease->deadline_ms = later(lease->deadline_ms, by_ms, now_ms + lease_ms);
        lease->granted_ms = later(lease->granted_ms, by_ms, now_ms);
    }
}

void lease_table_check(const struct lease_table *table) {
    uint32_t count = 0, active = 0, linked = 0;
    for (uint32_t i = 0; i < table->ever_used; i++) {
        const struct lease *lease = &table->leases[i];
        if (lease->status == LEASE_STATUS_FREE)
            continue;
        count++;
        active += lease->status == LEASE_STATUS_ACTIVE;
        ASSERT((lease->number & PLACE_MASK) == i && lease_table_knows(table, lease->number));
        ASSERT(list_linked(&lease->of_peer));
        ASSERT((lease->status != LEASE_STATUS_CLOSED) == list_linked(&lease->of_slot));
        ASSERT((lease->status == LEASE_STATUS_ACTIVE) == list_linked(&lease->by_deadline));
    }
    ASSERT(count == table->count && active == table->active && count + table->free_count == table->ever_used);
    int64_t last_ms = INT64_MIN;
    for (struct link *link = table->by_deadline.next; link != &table->by_deadline; link = link->next, linked++) {
        const struct lease *lease = LIST_ELEMENT(link, struct lease, by_deadline);
        ASSERT(lease->deadline_ms >= last_ms);
        last_ms = lease->deadline_ms;
    }
    ASSERT(linked == active);
}
