/* The hub's behaviour, one rule at a time, in virtual time: joining, credit, delivery. leases_test.c and versions_test.c have the rest. */
#include "proto/proto.h"
#include "tests/support/hub/fixture.h"

/* ---- joining ---- */

static void an_actor_is_told_all_it_needs_in_order(void **state) {
    (void)state;
    struct message message;
    fake_publish(&fake, 3, 0);
    fake_publish(&fake, 4, 0);
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    assert_true(fake_take(&fake, 1, MESSAGE_WELCOME, &message));
    assert_true(message.welcome.run_id == FAKE_RUN_ID);
    assert_int_equal(message.welcome.same_class, 1);
    assert_int_equal(message.welcome.heartbeat_ms, FAKE_HEARTBEAT_MS);
    assert_string_equal(message.welcome.weights.data, "ipc:///w");
    assert_true(fake_take(&fake, 1, MESSAGE_MANIFEST, &message));
    assert_int_equal(message.manifest.version, 4); /* the current one first */
    assert_int_equal(message.manifest.current, 1);
    assert_true(fake_take(&fake, 1, MESSAGE_MANIFEST, &message));
    assert_int_equal(message.manifest.version, 3);
    assert_int_equal(message.manifest.current, 0);
    assert_true(fake_take(&fake, 1, MESSAGE_WORKERS, &message));
    assert_int_equal(message.workers.worker_count, 1);
    assert_string_equal(message.workers.workers[0].endpoint.data, "ipc:///groups");
}

static void an_ipc_worker_is_shown_to_its_own_host_only(void **state) {
    (void)state;
    struct message message = fake_hello(ROLE_ACTOR, 5, 4);
    message.hello.host = text_of("elsewhere");
    fake_send(&fake, 5, &message, 0);
    assert_true(fake_take(&fake, 5, MESSAGE_WORKERS, &message));
    assert_int_equal(message.workers.worker_count, 0);
    assert_string_equal(fake.alarm, "no_worker_in_reach");
    message = fake_hello(ROLE_REWARD, 901, 0);
    message.hello.endpoint = text_of("tcp://h2:7000");
    message.hello.key = text_of("key");
    fake_send(&fake, 901, &message, 0);
    assert_true(fake_take(&fake, 5, MESSAGE_WORKERS, &message)); /* pushed when the list changes */
    assert_int_equal(message.workers.worker_count, 1);
    assert_string_equal(message.workers.workers[0].key.data, "key");
    struct message bye = {.type = MESSAGE_BYE, .bye = {.reason = text_of("")}};
    fake_send(&fake, 901, &bye, 0);
    assert_true(fake_take(&fake, 5, MESSAGE_WORKERS, &message));
    assert_int_equal(message.workers.worker_count, 0);
}

static void another_protocol_is_refused_naming_both(void **state) {
    (void)state;
    struct message message = fake_hello(ROLE_ACTOR, 1, 4);
    message.hello.protocol = 99;
    fake_send(&fake, 1, &message, 0);
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    assert_non_null(strstr(message.refuse.reason.data, "protocol 99, this hub speaks 1"));
    assert_int_equal(message.refuse.again, 0);
    assert_int_equal(hub_actor_count(fake.hub), 0);
}

static void another_class_is_admitted_or_refused_by_setting(void **state) {
    (void)state;
    struct message hello = fake_hello(ROLE_ACTOR, 1, 4), message;
    hello.hello.fingerprint.arithmetic = text_of("portable");
    fake_send(&fake, 1, &hello, 0);
    assert_true(fake_take(&fake, 1, MESSAGE_WELCOME, &message));
    assert_int_equal(message.welcome.same_class, 0);
    struct hub_settings settings = fake_settings();
    settings.strict = true;
    fake_destroy(&fake);
    fake_create(&fake, &settings);
    fake_send(&fake, 1, &hello, 0);
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    assert_string_equal(
        message.refuse.reason.data,
        "run.determinism = strict: arithmetic is \"portable\", the learner's is \"avx2\"; auto admits it");
}

static void an_unknown_connection_is_asked_to_say_hello(void **state) {
    (void)state;
    struct message message;
    fake_beat(&fake, 77, 0, NULL, 0, 0, 0, 0);
    assert_true(fake_take(&fake, 77, MESSAGE_REFUSE, &message));
    assert_int_equal(message.refuse.again, 1);
}

static void messages_of_another_role_are_counted_and_dropped(void **state) {
    (void)state;
    struct message message = {.type = MESSAGE_GIVE_BACK, .give_back = {.reason = text_of("")}};
    fake_send(&fake, WORKER, &message, 0);
    assert_int_equal(hub_counted(fake.hub)->malformed, 1);
    assert_string_equal(fake.alarm, "malformed");
}

/* ---- credit ---- */

