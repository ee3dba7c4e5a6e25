/* Shared by client.c (joining, heartbeats), client_leases.c, client_weights.c and client_delivery.c. Private. */
#ifndef CANDOR_ACTOR_CLIENT_INTERNAL_H
#define CANDOR_ACTOR_CLIENT_INTERNAL_H

#include "actor/client.h"
#include "common/base/arena.h"
#include "common/transport/outbox.h"
#include "common/weights/files.h"
#include "common/weights/sync.h"

struct held_lease {
    struct arena arena; /* owns what `lease` points to */
    struct message_lease lease;
    uint64_t room; /* reserved in the outbox, until done */
    uint64_t work; /* lease_progress.tokens_done */
    uint8_t state; /* enum lease_state */
    bool given;    /* to the generation */
};

struct worker {
    bool open;
    char endpoint[ENDPOINT_BYTES_MAX + 1];
    char name[LABEL_BYTES_MAX + 1];
    uint64_t incarnation;
    uint64_t credit, sent; /* bytes since the knock */
    bool refused;          /* for good, until it is another incarnation */
    int64_t knock_ms;      /* knock again then, while credit is 0 */
};

#define EARLY_MAX (SYNC_VERSIONS_MAX + SYNC_DELTAS_MAX)

enum client_phase { CLIENT_JOINING, CLIENT_JOINED };

struct client {
    struct client_settings settings;
    char *texts; /* the settings' strings */
    struct client_actions actions;
    enum client_phase phase;
    bool draining, leaving;
    bool unheard;                   /* the last heartbeat could not be sent */
    int64_t hello_ms, heartbeat_ms; /* the next ones */

    /* of welcome */
    char run[LABEL_BYTES_MAX + 1];
    uint64_t run_id, hub;
    struct digest config;
    uint32_t heartbeat_interval_ms;
    char weights_endpoint[ENDPOINT_BYTES_MAX + 1];
    bool same_class;
    int32_t valid_vocab, positions_max;

    struct held_lease *held[HELD_MAX];
    uint32_t held_count;
    uint64_t last_lease;

    /* model and weights */
    struct files *files;
    struct sync *sync;                        /* NULL: model not open */
    struct message_manifest early[EARLY_MAX]; /* manifests before sync */
    uint32_t early_count;
    struct digest current, loaded; /* announced as current; on the device */
    struct digest canary;          /* of the loaded version; zero: not computed yet */
    struct digest staged;          /* made ready by deltas from the loaded version; zero: none */
    uint32_t loaded_version, loading_version, staged_version;
    bool loading, patching;

    struct worker workers[WORKERS_MAX];
    struct outbox *outbox;

    /* counters */
    struct generator_counters generated;
    uint64_t accepted, duplicate, not_wanted, dropped, swaps, patches, pause_ms;
};

static inline struct digest no_digest(void) {
    return (struct digest){0, 0};
}

/* ---- client.c ---- */
/* The hub answers with everything that it tells who joins. */
void client_say_hello(struct client *client, int64_t now_ms);
void client_beat(struct client *client, int64_t now_ms);

/* ---- client_leases.c ---- */
void leases_take(struct client *client, const struct message_lease *lease);
void leases_revoke(struct client *client, const struct message_revoke *revoke);
/* Forget all that the hub of another incarnation leased; finished groups stay in the outbox. */
void leases_void(struct client *client);
void leases_give_back(struct client *client, uint64_t lease, const char *reason, bool fault);
void leases_give_back_unfinished(struct client *client, const struct digest *version, const char *reason);
struct held_lease *leases_find(struct client *client, uint64_t lease);
void leases_free(struct client *client, uint64_t lease);
/* The unfinished lease with the lowest priority, then number; except: not of this version (NULL: any). */
const struct held_lease *leases_first(const struct client *client, const struct digest *except);

/* ---- client_weights.c ---- */
enum status weights_welcome(struct client *client, const struct message_welcome *welcome, int64_t now_ms);
void weights_manifest(struct client *client, const struct message_manifest *manifest);
/* Fetch, load and generate what is due. */
enum status weights_pump(struct client *client, int64_t now_ms);

/* ---- client_delivery.c ---- */
void delivery_workers(struct client *client, const struct message_workers *list, int64_t now_ms);
void delivery_pump(struct client *client, int64_t now_ms);
/* Knocks that are due. */
void delivery_tick(struct client *client, int64_t now_ms);
void delivery_close(struct client *client);

#endif
