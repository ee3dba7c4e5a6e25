/* The hub's behaviour in virtual time: leases that end, otherwise than by a delivery (I3, I8). */
#include "common/hub/work.h"
#include "proto/proto.h"
#include "tests/support/hub/fixture.h"

/* ---- leases that end ---- */

static void a_lease_without_progress_is_offered_to_another(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease first = lease_of(1);
    for (int64_t now_ms = 1000; now_ms <= FAKE_LEASE_MS; now_ms += 1000) {
        assert_int_equal(hub_counted(fake.hub)->expired, 0);
        fake_beat(&fake, 1, first.lease, &first.lease, 1, LEASE_GENERATING, 0, now_ms); /* alive, but stuck */
        pass(now_ms - 1000, now_ms);
    }
    assert_int_equal(hub_counted(fake.hub)->expired, 1);
    fake_beat(&fake, 1, first.lease, &first.lease, 1, LEASE_GENERATING, 0, FAKE_LEASE_MS);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0); /* not to the one that still holds it */
    fake_join(&fake, ROLE_ACTOR, 2, 4, FAKE_LEASE_MS);
    struct message_lease second = lease_of(2);
    assert_int_equal(second.key.slot, first.key.slot);
    assert_int_equal(second.attempt, 1);
    assert_int_equal(hub_counted(fake.hub)->speculative, 0);
    assert_int_equal(fake_deliver(&fake, WORKER, &second, 2, FAKE_LEASE_MS, NULL), OUTCOME_ACCEPTED);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
}

static void progress_renews_and_nothing_else_does(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    for (int64_t now_ms = 1000; now_ms <= 5 * FAKE_LEASE_MS; now_ms += 1000) {
        fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, (uint64_t)now_ms, now_ms);
        pass(now_ms - 1000, now_ms);
    }
    assert_int_equal(hub_counted(fake.hub)->expired, 0);
    int64_t now_ms = 5 * FAKE_LEASE_MS;
    for (; now_ms < 6 * FAKE_LEASE_MS + 1000; now_ms += 1000) {
        fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 5 * FAKE_LEASE_MS, now_ms);
        pass(now_ms - 1000, now_ms);
    }
    assert_int_equal(hub_counted(fake.hub)->expired, 1);
    /* slow, but alive after all: it is its own again, and nothing counts against the slot */
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 5 * FAKE_LEASE_MS + 1, now_ms);
    assert_int_equal(hub_counted(fake.hub)->revived, 1);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, now_ms, NULL), OUTCOME_ACCEPTED);
}

static void what_waits_is_renewed_by_its_actors_progress(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    struct lease_progress held = {.lease = lease.lease, .state = LEASE_WAITING};
    struct message message = {.type = MESSAGE_HEARTBEAT};
    for (int64_t now_ms = 1000; now_ms <= 4 * FAKE_LEASE_MS; now_ms += 1000) {
        message.heartbeat =
            (struct message_heartbeat){.incarnation = 1,
                                       .last_lease = lease.lease,
                                       .held = &held,
                                       .held_count = 1,
                                       .progress = (uint64_t)(now_ms < 2 * FAKE_LEASE_MS ? now_ms : 20000),
                                       .state = text_of("fetching weights")};
        fake_send(&fake, 1, &message, now_ms);
        pass(now_ms - 1000, now_ms);
        if (now_ms <= 2 * FAKE_LEASE_MS)
            assert_int_equal(hub_counted(fake.hub)->expired, 0);
    }
    assert_true(hub_counted(fake.hub)->expired > 0);
}

static void a_silent_actor_loses_its_leases(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease first = lease_of(1);
    fake_join(&fake, ROLE_ACTOR, 2, 4, 0);
    for (int64_t now_ms = 1000; now_ms <= 5000; now_ms += 1000) {
        fake_beat(&fake, 2, 0, NULL, 0, 0, 0, now_ms);
        pass(now_ms - 1000, now_ms);
        if (hub_counted(fake.hub)->gone)
            break;
    }
    assert_int_equal(hub_counted(fake.hub)->gone, 1);
    struct message_lease second = lease_of(2);
    assert_int_equal(second.key.slot, first.key.slot);
    assert_true(second.seed == first.seed); /* the same random key: either copy has the same bits */
    assert_true(second.attempt > first.attempt);
    /* it comes back: says hello, and is told that its lease is void; its group is a duplicate or welcome */
    fake_beat(&fake, 1, first.lease, &first.lease, 1, LEASE_GENERATING, 3, 5000);
    assert_true(fake_take(&fake, 1, MESSAGE_REFUSE, &message));
    assert_int_equal(message.refuse.again, 1);
    fake_join(&fake, ROLE_ACTOR, 1, 4, 5000);
    fake_beat(&fake, 1, first.lease, &first.lease, 1, LEASE_GENERATING, 3, 5000);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
    assert_int_equal(fake_deliver(&fake, WORKER, &first, 1, 5000, NULL), OUTCOME_ACCEPTED);
    assert_int_equal(fake_deliver(&fake, WORKER, &second, 2, 5000, NULL), OUTCOME_DUPLICATE);
}

