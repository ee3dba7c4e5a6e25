/* The client, one rule at a time: joining, leases, delivery, stopping; client_weights_test.c has its weights. */
#include <math.h>

#include "common/base/rng.h"
#include "tests/support/actor/client_fake.h"

/* ---- joining ---- */

static void says_hello_until_welcomed(void **state) {
    (void)state;
    open_fake(1u << 20);
    tick(0);
    tick(CLIENT_HELLO_MS - 1);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    tick(1);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    assert_int_equal(last_control(MESSAGE_HELLO)->hello.capacity_samples, 64);
    assert_int_equal(last_control(MESSAGE_HELLO)->hello.capacity_bytes, 1u << 20);
    welcome_as(HUB, RUN);
    tick(5000);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    assert_int_equal(count_control(MESSAGE_HEARTBEAT), 1);
    close_fake();
}

static void fetches_files_then_the_current_version(void **state) {
    (void)state;
    open_fake(1u << 20);
    tick(0);
    welcome_as(HUB, RUN);
    assert_int_equal(fake.weights_opened, 1);
    publish(0, false); /* early: the model is not known yet */
    publish(1, true);
    assert_int_equal(fake.models, 0);
    serve();
    assert_int_equal(fake.models, 1);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    assert_false(client_ready(fake.client));
    swapped();
    assert_true(client_ready(fake.client));
    tick(1000);
    assert_true(digest_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.weights, manifests[1].weights));
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary));
    assert_int_equal(fake.loads, 1);
    close_fake();
}

static void refusals(void **state) {
    (void)state;
    open_ready();
    struct message refuse = {.type = MESSAGE_REFUSE, .refuse = {text_of("I was restarted"), 1}};
    ASSERT_OK(control(&refuse));
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    refuse.refuse = (struct message_refuse){text_of("device: cpu; strict admits cuda"), 0};
    ASSERT_FAILS(STATUS_CONFIG, control(&refuse));
    assert_non_null(strstr(status_message(), "strict admits cuda"));
    close_fake();
}

static void another_model_needs_another_process(void **state) {
    (void)state;
    open_ready();
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of("other"),
                                               .run_id = RUN + 1,
                                               .incarnation = HUB + 1,
                                               .weights = text_of("ipc:///tmp/w"),
                                               .valid_vocab = 90,
                                               .positions_max = 512};
    ASSERT_FAILS(STATUS_AGAIN, control(&message));
    close_fake();
}

/* ---- leases and delivery ---- */

static void a_group_is_kept_until_answered(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    assert_int_equal(fake.generated[0], 1);
    tick(1000);
    const struct message_heartbeat *beat = &last_control(MESSAGE_HEARTBEAT)->heartbeat;
    assert_int_equal(beat->held_count, 1);
    assert_int_equal(beat->last_lease, 1);
    assert_int_equal(beat->held[0].state, LEASE_WAITING);
    struct client_progress progress = {1, {40, 30, true, false}};
    struct generator_counters counters = {.rows = 40};
    client_progress(fake.client, &progress, 1, &counters);
    tick(1000);
    beat = &last_control(MESSAGE_HEARTBEAT)->heartbeat;
    assert_int_equal(beat->held[0].tokens_done, 40);
    assert_int_equal(beat->held[0].state, LEASE_GENERATING);
    finish(1, -0.5f);
    tick(1); /* room got free: at once */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.held[0].state, LEASE_DONE);
    assert_int_equal(groups_sent(0), 1);
    const struct message_group *group = &fake.worker[fake.worker_count - 1].group;
    assert_int_equal(group->actor, 31);
    assert_int_equal(group->generation_ms, 12);
    assert_int_equal(group->samples[0].finish, FINISH_STOP);
    assert_int_equal(group->samples[1].finish, FINISH_LENGTH);
    assert_string_equal(group->samples[0].text.data, "4 5 7 ");
    assert_true(group->samples[1].text.bytes <= ANSWER_TEXT_BYTES_MAX(3)); /* cut, at a character */
    assert_string_equal(group->grading.aliases[0].data, "Paris");
    assert_int_equal(client_held(fake.client), 1);
    answer(0, 1, OUTCOME_ACCEPTED);
    answer(0, 1, OUTCOME_DUPLICATE); /* twice is fine */
    assert_int_equal(client_held(fake.client), 0);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 1);
    close_fake();
}

