/* The hub's behaviour in virtual time: versions, canaries, the end. */
#include "common/base/json.h"
#include "proto/proto.h"
#include "tests/support/hub/fixture.h"

/* ---- versions, canaries, the end ---- */

static void a_wrong_canary_is_kept_out(void **state) {
    (void)state;
    struct digest good = {5, 5}, bad = {6, 6}, weights = fake_weights(0);
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    struct message message = {.type = MESSAGE_HEARTBEAT, .heartbeat = {.weights = weights, .canary = bad}};
    message.heartbeat.incarnation = 1;
    fake_send(&fake, 1, &message, 10);
    assert_int_equal(fake.alarms, 0);
    hub_canary(fake.hub, &weights, &good, 20); /* the learner's may come later */
    hub_check(fake.hub);
    assert_string_equal(fake.alarm, "canary_mismatch");
    assert_int_equal(hub_counted(fake.hub)->canary_mismatches, 1);
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    assert_non_null(
        strstr(message.refuse.reason.data, "are damaged; or, if the lines \"products\" of the two logs differ"));
    assert_string_equal(reason_of(&lease), "this actor's canary was wrong");
    fake_join(&fake, ROLE_ACTOR, 2, 4, 30);
    message = (struct message){.type = MESSAGE_HEARTBEAT, .heartbeat = {.weights = weights, .canary = good}};
    message.heartbeat.incarnation = 2;
    fake_send(&fake, 2, &message, 30);
    lease = lease_of(2);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 2, 40, NULL), OUTCOME_ACCEPTED);
}

/* A group goes by way of a reward worker: it may overtake what its actor says about its canary, and that may be lost. */
static void a_group_made_under_a_wrong_canary_is_kept_out_too(void **state) {
    (void)state;
    struct digest good = {5, 5}, bad = {6, 6}, weights = fake_weights(0);
    one_slot_out(1);
    hub_canary(fake.hub, &weights, &good, 0);
    struct message_lease lease = lease_of(1);
    struct message_group group = fake_group(&lease, 1, &fake.arena);
    group.canary = bad;
    struct message scored = fake_scored(&group, WORKER, &fake.arena), message;
    fake_send(&fake, WORKER, &scored, 10);
    assert_int_equal(fake.filled, 0);
    assert_string_equal(fake.alarm, "canary_mismatch");
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    assert_true(fake_take(&fake, WORKER, MESSAGE_ANSWER, &message));
    assert_int_equal(message.answer.outcome, OUTCOME_NOT_WANTED);
    fake_beat(&fake, 1, 0, NULL, 0, 0, 0, 20); /* it did not hear: it is told again */
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    fake_join(&fake, ROLE_ACTOR, 2, 4, 30);
    lease = lease_of(2);
    group = fake_group(&lease, 2, &fake.arena);
    group.canary = good;
    scored = fake_scored(&group, WORKER, &fake.arena);
    fake_send(&fake, WORKER, &scored, 40);
    assert_int_equal(fake.filled, 1);
    group.actor = 1; /* late, and no sign of a determinism bug */
    group.canary = bad;
    group.samples[0].ids[0] ^= 1;
    scored = fake_scored(&group, WORKER, &fake.arena);
    fake_send(&fake, WORKER, &scored, 50);
    assert_int_equal(hub_counted(fake.hub)->mismatches, 0);
}

static void another_class_cannot_pass_for_the_learners(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 0, 0));
    struct message hello = fake_hello(ROLE_ACTOR, 1, 4);
    hello.hello.fingerprint.device = text_of("gpu");
    fake_send(&fake, 1, &hello, 0);
    struct message_lease lease = lease_of(1);
    assert_string_equal(reason_of(&lease), "this actor is of another class");
    struct message_group group = fake_group(&lease, 1, &fake.arena);
    group.same_class = 0;
    struct message scored = fake_scored(&group, WORKER, &fake.arena);
    fake_send(&fake, WORKER, &scored, 10);
    assert_int_equal(fake.filled, 1);
}

static void late_groups_of_finished_and_retired_work_are_duplicates(void **state) {
    (void)state;
    struct digest weights = fake_weights(0);
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 10, NULL), OUTCOME_ACCEPTED);
    hub_retire(fake.hub, &weights);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 20, NULL), OUTCOME_DUPLICATE);
}