/* An actor that cannot answer anything gives it back, and is the first with room again. */
static void give_back(peer_id actor, struct message_lease *lease, int64_t now_ms) {
    struct message message = {.type = MESSAGE_GIVE_BACK};
    message.give_back = (struct message_give_back){
        .leases = &lease->lease, .lease_count = 1, .reason = text_of("not finite"), .fault = 1};
    fake_send(&fake, actor, &message, now_ms);
    fake_beat(&fake, actor, lease->lease, NULL, 0, 0, 0, now_ms);
}

/* The only actor there loses the slot until it is stuck; each time it is given it again only after a while. */
static struct message_lease lose_alone(peer_id actor) {
    struct message_lease lease = {0};
    int64_t now_ms = 0;
    for (uint32_t i = 0; i < LOSSES_MAX; i++) {
        while (fake_count(&fake, actor, MESSAGE_LEASE) == 0) {
            fake_beat(&fake, actor, lease.lease, NULL, 0, 0, 0, now_ms);
            pass(now_ms, now_ms + FAKE_HEARTBEAT_MS);
            now_ms += FAKE_HEARTBEAT_MS;
            assert_true(now_ms < 60 * FAKE_LEASE_MS);
        }
        lease = lease_of(actor);
        give_back(actor, &lease, now_ms);
    }
    assert_true(now_ms >= (LOSSES_MAX - 1) * 5 * FAKE_HEARTBEAT_MS);
    return lease;
}

static void given_back_work_goes_to_others_and_counts_only_with_fault(void **state) {
    (void)state;
    one_slot_out(1);
    struct message message = {.type = MESSAGE_GIVE_BACK};
    for (uint32_t i = 0; i < 2 * LOSSES_MAX; i++) { /* without fault: never stuck */
        struct message_lease lease = lease_of(1);
        message.give_back =
            (struct message_give_back){.leases = &lease.lease, .lease_count = 1, .reason = text_of("drain")};
        fake_send(&fake, 1, &message, 10);
        fake_beat(&fake, 1, lease.lease, NULL, 0, 0, 0, 10);
    }
    assert_int_equal(fake.alarms, 0);
    lose_alone(1);
    assert_string_equal(fake.alarm, "slot_stuck");
    assert_int_equal(fake.fatal, 1);
    assert_non_null(strstr(fake.alarm_text, "question_id=\"q17\""));
    assert_non_null(strstr(fake.alarm_text, "peer1: not finite"));
    assert_non_null(strstr(fake.alarm_text, "run.skip_stuck"));
}

static void join_as(peer_id actor, const char *name, int64_t now_ms) {
    struct message hello = fake_hello(ROLE_ACTOR, actor, FAKE_SAMPLES);
    hello.hello.name = text_of(name);
    fake_send(&fake, actor, &hello, now_ms);
}

static void a_slot_does_not_go_back_to_the_actor_that_lost_it(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    join_as(1, "broken", 0);
    join_as(2, "whole", 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 2, 0, 0, 0));
    struct message_lease lost = lease_of(1), busy = lease_of(2);
    for (int64_t now_ms = 10; now_ms < FAKE_LEASE_MS; now_ms += 100) {
        give_back(1, &lost, now_ms);
        fake_beat(&fake, WORKER, 0, NULL, 0, 0, 0, now_ms);
        fake_beat(&fake, 2, busy.lease, &busy.lease, 1, LEASE_GENERATING, (uint64_t)now_ms, now_ms);
        hub_tick(fake.hub, now_ms);
        assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0);
    }
    assert_int_equal(fake_deliver(&fake, WORKER, &busy, 2, FAKE_LEASE_MS - 1, NULL), OUTCOME_ACCEPTED);
    struct message_lease again = lease_of(2);
    assert_int_equal(again.key.slot, lost.key.slot);
    join_as(3, "broken", FAKE_LEASE_MS); /* started anew: it is the same one */
    assert_int_equal(fake_count(&fake, 3, MESSAGE_LEASE), 0);
    assert_int_equal(fake.alarms, 0);
}

