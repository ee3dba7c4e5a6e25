/* The leases that are out: numbers, deadlines, ages. It knows neither slots' contents nor policies.
 *
 * A lease is
 *   ACTIVE   its holder is expected to deliver
 *   EXPIRED  past its deadline: the slot may be offered again, the holder may still deliver
 *   CLOSED   its slot is filled or withdrawn: it only takes room of its holder until that says that it let go
 *
 *   from             event                                            to
 *   -                granted                                          ACTIVE
 *   ACTIVE           progress (I3)                                    ACTIVE, with a new deadline
 *   ACTIVE           deadline                                         EXPIRED
 *   EXPIRED          progress (slow, but alive)                       ACTIVE
 *   ACTIVE, EXPIRED  slot filled, work withdrawn                      CLOSED
 *   any              given back, not held any more, holder gone       free
 *
 * Deadlines are all the same time away, so the list of ACTIVE leases by last renewal is sorted by deadline: expiry, renewal, grant and
 * release take constant time. One thread. */
#ifndef CANDOR_HUB_LEASE_TABLE_H
#define CANDOR_HUB_LEASE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/base/status.h"
#include "proto/messages.h"

struct peer;
struct slot;
struct work;

enum lease_status { LEASE_STATUS_FREE, LEASE_STATUS_ACTIVE, LEASE_STATUS_EXPIRED, LEASE_STATUS_CLOSED };

struct lease {
    uint64_t number; /* rises with each grant; its low 16 bits are its place in the table */
    uint8_t status;  /* enum lease_status */
    uint8_t state;   /* enum lease_state, as its holder last said */
    bool confirm; /* granted over a connection that broke: if the next heartbeat does not hold it, it never arrived */
    bool counted; /* its expiry counted against the slot (I8) */
    uint32_t samples;
    uint64_t bytes; /* lease_weigh */
    uint64_t tokens_done;
    uint32_t beat;        /* the holder's heartbeat that last listed it */
    uint32_t closed_beat; /* the last one before it was CLOSED */
    int64_t granted_ms, deadline_ms;
    struct peer *peer;
    struct work *work;               /* NULL when CLOSED */
    struct slot *slot;               /* NULL when CLOSED */
    struct link by_deadline, by_age; /* ACTIVE */
    struct link of_peer, of_slot;    /* the lists of its peer; of its slot unless CLOSED */
};

struct lease_table {
    struct lease *leases; /* [capacity] */
    uint32_t capacity, count, active, free_count;
    uint32_t ever_used;    /* places from here on were never used */
    uint16_t *free_places; /* [free_count] of those before */
    uint64_t first, next;  /* counters of this incarnation's numbers */
    struct link by_deadline, by_age;
};

/* capacity up to LEASES_MAX. Numbers of two incarnations do not meet. */
enum status lease_table_init(struct lease_table *table, uint64_t incarnation, uint32_t capacity);
void lease_table_deinit(struct lease_table *table);

/* A new ACTIVE lease, linked to nothing else; NULL when capacity leases are out (I4). */
struct lease *lease_table_grant(struct lease_table *table, int64_t now_ms, int64_t deadline_ms);
/* NULL when it is not out. */
struct lease *lease_table_find(const struct lease_table *table, uint64_t number);
/* Was this number ever granted here? */
bool lease_table_knows(const struct lease_table *table, uint64_t number);

/* ACTIVE or EXPIRED -> ACTIVE with this deadline. */
void lease_table_renew(struct lease_table *table, struct lease *lease, int64_t deadline_ms);
/* ACTIVE -> EXPIRED */
void lease_table_expire(struct lease_table *table, struct lease *lease);
/* ACTIVE, EXPIRED -> CLOSED; leaves the slot's list. */
void lease_table_close(struct lease_table *table, struct lease *lease);
/* any -> free; leaves every list. */
void lease_table_free(struct lease_table *table, struct lease *lease);

/* The ACTIVE lease whose deadline came, or NULL. */
struct lease *lease_table_due(const struct lease_table *table, int64_t now_ms);
/* The ACTIVE lease granted next after `lease` (NULL: the oldest), or NULL. */
struct lease *lease_table_by_age(const struct lease_table *table, const struct lease *lease);
/* The hub itself stood still for that long: its leases are so much younger, and end so much later. None ends later than one that is
 * granted now, for lease_ms: it may have been granted or renewed after the standstill and before it was noticed. */
void lease_table_shift(struct lease_table *table, int64_t by_ms, int64_t now_ms, int64_t lease_ms);

void lease_table_check(const struct lease_table *table);

#endif
