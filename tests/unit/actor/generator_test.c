#include "tests/support/test.h"

#include "actor/generator.h"

#define GROUPS 12
#define PROMPT_MAX 80
#define SAMPLES_MAX 7
#define NEW_MAX 45
#define SHARED 37

static struct device *device;
static struct model *model;

/* A tiny random model: near uniform over 96 tokens, so that answers differ, and a tenth of the tokens end one. */
static const struct model_config tiny = {.layers = 2,
                                         .hidden = 64,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_dim = 64,
                                         .ffn = 64,
                                         .vocab = 96,
                                         .max_positions = 256,
                                         .rope_theta = 10000,
                                         .rms_eps = 1e-6f,
                                         .tied = true,
                                         .bos = -1,
                                         .eos = -1};
static const int32_t stops[] = {3, 17, 29, 31, 42, 57, 63, 71, 90};

static uint32_t below(uint64_t seed, uint32_t position, uint32_t bound) {
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    return rng_below(&key, position, bound);
}

struct question {
    int32_t prompt[PROMPT_MAX];
    struct generation_request request;
    int32_t ids[SAMPLES_MAX][NEW_MAX];
    float logprobs[SAMPLES_MAX][NEW_MAX];
    uint32_t count[SAMPLES_MAX];
    bool stopped[SAMPLES_MAX];
};
static struct question questions[GROUPS];

static void make_question(uint32_t q) {
    struct question *question = &questions[q];
    uint32_t count = q == 0 ? SHARED : SHARED + 1 + below(7, q, PROMPT_MAX - SHARED - 1);
    for (uint32_t i = 0; i < count; i++)
        question->prompt[i] = (int32_t)below(i < SHARED ? 100 + q / 8 : 200 + q, i, 96);
    question->request = (struct generation_request){
        .id = 1000 + q,
        .priority = q / 4,
        .prompt = question->prompt,
        .prompt_count = count,
        .shared_count = q == 5 ? 0 : SHARED,
        .samples = 1 + below(8, q, SAMPLES_MAX),
        .temperature = q == 9 ? 0.7f : 1,
        .top_p = 1,
        .max_new_tokens = q == 3 ? 1 : NEW_MAX,
        .stops = stops,
        .stop_count = q == 6 ? 0 : sizeof stops / sizeof *stops,
        .key = {.seed = 11, .step = 2, .slot = q, .stream = RNG_SAMPLE},
    };
}

static struct generator *make(int32_t in_flight, int32_t rows, int64_t kv_tokens, int32_t groups) {
    struct generator_limits limits = {in_flight, rows, kv_tokens, groups};
    struct generator *generator;
    ASSERT_OK(generator_create(model, &limits, &generator));
    return generator;
}

static bool step(struct generator *generator) {
    bool busy;
    ASSERT_OK(generator_step(generator, &busy));
    generator_check(generator);
    return busy;
}

static const struct generated_group *run_to_end(struct generator *generator) {
    while (step(generator)) {
    }
    return generator_finished(generator);
}

/* The reference: each question alone, its samples one at a time, without a shared beginning. */
static void make_reference(uint32_t q) {
    struct generator *generator = make(1, 64, 256 * 3, 1);
    struct generation_request request = questions[q].request;
    request.shared_count = 0;
    ASSERT_OK(generator_submit(generator, &request));
    const struct generated_group *group = run_to_end(generator);
    assert_int_equal(group->sample_count, request.samples);
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct generated_sample *sample = &group->samples[i];
        questions[q].count[i] = sample->count;
        questions[q].stopped[i] = sample->stopped;
        memcpy(questions[q].ids[i], sample->ids, sample->count * sizeof(int32_t));
        memcpy(questions[q].logprobs[i], sample->logprobs, sample->count * sizeof(float));
    }
    generator_destroy(&generator);
}

static void assert_reference(const struct generated_group *group) {
    assert_in_range(group->id, 1000, 1000 + GROUPS - 1);
    const struct question *question = &questions[group->id - 1000];
    assert_int_equal(group->sample_count, question->request.samples);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct generated_sample *sample = &group->samples[i];
        assert_int_equal(sample->count, question->count[i]);
        assert_int_equal(sample->stopped, question->stopped[i]);
        assert_memory_equal(sample->ids, question->ids[i], sample->count * sizeof(int32_t));
        assert_memory_equal(sample->logprobs, question->logprobs[i], sample->count * sizeof(float));
        tokens += sample->count;
    }
    assert_int_equal(group->tokens, tokens);
    assert_true(group->finite);
}

