/* Whole actors (client, generation thread, generator, weights) against a hub and a reward worker made of a few lines:
 * leases are given, lost, given again to others, revoked; actors are killed; versions go back and forth. Whatever
 * happens, every group that arrives has the bits of its slot, and every slot is filled. */
#include "tests/support/test.h"

#include <unistd.h>

#include "actor/client.h"
#include "actor/engine.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/weights/store.h"
#include "proto/proto.h"
#include "tests/support/actor/whole.h"

#define ACTORS 2
#define STEPS 3 /* step k is answered by version k */
#define QUESTIONS 12
#define SAMPLES 6
#define NEW_TOKENS 60
#define RUN 900u
#define SEEDS_MAX                                                                                                      \
    400 /* parking needs a busy actor when a more urgent lease comes: on a busy machine a seed in ten has it */

static char root[] = "/tmp/candor-churn-test-XXXXXX";
static char model_directory[PATH_BYTES], cache[PATH_BYTES];
static uint64_t elements;
static void *weights[STEPS];
static struct message_manifest manifests[STEPS], deltas[STEPS]; /* deltas[v] from v - 1 */
static struct digest reference[STEPS][QUESTIONS];
static struct store *store;

struct slot {
    bool filled;
    uint64_t holders[64];
    uint32_t holder_count;
};

struct actor {
    struct client *client;
    struct engine *engine;
    uint64_t incarnation;
    struct message_fetch fetches[1024];
    uint32_t fetch_count;
    bool knocked, hello;
    uint64_t parked;
    struct message_group *arrived[64]; /* at the reward worker */
    struct arena arenas[64];
    uint32_t arrived_count;
};

static struct {
    struct slot slots[STEPS][QUESTIONS];
    struct actor actors[ACTORS];
    uint64_t next_lease, next_incarnation;
    uint32_t filled, duplicates, kills, revokes, loads, patches, unpatched, parked, back;
    uint64_t seed;
    uint32_t dice;
} sim;

static uint32_t dice(uint32_t bound) {
    struct rng_key key = {.seed = sim.seed, .stream = RNG_TEST};
    return rng_below(&key, sim.dice++, bound);
}

/* ---- what a slot asks ---- */

static int32_t prompts[QUESTIONS][48];

static struct message_lease make_lease(uint32_t step, uint32_t q) {
    struct message_lease lease = whole_lease(RUN, q, &manifests[step]);
    lease.prompt = prompts[q];
    lease.prompt_count = 12 + 3 * q;
    lease.shared_count = 10;
    lease.samples = SAMPLES;
    lease.max_new_tokens = NEW_TOKENS;
    return lease;
}

static void make_reference(struct device *device, uint32_t step) {
    struct model *model;
    struct generator *generator;
    struct generator_limits limits = {64, 256, 8192, 8};
    ASSERT_OK(model_create(device, &whole_shape, DTYPE_BF16, WHOLE_POSITIONS, 0, &model));
    ASSERT_OK(model_initialise(model, 100, 0.05));
    elements = (uint64_t)model->layout->total;
    for (uint64_t i = step; step && i < elements; i += 20 + step) /* few, by much: answers differ, deltas are short */
        ((uint16_t *)model->data)[i] = (uint16_t)(((uint16_t *)model->data)[i] + 64);
    weights[step] = malloc(elements * 2);
    memcpy(weights[step], model->data, elements * 2);
    manifests[step] = content_manifest(step, content_digest(weights[step], 0, elements * 2), elements, DTYPE_BF16);
    struct digest digest;
    ASSERT_OK(model_digest(model, &digest));
    assert_true(digest_equal(digest, manifests[step].weights)); /* one digest, whoever reckons it */
    ASSERT_OK(generator_create(model, &limits, &generator));
    for (uint32_t q = 0; q < QUESTIONS; q++) {
        struct message_lease lease = make_lease(step, q);
        struct generation_request request = {.id = q,
                                             .prompt = lease.prompt,
                                             .prompt_count = lease.prompt_count,
                                             .samples = SAMPLES,
                                             .temperature = 1,
                                             .top_p = 1,
                                             .max_new_tokens = NEW_TOKENS,
                                             .stops = lease.stops,
                                             .stop_count = lease.stop_count,
                                             .key = {.seed = 77, .step = step, .slot = q, .stream = WORK_TRAIN}};
        ASSERT_OK(generator_submit(generator, &request));
        for (bool busy = true; busy;)
            ASSERT_OK(generator_step(generator, &busy));
        const struct generated_group *group = generator_finished(generator);
        struct answer_sample samples[SAMPLES];
        for (uint32_t i = 0; i < SAMPLES; i++)
            samples[i] = (struct answer_sample){
                .ids = group->samples[i].ids, .logprobs = group->samples[i].logprobs, .count = group->samples[i].count};
        struct message_group message = {.samples = samples, .sample_count = SAMPLES};
        reference[step][q] = group_digest(&message);
        generator_release(generator, q);
    }
    generator_destroy(&generator);
    model_destroy(&model);
}

