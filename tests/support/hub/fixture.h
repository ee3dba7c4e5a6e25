/* The hub that the tests of tests/unit/hub share: fresh for each test, with one reward worker. */
#ifndef CANDOR_TESTS_SUPPORT_HUB_FIXTURE_H
#define CANDOR_TESTS_SUPPORT_HUB_FIXTURE_H

#include "tests/support/hub/fake.h"
#include "tests/support/test.h"

enum { WORKER = 900 };

static struct fake fake;

static inline int set_up(void **state) {
    (void)state;
    struct hub_settings settings = fake_settings();
    fake_create(&fake, &settings);
    fake_join(&fake, ROLE_REWARD, WORKER, 0, 0);
    hub_tick(fake.hub, 0);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    fake_destroy(&fake);
    return 0;
}

/* Ticks each heartbeat, with a heartbeat of the worker, so that nobody is judged for the hub's own standing still. */
static inline void pass(int64_t from_ms, int64_t to_ms) {
    for (int64_t now_ms = from_ms + FAKE_HEARTBEAT_MS; now_ms <= to_ms; now_ms += FAKE_HEARTBEAT_MS) {
        fake_beat(&fake, WORKER, 0, NULL, 0, 0, 0, now_ms);
        hub_tick(fake.hub, now_ms);
        hub_check(fake.hub);
    }
}

static inline struct message_lease lease_of(peer_id actor) {
    struct message message;
    if (!fake_take(&fake, actor, MESSAGE_LEASE, &message))
        fail_msg("no lease for actor %llu", (unsigned long long)actor);
    return message.lease;
}

/* Version 0, an actor, and one slot leased to it. */
static inline void one_slot_out(peer_id actor) {
    fake_publish(&fake, 0, 0);
    fake_join(&fake, ROLE_ACTOR, actor, 4, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 0, 0));
}

/* Why the hub does not want the lease's group. */
static inline const char *reason_of(const struct message_lease *lease) {
    const char *reason = NULL;
    assert_int_equal(fake_deliver(&fake, WORKER, lease, 1, 10, &reason), OUTCOME_NOT_WANTED);
    return reason;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
