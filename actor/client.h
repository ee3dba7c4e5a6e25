/* The actor's side of the protocol: joining, leases, weights, delivery. Pure: messages, results and time in, actions
 * out; it owns no socket, no clock and no model. Runs on the transport thread; the generation thread is behind the
 * actions `generate`, `cancel`, `load`, `stage` and `patch` and answers through client_generated, client_refused,
 * client_progress, client_swapped, client_canary and client_patch_refused.
 *
 *   joining   hello is said each CLIENT_HELLO_MS until welcome; a refusal with `again`, or a hub that says bye, begins it anew
 *   joined    model files are fetched, then weights; heartbeats each welcome.heartbeat_ms name every lease held
 *   draining  unfinished leases are given back, the outbox empties
 *
 * A lease:  waiting --its version is loaded--> generating --finished--> done (in the outbox) --answer--> freed.
 *           At any time: revoked, given back, or void because the hub is a new one.
 *
 * Invariants (client_check):
 *   A1 a lease is held only with room reserved in the outbox for the most it can weigh (I4).
 *   A2 only leases of the loaded version are given to the generation, never while a load is under way.
 *   A3 a finished group leaves by an answer or a revoke (I2 of the hub makes a second delivery harmless).
 *   A4 what a peer sends is data (I5): what does not fit is counted in `dropped`. */
#ifndef CANDOR_ACTOR_CLIENT_H
#define CANDOR_ACTOR_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "actor/generator.h"
#include "common/base/buf.h"
#include "common/weights/chain.h"
#include "proto/limits.h"
#include "proto/messages.h"

#define CLIENT_HELLO_MS 200
/* Reward workers are knocked at this often until they grant credit. */
#define CLIENT_KNOCK_MS 200
/* An unanswered group is sent again, to whichever worker has most credit. A worker answers as soon as the hub has, so this is
 * only for groups that were lost on the way. */
#define CLIENT_RESEND_MS 15000

struct client;

/* What a run asks of the model that answers it. */
struct client_run {
    const char *name;
    int32_t valid_vocab, positions_max;
};

/* Called from within the client's functions. Nothing here waits. */
struct client_actions {
    void *context;
    bool (*control)(void *context, const struct message *message);   /* may be lost; false: surely not sent */
    void (*weights_open)(void *context, const char *endpoint);       /* closes the one before */
    bool (*fetch)(void *context, const struct message_fetch *fetch); /* false: not sent */
    /* Reward workers, by slot [0, WORKERS_MAX). */
    void (*worker_open)(void *context, uint32_t slot, const char *endpoint, const char *key);
    void (*worker_close)(void *context, uint32_t slot);
    bool (*worker_send)(void *context, uint32_t slot, const void *frame,
                        size_t bytes); /* false: no room, no connection */
    /* The directory holds the run's config.json and tokenizer: read them. Another status than STATUS_OK is final. */
    enum status (*model_open)(void *context, const char *directory, const struct client_run *run,
                              uint64_t *out_elements);
    /* The text of ids, without special tokens, appended. */
    enum status (*text)(void *context, const int32_t *ids, uint32_t count, struct buf *out_text);
    void (*generate)(void *context, const struct message_lease *lease); /* borrowed */
    void (*cancel)(void *context, uint64_t lease);
    /* Park what is unfinished and load these weights; what was given before and is of this version goes on. */
    void (*load)(void *context, void *take_weights, const struct message_manifest *manifest);
    /* The same by deltas, in two steps: make ready beside the generation, in place of what was made ready before; and
     * load that. It ends in client_swapped, or, from stage on, in client_patch_refused with the weights as they were. */
    void (*stage)(void *context, struct chain *take_chain);
    void (*patch)(void *context);
};

struct client_settings {
    struct text name, host;
    uint64_t incarnation;
    uint32_t pid;
    struct fingerprint fingerprint;
    uint32_t capacity_samples;
    uint64_t outbox_bytes;
    const char *cache; /* directory for model files */
};

enum status client_create(const struct client_settings *settings, const struct client_actions *actions, int64_t now_ms,
                          struct client **out_client);
void client_destroy(struct client **client);

/* ---- in. Another status than STATUS_OK is final: refused, wrong weights twice, model files that cannot be used. ----
 */
enum status client_control(struct client *client, const struct message *message, int64_t now_ms);
enum status client_weights(struct client *client, const struct message *message, int64_t now_ms);
void client_worker(struct client *client, uint32_t slot, const struct message *message, int64_t now_ms);
enum status client_tick(struct client *client, int64_t now_ms); /* at least each 100 ms */
void client_malformed(struct client *client);

void client_generated(struct client *client, const struct generated_group *group, uint32_t generation_ms,
                      int64_t now_ms);
/* The generator cannot take this lease. */
void client_refused(struct client *client, uint64_t lease, const char *reason, int64_t now_ms);
/* [count] of the groups inside the generator. */
struct client_progress {
    uint64_t lease;
    struct generation_progress progress;
};
void client_progress(struct client *client, const struct client_progress *list, uint32_t count,
                     const struct generator_counters *counters);
void client_swapped(struct client *client, const struct digest *weights, uint32_t pause_ms);
/* Computed beside the first passes: it goes with every heartbeat from now on. */
void client_canary(struct client *client, const struct digest *weights, const struct digest *canary, int64_t now_ms);

/* The chain to these weights does not lead there: the version is fetched as a snapshot. */
void client_patch_refused(struct client *client, const struct digest *weights, const char *reason);

/* ---- stopping ---- */
/* Give back what is unfinished, take nothing more. */
void client_drain(struct client *client, int64_t now_ms);
/* Nothing is left to deliver, or nobody is there who could acknowledge it. */
bool client_drained(const struct client *client);
/* Say bye to all. Returns how many finished groups were left undelivered (safe by I7). */
uint32_t client_leave(struct client *client, const char *reason);

/* ---- queries ---- */
bool client_ready(const struct client *client); /* joined, with weights loaded */
/* Joined, and the last heartbeat was sent: else nobody is there who would listen. */
bool client_in_touch(const struct client *client);
/* What it does or waits for, in words. */
void client_state(const struct client *client, int64_t now_ms, char *out_text, size_t bytes);
uint32_t client_held(const struct client *client);
void client_check(const struct client *client);

#endif
