/* A client with its surroundings played by the test: what it asks for is kept, a store serves its fetches, three versions of a model. */
#ifndef CANDOR_TESTS_SUPPORT_ACTOR_CLIENT_FAKE_H
#define CANDOR_TESTS_SUPPORT_ACTOR_CLIENT_FAKE_H

#include <stdbool.h>

#include "actor/client.h"
#include "common/base/arena.h"
#include "common/base/fs.h"
#include "common/weights/store.h"
#include "proto/proto.h"
#include "tests/support/test.h"

#define ELEMENTS 1027u
#define RUN 900u
#define HUB 77u
#define OUT_MAX 512

/* Everything the client asked for. */
struct client_fake {
    struct client *client;
    struct store *store;
    struct arena arena;
    struct message control[OUT_MAX];
    uint32_t control_count;
    bool alone; /* no connection to the hub */
    uint64_t generated[OUT_MAX], cancelled[OUT_MAX];
    uint32_t generated_count, cancelled_count, models, weights_opened;
    struct digest load; /* wanted by the load action, not done yet */
    struct digest staged;
    uint32_t loads, stages, patches;
    bool worker_open[4], deaf[4];
    struct message worker[OUT_MAX];
    uint32_t worker_slot[OUT_MAX], worker_count;
    int64_t now_ms;
};
extern struct client_fake fake;
extern uint16_t versions[3][ELEMENTS];
extern struct message_manifest manifests[3];
extern struct message_fetch fetches[OUT_MAX];
extern uint32_t fetch_count;

/* The model's directory, the versions; once a process. */
bool client_fake_begin(void);
void client_fake_end(void);

/* ---- life ---- */
void open_fake(uint64_t outbox_bytes);
void close_fake(void);
/* Joined, version 0 loaded, one worker with credit. */
void open_ready(void);
/* Time goes by, and the client looks. */
void tick(int64_t by_ms);

/* ---- the hub ---- */
void welcome_as(uint64_t hub, uint64_t run);
enum status control(const struct message *message);
void lease(uint64_t number, int version, uint32_t priority);
void publish(int version, bool current);
void publish_delta(int version); /* from the version before */
uint32_t count_control(enum message_type type);
const struct message *last_control(enum message_type type);

/* ---- the weights socket ---- */
void serve(void); /* answer every fetch */
/* For store_fetch: context takes what the client said to it. */
bool on_reply_that_may_fail(void *context, const struct message *message);

/* ---- the generation ---- */
void swapped(void); /* the load or patch that is under way is done */
void finish(uint64_t number, float logprob);

/* ---- reward workers ---- */
void workers(uint32_t count, const uint64_t *incarnations);
void credit(uint32_t slot, uint64_t incarnation, uint64_t bytes);
void answer(uint32_t slot, uint64_t lease, enum delivery_outcome outcome);
uint32_t groups_sent(uint32_t slot);

#endif