/* A driver may offer the same slots again at another version: what is late of the first time is no duplicate of the second. */
static void a_late_group_of_work_offered_again_at_another_version_is_not_wanted(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease first = lease_of(1);
    hub_withdraw(fake.hub, WORK_TRAIN, 0);
    fake_publish(&fake, 1, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 1, 0));
    fake_beat(&fake, 1, first.lease, NULL, 0, 0, 0, 10);
    struct message_lease second = lease_of(1);
    assert_int_equal(fake_deliver(&fake, WORKER, &second, 1, 10, NULL), OUTCOME_ACCEPTED);
    struct message_group group = fake_group(&first, 1, &fake.arena);
    group.samples[0].ids[0] ^= 1; /* other weights, other bits */
    struct message scored = fake_scored(&group, WORKER, &fake.arena), message;
    fake_send(&fake, WORKER, &scored, 20);
    while (fake_take(&fake, WORKER, MESSAGE_ANSWER, &message))
        ;
    assert_int_equal(message.answer.outcome, OUTCOME_NOT_WANTED);
    assert_int_equal(hub_counted(fake.hub)->mismatches, 0);
}

static void retired_and_withdrawn_work_is_revoked_and_not_wanted(void **state) {
    (void)state;
    struct message message;
    struct digest weights = fake_weights(0);
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    hub_retire(fake.hub, &weights);
    hub_check(fake.hub);
    assert_int_equal(fake.withdrawn, 1);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
    assert_string_equal(reason_of(&lease), "this step is not open");
    assert_true(hub_idle(fake.hub));
}

static void a_drain_waits_for_leases_and_says_bye(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    hub_drain(fake.hub, 100, 5000, "the run is over");
    assert_false(hub_drained(fake.hub));
    ASSERT_FAILS(STATUS_CLOSED, fake_offer(&fake, WORK_TRAIN, 1, 1, 0, 0, 100));
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 1, 900);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 1000, NULL), OUTCOME_ACCEPTED);
    hub_tick(fake.hub, 1000);
    assert_true(hub_drained(fake.hub));
    assert_true(fake_take(&fake, 1, MESSAGE_BYE, &message));
    assert_string_equal(message.bye.reason.data, "the run is over");
    assert_true(fake_take(&fake, WORKER, MESSAGE_BYE, &message));
    fake_join(&fake, ROLE_ACTOR, 2, 4, 1100);
    assert_true(fake_take(&fake, 2, MESSAGE_BYE, &message));
}

static void a_drain_has_a_deadline(void **state) {
    (void)state;
    one_slot_out(1);
    hub_drain(fake.hub, 100, 2000, "stop");
    hub_tick(fake.hub, 1000);
    assert_false(hub_drained(fake.hub));
    hub_tick(fake.hub, 2100);
    assert_true(hub_drained(fake.hub));
}

static void status_says_what_is_awaited(void **state) {
    (void)state;
    struct buf line = {0};
    struct message message;
    hub_status_line(fake.hub, 0, &line);
    assert_string_equal(line.data, "no open work, 0 actors, 1 reward worker");
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 3, 2, 0, 0, 0));
    buf_reset(&line);
    hub_status_line(fake.hub, 0, &line);
    assert_string_equal(line.data, "step 3: 0 of 2 groups, waiting for an actor");
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    buf_reset(&line);
    hub_status_line(fake.hub, 0, &line);
    assert_string_equal(line.data, "step 3: 0 of 2 groups, 1 actor, 1 reward worker");
    message = (struct message){.type = MESSAGE_STATUS_REQUEST};
    fake_send(&fake, 4711, &message, 0); /* needs no hello */
    assert_true(fake_take(&fake, 4711, MESSAGE_STATUS_REPLY, &message));
    json_t *status;
    ASSERT_OK(json_parse(message.status_reply.json.data, message.status_reply.json.bytes, "status", &status));
    assert_string_equal(json_string_value(json_object_get(status, "state")),
                        "step 3: 0 of 2 groups, 1 actor, 1 reward worker");
    assert_string_equal(json_string_value(json_object_get(status, "run_id")), "fedcba9876543210");
    json_decref(status);
    buf_deinit(&line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_wrong_canary_is_kept_out),
        TEST(a_group_made_under_a_wrong_canary_is_kept_out_too),
        TEST(another_class_cannot_pass_for_the_learners),
        TEST(late_groups_of_finished_and_retired_work_are_duplicates),
        TEST(a_late_group_of_work_offered_again_at_another_version_is_not_wanted),
        TEST(retired_and_withdrawn_work_is_revoked_and_not_wanted),
        TEST(a_drain_waits_for_leases_and_says_bye),
        TEST(a_drain_has_a_deadline),
        TEST(status_says_what_is_awaited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
