/* Messages to bytes and back. */
#include "tests/support/test.h"

#include <math.h>

#include "proto/proto.h"
#include "tests/support/proto/random_message.h"

static struct arena arena;

static int set_up(void **state) {
    (void)state;
    arena_init(&arena, 64u << 20);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_deinit(&arena);
    return 0;
}

static void every_message_reads_back_as_it_was_written(void **state) {
    (void)state;
    struct buf first = {0}, second = {0};
    for (int type = 0; type < MESSAGE_TYPE_COUNT; type++) {
        for (uint32_t index = 0; index < 60; index++) {
            arena_reset(&arena);
            buf_reset(&first);
            buf_reset(&second);
            struct message message = random_message((enum message_type)type, index, 12, &arena), read;
            ASSERT_OK(proto_encode(&message, &first));
            ASSERT_OK(proto_decode(first.data, first.bytes, &arena, &read));
            assert_int_equal(read.type, type);
            ASSERT_OK(proto_encode(&read, &second));
            if (first.bytes != second.bytes || memcmp(first.data, second.data, first.bytes) != 0)
                fail_msg("%s %u: not the same after a round trip", message_name(read.type), index);
        }
    }
    buf_deinit(&first);
    buf_deinit(&second);
}

/* A frame cut anywhere, or with one byte changed, is refused or read; nothing is read beyond it (the sanitizers watch).
 */
static void cut_and_flipped_frames_are_refused_or_read(void **state) {
    (void)state;
    struct buf frame = {0};
    for (int type = 0; type < MESSAGE_TYPE_COUNT; type++) {
        arena_reset(&arena);
        buf_reset(&frame);
        struct message message = random_message((enum message_type)type, 3, 6, &arena), read;
        ASSERT_OK(proto_encode(&message, &frame));
        for (size_t bytes = 0; bytes < frame.bytes; bytes++) {
            arena_reset(&arena);
            char *cut = malloc(bytes + 1); /* its own allocation, so that reading on is seen */
            assert_non_null(cut);
            memcpy(cut, frame.data, bytes);
            ASSERT_FAILS(STATUS_FORMAT, proto_decode(cut, bytes, &arena, &read));
            cut = realloc(cut, frame.bytes);
            assert_non_null(cut);
            memcpy(cut, frame.data, frame.bytes);
            cut[bytes] = (char)(cut[bytes] ^ (1 << (bytes % 8)));
            arena_reset(&arena);
            enum status status = proto_decode(cut, frame.bytes, &arena, &read);
            assert_true(status == STATUS_OK || status == STATUS_FORMAT);
            free(cut);
        }
    }
    buf_deinit(&frame);
}

static int32_t ids[3] = {5, 0, 151643};
static float logprobs[3] = {-0.25f, -1.5f, 0.0f};

static struct message small_group(void) {
    static struct answer_sample sample;
    sample = (struct answer_sample){.ids = ids,
                                    .logprobs = logprobs,
                                    .count = 3,
                                    .finish = FINISH_STOP,
                                    .text = {.data = "4\0"
                                                     "2",
                                             .bytes = 3}};
    struct message message = {.type = MESSAGE_GROUP};
    message.group = (struct message_group){
        .lease = 77,
        .key = {.run_id = 1ull << 60, .stream = WORK_TRAIN, .step = 3, .slot = 9},
        .attempt = 2,
        .weights = {.low = 0x1122334455667788u, .high = 0x99aabbccddeeff00u},
        .actor = UINT64_MAX,
        .actor_name = text_of("a"),
        .same_class = 1,
        .samples = &sample,
        .sample_count = 1,
        .grading = {.question = text_of("6 x 7?"), .known_k = -1, .threshold_t = 0.75f, .answerable = 1},
    };
    return message;
}

