#include "tests/support/test.h"

#include <math.h>

#include "common/base/arena.h"
#include "common/base/log.h"
#include "proto/proto.h"
#include "reward/worker.h"

#define HUB 77u
#define ME 5u

/* What the worker sent, decoded. */
static struct {
    struct message control[256], actor[256];
    uint64_t peers[256];
    uint32_t control_count, actor_count;
    struct arena arena;
    bool pipe_full;
} out;

static struct message keep(const void *frame, size_t bytes) {
    struct message message;
    ASSERT_OK(proto_decode(frame, bytes, &out.arena, &message));
    return message;
}

static bool take_control(void *context, const void *frame, size_t bytes) {
    (void)context;
    if (out.pipe_full)
        return false;
    assert_true(out.control_count < 256);
    out.control[out.control_count++] = keep(frame, bytes);
    return true;
}

static void take_actor(void *context, uint64_t peer, const struct message *message) {
    (void)context;
    struct buf frame = {0};
    ASSERT_OK(proto_encode(message, &frame));
    assert_true(out.actor_count < 256);
    out.peers[out.actor_count] = peer;
    out.actor[out.actor_count++] = keep(frame.data, frame.bytes);
    buf_deinit(&frame);
}

static struct worker *open_worker(void) {
    arena_deinit(&out.arena);
    memset(&out, 0, sizeof out);
    arena_init(&out.arena, 64u << 20);
    struct worker_settings settings = {text_of("reward-1"),     text_of("here"), ME, 1,
                                       text_of("ipc:///tmp/r"), text_of("")};
    struct worker_actions actions = {NULL, take_control, take_actor};
    struct worker *worker;
    ASSERT_OK(worker_create(&settings, &actions, 0, &worker));
    return worker;
}

static const struct message *last_control(enum message_type type) {
    for (uint32_t i = out.control_count; i-- > 0;)
        if (out.control[i].type == type)
            return &out.control[i];
    return NULL;
}

static const struct message *last_actor(uint64_t peer, enum message_type type) {
    for (uint32_t i = out.actor_count; i-- > 0;)
        if (out.peers[i] == peer && out.actor[i].type == type)
            return &out.actor[i];
    return NULL;
}

static uint32_t count_control(enum message_type type) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < out.control_count; i++)
        count += out.control[i].type == type;
    return count;
}

static void join(struct worker *worker, uint64_t hub, int64_t now_ms) {
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of("run"),
                                               .incarnation = hub,
                                               .heartbeat_ms = 1000,
                                               .weights = text_of("")};
    ASSERT_OK(worker_control(worker, &message, now_ms));
}

static void knock(struct worker *worker, uint64_t peer, uint64_t incarnation, int64_t now_ms) {
    struct message message = {.type = MESSAGE_KNOCK, .knock = {PROTOCOL_VERSION, incarnation, text_of("actor")}};
    worker_actor(worker, peer, &message, 50, now_ms);
}

static int32_t ids[3] = {1, 2, 3};
static float logprobs[3] = {-1, -2, -3};
static struct text aliases[] = {{"Paris", 5}, {"City of Light", 13}};
static struct answer_sample samples[4];

static struct message make_group(uint64_t lease) {
    const char *answers[4] = {"It is boxed[Paris].", "I think of Paris. boxed[Rome]", "boxed[Unknown]", "no idea"};
    for (int i = 0; i < 4; i++)
        samples[i] = (struct answer_sample){ids, logprobs, 3, FINISH_STOP, text_of(answers[i])};
    struct message message = {.type = MESSAGE_GROUP};
    message.group = (struct message_group){.lease = lease,
                                           .key = {9, WORK_TRAIN, 3, (uint32_t)lease},
                                           .weights = {1, 2},
                                           .config = {3, 4},
                                           .actor = 31,
                                           .actor_name = text_of("actor"),
                                           .same_class = 1,
                                           .samples = samples,
                                           .sample_count = 4,
                                           .grading = {.question_id = text_of("q"),
                                                       .question = text_of("What is the capital of France?"),
                                                       .set = text_of("s"),
                                                       .class_label = text_of(""),
                                                       .aliases = aliases,
                                                       .alias_count = 2,
                                                       .answerable = 1,
                                                       .rule = text_of("both"),
                                                       .known_k = -1,
                                                       .anchor_k = 1}};
    return message;
}

static void send_group(struct worker *worker, uint64_t peer, uint64_t lease, size_t frame_bytes, int64_t now_ms) {
    struct message message = make_group(lease);
    worker_actor(worker, peer, &message, frame_bytes, now_ms);
    worker_check(worker);
}

static void answer(struct worker *worker, uint64_t lease, enum delivery_outcome outcome, int64_t now_ms) {
    struct message message = {.type = MESSAGE_ANSWER};
    message.answer = (struct message_answer){{9, WORK_TRAIN, 3, (uint32_t)lease}, lease, (uint8_t)outcome, text_of("")};
    ASSERT_OK(worker_control(worker, &message, now_ms));
    worker_check(worker);
}