static enum status publish_delta(uint32_t step) {
    uint8_t *data;
    uint64_t bytes;
    struct digest base = manifests[step - 1].weights;
    TRY(delta_encode(weights[step - 1], weights[step], elements, base, manifests[step].weights, 1, &data, &bytes,
                     NULL));
    deltas[step] = content_delta_manifest(step, manifests[step].weights, base, elements, bytes);
    return store_publish_delta(store, &deltas[step], data);
}

/* ---- actions ---- */

static bool on_control(void *context, const struct message *message) {
    struct actor *actor = context;
    if (message->type == MESSAGE_HELLO)
        actor->hello = true;
    if (message->type == MESSAGE_GIVE_BACK)
        sim.back++;
    return true;
}

static bool on_fetch(void *context, const struct message_fetch *fetch) {
    struct actor *actor = context;
    if (dice(20) && actor->fetch_count < 1024) /* one in twenty is lost */
        actor->fetches[actor->fetch_count++] = *fetch;
    return true;
}

static bool on_worker_send(void *context, uint32_t slot, const void *frame, size_t bytes) {
    struct actor *actor = context;
    (void)slot;
    if (actor->arrived_count == 64)
        return false;
    struct arena *arena = &actor->arenas[actor->arrived_count];
    struct message message;
    arena_init(arena, 1u << 24);
    ASSERT_OK(proto_decode(frame, bytes, arena, &message));
    if (message.type == MESSAGE_KNOCK)
        actor->knocked = true;
    if (message.type != MESSAGE_GROUP) {
        arena_deinit(arena);
        return true;
    }
    struct message_group *group = malloc(sizeof *group);
    *group = message.group;
    actor->arrived[actor->arrived_count++] = group;
    return true;
}

static enum status on_model_open(void *context, const char *directory, const struct client_run *run,
                                 uint64_t *out_elements) {
    struct actor *actor = context;
    (void)directory;
    *out_elements = elements;
    return engine_open(actor->engine, &whole_shape, run->positions_max, run->valid_vocab);
}

static void on_generate(void *context, const struct message_lease *lease) {
    struct actor *actor = context;
    ASSERT_OK(engine_generate(actor->engine, lease));
}

static void on_cancel(void *context, uint64_t lease) {
    struct actor *actor = context;
    ASSERT_OK(engine_cancel(actor->engine, lease));
}

static void on_load(void *context, void *take_weights, const struct message_manifest *manifest) {
    struct actor *actor = context;
    sim.loads++;
    ASSERT_OK(engine_load(actor->engine, take_weights, manifest));
}

static void on_stage(void *context, struct chain *take_chain) {
    struct actor *actor = context;
    if (dice(8) == 0) /* a delta that arrived whole and is wrong all the same: in its result, or in its steps */
        take_chain->hops[0].data[dice(2) ? 32 : take_chain->hops[0].bytes - 2]++;
    ASSERT_OK(engine_stage(actor->engine, take_chain));
}

static void on_patch(void *context) {
    struct actor *actor = context;
    sim.patches++;
    ASSERT_OK(engine_patch(actor->engine));
}

/* ---- actors come and go ---- */

static void say(struct actor *actor, const struct message *message) {
    ASSERT_OK(client_control(actor->client, message, clock_boot_ms()));
}

static void join(struct actor *actor) {
    struct message message = whole_welcome(store, 1, RUN);
    message.welcome.heartbeat_ms = 50;
    say(actor, &message);
    for (int v = 1; v < STEPS; v++) {
        message = (struct message){.type = MESSAGE_MANIFEST, .manifest = deltas[v]};
        say(actor, &message);
    }
    for (int v = 0; v < STEPS; v++) {
        message = (struct message){.type = MESSAGE_MANIFEST, .manifest = manifests[v]};
        message.manifest.current = v == 0;
        say(actor, &message);
    }
    struct worker_entry worker = {text_of("r"), text_of("ipc:///tmp/r"), text_of("h"), text_of(""), 51};
    message = (struct message){.type = MESSAGE_WORKERS, .workers = {&worker, 1}};
    say(actor, &message);
}