/* Not by the table of fields: a wrong offset in it would cancel itself out in a round trip. */
static void values_arrive_in_their_own_fields(void **state) {
    (void)state;
    struct buf frame = {0};
    struct message message = small_group(), read;
    ASSERT_OK(proto_encode(&message, &frame));
    ASSERT_OK(proto_decode(frame.data, frame.bytes, &arena, &read));
    const struct message_group *group = &read.group;
    assert_int_equal(group->lease, 77);
    assert_true(work_key_equal(&group->key, &message.group.key));
    assert_int_equal(group->attempt, 2);
    assert_true(digest_equal(group->weights, message.group.weights));
    assert_true(digest_is_zero(group->config));
    assert_true(group->actor == UINT64_MAX);
    assert_string_equal(group->actor_name.data, "a");
    assert_int_equal(group->same_class, 1);
    assert_int_equal(group->sample_count, 1);
    assert_int_equal(group->samples[0].count, 3);
    assert_memory_equal(group->samples[0].ids, ids, sizeof ids);
    assert_memory_equal(group->samples[0].logprobs, logprobs, sizeof logprobs);
    assert_int_equal(group->samples[0].text.bytes, 3);
    assert_memory_equal(group->samples[0].text.data,
                        "4\0"
                        "2",
                        4);
    assert_string_equal(group->grading.question.data, "6 x 7?");
    assert_string_equal(group->grading.rule.data, "");
    assert_int_equal(group->grading.known_k, -1);
    assert_true(group->grading.threshold_t == 0.75f);
    buf_deinit(&frame);
}

static void the_bytes_are_those_that_the_page_shows(void **state) {
    (void)state;
    struct message message = {.type = MESSAGE_CREDIT, .credit = {.incarnation = 7, .bytes = 1048576}};
    struct buf frame = {0};
    ASSERT_OK(proto_encode(&message, &frame));
    static const char expected[] = "\x83\xa4type\xa6"
                                   "credit\xab"
                                   "incarnation\x07\xa5"
                                   "bytes\xce\x00\x10\x00\x00";
    assert_int_equal(frame.bytes, sizeof expected - 1);
    assert_memory_equal(frame.data, expected, sizeof expected - 1);
    buf_deinit(&frame);
}

static void unknown_keys_are_skipped_and_doubles_are_numbers_too(void **state) {
    (void)state;
    /* {"type": "credit", "later": [1, {"x": nil}], "bytes": 5, "incarnation": 9} */
    static const char frame[] = "\x84\xa4type\xa6"
                                "credit\xa5later\x92\x01\x81\xa1x\xc0\xa5"
                                "bytes\x05\xab"
                                "incarnation\x09";
    struct message read;
    ASSERT_OK(proto_decode(frame, sizeof frame - 1, &arena, &read));
    assert_int_equal(read.credit.bytes, 5);
    assert_int_equal(read.credit.incarnation, 9);
}

struct bad_frame {
    const char *bytes, *reason;
    size_t count;
};
#define BAD(bytes_, reason_)                                                                                           \
    { .bytes = (bytes_), .count = sizeof(bytes_) - 1, .reason = (reason_) }

