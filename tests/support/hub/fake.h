/* A hub with its surroundings played by the test: what it sends is kept, peers are a few calls, groups are a function of their
 * work's name, so that every holder of a slot makes the same one. */
#ifndef CANDOR_TESTS_SUPPORT_HUB_FAKE_H
#define CANDOR_TESTS_SUPPORT_HUB_FAKE_H

#include "common/base/arena.h"
#include "common/hub/hub.h"

#define FAKE_RUN_ID 0xFEDCBA9876543210u /* as half of them, above what JSON's integers hold */
#define FAKE_SAMPLES 2
#define FAKE_TOKENS 4
#define FAKE_STOP 7
#define FAKE_VOCABULARY 100
#define FAKE_HEARTBEAT_MS 1000
#define FAKE_LEASE_MS 10000

struct fake_sent {
    peer_id peer;
    char *frame;
    size_t bytes;
    bool taken;
};

struct fake {
    struct hub *hub;
    struct fake_sent *sent;
    uint32_t sent_count, sent_capacity;
    struct arena arena; /* of what was taken out of sent */
    uint32_t filled, completed, withdrawn, alarms, fatal;
    struct digest history;            /* over (key, content) of what was filled, in no order */
    char alarm[64], alarm_text[1024]; /* the last one */
};

struct hub_settings fake_settings(void);
void fake_create(struct fake *fake, const struct hub_settings *settings);
void fake_destroy(struct fake *fake);

/* ---- the holder ---- */
struct digest fake_weights(uint32_t version);
void fake_publish(struct fake *fake, uint32_t version, int64_t now_ms);
enum status fake_offer(struct fake *fake, uint8_t stream, uint32_t step, uint32_t slots, uint32_t priority,
                       uint32_t version, int64_t now_ms);

/* ---- peers; a connection is also the incarnation, unless said otherwise ---- */
struct message fake_hello(uint8_t role, uint64_t incarnation, uint32_t capacity_samples);
void fake_join(struct fake *fake, uint8_t role, peer_id peer, uint32_t capacity_samples, int64_t now_ms);
void fake_send(struct fake *fake, peer_id peer, const struct message *message, int64_t now_ms);
/* Heartbeat that lists these leases [count] in one state with these tokens. */
void fake_beat(struct fake *fake, peer_id peer, uint64_t last_lease, const uint64_t *held, uint32_t count,
               uint8_t state, uint64_t tokens, int64_t now_ms);

/* The oldest message of that type to that peer that was not taken yet; false: there is none. */
bool fake_take(struct fake *fake, peer_id peer, enum message_type type, struct message *out_message);
uint32_t fake_count(const struct fake *fake, peer_id peer, enum message_type type); /* not taken yet */
void fake_forget_sent(struct fake *fake);

/* ---- groups ---- */
/* The group of a lease, in arena. */
struct message_group fake_group(const struct message_lease *lease, uint64_t actor, struct arena *arena);
struct message fake_scored(const struct message_group *group, uint64_t worker, struct arena *arena);
/* Deliver the lease's group over a worker's connection; the outcome, -1 when there was no answer. reason may be NULL.
 */
int fake_deliver(struct fake *fake, peer_id worker, const struct message_lease *lease, uint64_t actor, int64_t now_ms,
                 const char **out_reason);

#endif