static int set_up(void **state) {
    (void)state;
    if (device_open("cpu", 1, &device) != STATUS_OK ||
        model_create(device, &tiny, DTYPE_BF16, 256, 0, &model) != STATUS_OK ||
        model_initialise(model, 5, 0.05) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return -1;
    }
    for (uint32_t q = 0; q < GROUPS; q++) {
        make_question(q);
        make_reference(q);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    model_destroy(&model);
    device_close(&device);
    return 0;
}

static void answers_differ_and_end_as_asked(void **state) {
    (void)state;
    uint32_t ended = 0, cut = 0;
    for (uint32_t q = 0; q < GROUPS; q++)
        for (uint32_t i = 0; i < questions[q].request.samples; i++) {
            ended += questions[q].stopped[i];
            cut += !questions[q].stopped[i];
            assert_true(questions[q].stopped[i] || questions[q].count[i] == questions[q].request.max_new_tokens);
            for (uint32_t t = 0; t < questions[q].count[i]; t++) {
                bool is_stop = false;
                for (uint32_t s = 0; s < questions[q].request.stop_count; s++)
                    is_stop |= questions[q].ids[i][t] == stops[s];
                assert_int_equal(is_stop, questions[q].stopped[i] && t == questions[q].count[i] - 1);
                assert_true(questions[q].logprobs[i][t] < 0);
            }
        }
    assert_true(ended > 5 && cut > 5);
    assert_memory_not_equal(questions[6].ids[0], questions[6].ids[1], 8);
}

enum where { OUTSIDE, INSIDE, DONE };

/* As the learner computes it. */
static struct digest reference_canary(void) {
    struct infer_limits limits = {
        .rows_max = 7, .sequences_max = 1, .kv_tokens = 256, .logit_rows_max = 1, .positions_max = 256};
    struct infer *infer;
    struct digest canary;
    ASSERT_OK(infer_create(model, &limits, &infer));
    ASSERT_OK(infer_canary(infer, &canary));
    infer_destroy(&infer);
    return canary;
}

static void the_canary_is_computed_beside_the_samples(void **state) {
    (void)state;
    struct generator *generator = make(8, 64, 4096, 2);
    struct digest canary = {0, 0}, reference = reference_canary();
    ASSERT_OK(generator_submit(generator, &questions[6].request));
    for (int i = 0; i < 4; i++)
        step(generator);
    assert_int_equal(generator_canary(generator, &canary), GENERATOR_CANARY_NONE);
    generator_canary_begin(generator);
    struct generator_counters before, after;
    generator_count(generator, &before);
    uint32_t passes = 0;
    for (; generator_canary(generator, &canary) != GENERATOR_CANARY_DONE; passes++)
        assert_true(step(generator));
    generator_count(generator, &after);
    assert_true(passes > 1);
    assert_true(after.tokens >= before.tokens + passes); /* nobody stood still for it */
    assert_true(digest_equal(canary, reference));
    assert_reference(run_to_end(generator));
    generator_release(generator, 1006);
    assert_false(step(generator));
    generator_canary_begin(generator); /* and with nothing else to do */
    assert_true(generator_busy(generator));
    run_to_end(generator);
    assert_int_equal(generator_canary(generator, &canary), GENERATOR_CANARY_DONE);
    assert_true(digest_equal(canary, reference));
    generator_destroy(&generator);
}

struct chaos {
    uint64_t seed;
    uint32_t position;
    struct generator *generator;
    struct digest canary;
    enum where where[GROUPS];
    uint32_t done, cancels, canaries;
};

static uint32_t dice(struct chaos *chaos, uint32_t bound) {
    return below(chaos->seed, chaos->position++, bound);
}

/* A random question that is there, or GROUPS. */
static uint32_t pick(struct chaos *chaos, enum where where) {
    uint32_t q = dice(chaos, GROUPS);
    return chaos->where[q] == where ? q : GROUPS;
}

static void one_event(struct chaos *chaos) {
    uint32_t event = dice(chaos, 100), q;
    if (event < 15 && (q = pick(chaos, OUTSIDE)) < GROUPS) {
        struct generation_request request = questions[q].request;
        request.priority = dice(chaos, 3);
        enum status status = generator_submit(chaos->generator, &request);
        assert_true(status == STATUS_OK || status == STATUS_AGAIN);
        if (status == STATUS_OK)
            chaos->where[q] = INSIDE;
    } else if (event < 17) {
        generator_park_all(chaos->generator);
    } else if (event < 20) {
        generator_pause(chaos->generator, 1000 + dice(chaos, GROUPS), dice(chaos, 2));
    } else if (event < 21 && chaos->cancels < 5 && (q = pick(chaos, INSIDE)) < GROUPS) {
        generator_cancel(chaos->generator, 1000 + q);
        chaos->where[q] = OUTSIDE;
        chaos->cancels++;
    } else if (event < 23) {
        generator_canary_begin(chaos->generator);
    } else if (!step(chaos->generator)) {
        for (q = 0; q < GROUPS; q++)
            generator_pause(chaos->generator, 1000 + q, false);
    }
    struct digest canary;
    if (generator_canary(chaos->generator, &canary) == GENERATOR_CANARY_DONE) {
        assert_true(digest_equal(canary, chaos->canary));
        chaos->canaries++;
    }
    const struct generated_group *group;
    while ((group = generator_finished(chaos->generator))) {
        assert_reference(group);
        chaos->where[group->id - 1000] = DONE;
        chaos->done++;
        generator_release(chaos->generator, group->id);
    }
}

/* Whatever the room, the order, the priorities, the pauses, the parking and what was cancelled. */
static void bits_depend_on_nothing_else(void **state) {
    (void)state;
    uint64_t parked = 0;
    for (uint64_t seed = 0; seed < 14; seed++) {
        struct chaos chaos = {.seed = seed, .position = 10, .canary = reference_canary()};
        int32_t in_flight = 1 + (int32_t)below(seed, 0, 24), rows = in_flight + (int32_t)below(seed, 1, 60);
        chaos.generator =
            make(in_flight, rows, 320 + (int64_t)below(seed, 2, 60) * 32, 1 + (int32_t)below(seed, 3, GROUPS));
        uint32_t events = 0;
        while (chaos.done < GROUPS) {
            one_event(&chaos);
            assert_true(++events < 20000);
        }
        struct generator_counters counters;
        generator_count(chaos.generator, &counters);
        assert_int_equal(counters.groups, 0);
        assert_int_equal(counters.live, 0);
        parked += counters.parked;
        assert_true(chaos.canaries > 0);
        generator_destroy(&chaos.generator);
    }
    assert_true(parked > 150); /* else the schedules were too kind */
}

/* A cache that holds the longest answer of the largest prompt and nothing more. */
static void the_least_room_is_enough(void **state) {
    (void)state;
    int32_t pages = 0;
    for (uint32_t q = 0; q < GROUPS; q++) {
        const struct generation_request *request = &questions[q].request;
        uint32_t shared =
            request->shared_count < request->prompt_count ? request->shared_count : request->prompt_count - 1;
        int32_t most = infer_pages_for((int32_t)shared) + infer_pages_for((int32_t)request->prompt_count) +
                       infer_pages_for((int32_t)(request->prompt_count + request->max_new_tokens));
        pages = most > pages ? most : pages;
    }
    for (uint32_t seed = 0; seed < 6; seed++) {
        struct generator *generator = make(seed % 2 ? 24 : 3, 300, (int64_t)pages * KV_PAGE_TOKENS, GROUPS);
        for (uint32_t q = 0; q < GROUPS; q++) {
            struct generation_request request = questions[q].request;
            request.priority = below(seed, q, 4);
            ASSERT_OK(generator_submit(generator, &request));
        }
        uint32_t done = 0;
        while (step(generator)) {
            const struct generated_group *group;
            while ((group = generator_finished(generator))) {
                assert_reference(group);
                generator_release(generator, group->id);
                done++;
            }
        }
        assert_int_equal(done, GROUPS);
        generator_destroy(&generator);
    }
}

/* The beginning that an earlier question left in the cache, and the prompt itself, give way to an answer. */
static void a_long_answer_takes_all_there_is(void **state) {
    (void)state;
    struct generation_request shorter = questions[1].request, longer = questions[6].request;
    shorter.samples = shorter.max_new_tokens = 1;
    longer.prompt_count = 10;
    longer.shared_count = 0;
    longer.samples = 2;
    longer.max_new_tokens = 246;
    struct generator *roomy = make(8, 300, 65536, 2), *tight = make(8, 300, 9 * KV_PAGE_TOKENS, 2);
    ASSERT_OK(generator_submit(roomy, &longer));
    const struct generated_group *expected = run_to_end(roomy);
    ASSERT_OK(generator_submit(tight, &shorter));
    generator_release(tight, run_to_end(tight)->id);
    ASSERT_OK(generator_submit(tight, &longer));
    const struct generated_group *group = run_to_end(tight);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(group->samples[i].count, 246);
        assert_memory_equal(group->samples[i].ids, expected->samples[i].ids, 246 * sizeof(int32_t));
        assert_memory_equal(group->samples[i].logprobs, expected->samples[i].logprobs, 246 * sizeof(float));
    }
    generator_destroy(&roomy);
    generator_destroy(&tight);
}