static void delivery_waits_for_credit_and_prefers_most(void **state) {
    (void)state;
    open_ready();
    workers(2, (uint64_t[]){52, 53}); /* another incarnation at the first endpoint */
    assert_true(fake.worker_open[0] && fake.worker_open[1]);
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(0) + groups_sent(1), 0);
    credit(1, 53, 10); /* too little */
    assert_int_equal(groups_sent(0) + groups_sent(1), 0);
    credit(1, 53, 5000);
    assert_int_equal(groups_sent(1), 1);
    credit(0, 52, 100000);
    finish(2, -1);
    assert_int_equal(groups_sent(0), 1);
    close_fake();
}

/* A worker that was restarted is listed twice until the hub knows that the old one is gone. */
static void one_endpoint_is_one_connection(void **state) {
    (void)state;
    open_ready();
    credit(0, 52, 100000); /* 51 was restarted */
    struct worker_entry entries[2] = {
        {text_of("r"), text_of("ipc:///tmp/a"), text_of("h"), text_of(""), 51},
        {text_of("r"), text_of("ipc:///tmp/a"), text_of("h"), text_of(""), 52},
    };
    struct message message = {.type = MESSAGE_WORKERS, .workers = {entries, 2}};
    ASSERT_OK(control(&message));
    assert_true(fake.worker_open[0] && !fake.worker_open[1]);
    message.workers = (struct message_workers){entries + 1, 1};
    ASSERT_OK(control(&message));
    assert_true(fake.worker_open[0] && !fake.worker_open[1]);
    lease(1, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(0), 1);                    /* with the credit that it had */
    message.workers = (struct message_workers){entries, 1}; /* of another process than the one that answered */
    uint32_t sent = fake.worker_count;
    ASSERT_OK(control(&message));
    assert_true(fake.worker_open[0] && !fake.worker_open[1]);
    assert_int_equal(fake.worker[sent].type, MESSAGE_KNOCK);
    close_fake();
}

static void a_worker_whose_socket_is_full_stops_no_other(void **state) {
    (void)state;
    open_ready();
    workers(2, (uint64_t[]){51, 53});
    credit(1, 53, 5000);
    fake.deaf[0] = true; /* the richer one */
    lease(1, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(1), 1);
    close_fake();
}

static void what_flew_to_a_lost_worker_is_sent_again(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    finish(1, -1);
    assert_int_equal(groups_sent(0), 1);
    workers(2, (uint64_t[]){51, 53});
    credit(1, 53, 1u << 20);
    workers(0, NULL);
    assert_int_equal(groups_sent(0) + groups_sent(1), 1);
    workers(1, (uint64_t[]){54});
    credit(0, 54, 1u << 20);
    assert_int_equal(groups_sent(0), 2);
    tick(CLIENT_RESEND_MS - 1);
    assert_int_equal(groups_sent(0), 2);
    tick(1); /* no answer */
    assert_int_equal(groups_sent(0), 3);
    credit(0, 55, 1u << 20); /* the worker was restarted and says so */
    assert_int_equal(groups_sent(0), 4);
    struct message refuse = {.type = MESSAGE_REFUSE, .refuse = {text_of("knock first"), 1}};
    client_worker(fake.client, 0, &refuse, fake.now_ms);
    assert_int_equal(fake.worker[fake.worker_count - 1].type, MESSAGE_KNOCK);
    credit(0, 55, 1u << 20);
    assert_int_equal(groups_sent(0), 5);
    answer(0, 1, OUTCOME_NOT_WANTED);
    assert_int_equal(client_held(fake.client), 0);
    close_fake();
}

static void knocks_until_credit_comes(void **state) {
    (void)state;
    open_ready();
    workers(2, (uint64_t[]){51, 53});
    fake.deaf[1] = true; /* not connected yet */
    tick(CLIENT_KNOCK_MS);
    fake.deaf[1] = false;
    uint32_t before = fake.worker_count;
    tick(CLIENT_KNOCK_MS);
    assert_int_equal(fake.worker_count, before + 1);
    assert_int_equal(fake.worker[before].type, MESSAGE_KNOCK);
    assert_int_equal(fake.worker[before].knock.incarnation, 31);
    close_fake();
}