static void says_hello_until_welcomed_then_beats(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    worker_tick(worker, 0);
    worker_tick(worker, WORKER_HELLO_MS - 1);
    assert_int_equal(count_control(MESSAGE_HELLO), 1);
    worker_tick(worker, WORKER_HELLO_MS);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    assert_string_equal(last_control(MESSAGE_HELLO)->hello.endpoint.data, "ipc:///tmp/r");
    assert_int_equal(last_control(MESSAGE_HELLO)->hello.role, ROLE_REWARD);
    join(worker, HUB, 1100);
    assert_true(worker_ready(worker));
    worker_tick(worker, 1100);
    worker_tick(worker, 2099);
    worker_tick(worker, 2100);
    assert_int_equal(count_control(MESSAGE_HEARTBEAT), 2);
    assert_int_equal(count_control(MESSAGE_HELLO), 2);
    char text[256];
    out.pipe_full = true; /* nobody is there */
    worker_tick(worker, 3100);
    worker_state(worker, 3100, text, sizeof text);
    assert_string_equal(text, "waiting for the learner");
    out.pipe_full = false;
    worker_tick(worker, 4100);
    assert_true(worker_ready(worker));
    worker_destroy(&worker);
}

static void a_group_is_scored_and_its_answer_comes_back(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    assert_true(last_actor(100, MESSAGE_CREDIT)->credit.bytes >= FRAME_BYTES_MAX);
    assert_int_equal(last_actor(100, MESSAGE_CREDIT)->credit.incarnation, ME);
    send_group(worker, 100, 1, 1000, 1);
    const struct message_scored *scored = &last_control(MESSAGE_SCORED)->scored;
    assert_int_equal(scored->score_count, 4);
    assert_int_equal(scored->worker, ME);
    enum verdict verdicts[] = {VERDICT_CORRECT, VERDICT_PROCESS_CORRECT, VERDICT_ABSTAIN, VERDICT_MALFORMED};
    float rewards[] = {1, 0.5f, 0, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(scored->scores[i].verdict, verdicts[i]);
        assert_true(scored->scores[i].reward == rewards[i]);
    }
    assert_memory_equal(scored->group.samples[0].text.data + scored->scores[0].final_start, "Paris",
                        scored->scores[0].final_bytes);
    assert_null(last_actor(100, MESSAGE_ANSWER)); /* W1 */
    answer(worker, 1, OUTCOME_DUPLICATE, 2);
    assert_int_equal(last_actor(100, MESSAGE_ANSWER)->answer.outcome, OUTCOME_DUPLICATE);
    answer(worker, 1, OUTCOME_ACCEPTED, 3); /* a second answer goes nowhere */
    assert_int_equal(last_actor(100, MESSAGE_ANSWER)->answer.outcome, OUTCOME_DUPLICATE);
    worker_destroy(&worker);
}

static void what_cannot_be_scored_is_delivered_as_such(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    struct message message = make_group(1);
    message.group.grading.rule = text_of("generosity");
    worker_actor(worker, 100, &message, 1000, 1);
    const struct message_scored *scored = &last_control(MESSAGE_SCORED)->scored;
    for (int i = 0; i < 4; i++)
        assert_true(isnan(scored->scores[i].reward));
    assert_int_equal(scored->scores[0].verdict,
                     VERDICT_CORRECT); /* no rule, but verdicts: an evaluation needs no more */
    assert_int_equal(scored->scores[2].verdict, VERDICT_ABSTAIN);
    worker_destroy(&worker);
}

static void an_unanswerable_question_pays_for_abstaining(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    struct message message = make_group(1);
    message.group.grading.answerable = 0;
    message.group.grading.alias_count = 0;
    worker_actor(worker, 100, &message, 1000, 1);
    const struct message_scored *scored = &last_control(MESSAGE_SCORED)->scored;
    assert_true(scored->scores[0].reward == 0 && scored->scores[2].reward == 1);
    worker_destroy(&worker);
}

static void a_group_that_is_inside_is_not_scored_twice(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    send_group(worker, 100, 1, 1000, 1);
    knock(worker, 101, 31, 2); /* the actor came back on another connection */
    send_group(worker, 101, 1, 1000, 3);
    assert_int_equal(count_control(MESSAGE_SCORED), 1); /* W2 */
    answer(worker, 1, OUTCOME_ACCEPTED, 4);
    assert_null(last_actor(100, MESSAGE_ANSWER));
    assert_non_null(last_actor(101, MESSAGE_ANSWER));
    worker_destroy(&worker);
}

static void groups_without_knock_or_credit_are_refused(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    send_group(worker, 100, 1, 1000, 0);
    assert_int_equal(last_actor(100, MESSAGE_REFUSE)->refuse.again, 1);
    knock(worker, 100, 31, 1);
    uint64_t credit = last_actor(100, MESSAGE_CREDIT)->credit.bytes;
    send_group(worker, 100, 1, credit + 1, 2);
    assert_int_equal(count_control(MESSAGE_SCORED), 0);
    knock(worker, 100, 31, 3); /* begins at zero again */
    send_group(worker, 100, 1, credit, 4);
    assert_int_equal(count_control(MESSAGE_SCORED), 1);
    struct message message = {.type = MESSAGE_KNOCK, .knock = {PROTOCOL_VERSION + 1, 32, text_of("new")}};
    worker_actor(worker, 102, &message, 50, 5);
    assert_int_equal(last_actor(102, MESSAGE_REFUSE)->refuse.again, 0);
    assert_non_null(strstr(last_actor(102, MESSAGE_REFUSE)->refuse.reason.data, "protocol 2"));
    worker_destroy(&worker);
}