static void leases_stop_at_the_actors_room(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 10, 0, 0, 0));
    fake_join(&fake, ROLE_ACTOR, 1, 3 * FAKE_SAMPLES, 0);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 3);
    struct message_lease a = lease_of(1), b = lease_of(1), c = lease_of(1);
    assert_int_equal(a.key.slot, 0);
    assert_int_equal(b.key.slot, 1);
    /* what was sent after last_lease still counts: nothing new */
    fake_beat(&fake, 1, a.lease, (uint64_t[]){a.lease}, 1, LEASE_GENERATING, 1, 10);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0);
    /* a finished group takes no samples any more */
    fake_beat(&fake, 1, c.lease, (uint64_t[]){a.lease, b.lease, c.lease}, 3, LEASE_DONE, 2, 20);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 3);
}

static void bytes_are_bounded_as_well_as_samples(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 10, 0, 0, 0));
    struct message message = fake_hello(ROLE_ACTOR, 1, 1000);
    struct message_lease lease = {
        .samples = FAKE_SAMPLES, .max_new_tokens = FAKE_TOKENS, .grading = {.question = text_of("why?")}};
    message.hello.capacity_bytes = 4 * lease_weigh(&lease) + 10;
    fake_send(&fake, 1, &message, 0);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 4);
    message.hello.incarnation = 2;
    message.hello.capacity_bytes = 100;
    fake_send(&fake, 2, &message, 0);
    assert_int_equal(fake_count(&fake, 2, MESSAGE_LEASE), 0);
    assert_string_equal(fake.alarm, "no_room");
    assert_non_null(strstr(fake.alarm_text, "actor.outbox_bytes"));
}

static void an_idle_actor_gets_one_group_even_above_its_samples(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 10, 0, 0, 0));
    fake_join(&fake, ROLE_ACTOR, 1, 1, 0);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 1);
}

static void few_slots_are_spread_over_many_actors(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    for (peer_id actor = 1; actor <= 4; actor++)
        fake_join(&fake, ROLE_ACTOR, actor, 100, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 8, 0, 0, 0));
    for (peer_id actor = 1; actor <= 4; actor++)
        assert_int_equal(fake_count(&fake, actor, MESSAGE_LEASE), 2);
}

static void work_waits_for_its_version(void **state) {
    (void)state;
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 5, 0));
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0);
    fake_publish(&fake, 5, 1);
    assert_int_equal(lease_of(1).version, 5);
}

static void the_lowest_priority_is_offered_first(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    fake_publish(&fake, 1, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 1, 1, 2, 1, 0)); /* training of version 1 */
    ASSERT_OK(fake_offer(&fake, WORK_EVAL, 0, 1, 1, 0, 0));  /* evaluation of version 0 */
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 0, 0)); /* training of version 0 */
    fake_join(&fake, ROLE_ACTOR, 1, 100, 0);
    struct message_lease first = lease_of(1), second = lease_of(1), third = lease_of(1);
    assert_int_equal(first.key.stream, WORK_TRAIN);
    assert_int_equal(first.key.step, 0);
    assert_int_equal(second.key.stream, WORK_EVAL);
    assert_int_equal(third.key.step, 1);
    assert_int_equal(third.priority, 2);
    ASSERT_FAILS(STATUS_EXISTS, fake_offer(&fake, WORK_EVAL, 0, 1, 1, 0, 0));
}

/* ---- delivery ---- */

static void a_group_is_accepted_once_and_then_a_duplicate(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 10, NULL), OUTCOME_ACCEPTED);
    assert_int_equal(fake.filled, 1);
    assert_int_equal(fake.completed, 1);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 20, NULL), OUTCOME_DUPLICATE); /* also of finished work */
    assert_int_equal(fake.filled, 1);
    assert_int_equal(hub_counted(fake.hub)->duplicates, 1);
    assert_int_equal(hub_counted(fake.hub)->mismatches, 0);
    assert_true(hub_idle(fake.hub));
}

static void a_filled_slot_of_open_work_never_changes(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 2, 0, 0, 0));
    struct message_lease lease = lease_of(1);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 10, NULL), OUTCOME_ACCEPTED);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 20, NULL), OUTCOME_DUPLICATE);
    assert_int_equal(fake.filled, 1);
    assert_int_equal(fake.completed, 0);
    assert_int_equal(hub_filled(fake.hub, WORK_TRAIN, 0), 1);
}

