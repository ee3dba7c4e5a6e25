/* The reward worker's side of the protocol: groups in, scores, scored groups to the hub, answers back. Pure: messages and time in,
 * frames out; no socket, no clock. It holds nothing that the actors do not hold as well: a worker that dies costs a second sending.
 *
 * A group:  arrives --scored at once--> in the outbox --sent to the hub--> answered --answer to the actor--> forgotten.
 *
 * Credit (I4): an actor may have sent, since its knock, what the worker took from it plus its share of the window. The share of
 * actor i of n is the window divided by n, at least FRAME_BYTES_MAX, so that the largest group always passes.
 *
 * Invariants (worker_check):
 *   W1 a group is acknowledged to the actor only with what the hub said.
 *   W2 a group that is inside is not scored twice; its answer goes to the connection that asked last.
 *   W3 whatever an actor sends is counted and answered, never trusted (I5): a group above its credit or without a knock is dropped
 *      and the actor is asked to knock. */
#ifndef CANDOR_REWARD_WORKER_H
#define CANDOR_REWARD_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "proto/limits.h"
#include "proto/messages.h"

#define WORKER_HELLO_MS 200
/* A scored group without an answer is sent again: it was lost on the way, the hub answers at once. */
#define WORKER_RESEND_MS 5000
/* Bytes of groups that all actors together may have on their way here and in the outbox, beyond the least share of
 * each. */
#define WORKER_WINDOW_BYTES (256u << 20)
/* What is inside at most, scored; a group beyond it is dropped, and the actor sends it again. */
#define WORKER_OUTBOX_BYTES (512u << 20)
/* An actor that has not been heard of for this long is forgotten; it knocks again when it comes back. */
#define WORKER_SILENCE_MS 600000

struct worker;

/* Called from within the worker's functions. Frames are borrowed. Nothing here waits; what cannot be sent is lost. */
struct worker_actions {
    void *context;
    bool (*control)(void *context, const void *frame, size_t bytes);
    void (*actor)(void *context, uint64_t peer, const struct message *message);
};

struct worker_settings {
    struct text name, host;
    uint64_t incarnation; /* not 0 */
    uint32_t pid;
    struct text endpoint, key; /* as actors reach it */
};

/* The settings' texts are borrowed and outlive the worker. */
enum status worker_create(const struct worker_settings *settings, const struct worker_actions *actions, int64_t now_ms,
                          struct worker **out_worker);
void worker_destroy(struct worker **worker);

/* From the hub. Another status than STATUS_OK is final: refused. */
enum status worker_control(struct worker *worker, const struct message *message, int64_t now_ms);
/* From an actor; peer: its connection, not 0. frame_bytes: what the message took, for credit. */
void worker_actor(struct worker *worker, uint64_t peer, const struct message *message, size_t frame_bytes,
                  int64_t now_ms);
void worker_malformed(struct worker *worker);
void worker_tick(struct worker *worker, int64_t now_ms); /* at least each 100 ms */

/* Stop granting credit; what is inside is delivered. */
void worker_drain(struct worker *worker);
/* Nothing is left to deliver, or no hub is there that could acknowledge it. */
bool worker_drained(const struct worker *worker);
/* Say bye to hub and actors. Returns how many scored groups were left undelivered: the actors have them all. */
uint32_t worker_leave(struct worker *worker, const char *reason);

/* Joined, and the last heartbeat was sent: else no learner is there. */
bool worker_ready(const struct worker *worker);
void worker_state(const struct worker *worker, int64_t now_ms, char *out_text, size_t bytes);
void worker_check(const struct worker *worker);

/* ---- the scoring itself ---- */
/* Verdict and reward of each sample; out_scores [group->sample_count]. A rule that is not known: verdicts, and every reward NaN; a
 * question above the limits of score.h: malformed, and NaN. *out_reason says why (static or status_message()); else NULL. */
void worker_score(const struct message_group *group, struct sample_score *out_scores, const char **out_reason);

#endif