static void credit_rises_when_groups_are_answered(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    uint64_t first = last_actor(100, MESSAGE_CREDIT)->credit.bytes, taken = 0;
    uint64_t lease = 0;
    while (last_actor(100, MESSAGE_CREDIT)->credit.bytes == first && lease < 200) {
        out.control_count = 0;
        send_group(worker, 100, ++lease, first / 100, 1);
        taken += first / 100;
        answer(worker, lease, OUTCOME_ACCEPTED, 2);
    }
    assert_true(lease < 100); /* before it ran out */
    assert_true(last_actor(100, MESSAGE_CREDIT)->credit.bytes <= taken + first);
    assert_true(last_actor(100, MESSAGE_CREDIT)->credit.bytes >= first + first / 8);
    worker_destroy(&worker);
}

static void a_new_hub_gets_everything_again(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    knock(worker, 100, 31, 0);
    send_group(worker, 100, 1, 1000, 1); /* before any hub was there */
    assert_int_equal(count_control(MESSAGE_SCORED), 0);
    join(worker, HUB, 2);
    assert_int_equal(count_control(MESSAGE_SCORED), 1);
    worker_tick(worker, 2 + WORKER_RESEND_MS - 1);
    assert_int_equal(count_control(MESSAGE_SCORED), 1);
    worker_tick(worker, 2 + WORKER_RESEND_MS); /* no answer */
    assert_int_equal(count_control(MESSAGE_SCORED), 2);
    struct message refuse = {.type = MESSAGE_REFUSE, .refuse = {text_of("who are you"), 1}};
    ASSERT_OK(worker_control(worker, &refuse, 6000));
    worker_tick(worker, 6000);
    assert_true(count_control(MESSAGE_HELLO) > 0);
    join(worker, HUB + 1, 6001);
    assert_int_equal(count_control(MESSAGE_SCORED), 3);
    refuse.refuse.again = 0;
    ASSERT_FAILS(STATUS_CONFIG, worker_control(worker, &refuse, 6002));
    worker_destroy(&worker);
}

static void what_the_socket_does_not_take_is_sent_later(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    out.pipe_full = true;
    send_group(worker, 100, 1, 1000, 1);
    assert_int_equal(count_control(MESSAGE_SCORED), 0);
    out.pipe_full = false;
    worker_tick(worker, 2);
    assert_int_equal(count_control(MESSAGE_SCORED), 1);
    worker_destroy(&worker);
}

static void a_drain_ends_when_all_is_answered(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    knock(worker, 100, 31, 0);
    send_group(worker, 100, 1, 1000, 1);
    assert_false(worker_drained(worker));
    worker_drain(worker);
    assert_false(worker_drained(worker));
    answer(worker, 1, OUTCOME_ACCEPTED, 2);
    assert_true(worker_drained(worker));
    worker_leave(worker, "stopped");
    assert_non_null(last_control(MESSAGE_BYE));
    assert_non_null(last_actor(100, MESSAGE_BYE));
    worker_destroy(&worker);
}

static void nonsense_is_counted(void **state) {
    (void)state;
    struct worker *worker = open_worker();
    join(worker, HUB, 0);
    struct message message = {.type = MESSAGE_STATUS_REQUEST};
    worker_actor(worker, 100, &message, 10, 0);
    ASSERT_OK(worker_control(worker, &message, 0));
    answer(worker, 42, OUTCOME_ACCEPTED, 0);
    worker_malformed(worker);
    worker_tick(worker, 1000);
    const struct message_heartbeat *beat = &last_control(MESSAGE_HEARTBEAT)->heartbeat;
    bool found = false;
    for (uint32_t i = 0; i < beat->counter_count; i++)
        if (strcmp(beat->counters[i].name.data, "messages_dropped") == 0)
            found = beat->counters[i].value == 4;
    assert_true(found);
    worker_destroy(&worker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_hello_until_welcomed_then_beats),
        cmocka_unit_test(a_group_is_scored_and_its_answer_comes_back),
        cmocka_unit_test(what_cannot_be_scored_is_delivered_as_such),
        cmocka_unit_test(an_unanswerable_question_pays_for_abstaining),
        cmocka_unit_test(a_group_that_is_inside_is_not_scored_twice),
        cmocka_unit_test(groups_without_knock_or_credit_are_refused),
        cmocka_unit_test(credit_rises_when_groups_are_answered),
        cmocka_unit_test(a_new_hub_gets_everything_again),
        cmocka_unit_test(what_the_socket_does_not_take_is_sent_later),
        cmocka_unit_test(a_drain_ends_when_all_is_answered),
        cmocka_unit_test(nonsense_is_counted),
    };
    log_init("worker_test", NULL, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