/* The others are there and do nothing: waiting for them has an end, and five such times are stuck. */
static void a_slot_goes_back_when_the_others_do_not_come_to_it(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    join_as(1, "broken", 0);
    join_as(2, "hangs", 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 2, 0, 0, 0));
    struct message_lease lost = lease_of(1), hangs = lease_of(2);
    uint64_t tokens = 0;
    int64_t now_ms = 0;
    for (uint32_t i = 0; i < LOSSES_MAX; i++) {
        give_back(1, &lost, now_ms);
        if (i + 1 == LOSSES_MAX)
            break;
        while (fake_count(&fake, 1, MESSAGE_LEASE) == 0) {
            now_ms += FAKE_HEARTBEAT_MS;
            fake_beat(&fake, 2, hangs.lease, &hangs.lease, 1, LEASE_GENERATING, ++tokens, now_ms);
            fake_beat(&fake, 1, lost.lease, NULL, 0, 0, 0, now_ms);
            pass(now_ms - FAKE_HEARTBEAT_MS, now_ms);
            assert_true(now_ms < 60 * FAKE_LEASE_MS);
        }
        lost = lease_of(1);
    }
    assert_string_equal(fake.alarm, "slot_stuck");
    assert_true(now_ms >= (LOSSES_MAX - 1) * FAKE_LEASE_MS);
}

/* An actor too small for the slot is nobody to wait for, nor is one that lost it too. */
static void nobody_is_waited_for_who_could_not_take_it(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    join_as(1, "broken", 0);
    struct message small = fake_hello(ROLE_ACTOR, 2, FAKE_SAMPLES);
    small.hello.name = text_of("small");
    small.hello.capacity_bytes = 1;
    fake_send(&fake, 2, &small, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 1, 0, 0, 0));
    lose_alone(1);
    assert_string_equal(fake.alarm, "slot_stuck");
}

static void a_stuck_slot_is_skipped_when_the_run_says_so(void **state) {
    (void)state;
    struct hub_settings settings = fake_settings();
    settings.skip_stuck = true;
    fake_destroy(&fake);
    fake_create(&fake, &settings);
    fake_join(&fake, ROLE_REWARD, WORKER, 0, 0);
    one_slot_out(1);
    struct message_lease lease = lose_alone(1);
    assert_int_equal(fake.fatal, 0);
    assert_int_equal(fake.completed, 1);
    assert_int_equal(fake.filled, 0);
    assert_int_equal(hub_counted(fake.hub)->skipped, 1);
    const char *reason = NULL; /* recorded as skipped, so it stays skipped */
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, 60 * FAKE_LEASE_MS, &reason), OUTCOME_NOT_WANTED);
    assert_string_equal(reason, "this slot was skipped");
}

/* An actor that stops, or has no room, gives back what it gets: not the same lease to and fro as fast as messages go.
 */
static void who_gives_back_gets_nothing_more_before_its_heartbeat(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    struct message message = {.type = MESSAGE_GIVE_BACK};
    message.give_back = (struct message_give_back){
        .leases = &lease.lease, .lease_count = 1, .reason = text_of("the actor is stopping")};
    fake_send(&fake, 1, &message, 10);
    hub_tick(fake.hub, 20);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 0);
    fake_beat(&fake, 1, lease.lease, NULL, 0, 0, 0, 30);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_LEASE), 1);
}

/* Each holder dies, and each gets a copy before the end of the one before it is noticed: somebody is always at work. */
static void a_killer_among_idle_actors_is_stuck_all_the_same(void **state) {
    (void)state;
    one_slot_out(1);
    for (peer_id actor = 2; strcmp(fake.alarm, "slot_stuck") != 0; actor++) {
        int64_t now_ms = (int64_t)actor * FAKE_HEARTBEAT_MS;
        fake_join(&fake, ROLE_ACTOR, actor, 4, now_ms);
        for (peer_id idle = 2; idle <= actor; idle++)
            if (fake_count(&fake, idle, MESSAGE_LEASE) == 0) /* whoever got it is dead */
                fake_beat(&fake, idle, 0, NULL, 0, 0, 0, now_ms);
        hub_tick(fake.hub, now_ms);
        hub_check(fake.hub);
        assert_true(actor < 60);
    }
    assert_int_equal(fake.fatal, 1);
}