static void start(struct actor *actor) {
    memset(actor, 0, sizeof *actor);
    actor->incarnation = ++sim.next_incarnation;
    struct engine_settings engine = {
        .device = "cpu", .threads = 1, .in_flight = 16, .kv_tokens = 1024 + 32 * (int64_t)dice(20), .groups_max = 64};
    ASSERT_OK(engine_start(&engine, &actor->engine));
    struct client_settings settings = {.name = text_of("a"),
                                       .host = text_of("h"),
                                       .incarnation = actor->incarnation,
                                       .pid = 1,
                                       .fingerprint = engine_fingerprint(actor->engine),
                                       .capacity_samples = 32,
                                       .outbox_bytes = 1u << 20,
                                       .cache = cache};
    struct client_actions actions = {
        actor,         on_control, whole_weights_open, on_fetch,  whole_worker_open, whole_worker_close, on_worker_send,
        on_model_open, whole_text, on_generate,        on_cancel, on_load,           on_stage,           on_patch};
    ASSERT_OK(client_create(&settings, &actions, clock_boot_ms(), &actor->client));
}

static void stop(struct actor *actor) {
    engine_stop(&actor->engine);
    client_destroy(&actor->client);
    for (uint32_t i = 0; i < actor->arrived_count; i++) {
        arena_deinit(&actor->arenas[i]);
        free(actor->arrived[i]);
    }
}

/* ---- the hub and the reward worker ---- */

static void give(uint32_t step, uint32_t q) {
    struct actor *actor = &sim.actors[dice(ACTORS)];
    struct slot *slot = &sim.slots[step][q];
    if (client_held(actor->client) >= 4 || slot->holder_count == 64)
        return;
    struct message message = {.type = MESSAGE_LEASE, .lease = make_lease(step, q)};
    message.lease.lease = ++sim.next_lease;
    message.lease.attempt = slot->holder_count;
    slot->holders[slot->holder_count++] = sim.next_lease;
    say(actor, &message);
}

static void revoke_all(const struct slot *slot) {
    struct message message = {.type = MESSAGE_REVOKE,
                              .revoke = {(uint64_t *)(uintptr_t)slot->holders, slot->holder_count}};
    sim.revokes++;
    for (uint32_t i = 0; i < ACTORS; i++)
        say(&sim.actors[i], &message);
}

static void take_group(struct actor *actor, const struct message_group *group) {
    assert_true(group->key.step < STEPS && group->key.slot < QUESTIONS);
    struct slot *slot = &sim.slots[group->key.step][group->key.slot];
    assert_true(digest_equal(group->weights, manifests[group->key.step].weights));
    assert_true(digest_equal(group_digest(group), reference[group->key.step][group->key.slot]));
    struct message message = {.type = MESSAGE_ANSWER};
    message.answer = (struct message_answer){group->key, group->lease,
                                             slot->filled ? OUTCOME_DUPLICATE : OUTCOME_ACCEPTED, text_of("")};
    if (dice(10) == 0)
        return; /* the answer is lost: it will be sent again, or revoked */
    sim.duplicates += slot->filled;
    sim.filled += !slot->filled;
    slot->filled = true;
    client_worker(actor->client, 0, &message, clock_boot_ms());
    if (dice(2))
        revoke_all(slot);
}

static bool on_reply(void *context, const struct message *message) {
    struct actor *actor = context;
    ASSERT_OK(client_weights(actor->client, message, clock_boot_ms()));
    return true;
}

static void take_event(struct actor *actor, const struct engine_event *event) {
    int64_t now_ms = clock_boot_ms();
    if (event->type == ENGINE_GENERATED)
        client_generated(actor->client, &event->group, event->generation_ms, now_ms);
    else if (event->type == ENGINE_PROGRESS) {
        sim.parked += (uint32_t)(event->counters.parked - actor->parked);
        actor->parked = event->counters.parked;
        client_progress(actor->client, event->progress, event->progress_count, &event->counters);
    } else if (event->type == ENGINE_SWAPPED)
        client_swapped(actor->client, &event->weights, event->pause_ms);
    else if (event->type == ENGINE_CANARY)
        client_canary(actor->client, &event->weights, &event->canary, now_ms);
    else if (event->type == ENGINE_UNPATCHED) {
        sim.unpatched++;
        client_patch_refused(actor->client, &event->weights, event->reason);
    } else
        fail_msg("event %d: %s", event->type, event->reason);
}

