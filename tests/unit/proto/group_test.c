/* What a group weighs, and what it is. */
#include "tests/support/test.h"

#include "proto/proto.h"

enum { SAMPLES = 20, TOKENS = 100 };

static char label[LABEL_BYTES_MAX + 1];

/* The heaviest group that the lease admits: every label and text as long as may be, every number at its longest. */
static struct message heaviest(const struct message_lease *lease, struct arena *arena) {
    struct answer_sample *samples = arena_alloc(arena, lease->samples * sizeof *samples);
    struct sample_score *scores = arena_alloc(arena, lease->samples * sizeof *scores);
    int32_t *ids = arena_alloc(arena, lease->max_new_tokens * sizeof *ids);
    float *logprobs = arena_alloc(arena, lease->max_new_tokens * sizeof *logprobs);
    uint32_t text_bytes = ANSWER_TEXT_BYTES_MAX(lease->max_new_tokens);
    char *text = arena_alloc(arena, text_bytes);
    assert_true(samples && scores && ids && logprobs && text);
    memset(text, 'x', text_bytes);
    for (uint32_t i = 0; i < lease->max_new_tokens; i++) {
        ids[i] = INT32_MAX;
        logprobs[i] = -1e9f;
    }
    for (uint32_t i = 0; i < lease->samples; i++) {
        samples[i] = (struct answer_sample){.ids = ids,
                                            .logprobs = logprobs,
                                            .count = lease->max_new_tokens,
                                            .finish = FINISH_LENGTH,
                                            .text = {.data = text, .bytes = text_bytes}};
        scores[i] = (struct sample_score){.verdict = VERDICT_MALFORMED, .reward = 1, .final_start = text_bytes / 2};
        scores[i].final_bytes = text_bytes / 2;
    }
    struct message message = {.type = MESSAGE_SCORED};
    message.scored = (struct message_scored){
        .group = {.lease = UINT64_MAX,
                  .key = {UINT64_MAX, WORK_GENERATE, UINT32_MAX, UINT32_MAX},
                  .attempt = UINT32_MAX,
                  .actor = UINT64_MAX,
                  .actor_name = text_of(label),
                  .same_class = 1,
                  .samples = samples,
                  .sample_count = lease->samples,
                  .generation_ms = UINT32_MAX,
                  .grading = lease->grading},
        .scores = scores,
        .score_count = lease->samples,
        .worker = UINT64_MAX,
        .worker_name = text_of(label),
    };
    return message;
}

static void no_group_is_heavier_than_its_lease_says(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 64u << 20);
    memset(label, 'l', LABEL_BYTES_MAX);
    struct text aliases[300];
    for (int i = 0; i < 300; i++)
        aliases[i] = text_of(label);
    struct message_lease lease = {.grading = {.question_id = text_of(label),
                                              .question = text_of(label),
                                              .set = text_of(label),
                                              .class_label = text_of(label),
                                              .aliases = aliases,
                                              .alias_count = 300,
                                              .answerable = 1,
                                              .rule = text_of(label),
                                              .step = UINT32_MAX,
                                              .known_k = INT32_MAX,
                                              .anchor_k = UINT32_MAX,
                                              .switch_step = UINT32_MAX,
                                              .threshold_t = 1}};
    static const uint32_t shapes[][2] = {{1, 1}, {20, 100}, {256, 512}, {20, 4096}};
    struct buf frame = {0};
    for (size_t i = 0; i < 4; i++) {
        lease.samples = shapes[i][0];
        lease.max_new_tokens = shapes[i][1];
        struct message scored = heaviest(&lease, &arena), group = {.type = MESSAGE_GROUP, .group = scored.scored.group};
        buf_reset(&frame);
        ASSERT_OK(proto_encode(&group, &frame));
        assert_true(frame.bytes <= lease_weigh(&lease));
        assert_true(lease_weigh(&lease) < frame.bytes + frame.bytes / 20 + 4096); /* and not by much */
        buf_reset(&frame);
        ASSERT_OK(proto_encode(&scored, &frame));
        assert_true(frame.bytes <= scored_weigh(&lease));
    }
    buf_deinit(&frame);
    arena_deinit(&arena);
}

static void the_digest_sees_each_id_bit_and_the_order(void **state) {
    (void)state;
    int32_t ids[2][2] = {{1, 2}, {3, 4}};
    float logprobs[2][2] = {{-1, -2}, {-3, -4}};
    struct answer_sample samples[2];
    for (int i = 0; i < 2; i++)
        samples[i] = (struct answer_sample){.ids = ids[i], .logprobs = logprobs[i], .count = 2};
    struct message_group group = {.samples = samples, .sample_count = 2};
    struct digest before = group_digest(&group);
    assert_true(digest_equal(before, group_digest(&group)));
    ids[1][0] ^= 1;
    assert_false(digest_equal(before, group_digest(&group)));
    ids[1][0] ^= 1;
    logprobs[0][1] = -2.0000002f; /* the next fp32 */
    assert_false(digest_equal(before, group_digest(&group)));
    logprobs[0][1] = -2;
    samples[0].ids = ids[1];
    samples[1].ids = ids[0];
    assert_false(digest_equal(before, group_digest(&group)));
    samples[0].ids = ids[0];
    samples[1].ids = ids[1];
    group.grading.known_k = 5; /* names are not content */
    group.lease = 3;
    assert_true(digest_equal(before, group_digest(&group)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_group_is_heavier_than_its_lease_says),
        cmocka_unit_test(the_digest_sees_each_id_bit_and_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