/* A question that kills every actor takes others along; they must not look like killers. */
static void suspects_are_never_given_together(void **state) {
    (void)state;
    fake_publish(&fake, 0, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 4, 0, 0, 0));
    int64_t now_ms = 0;
    peer_id actor = 1;
    uint32_t done = 0;
    while (fake.alarms == 0 || strcmp(fake.alarm, "slot_stuck") != 0) {
        fake_join(&fake, ROLE_ACTOR, actor, 100, now_ms);
        struct message message;
        bool dies = false;
        struct message_lease held[8];
        uint32_t count = 0;
        while (fake_take(&fake, actor, MESSAGE_LEASE, &message)) {
            held[count++] = message.lease;
            dies |= message.lease.key.slot == 1; /* the killer */
        }
        if (dies) {
            struct message bye = {.type = MESSAGE_HELLO};
            bye = fake_hello(ROLE_ACTOR, actor + 1000, 100);
            fake_send(&fake, actor, &bye, now_ms); /* its connection belongs to a new process: it died */
            bye.type = MESSAGE_BYE;
            bye.bye.reason = text_of("");
            fake_send(&fake, actor, &bye, now_ms);
        } else {
            for (uint32_t i = 0; i < count; i++)
                done += fake_deliver(&fake, WORKER, &held[i], actor, now_ms, NULL) == OUTCOME_ACCEPTED;
        }
        assert_true(++actor < 50);
    }
    assert_non_null(strstr(fake.alarm_text, "slot=1 "));
}

static void a_reconnected_actor_keeps_its_leases(void **state) {
    (void)state;
    struct message message;
    fake_publish(&fake, 0, 0);
    fake_join(&fake, ROLE_ACTOR, 1, 4, 0);
    ASSERT_OK(fake_offer(&fake, WORK_TRAIN, 0, 2, 0, 0, 0));
    struct message_lease first = lease_of(1), second = lease_of(1); /* the second never arrives */
    hub_disconnected(fake.hub, 1, 10);
    hub_check(fake.hub);
    message = fake_hello(ROLE_ACTOR, 1, 4);
    fake_send(&fake, 55, &message, 20); /* the same incarnation over a new connection */
    assert_int_equal(hub_actor_count(fake.hub), 1);
    assert_int_equal(fake_count(&fake, 55, MESSAGE_LEASE), 0);
    struct lease_progress held = {.lease = first.lease, .tokens_done = 1, .state = LEASE_GENERATING};
    message = (struct message){.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){
        .incarnation = 1, .last_lease = first.lease, .held = &held, .held_count = 1, .state = text_of("")};
    fake_send(&fake, 55, &message, 30);
    struct message_lease again = lease_of(55); /* what was lost on the way is offered again at once */
    assert_int_equal(again.key.slot, second.key.slot);
    assert_int_equal(hub_counted(fake.hub)->lost, 0);
    assert_int_equal(fake_deliver(&fake, WORKER, &first, 1, 40, NULL), OUTCOME_ACCEPTED);
}

static void a_revoke_that_was_missed_is_said_again(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease lease = lease_of(1), foreign = lease;
    foreign.lease = 999;
    assert_int_equal(fake_deliver(&fake, WORKER, &foreign, 2, 10, NULL), OUTCOME_ACCEPTED);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 1, 20); /* may have crossed it */
    assert_int_equal(fake_count(&fake, 1, MESSAGE_REVOKE), 0);
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 2, 30);
    assert_int_equal(fake_count(&fake, 1, MESSAGE_REVOKE), 1);
    fake_beat(&fake, 1, lease.lease, NULL, 0, 0, 0, 40);
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 3, 50); /* not its own at all */
    assert_int_equal(fake_count(&fake, 1, MESSAGE_REVOKE), 2);
}