static void malformed_frames_are_refused_with_their_reason(void **state) {
    (void)state;
    static const struct bad_frame frames[] = {
        BAD("", "ends within a value"),
        BAD("\xdd\x05\xf5\xe1\x00", "claims 100000000 elements"), /* the 4.3 GB bomb of transport.md */
        BAD("\x80", "begins with its type"),
        BAD("\x81\xa4type\xa3wat", "unknown type"),
        BAD("\x81\xa3"
            "bye\xa4type",
            "begins with its type"),
        BAD("\x81\xa4type\xa3"
            "bye",
            "bye: reason: missing"),
        BAD("\x82\xa4type\xa3"
            "bye\xa6reason\x07",
            "bye: reason: not a str"),
        BAD("\x82\xa4type\xa3"
            "bye\xa6reason\xa2\xc3\x28",
            "bye: reason: not UTF-8"),
        BAD("\x82\xa4type\xa3"
            "bye\xa6reason\xa2"
            "a\n",
            "bye: reason: a control character"),
        BAD("\x83\xa4type\xa3"
            "bye\xa6reason\xa0\xa6reason\xa0",
            "bye: reason: stands twice"),
        BAD("\x82\xa4type\xa3"
            "bye\xa6reason\xa0\x00",
            "1 bytes behind its end"),
        BAD("\x82\xa4type\xa3"
            "bye\xa6reason\xc1",
            "never uses"),
        BAD("\x82\xa4type\xa6revoke\xa6leases\xdd\x00\x10\x00\x00", "claims 1048576 elements"),
        BAD("\x82\xa4type\xa6revoke\xa6leases\x91\xff", "not an integer from 0"),
        BAD("\x83\xa4type\xa6"
            "credit\xa5"
            "bytes\x05\xab"
            "incarnation\x00",
            "0 is outside 1"),
        BAD("\x82\xa4type\xa6"
            "credit\xa1z\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x00",
            "nested too deep"),
    };
    struct message read;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        ASSERT_FAILS(STATUS_FORMAT, proto_decode(frames[i].bytes, frames[i].count, &arena, &read));
        if (!strstr(status_message(), frames[i].reason))
            fail_msg("frame %zu: \"%s\" where \"%s\" was expected", i, status_message(), frames[i].reason);
    }
}

static void what_could_not_be_read_back_is_not_written(void **state) {
    (void)state;
    struct buf frame = {0};
    struct message message = small_group();
    buf_puts(&frame, "before");
    message.group.samples[0].logprobs = (float[]){-1, NAN, 0};
    ASSERT_FAILS(STATUS_FORMAT, proto_encode(&message, &frame));
    assert_string_equal(status_message(), "group message: samples: logprobs: element 1 is not a finite number");
    assert_int_equal(frame.bytes, 6);
    message = small_group();
    message.group.samples[0].text = text_of("\xff");
    ASSERT_FAILS(STATUS_FORMAT, proto_encode(&message, &frame));
    message = small_group();
    message.group.samples[0].ids = (int32_t[]){1, -1, 1};
    ASSERT_FAILS(STATUS_FORMAT, proto_encode(&message, &frame));
    message = small_group();
    message.group.sample_count = 0;
    ASSERT_FAILS(STATUS_LIMIT, proto_encode(&message, &frame));
    buf_deinit(&frame);
}

static void a_reward_may_be_nan_and_nothing_else_may(void **state) {
    (void)state;
    struct buf frame = {0};
    struct sample_score score = {.verdict = VERDICT_WRONG, .reward = NAN};
    struct message message = {.type = MESSAGE_SCORED}, read;
    message.scored =
        (struct message_scored){.group = small_group().group, .scores = &score, .score_count = 1, .worker = 1};
    ASSERT_OK(proto_encode(&message, &frame));
    ASSERT_OK(proto_decode(frame.data, frame.bytes, &arena, &read));
    assert_true(isnan(read.scored.scores[0].reward));
    score.reward = INFINITY;
    ASSERT_FAILS(STATUS_FORMAT, proto_encode(&message, &frame));
    score = (struct sample_score){.final_start = 2, .final_bytes = 2};
    ASSERT_FAILS(STATUS_LIMIT, proto_encode(&message, &frame)); /* the text has 3 bytes */
    message.scored.group.grading.threshold_t = NAN;
    ASSERT_FAILS(STATUS_FORMAT, proto_encode(&message, &frame));
    buf_deinit(&frame);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_reads_back_as_it_was_written),
        cmocka_unit_test(cut_and_flipped_frames_are_refused_or_read),
        cmocka_unit_test(values_arrive_in_their_own_fields),
        cmocka_unit_test(the_bytes_are_those_that_the_page_shows),
        cmocka_unit_test(unknown_keys_are_skipped_and_doubles_are_numbers_too),
        cmocka_unit_test(malformed_frames_are_refused_with_their_reason),
        cmocka_unit_test(what_could_not_be_read_back_is_not_written),
        cmocka_unit_test(a_reward_may_be_nan_and_nothing_else_may),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
