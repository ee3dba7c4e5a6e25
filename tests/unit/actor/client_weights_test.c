/* The client's weights, one rule at a time: which version is fetched, staged, loaded, and what its canary is. */
#include "tests/support/actor/client_fake.h"

/* ---- weights ---- */

static void the_next_version_is_fetched_ahead_and_loaded_when_its_turn_comes(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish(1, true);
    lease(2, 1, 4);
    serve();
    assert_true(digest_is_zero(fake.load)); /* version 0 has work that is more urgent */
    assert_int_equal(fake.generated_count, 1);
    finish(1, -1);
    tick(1);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    lease(3, 1, 4);
    lease(4, 0, 5); /* of the version that is going */
    tick(1);
    assert_int_equal(fake.generated_count, 1); /* A2 */
    assert_int_equal(fake.loads, 2);
    swapped();
    assert_int_equal(fake.generated_count, 3);
    close_fake();
}

static void an_older_step_parks_newer_work(void **state) {
    (void)state;
    open_ready();
    publish(1, true);
    serve();
    swapped();
    lease(2, 1, 4);
    assert_int_equal(fake.generated_count, 1);
    lease(3, 0, 3); /* somebody lost it */
    assert_true(digest_is_zero(fake.load));
    serve();
    assert_true(digest_equal(fake.load, manifests[0].weights));
    swapped();
    assert_int_equal(fake.generated[1], 3);
    struct client_progress progress[] = {{2, {9, 5, true, true}}, {3, {5, 2, true, false}}};
    struct generator_counters counters = {.rows = 14};
    client_progress(fake.client, progress, 2, &counters);
    tick(1000);
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.held[0].state, LEASE_PARKED);
    finish(3, -1);
    tick(1);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 2); /* it is inside already */
    finish(2, -1);
    assert_int_equal(groups_sent(0), 2);
    close_fake();
}

static void a_lease_of_a_version_whose_manifest_was_lost_asks_for_it(void **state) {
    (void)state;
    open_ready();
    lease(1, 2, 4);
    tick(500);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    tick(100);
    assert_int_equal(count_control(MESSAGE_HELLO), 1); /* not at each tick */
    welcome_as(HUB, RUN);
    publish(2, true);
    serve();
    swapped();
    assert_int_equal(fake.generated_count, 1);
    tick(5000);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    close_fake();
}

static void leases_of_a_retired_version_are_given_back(void **state) {
    (void)state;
    open_ready();
    publish(2, false);
    store_retire(fake.store, manifests[2].weights);
    lease(1, 2, 4);
    serve();
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 1);
    assert_int_equal(client_held(fake.client), 0);
    lease(2, 0, 4);
    assert_int_equal(fake.generated_count, 1);
    close_fake();
}

static void wrong_weights_twice_end_the_process(void **state) {
    (void)state;
    open_ready();
    publish(1, true);
    ASSERT_OK(store_publish(fake.store, &manifests[1], versions[2]));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < fetch_count; i++)
        store_fetch(fake.store, &fetches[i], on_reply_that_may_fail, &status);
    ASSERT_FAILS(STATUS_AGAIN, status);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