static void a_lease_without_room_is_given_back(void **state) {
    (void)state;
    open_ready();
    uint32_t taken = 0;
    for (uint64_t i = 1; i < 400; i++)
        lease(i, 0, 3);
    taken = fake.generated_count;
    assert_true(taken > 100 && taken < 399);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 399 - taken);
    assert_int_equal(last_control(MESSAGE_GIVE_BACK)->give_back.fault, 0);
    finish(1, -1);
    answer(0, 1, OUTCOME_ACCEPTED);
    lease(400, 0, 3);
    assert_int_equal(fake.generated_count, taken + 1);
    close_fake();
}

static void work_that_cannot_be_done_here_is_a_fault(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    client_refused(fake.client, 1, "request: one answer needs 9000 tokens", fake.now_ms);
    assert_int_equal(last_control(MESSAGE_GIVE_BACK)->give_back.fault, 1);
    assert_non_null(strstr(last_control(MESSAGE_GIVE_BACK)->give_back.reason.data, "9000"));
    lease(2, 0, 3);
    finish(2, NAN);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 2);
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(groups_sent(0), 0);
    close_fake();
}

static void revoked_leases_are_gone_wherever_they_are(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    credit(0, 56, 1); /* nothing more can be sent */
    finish(2, -1);
    uint64_t numbers[] = {1, 2, 99};
    struct message message = {.type = MESSAGE_REVOKE, .revoke = {numbers, 3}};
    ASSERT_OK(control(&message));
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(fake.cancelled_count, 1);
    finish(1, -1); /* the generation had it already */
    credit(0, 56, 1u << 20);
    assert_int_equal(groups_sent(0), 0);
    close_fake();
}

static void another_hub_voids_leases_and_keeps_finished_groups(void **state) {
    (void)state;
    open_ready();
    lease(5, 0, 3);
    lease(6, 0, 3);
    finish(6, -1);
    welcome_as(HUB, RUN); /* the same one */
    assert_int_equal(client_held(fake.client), 2);
    welcome_as(HUB + 1, RUN);
    assert_int_equal(client_held(fake.client), 0);
    assert_int_equal(fake.cancelled[0], 5);
    assert_int_equal(groups_sent(0), 1);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2); /* still to be delivered */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.last_lease, 0);
    welcome_as(HUB + 2, RUN + 1); /* another run: nobody wants it */
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void foreign_and_repeated_leases_are_dropped(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(1, 0, 3);
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(client_held(fake.client), 1);
    close_fake();
}

/* ---- stopping ---- */

static void a_drain_gives_back_and_waits_for_answers(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(2, -1);
    client_drain(fake.client, fake.now_ms);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 1);
    assert_int_equal(fake.cancelled[0], 1);
    assert_false(client_drained(fake.client));
    lease(3, 0, 3);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 2);
    answer(0, 2, OUTCOME_ACCEPTED);
    assert_true(client_drained(fake.client));
    assert_int_equal(client_leave(fake.client, "stopped"), 0);
    assert_int_equal(fake.control[fake.control_count - 1].type, MESSAGE_BYE);
    assert_int_equal(fake.worker[fake.worker_count - 1].type, MESSAGE_BYE);
    close_fake();
}

static void a_hub_that_says_bye_is_waited_for(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    lease(2, 0, 3);
    finish(2, -1);
    struct message bye = {.type = MESSAGE_BYE, .bye = {text_of("checkpointed")}};
    ASSERT_OK(control(&bye));
    assert_int_equal(fake.cancelled[0], 1);
    assert_false(client_ready(fake.client));
    tick(CLIENT_HELLO_MS);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    welcome_as(HUB + 1, RUN);
    tick(CLIENT_RESEND_MS);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void the_state_says_what_is_awaited(void **state) {
    (void)state;
    char text[256];
    open_fake(1u << 20);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for the learner");
    close_fake();
    open_ready();
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for work");
    workers(0, NULL);
    lease(1, 0, 3);
    finish(1, -1);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for a reward worker: 1 groups to deliver");
    fake.alone = true;
    tick(1000);
    client_state(fake.client, 0, text, sizeof text);
    assert_string_equal(text, "waiting for the learner");
    assert_false(client_in_touch(fake.client));
    fake.alone = false; /* the same hub, over another connection */
    tick(2000);
    assert_true(client_in_touch(fake.client));
    close_fake();
}

/* ---- anything in any order ---- */

static uint32_t dice(uint64_t seed, uint32_t *position, uint32_t bound) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, (*position)++, bound);
}

