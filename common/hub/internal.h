/* The hub's parts share one struct: hub.c (life, joining, liveness), grant.c (credit and offers), deliver.c (groups that come),
 * hub_status.c (what people see). */
#ifndef CANDOR_HUB_INTERNAL_H
#define CANDOR_HUB_INTERNAL_H

#include "common/base/map.h"
#include "common/hub/hub.h"
#include "common/hub/lease_table.h"
#include "common/hub/work.h"
#include "proto/limits.h"

/* A peer that was silent for this many heartbeats, and at least so long, is gone (transport.md section 3: 3 to 5). */
#define PEER_SILENT_HEARTBEATS 5
#define PEER_SILENT_MS_LEAST 3000
/* The hub itself stood still (suspended host, SIGSTOP) when ticks are this many heartbeats apart: nobody is judged for
 * it. */
#define HUB_STOOD_HEARTBEATS 3
#define HUB_STOOD_MS_LEAST 1000
#define MANIFESTS_MAX 32    /* STORE_VERSIONS_MAX of common/weights */
#define DELTAS_MAX 64       /* STORE_DELTAS_MAX of common/weights */
#define SPECULATE_SCAN 1024 /* leases looked at in a tick */
#define COPIES_MAX 2        /* ACTIVE leases of one slot, speculative ones included */

struct peer {
    uint64_t incarnation;
    peer_id connection;          /* 0: gone, and about to be freed */
    uint8_t role;                /* enum peer_role */
    bool same_class, distrusted; /* canary_mismatch: no leases, and its groups are not wanted */
    uint64_t who;                /* of name and host: the same after a restart */
    uint32_t pid;
    char name[LABEL_BYTES_MAX + 1], host[LABEL_BYTES_MAX + 1];
    char endpoint[ENDPOINT_BYTES_MAX + 1], key[KEY_BYTES_MAX + 1];
    char state[LABEL_BYTES_MAX + 1];
    uint32_t capacity_samples;
    uint64_t capacity_bytes;
    int64_t joined_ms, seen_ms;
    /* leases: all that take of its room, CLOSED ones too */
    struct link leases;
    uint32_t lease_count;
    bool told_too_small;
    bool sated; /* gave a lease back: nothing more before its next heartbeat */
    uint32_t used_samples;
    uint64_t used_bytes;
    uint32_t beat;
    uint64_t progress;
    struct digest weights, canary;
    uint64_t accepted, lost; /* groups */
    uint32_t counter_count;
    struct hub_counter counters[COUNTERS_MAX];
    struct link by_seen; /* all peers, silent longest first */
    struct link hungry;  /* actors with room, in turn */
};

struct version {
    struct message_manifest manifest;
    struct digest canary; /* the learner's; zero: not known */
    bool published;       /* false: only the canary is known yet */
};

struct hub {
    struct hub_settings settings;
    char run[LABEL_BYTES_MAX + 1], weights_endpoint[ENDPOINT_BYTES_MAX + 1];
    struct hub_events events;
    struct lease_table table;
    struct link works;
    uint32_t work_count;
    struct past past;
    struct map by_connection, by_incarnation; /* of peers */
    struct link by_seen, hungry;
    uint32_t peer_count, actor_count, worker_count;
    struct version versions[MANIFESTS_MAX];
    uint32_t version_count;
    struct message_manifest deltas[DELTAS_MAX];
    uint32_t delta_count;
    int64_t now_ms; /* of the event at hand */
    int64_t last_tick_ms;
    double mean_ms; /* of a lease from grant to acceptance, smoothed; 0: none yet */
    bool draining, said_bye;
    int64_t drain_until_ms;
    char drain_reason[REASON_BYTES_MAX + 1];
    struct hub_counts counts;
};

/* ---- hub.c ---- */
struct peer *hub_peer(const struct hub *hub, peer_id connection);
struct work *hub_find_work(const struct hub *hub, uint8_t stream, uint32_t step);
struct version *hub_find_version(const struct hub *hub, const struct digest *weights);
/* Find it or make room for it; NULL when MANIFESTS_MAX are kept. */
struct version *hub_keep_version(struct hub *hub, struct digest weights);
void hub_send(struct hub *hub, peer_id connection, const struct message *message);
void hub_alarm(struct hub *hub, bool fatal, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Work is over when every slot is: tell the holder, remember the digests. The work is gone then. */
void hub_complete_if_done(struct hub *hub, struct work *work);
/* A peer that was silent for so long is gone. */
int64_t hub_silent_ms(const struct hub *hub);
/* Cut at a whole character. */
void hub_copy_text(char *out, size_t capacity, struct text text);

/* ---- peers.c ---- */
void hub_hello(struct hub *hub, peer_id connection, const struct message_hello *hello, int64_t now_ms);
void hub_refuse(struct hub *hub, peer_id connection, bool again, const char *reason);
void hub_say_bye(struct hub *hub, peer_id connection);
void hub_seen(struct hub *hub, struct peer *peer, int64_t now_ms);
/* reason as for hub_lease_lost. */
void hub_lose_leases(struct hub *hub, struct peer *peer, const char *reason);
void hub_remove_peer(struct hub *hub, struct peer *peer, const char *reason);

/* ---- heartbeat.c ---- */
void hub_heartbeat(struct hub *hub, struct peer *peer, const struct message_heartbeat *heartbeat, int64_t now_ms);
void hub_give_back(struct hub *hub, struct peer *peer, const struct message_give_back *give_back, int64_t now_ms);
/* Whether this group's canary tells that its actor is damaged, which is then refused (DESIGN section 5.3). expected: the
 * learner's, of the same weights. */
bool hub_canary_is_wrong(struct hub *hub, const struct message_group *group, const struct digest *expected,
                         int64_t now_ms);

/* ---- grant.c ---- */
/* Actors with room, in turn, take open slots; then idle ones take copies of the oldest leases. */
void hub_serve(struct hub *hub, int64_t now_ms);
/* The actor has room, as far as it is known: it stands in line. */
void hub_stand_in_line(struct hub *hub, struct peer *peer);
/* When no slot is open: copies of the oldest leases for actors that have nothing to do. */
void hub_speculate(struct hub *hub, int64_t now_ms);
/* What a lease takes of its holder's room changes with its state. */
void hub_set_lease_state(struct hub *hub, struct lease *lease, uint8_t state);
/* Free the lease: its holder has let go. */
void hub_release(struct hub *hub, struct lease *lease);
/* Its slot goes on without this lease, which stays in its holder's room; tell the holder when it did not deliver it. */
void hub_close_lease(struct hub *hub, struct lease *lease, bool revoke);
/* The lease will not be answered by its holder: the slot is offered again. reason counts against the slot (I8); NULL:
 * nobody's fault. */
void hub_lease_lost(struct hub *hub, struct lease *lease, const char *reason);
/* Past its deadline. */
void hub_lease_expired(struct hub *hub, struct lease *lease);
/* EXPIRED, but alive after all. */
void hub_lease_revived(struct hub *hub, struct lease *lease, int64_t now_ms);

/* ---- deliver.c ---- */
void hub_scored(struct hub *hub, struct peer *peer, const struct message_scored *scored, int64_t now_ms);

#endif