/* More prompts end in one pass than there are rows for logits. */
static void many_prompts_at_once(void **state) {
    (void)state;
    struct generator *generator = make(24, 2400, 65536, 64);
    uint32_t next = 0, done = 0;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 28; i++) {
            struct generation_request request = questions[6].request;
            request.id = 2000 + next++;
            request.samples = 1;
            request.priority = 1 - (uint32_t)round; /* the second round parks the first */
            ASSERT_OK(generator_submit(generator, &request));
        }
        for (int i = 0; i < 4; i++)
            step(generator);
    }
    while (step(generator)) {
    }
    const struct generated_group *group;
    while ((group = generator_finished(generator))) {
        assert_int_equal(group->samples[0].count, questions[6].count[0]);
        assert_memory_equal(group->samples[0].ids, questions[6].ids[0], group->samples[0].count * sizeof(int32_t));
        generator_release(generator, group->id);
        done++;
    }
    assert_int_equal(done, next);
    generator_destroy(&generator);
}

static void broken_weights_are_noticed(void **state) {
    (void)state;
    struct model *broken;
    struct generator *generator;
    struct generator_limits limits = {8, 64, 4096, 1};
    ASSERT_OK(model_create(device, &tiny, DTYPE_BF16, 256, 0, &broken));
    ASSERT_OK(model_initialise(broken, 5, 0.05));
    ((uint16_t *)broken->data)[broken->layout->final_norm] = 0x7FC0; /* NaN */
    ASSERT_OK(generator_create(broken, &limits, &generator));
    ASSERT_OK(generator_submit(generator, &questions[1].request));
    assert_false(run_to_end(generator)->finite);
    generator_destroy(&generator);
    model_destroy(&broken);
}