static void one_event(uint64_t seed, uint32_t *position) {
    uint64_t number = 1 + dice(seed, position, 30);
    uint32_t slot = dice(seed, position, 4);
    switch (dice(seed, position, 16)) {
    case 0:
        welcome_as(HUB + dice(seed, position, 2), RUN + (dice(seed, position, 20) == 0));
        break;
    case 1:
        publish((int)dice(seed, position, 3), dice(seed, position, 2));
        break;
    case 2:
        workers(dice(seed, position, 4), (uint64_t[]){50 + dice(seed, position, 2), 60, 70 + dice(seed, position, 2)});
        break;
    case 3:
        credit(slot, 50 + 10 * slot, dice(seed, position, 1u << 16));
        break;
    case 4:
        answer(slot, number, (enum delivery_outcome)dice(seed, position, 3));
        break;
    case 5: {
        struct message message = {.type = MESSAGE_REVOKE, .revoke = {&number, 1}};
        ASSERT_OK(control(&message));
        break;
    }
    case 6: {
        struct message message = {.type = MESSAGE_REFUSE, .refuse = {text_of("again"), 1}};
        client_worker(fake.client, slot, &message, fake.now_ms);
        if (dice(seed, position, 4) == 0)
            ASSERT_OK(control(&message));
        break;
    }
    case 7:
        serve();
        break;
    case 8:
        if (!digest_is_zero(fake.load))
            swapped();
        break;
    case 9:
        client_refused(fake.client, number, "cannot", fake.now_ms);
        break;
    case 10: {
        struct message message = {.type = MESSAGE_GONE};
        message.gone = (struct message_gone){FETCH_SNAPSHOT, manifests[dice(seed, position, 3)].weights, text_of("")};
        ASSERT_OK(client_weights(fake.client, &message, fake.now_ms));
        break;
    }
    case 11:
    case 12:
        finish(number, -1);
        break;
    case 13:
        tick(dice(seed, position, 3000));
        break;
    default:
        lease(number, (int)dice(seed, position, 3), dice(seed, position, 4));
    }
    client_check(fake.client);
}

static void anything_in_any_order_keeps_the_invariants(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        uint32_t position = 0;
        if (seed % 2)
            open_ready();
        else
            open_fake(20000);
        for (uint32_t i = 0; i < 400; i++) {
            fake.control_count = fake.worker_count = fake.generated_count = fake.cancelled_count = 0;
            one_event(seed, &position);
        }
        close_fake();
    }
}

int main(void) {
    if (!client_fake_begin())
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_hello_until_welcomed),
        cmocka_unit_test(fetches_files_then_the_current_version),
        cmocka_unit_test(refusals),
        cmocka_unit_test(another_model_needs_another_process),
        cmocka_unit_test(a_group_is_kept_until_answered),
        cmocka_unit_test(delivery_waits_for_credit_and_prefers_most),
        cmocka_unit_test(one_endpoint_is_one_connection),
        cmocka_unit_test(a_worker_whose_socket_is_full_stops_no_other),
        cmocka_unit_test(what_flew_to_a_lost_worker_is_sent_again),
        cmocka_unit_test(knocks_until_credit_comes),
        cmocka_unit_test(a_lease_without_room_is_given_back),
        cmocka_unit_test(work_that_cannot_be_done_here_is_a_fault),
        cmocka_unit_test(revoked_leases_are_gone_wherever_they_are),
        cmocka_unit_test(another_hub_voids_leases_and_keeps_finished_groups),
        cmocka_unit_test(foreign_and_repeated_leases_are_dropped),
        cmocka_unit_test(a_drain_gives_back_and_waits_for_answers),
        cmocka_unit_test(a_hub_that_says_bye_is_waited_for),
        cmocka_unit_test(the_state_says_what_is_awaited),
        cmocka_unit_test(anything_in_any_order_keeps_the_invariants),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    client_fake_end();
    return failed;
}