static void deltas_lead_there_and_back(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    publish(1, false);
    publish_delta(2);
    publish(2, true);
    serve();
    assert_true(digest_equal(fake.load, manifests[2].weights));
    swapped();
    assert_int_equal(fake.patches, 1); /* both in one */
    lease(1, 1, 4);
    serve();
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(fake.patches, 2);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

/* The pause is the patch alone: what it takes is made ready while the loaded version has work. */
static void deltas_are_staged_while_the_loaded_version_has_work(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish_delta(1);
    publish(1, true);
    lease(2, 1, 4);
    serve();
    assert_true(digest_equal(fake.staged, manifests[1].weights));
    assert_int_equal(fake.patches, 0);
    lease(3, 0, 3); /* goes on with what is loaded */
    assert_int_equal(fake.generated_count, 2);
    tick(1000);
    assert_int_equal(fake.stages, 1);
    finish(1, -1);
    finish(3, -1);
    tick(1);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    assert_int_equal(fake.generated_count, 3);
    assert_int_equal(fake.loads, 1);
    close_fake();
}

/* Refused while it waits; and refused late, when the version came another way. */
static void a_staged_version_that_is_refused_comes_as_a_snapshot(void **state) {
    (void)state;
    open_ready();
    lease(1, 0, 3);
    publish_delta(1);
    publish(1, true);
    serve();
    assert_int_equal(fake.stages, 1);
    client_patch_refused(fake.client, &manifests[1].weights, "a test");
    tick(1);
    serve();
    assert_int_equal(fake.stages, 1);
    finish(1, -1);
    tick(1);
    assert_int_equal(fake.patches, 0);
    assert_int_equal(fake.loads, 2);
    client_patch_refused(fake.client, &manifests[1].weights, "late");
    swapped();
    lease(2, 1, 3);
    assert_int_equal(fake.generated_count, 2);
    close_fake();
}

static void the_canary_goes_with_every_heartbeat_and_group(void **state) {
    (void)state;
    struct digest canary = {3, 4};
    open_ready();
    uint32_t beats = count_control(MESSAGE_HEARTBEAT);
    client_canary(fake.client, &manifests[0].weights, &canary, fake.now_ms);
    assert_int_equal(count_control(MESSAGE_HEARTBEAT), beats + 1); /* at once */
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary.low, 3);
    tick(1000);
    assert_int_equal(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary.low, 3); /* the first one may be lost */
    lease(1, 0, 3);
    tick(1);
    finish(1, -0.5f);
    assert_int_equal(groups_sent(0), 1);
    assert_int_equal(fake.worker[fake.worker_count - 1].group.canary.low, 3);
    answer(0, 1, OUTCOME_ACCEPTED);
    publish(1, true);
    serve();
    swapped();
    tick(1000);
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary)); /* another version's */
    client_canary(fake.client, &manifests[0].weights, &canary, fake.now_ms);
    tick(1000);
    assert_true(digest_is_zero(last_control(MESSAGE_HEARTBEAT)->heartbeat.canary));
    close_fake();
}

static void refused_deltas_are_followed_by_a_snapshot(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    publish(1, true);
    serve();
    assert_int_equal(fake.patches, 1);
    fake.load = (struct digest){0, 0};
    client_patch_refused(fake.client, &manifests[1].weights, "a test");
    tick(1);
    serve();
    assert_int_equal(fake.loads, 2);
    assert_true(digest_equal(fake.load, manifests[1].weights));
    swapped();
    lease(1, 0, 3); /* back: of deltas refused once none is used again */
    serve();
    assert_int_equal(fake.loads, 3);
    swapped();
    publish_delta(2);
    publish(2, true);
    close_fake();
}

static void a_retired_delta_takes_no_lease_away(void **state) {
    (void)state;
    open_ready();
    publish_delta(1);
    store_retire_deltas(fake.store, UINT32_MAX);
    publish(1, true);
    lease(1, 1, 3);
    serve();
    assert_int_equal(fake.patches, 0);
    assert_int_equal(fake.loads, 2);
    swapped();
    assert_int_equal(fake.generated_count, 1);
    assert_int_equal(count_control(MESSAGE_GIVE_BACK), 0);
    close_fake();
}

int main(void) {
    if (!client_fake_begin())
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_version_is_fetched_ahead_and_loaded_when_its_turn_comes),
        cmocka_unit_test(an_older_step_parks_newer_work),
        cmocka_unit_test(a_lease_of_a_version_whose_manifest_was_lost_asks_for_it),
        cmocka_unit_test(leases_of_a_retired_version_are_given_back),
        cmocka_unit_test(wrong_weights_twice_end_the_process),
        cmocka_unit_test(deltas_lead_there_and_back),
        cmocka_unit_test(deltas_are_staged_while_the_loaded_version_has_work),
        cmocka_unit_test(a_staged_version_that_is_refused_comes_as_a_snapshot),
        cmocka_unit_test(the_canary_goes_with_every_heartbeat_and_group),
        cmocka_unit_test(refused_deltas_are_followed_by_a_snapshot),
        cmocka_unit_test(a_retired_delta_takes_no_lease_away),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    client_fake_end();
    return failed;
}