static void idle_actors_get_copies_of_the_oldest_leases(void **state) {
    (void)state;
    struct message message;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    fake_join(&fake, ROLE_ACTOR, 2, 4, 0);
    fake_join(&fake, ROLE_ACTOR, 3, 4, 0);
    for (int64_t now_ms = 1000; now_ms <= 4000; now_ms += 1000) {
        fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, (uint64_t)now_ms, now_ms);
        fake_beat(&fake, 2, 0, NULL, 0, 0, 0, now_ms);
        fake_beat(&fake, 3, 0, NULL, 0, 0, 0, now_ms);
        pass(now_ms - 1000, now_ms);
        if (now_ms < 2000)
            assert_int_equal(hub_counted(fake.hub)->speculative, 0);
    }
    assert_int_equal(hub_counted(fake.hub)->speculative, 1); /* two copies at most, whoever is idle */
    struct message_lease copy = {0};
    assert_true(fake_take(&fake, 2, MESSAGE_LEASE, &message) || fake_take(&fake, 3, MESSAGE_LEASE, &message));
    copy = message.lease;
    assert_int_equal(copy.key.slot, lease.key.slot);
    assert_int_equal(fake_deliver(&fake, WORKER, &copy, 2, 5000, NULL), OUTCOME_ACCEPTED);
    assert_true(fake_take(&fake, 1, MESSAGE_REVOKE, &message));
}

static void a_hub_that_stood_still_judges_nobody(void **state) {
    (void)state;
    one_slot_out(1);
    lease_of(1);
    pass(0, 3000);
    fake_beat(&fake, 1, 0, NULL, 0, 0, 0, 3000);
    hub_tick(fake.hub, 3000 + 86400000); /* a suspended host */
    hub_check(fake.hub);
    assert_int_equal(hub_counted(fake.hub)->expired, 0);
    assert_int_equal(hub_counted(fake.hub)->gone, 0);
}

static void a_lease_renewed_before_the_hub_knows_how_long_it_slept_still_ends(void **state) {
    (void)state;
    const int64_t day_ms = 86400000;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    pass(0, 3000);
    fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 4, day_ms);
    hub_tick(fake.hub, day_ms);
    for (int64_t now_ms = day_ms; now_ms <= day_ms + 2 * FAKE_LEASE_MS; now_ms += FAKE_HEARTBEAT_MS) {
        fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_GENERATING, 4, now_ms); /* it hangs from then on */
        pass(now_ms, now_ms + FAKE_HEARTBEAT_MS);
    }
    assert_int_equal(hub_counted(fake.hub)->expired, 1);
    assert_int_equal(hub_counted(fake.hub)->gone, 0);
}

static void waiting_for_a_reward_worker_is_not_the_questions_fault(void **state) {
    (void)state;
    one_slot_out(1);
    struct message_lease lease = lease_of(1);
    int64_t now_ms = 0;
    for (; now_ms < 10 * FAKE_LEASE_MS; now_ms += 1000) {
        fake_beat(&fake, 1, lease.lease, &lease.lease, 1, LEASE_DONE, 4, now_ms);
        hub_tick(fake.hub, now_ms);
        hub_check(fake.hub);
    }
    assert_true(hub_counted(fake.hub)->expired > 0);
    assert_int_equal(fake.fatal, 0);
    fake_join(&fake, ROLE_REWARD, WORKER, 0, now_ms);
    assert_int_equal(fake_deliver(&fake, WORKER, &lease, 1, now_ms, NULL), OUTCOME_ACCEPTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_lease_without_progress_is_offered_to_another),
        TEST(progress_renews_and_nothing_else_does),
        TEST(what_waits_is_renewed_by_its_actors_progress),
        TEST(a_silent_actor_loses_its_leases),
        TEST(given_back_work_goes_to_others_and_counts_only_with_fault),
        TEST(a_slot_does_not_go_back_to_the_actor_that_lost_it),
        TEST(a_slot_goes_back_when_the_others_do_not_come_to_it),
        TEST(nobody_is_waited_for_who_could_not_take_it),
        TEST(a_stuck_slot_is_skipped_when_the_run_says_so),
        TEST(who_gives_back_gets_nothing_more_before_its_heartbeat),
        TEST(a_killer_among_idle_actors_is_stuck_all_the_same),
        TEST(suspects_are_never_given_together),
        TEST(a_reconnected_actor_keeps_its_leases),
        TEST(a_revoke_that_was_missed_is_said_again),
        TEST(idle_actors_get_copies_of_the_oldest_leases),
        TEST(a_hub_that_stood_still_judges_nobody),
        TEST(a_lease_renewed_before_the_hub_knows_how_long_it_slept_still_ends),
        TEST(waiting_for_a_reward_worker_is_not_the_questions_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