static void a_prompt_is_computed_once(void **state) {
    (void)state;
    struct generator *generator = make(32, 512, 65536, 4);
    uint64_t rows = 0;
    for (uint32_t q = 1; q < 5; q++) { /* one beginning */
        ASSERT_OK(generator_submit(generator, &questions[q].request));
        rows += questions[q].request.prompt_count - SHARED;
        for (uint32_t i = 0; i < questions[q].request.samples; i++)
            rows += questions[q].count[i] - 1;
    }
    while (step(generator)) {
    }
    struct generator_counters counters;
    generator_count(generator, &counters);
    assert_int_equal(counters.rows, rows + SHARED);
    assert_int_equal(counters.parked, 0);
    generator_destroy(&generator);
}

static void what_cannot_fit_is_refused(void **state) {
    (void)state;
    struct generator *generator = make(4, 16, 256, 1);
    struct generation_request request = questions[1].request;
    request.max_new_tokens = 256 - request.prompt_count + 1;
    ASSERT_FAILS(STATUS_LIMIT, generator_submit(generator, &request)); /* positions */
    request.max_new_tokens--;
    ASSERT_FAILS(STATUS_LIMIT, generator_submit(generator, &request)); /* cache */
    assert_non_null(strstr(status_message(), "actor.kv_tokens = 256"));
    int32_t outside[] = {1, 96};
    request = questions[1].request;
    request.prompt = outside;
    request.prompt_count = 2;
    request.shared_count = 0;
    ASSERT_FAILS(STATUS_FORMAT, generator_submit(generator, &request));
    request.prompt_count = 0;
    ASSERT_FAILS(STATUS_FORMAT, generator_submit(generator, &request));
    assert_false(generator_busy(generator));
    request.prompt_count = 1;
    ASSERT_OK(generator_submit(generator, &request));
    ASSERT_FAILS(STATUS_AGAIN, generator_submit(generator, &request));
    generator_destroy(&generator);
    generator = make(4, 16, 256, 2);
    ASSERT_OK(generator_submit(generator, &request));
    ASSERT_FAILS(STATUS_EXISTS, generator_submit(generator, &request));
    generator_destroy(&generator);
}