static void turn(struct actor *actor) {
    if (actor->hello) {
        actor->hello = false;
        join(actor);
    }
    for (uint32_t i = 0; i < actor->fetch_count; i++) /* grows while it runs */
        store_fetch(store, &actor->fetches[i], on_reply, actor);
    actor->fetch_count = 0;
    struct engine_event *event;
    while ((event = engine_next(actor->engine))) {
        take_event(actor, event);
        free(event);
    }
    if (actor->knocked) {
        struct message message = {.type = MESSAGE_CREDIT, .credit = {51, 1u << 30}};
        actor->knocked = false;
        client_worker(actor->client, 0, &message, clock_boot_ms());
    }
    while (actor->arrived_count) {
        struct message_group *group = actor->arrived[--actor->arrived_count];
        struct arena arena = actor->arenas[actor->arrived_count];
        take_group(actor, group);
        free(group);
        arena_deinit(&arena);
    }
    ASSERT_OK(client_tick(actor->client, clock_boot_ms()));
    client_check(actor->client);
}

/* The lowest step that is not filled, one slot of it; now and then one of the next. */
static void offer(void) {
    for (uint32_t step = 0; step < STEPS; step++) {
        bool open = false;
        for (uint32_t q = 0; q < QUESTIONS; q++) {
            open |= !sim.slots[step][q].filled;
            if (!sim.slots[step][q].filled && dice(12) == 0)
                give(step, q);
        }
        if (open && dice(3))
            return;
    }
}

static void run_once(uint64_t seed) {
    sim.seed = seed;
    sim.dice = sim.filled = 0;
    memset(sim.slots, 0, sizeof sim.slots);
    for (uint32_t i = 0; i < ACTORS; i++)
        start(&sim.actors[i]);
    double deadline = clock_seconds() + 60;
    while (sim.filled < STEPS * QUESTIONS) {
        offer();
        for (uint32_t i = 0; i < ACTORS; i++)
            turn(&sim.actors[i]);
        if (dice(150) == 0) {
            struct actor *actor = &sim.actors[dice(ACTORS)];
            stop(actor);
            start(actor);
            sim.kills++;
        }
        if (clock_seconds() > deadline)
            fail_msg("seed %d: %u of %u slots were filled", (int)seed, sim.filled, STEPS * QUESTIONS);
        usleep(200);
    }
    for (uint32_t i = 0; i < ACTORS; i++)
        stop(&sim.actors[i]);
    assert_int_equal(sim.back, 0);
}

static void bits_survive_churn(void **state) {
    (void)state;
    memset(&sim, 0, sizeof sim);
    uint64_t seed = 0;
    while (seed < SEEDS_MAX && (sim.duplicates < 10 || sim.kills < 5 || sim.parked < 5 || sim.revokes < 10 ||
                                sim.patches < 20 || sim.unpatched < 2))
        run_once(seed++);
    printf("%d runs: %u leases, %u duplicates, %u kills, %u loads, %u patches, %u refused, %u parked, "
           "%u revokes\n",
           (int)seed, (unsigned)sim.next_lease, sim.duplicates, sim.kills, sim.loads, sim.patches, sim.unpatched,
           sim.parked, sim.revokes);
    assert_true(seed < SEEDS_MAX); /* else the churn was too kind */
}

int main(void) {
    log_init("churn_test", NULL, LOG_ERROR);
    struct device *device;
    if (!mkdtemp(root) || device_open("cpu", 1, &device) != STATUS_OK)
        return 1;
    snprintf(model_directory, sizeof model_directory, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    if (fs_make_directories(model_directory) != STATUS_OK ||
        model_config_write(&whole_shape, model_directory) != STATUS_OK || store_create(&store) != STATUS_OK ||
        store_open_files(store, model_directory) != STATUS_OK)
        return 1;
    for (uint32_t q = 0; q < QUESTIONS; q++)
        for (uint32_t i = 0; i < 48; i++) {
            struct rng_key key = {.seed = i < 10 ? 0 : q + 1, .stream = RNG_TEST};
            prompts[q][i] = (int32_t)rng_below(&key, i, 64);
        }
    for (uint32_t step = 0; step < STEPS; step++) {
        make_reference(device, step);
        if (store_publish(store, &manifests[step], weights[step]) != STATUS_OK)
            return 1;
        if (step && publish_delta(step) != STATUS_OK)
            return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_survive_churn)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (uint32_t step = 0; step < STEPS; step++)
        free(weights[step]);
    store_destroy(&store);
    device_close(&device);
    fs_remove_tree(root);
    return failed;
}
