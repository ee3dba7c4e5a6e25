/* Offered work and its slots, and what is remembered of work that is over.
 *
 * A slot (I2) is
 *   OPEN     nobody is expected to deliver it
 *   LEASED   at least one ACTIVE lease is out for it
 *   FILLED   its group was accepted: never changes again
 *   SKIPPED  given up after LOSSES_MAX losses (I8, run.skip_stuck): never changes again
 *
 *   from          event                                              to
 *   OPEN          leased                                             LEASED
 *   LEASED        its last ACTIVE lease expired, was lost or given back  OPEN
 *   OPEN, LEASED  a valid group came, whoever made it                FILLED
 *   OPEN, LEASED  lost LOSSES_MAX times, skip_stuck                  SKIPPED
 *   FILLED        a group came                                       FILLED: DUPLICATE
 *
 * Open slots stand in a list: new ones in slot order, those that came back before them, those lost often behind them. */
#ifndef CANDOR_HUB_WORK_H
#define CANDOR_HUB_WORK_H

#include "common/base/arena.h"
#include "common/hub/hub.h"
#include "common/hub/lease_table.h"

/* A loss makes the slot a suspect; two suspects are never given to one actor at a time, so that a question that kills actors
 * takes others along at most SUSPECT_LOSSES times and does not make them look like killers. */
#define SUSPECT_LOSSES 2
#define LOSSES_MAX 5
/* Whoever lost a slot is not given it again at once (grant.c: is_for_others): one broken actor is one loss, not five. */
/* Offered at once: versions of lag 8, evaluations between them, and a driver's chunks. */
#define WORKS_MAX 256
#define SLOTS_MAX 65536 /* of one work: sample.questions */
/* Slots of past work whose digests are remembered for late duplicates: 24 MiB. */
#define PAST_SLOTS_MAX (1u << 20)
#define PAST_WORKS_MAX 256

enum slot_state { SLOT_OPEN, SLOT_LEASED, SLOT_FILLED, SLOT_SKIPPED };

struct loss {
    uint64_t who; /* peer.who */
    char holder[64], reason[64];
};

struct slot {
    uint8_t state;        /* enum slot_state */
    uint8_t lost;         /* I8 */
    bool spared;          /* its last loss left another holder at work, and did not count */
    bool same_class;      /* of the accepted group */
    uint32_t attempts;    /* leases granted */
    uint32_t active;      /* ACTIVE leases */
    struct digest digest; /* of the accepted group */
    struct loss *losses;  /* [LOSSES_MAX], of them `lost` are there; NULL before the first */
    int64_t lost_ms;      /* when the last one was */
    struct link leases;   /* ACTIVE and EXPIRED ones */
    struct link open;     /* OPEN: in the work's list */
};

struct work {
    uint8_t stream;
    uint32_t step, priority, version;
    struct digest weights;
    uint32_t slot_count, done; /* FILLED and SKIPPED */
    uint32_t open_count;
    struct slot *slots;
    struct message_lease *templates; /* [slot_count], in memory */
    struct arena memory;
    struct link open;   /* OPEN slots */
    struct link of_hub; /* works by priority, then by age */
    int64_t offered_ms;
};

/* Copies the templates; key, weights, version and priority of each are the work's. STATUS_LIMIT and STATUS_FORMAT
 * naming the slot. */
enum status work_create(const struct hub_work *offer, uint64_t run_id, struct digest config, int64_t now_ms,
                        struct work **out_work);
void work_destroy(struct work **work);

uint32_t work_slot_index(const struct work *work, const struct slot *slot);
/* LEASED -> OPEN when no ACTIVE lease is left. */
void work_reopen(struct work *work, struct slot *slot);
/* OPEN, LEASED -> FILLED or SKIPPED. */
void work_finish(struct work *work, struct slot *slot, enum slot_state state);
void work_check(const struct work *work);

/* ---- what is remembered ---- */
struct past_work {
    uint8_t stream;
    uint32_t step, slot_count;
    struct digest weights, canary; /* canary zero: not known */
    struct digest *digests;        /* [slot_count]; zero: skipped */
    bool *same_class;              /* [slot_count] */
    struct link of_past;
};

struct past {
    struct link works; /* oldest first */
    uint32_t work_count, slot_count;
};

void past_init(struct past *past);
void past_deinit(struct past *past);
/* Remember a finished work; the oldest are forgotten to make room. Without memory it is forgotten at once. */
void past_add(struct past *past, const struct work *work, struct digest canary);
/* An offer that comes again replaces what was remembered. */
void past_remove(struct past *past, uint8_t stream, uint32_t step);
const struct past_work *past_find(const struct past *past, uint8_t stream, uint32_t step);

#endif