static void a_duplicate_that_differs_is_an_alarm_within_the_class(void **state) {
    (void)state;
    struct message answer;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 10, NULL), OUTCOME_ACCEPTED);
    struct message_group group = fake_group(&lease, 2, &fake.arena);
    group.samples[1].logprobs[0] = -2;
    group.same_class = 0;
    struct message scored = fake_scored(&group, WORKER, &fake.arena);
    fake_send(&fake, WORKER, &scored, 20);
    assert_int_equal(fake.alarms, 0); /* another kind of device has other bits */
    scored.scored.group.same_class = 1;
    fake_send(&fake, WORKER, &scored, 20);
    assert_string_equal(fake.alarm, "duplicate_mismatch");
    assert_int_equal(fake.fatal, 0);
    assert_true(fake_take(&fake, WORKER, MESSAGE_ANSWER, &answer));
    assert_int_equal(answer.answer.outcome, OUTCOME_DUPLICATE);
}

static void whoever_delivers_fills_the_slot_and_the_holder_is_called_off(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease lease = lease_of(1), foreign = lease;
    foreign.lease = 12345; /* of an earlier incarnation of the hub */
    assert_int_equal(fake_deliver(&fake, WORKER, &foreign, 2, 10, NULL), OUTCOME_ACCEPTED);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
    assert_int_equal(message.revoke.lease_count, 1);
    assert_true(message.revoke.leases[0] == lease.lease);
}

static void what_does_not_belong_here_is_not_wanted_with_a_reason(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 2, 0, 0, 0));
    struct message_lease lease = lease_of(1), wrong = lease;
    wrong.key.run_id = 1;
    assert_string_equal(reason_of(&wrong), "another run");
    wrong = lease;
    wrong.config.low++;
    assert_string_equal(reason_of(&wrong), "another configuration");
    wrong = lease;
    wrong.key.step = 9;
    assert_string_equal(reason_of(&wrong), "this step is not open");
    wrong = lease;
    wrong.key.slot = 2;
    assert_string_equal(reason_of(&wrong), "no such slot");
    wrong = lease;
    wrong.weights.low++;
    assert_string_equal(reason_of(&wrong), "another version of the weights");
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 10, NULL), OUTCOME_ACCEPTED);
    assert_int_equal(hub_counted(fake.hub)->not_wanted, 5);
}

static void a_group_with_wrong_content_counts_against_its_lease(void **state) {
    (void)state;
    struct message answer;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 0, 0));
    static const char *const reasons[] = {"a token id beyond the vocabulary", "an answer ends without a stop token",
                                          "an answer is cut before max_new_tokens",
                                          "not as many samples as were asked for"};
    for (int i = 0; i < 4; i++) {
        peer_id actor = 1 + (peer_id)i; /* whoever loses it is not given it again at once */
        fake_join(&fake, ROLE_ACTOR, actor, 4, 10);
        struct message_lease lease = lease_of(actor);
        assert_int_equal(lease.attempt, i);
        struct message_group group = fake_group(&lease, actor, &fake.arena);
        struct answer_sample *sample = &group.samples[0];
        if (i == 0)
            sample->ids[0] = FAKE_VOCABULARY;
        sample->finish = i == 1 ? FINISH_STOP : i == 2 ? FINISH_LENGTH : sample->finish;
        if (i == 1)
            sample->ids[sample->count - 1] = 50;
        if (i == 2)
            sample->count = 1;
        group.sample_count -= i == 3;
        struct message scored = fake_scored(&group, WORKER, &fake.arena);
        fake_send(&fake, WORKER, &scored, 10);
        assert_true(fake_take(&fake, WORKER, MESSAGE_ANSWER, &answer));
        assert_int_equal(answer.answer.outcome, OUTCOME_NOT_WANTED);
        assert_string_equal(answer.answer.reason.data, reasons[i]);
    }
    assert_int_equal(hub_counted(fake.hub)->invalid, 4);
    fake_join(&fake, ROLE_ACTOR, 5, 4, 10);
    struct message_lease lease = lease_of(5);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 5, 10, NULL), OUTCOME_ACCEPTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_actor_is_told_all_it_needs_in_order),
        TEST(an_ipc_worker_is_shown_to_its_own_host_only),
        TEST(another_protocol_is_refused_naming_both),
        TEST(another_class_is_admitted_or_refused_by_setting),
        TEST(an_unknown_connection_is_asked_to_say_hello),
        TEST(messages_of_another_role_are_counted_and_dropped),
        TEST(leases_stop_at_the_actors_room),
        TEST(bytes_are_bounded_as_well_as_samples),
        TEST(an_idle_actor_gets_one_group_even_above_its_samples),
        TEST(few_slots_are_spread_over_many_actors),
        TEST(work_waits_for_its_version),
        TEST(the_lowest_priority_is_offered_first),
        TEST(a_group_is_accepted_once_and_then_a_duplicate),
        TEST(a_filled_slot_of_open_work_never_changes),
        TEST(a_duplicate_that_differs_is_an_alarm_within_the_class),
        TEST(whoever_delivers_fills_the_slot_and_the_holder_is_called_off),
        TEST(what_does_not_belong_here_is_not_wanted_with_a_reason),
        TEST(a_group_with_wrong_content_counts_against_its_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