static void an_older_step_parks_newer_work(void **state) {
    (void)state;
    struct generator *generator = make(4, 128, 65536, 4);
    struct generation_request newer = questions[6].request, older = questions[10].request;
    newer.priority = 9;
    older.priority = 1;
    ASSERT_OK(generator_submit(generator, &newer));
    for (int i = 0; i < 10; i++)
        step(generator);
    struct generation_progress progress;
    assert_true(generator_find(generator, newer.id, &progress));
    assert_true(progress.begun && !progress.standing && progress.tokens > 0 && progress.work > progress.tokens);
    ASSERT_OK(generator_submit(generator, &older));
    while (!generator_finished(generator))
        step(generator);
    assert_int_equal(generator_finished(generator)->id, older.id);
    struct generator_counters counters;
    generator_count(generator, &counters);
    assert_true(counters.parked > 0);
    generator_release(generator, older.id);
    assert_reference(run_to_end(generator));
    generator_destroy(&generator);
}

static void paused_groups_stand_still(void **state) {
    (void)state;
    struct generator *generator = make(8, 128, 65536, 4);
    ASSERT_OK(generator_submit(generator, &questions[6].request));
    for (int i = 0; i < 5; i++)
        step(generator);
    generator_pause(generator, questions[6].request.id, true);
    struct generation_progress before, after;
    assert_true(generator_find(generator, questions[6].request.id, &before));
    assert_true(before.begun && before.standing);
    assert_false(generator_busy(generator));
    assert_false(step(generator));
    assert_true(generator_find(generator, questions[6].request.id, &after));
    assert_int_equal(after.work, before.work);
    generator_pause(generator, questions[6].request.id, false);
    assert_true(generator_busy(generator));
    assert_reference(run_to_end(generator));
    generator_destroy(&generator);
}

static void cancelled_work_is_gone(void **state) {
    (void)state;
    struct generator *generator = make(8, 128, 65536, 4);
    ASSERT_OK(generator_submit(generator, &questions[6].request));
    ASSERT_OK(generator_submit(generator, &questions[7].request));
    for (int i = 0; i < 5; i++)
        step(generator);
    generator_cancel(generator, questions[6].request.id);
    generator_cancel(generator, 77); /* absent is fine */
    const struct generated_group *group = run_to_end(generator);
    assert_int_equal(group->id, questions[7].request.id);
    generator_cancel(generator, group->id); /* finished ones as well */
    assert_null(generator_finished(generator));
    struct generation_progress progress;
    assert_false(generator_find(generator, questions[7].request.id, &progress));
    generator_destroy(&generator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_differ_and_end_as_asked),
        cmocka_unit_test(the_canary_is_computed_beside_the_samples),
        cmocka_unit_test(bits_depend_on_nothing_else),
        cmocka_unit_test(the_least_room_is_enough),
        cmocka_unit_test(a_long_answer_takes_all_there_is),
        cmocka_unit_test(many_prompts_at_once),
        cmocka_unit_test(broken_weights_are_noticed),
        cmocka_unit_test(a_prompt_is_computed_once),
        cmocka_unit_test(what_cannot_fit_is_refused),
        cmocka_unit_test(an_older_step_parks_newer_work),
        cmocka_unit_test(paused_groups_stand_still),
        cmocka_unit_test(cancelled_work_is_gone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
