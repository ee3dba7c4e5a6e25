/* The generation thread by its events: which version is loaded, and in which order it is told. */
#include "tests/support/test.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "actor/engine.h"
#include "common/base/clock.h"
#include "common/model/parameters.h"
#include "common/weights/content.h"
#include "tests/support/actor/whole.h"

#define VERSIONS 2

static struct engine *engine;
static uint16_t *weights[VERSIONS];
static uint64_t elements;
static struct message_manifest manifests[VERSIONS];

static void make_versions(void) {
    struct device *device;
    struct model *model;
    ASSERT_OK(device_open("cpu", 1, &device));
    ASSERT_OK(model_create(device, &whole_shape, DTYPE_BF16, WHOLE_POSITIONS, 0, &model));
    ASSERT_OK(model_initialise(model, 100, 0.05));
    elements = (uint64_t)model->layout->total;
    for (uint32_t v = 0; v < VERSIONS; v++) {
        weights[v] = malloc(elements * sizeof *weights[v]);
        memcpy(weights[v], model->data, elements * sizeof *weights[v]);
        for (uint64_t i = v; v && i < elements; i += 20)
            weights[v][i] = (uint16_t)(weights[v][i] + 1);
        struct digest digest = content_digest(weights[v], 0, elements * sizeof *weights[v]);
        manifests[v] = content_manifest(v, digest, elements, DTYPE_BF16);
    }
    model_destroy(&model);
    device_close(&device);
}

/* The generation thread stands still in it, so that commands gather. */
static atomic_bool held, standing;

static void hold(void *context) {
    (void)context;
    atomic_store(&standing, true);
    while (atomic_load(&held))
        usleep(100);
}

static void allow(void *context, int64_t ms) {
    (void)context;
    (void)ms;
}

static void open_engine(void) {
    struct engine_settings settings = {.device = "cpu",
                                       .threads = 1,
                                       .in_flight = 8,
                                       .kv_tokens = 1024,
                                       .groups_max = 4,
                                       .beat = hold,
                                       .allow = allow};
    atomic_store(&held, true);
    ASSERT_OK(engine_start(&settings, &engine));
    while (!atomic_load(&standing))
        usleep(1000);
    ASSERT_OK(engine_open(engine, &whole_shape, 128, 0));
}

static void load(uint32_t version) {
    void *copy = malloc(elements * sizeof *weights[version]);
    memcpy(copy, weights[version], elements * sizeof *weights[version]);
    ASSERT_OK(engine_load(engine, copy, &manifests[version]));
}

/* Deltas from one version to the other, staged and due. */
static void patch(uint32_t from, uint32_t to) {
    struct chain *chain = calloc(1, sizeof *chain);
    chain->version = to;
    chain->from = manifests[from].weights;
    chain->to = manifests[to].weights;
    chain->hop_count = 1;
    chain->hops[0].direction = DELTA_FORWARD;
    ASSERT_OK(delta_encode(weights[from], weights[to], elements, chain->from, chain->to, 1, &chain->hops[0].data,
                           &chain->hops[0].bytes, NULL));
    ASSERT_OK(engine_stage(engine, chain));
    ASSERT_OK(engine_patch(engine));
}

/* A question of one token: answered in the first pass, before the canary is known. */
static void ask(uint64_t number, uint32_t version) {
    int32_t prompt[] = {1, 2, 3};
    struct message_lease lease = {.lease = number,
                                  .weights = manifests[version].weights,
                                  .prompt = prompt,
                                  .prompt_count = 3,
                                  .samples = 1,
                                  .temperature = 1,
                                  .max_new_tokens = 1};
    ASSERT_OK(engine_generate(engine, &lease));
}

/* The next event but of progress must be this one. */
static struct engine_event *next_of(enum engine_event_type type) {
    struct engine_event *event = NULL;
    int64_t end_ms = clock_boot_ms() + 60000;
    while ((!event || event->type == ENGINE_PROGRESS) && clock_boot_ms() < end_ms) {
        free(event);
        if (!(event = engine_next(engine)))
            usleep(1000);
    }
    assert_non_null(event);
    assert_int_equal(event->type, type);
    return event;
}

static void expect(enum engine_event_type type, uint32_t version) {
    struct engine_event *event = next_of(type);
    assert_true(digest_equal(event->weights, manifests[version].weights));
    free(event);
}

static void expect_answer(uint64_t number) {
    struct engine_event *event = next_of(ENGINE_GENERATED);
    assert_int_equal(event->group.id, number);
    free(event);
}

static void no_version_is_left_before_its_canary_and_its_answers_are_told(void **state) {
    (void)state;
    open_engine();
    load(0);
    ask(1, 0);
    load(1);
    ask(2, 1);
    load(0);
    ask(3, 0);
    patch(0, 1);
    atomic_store(&held, false);
    for (uint32_t swap = 0; swap < 4; swap++) {
        expect(ENGINE_SWAPPED, swap % 2);
        expect(ENGINE_CANARY, swap % 2);
        if (swap < 3)
            expect_answer(swap + 1);
    }
    engine_stop(&engine);
}

static int begin(void **state) {
    (void)state;
    make_versions();
    return 0;
}

static int end(void **state) {
    (void)state;
    for (uint32_t v = 0; v < VERSIONS; v++)
        free(weights[v]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_version_is_left_before_its_canary_and_its_answers_are_told),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
