/* A run of the hub under a seed: actors and reward workers that are killed, stopped and cut off, and a network that delays, drops,
 * repeats and reorders. hub_check after every event; the run ends with the digest of the undisturbed run.
 *
 * A version's content is the hash of the one before and of the groups of its step in slot order, and a group's content depends on
 * the version it was made from: a wrong history shows in the end. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/hub/internal.h"
#include "proto/proto.h"
#include "tests/support/hub/fake.h"

enum {
    STEPS = 10,
    SLOTS = 8,
    ACTORS = 5,
    WORKERS = 2,
    HELD = 8,
    FLIGHT = 4096,       /* messages on their way */
    TOKENS_OF_GROUP = 6, /* ticks of work */
    TICK_MS = 100,
    RESEND_MS = 2500,
};

struct flight {
    int64_t at_ms;
    bool to_hub;
    peer_id connection;
    char *frame;
    size_t bytes;
};

struct held {
    struct message_lease lease; /* texts and prompt are not kept: only numbers are used */
    uint64_t tokens;
    int64_t sent_ms; /* of its group, once it is done */
};

struct process {
    uint8_t role;
    peer_id connection;
    uint64_t incarnation, progress, last_lease;
    bool welcome;
    int64_t stopped_until_ms, stalled_until_ms, hello_ms, beat_ms;
    struct held held[HELD];
    uint32_t held_count;
};

struct simulation {
    struct hub *hub;
    struct rng_key rng;
    uint32_t draws;
    bool disturbed;
    int64_t now_ms;
    struct flight flight[FLIGHT];
    uint32_t flight_count;
    struct process processes[ACTORS + WORKERS];
    peer_id next_connection;
    struct arena arena;
    /* the learner */
    uint32_t lag, offered, trained, evaluated;
    struct digest versions[STEPS + 1];
    struct digest groups[STEPS][SLOTS];
    bool filled[STEPS][SLOTS];
    bool completed[STEPS];
    uint64_t events, kills;
};

static uint32_t draw(struct simulation *sim, uint32_t bound) {
    return rng_below(&sim->rng, sim->draws++, bound);
}

static bool chance(struct simulation *sim, uint32_t of_thousand) {
    return sim->disturbed && draw(sim, 1000) < of_thousand;
}

/* ---- network ---- */

static void launch(struct simulation *sim, bool to_hub, peer_id connection, const struct buf *frame) {
    uint32_t copies = chance(sim, 30) ? 0 : chance(sim, 30) ? 2 : 1;
    for (uint32_t i = 0; i < copies && sim->flight_count < FLIGHT; i++) {
        char *copy = malloc(frame->bytes);
        assert_non_null(copy);
        memcpy(copy, frame->data, frame->bytes);
        int64_t delay_ms = !sim->disturbed ? 1 : chance(sim, 20) ? draw(sim, 3000) : 1 + draw(sim, 60);
        sim->flight[sim->flight_count++] = (struct flight){.at_ms = sim->now_ms + delay_ms,
                                                           .to_hub = to_hub,
                                                           .connection = connection,
                                                           .frame = copy,
                                                           .bytes = frame->bytes};
    }
}

static void launch_message(struct simulation *sim, bool to_hub, peer_id connection, const struct message *message) {
    struct buf frame = {0};
    ASSERT_OK(proto_encode(message, &frame));
    launch(sim, to_hub, connection, &frame);
    buf_deinit(&frame);
}

static struct process *process_of(struct simulation *sim, peer_id connection) {
    for (int i = 0; i < ACTORS + WORKERS; i++) {
        if (sim->processes[i].connection == connection)
            return &sim->processes[i];
    }
    return NULL;
}

/* ---- hub's events ---- */

static void on_send(void *context, peer_id peer, const struct message *message) {
    launch_message(context, false, peer, message);
}

static void on_filled(void *context, const struct message_scored *scored) {
    struct simulation *sim = context;
    const struct work_key *key = &scored->group.key;
    if (key->stream == WORK_EVAL)
        return;
    assert_false(sim->filled[key->step][key->slot]); /* I1: exactly once */
    sim->filled[key->step][key->slot] = true;
    sim->groups[key->step][key->slot] = group_digest(&scored->group);
}

static void on_completed(void *context, uint8_t stream, uint32_t step) {
    struct simulation *sim = context;
    if (stream == WORK_EVAL) {
        sim->evaluated++;
        return;
    }
    assert_false(sim->completed[step]);
    sim->completed[step] = true;
    for (int slot = 0; slot < SLOTS; slot++)
        assert_true(sim->filled[step][slot]);
}

static void on_withdrawn(void *context, uint8_t stream, uint32_t step) {
    (void)context;
    fail_msg("stream %u, step %u withdrawn", stream, step);
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    struct simulation *sim = context;
    if (fatal || strcmp(name, "duplicate_mismatch") == 0)
        fail_msg("seed %llu at %lld ms: %s %s", (unsigned long long)sim->rng.seed, (long long)sim->now_ms, name, text);
}

/* ---- the learner ---- */

static uint32_t version_of_step(const struct simulation *sim, uint32_t step) {
    return step > sim->lag ? step - sim->lag : 0;
}

static void offer(struct simulation *sim, uint8_t stream, uint32_t step, uint32_t version, uint32_t priority) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {FAKE_STOP};
    struct message_lease templates[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        templates[i] = (struct message_lease){.prompt = prompt,
                                              .prompt_count = 3,
                                              .samples = FAKE_SAMPLES,
                                              .temperature = 1,
                                              .max_new_tokens = FAKE_TOKENS,
                                              .stops = stops,
                                              .stop_count = 1};
    struct hub_work work = {.stream = stream,
                            .step = step,
                            .priority = priority,
                            .weights = sim->versions[version],
                            .version = version,
                            .slot_count = SLOTS,
                            .slots = templates};
    ASSERT_OK(hub_offer(sim->hub, &work, sim->now_ms));
}

static void publish(struct simulation *sim, uint32_t version) {
    struct message_manifest manifest = {
        .version = version, .weights = sim->versions[version], .chunk_bytes = 1, .current = 1};
    ASSERT_OK(hub_publish(sim->hub, &manifest, sim->now_ms));
}

static void learn(struct simulation *sim) {
    while (sim->trained < STEPS && sim->completed[sim->trained]) {
        struct {
            struct digest before, groups[SLOTS];
        } content = {.before = sim->versions[sim->trained]};
        memcpy(content.groups, sim->groups[sim->trained], sizeof content.groups);
        sim->versions[++sim->trained] = hash128(&content, sizeof content);
        publish(sim, sim->trained);
        if (sim->trained == STEPS / 2)
            offer(sim, WORK_EVAL, sim->trained, sim->trained, 2 * sim->trained + 1);
    }
    while (sim->offered < STEPS && version_of_step(sim, sim->offered) <= sim->trained) {
        offer(sim, WORK_TRAIN, sim->offered, version_of_step(sim, sim->offered), 2 * sim->offered);
        sim->offered++;
    }
}

/* ---- actors and reward workers ---- */

static void hello(struct simulation *sim, struct process *process) {
    struct message message = fake_hello(process->role, process->incarnation, 3 * FAKE_SAMPLES);
    process->hello_ms = sim->now_ms;
    launch_message(sim, true, process->connection, &message);
}

static void heartbeat(struct simulation *sim, struct process *process) {
    struct lease_progress list[HELD];
    for (uint32_t i = 0; i < process->held_count; i++) {
        const struct held *held = &process->held[i];
        list[i] = (struct lease_progress){.lease = held->lease.lease,
                                          .tokens_done = held->tokens,
                                          .state = held->tokens >= TOKENS_OF_GROUP ? LEASE_DONE
                                                   : i == 0                        ? LEASE_GENERATING
                                                                                   : LEASE_WAITING};
    }
    struct message message = {.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){.incarnation = process->incarnation,
                                                   .last_lease = process->last_lease,
                                                   .held = list,
                                                   .held_count = process->held_count,
                                                   .progress = process->progress};
    process->beat_ms = sim->now_ms;
    launch_message(sim, true, process->connection, &message);
}

static void drop_held(struct process *process, uint64_t lease) {
    for (uint32_t i = 0; i < process->held_count; i++) {
        if (process->held[i].lease.lease == lease) {
            memmove(&process->held[i], &process->held[i + 1], (process->held_count - i - 1) * sizeof process->held[0]);
            process->held_count--;
            return;
        }
    }
}

/* The group goes through a worker, whose connection the hub sees; its answer comes back the same way. */
static void deliver(struct simulation *sim, const struct process *actor, struct held *held) {
    const struct process *worker = &sim->processes[ACTORS + draw(sim, WORKERS)];
    held->sent_ms = sim->now_ms;
    if (!worker->welcome || worker->stopped_until_ms > sim->now_ms)
        return;
    struct message_group group = fake_group(&held->lease, actor->incarnation, &sim->arena);
    struct message message = fake_scored(&group, worker->incarnation, &sim->arena);
    launch_message(sim, true, worker->connection, &message);
    arena_reset(&sim->arena);
}

static void work_on(struct simulation *sim, struct process *actor) {
    for (uint32_t i = 0; i < actor->held_count && actor->stalled_until_ms <= sim->now_ms; i++) {
        struct held *held = &actor->held[i];
        if (held->tokens < TOKENS_OF_GROUP) {
            held->tokens++;
            actor->progress++;
            break; /* one at a time */
        }
    }
    for (uint32_t i = 0; i < actor->held_count; i++) {
        struct held *held = &actor->held[i];
        if (held->tokens >= TOKENS_OF_GROUP && sim->now_ms - held->sent_ms >= RESEND_MS)
            deliver(sim, actor, held);
    }
}

static void take_lease(struct process *process, const struct message_lease *lease) {
    if (lease->lease > process->last_lease)
        process->last_lease = lease->lease;
    for (uint32_t i = 0; i < process->held_count; i++) {
        if (process->held[i].lease.lease == lease->lease)
            return;
    }
    if (process->held_count == HELD)
        return;
    process->held[process->held_count] = (struct held){.lease = *lease, .sent_ms = INT64_MIN / 2};
    process->held[process->held_count].lease.grading = (struct grading){0};
    process->held_count++;
}

static void receive(struct simulation *sim, struct process *process, const struct message *message) {
    switch (message->type) {
    case MESSAGE_WELCOME:
        process->welcome = true;
        break;
    case MESSAGE_REFUSE:
        assert_int_equal(message->refuse.again, 1);
        hello(sim, process);
        break;
    case MESSAGE_LEASE:
        take_lease(process, &message->lease);
        break;
    case MESSAGE_REVOKE:
        for (uint32_t i = 0; i < message->revoke.lease_count; i++)
            drop_held(process, message->revoke.leases[i]);
        break;
    case MESSAGE_ANSWER: /* the worker passes it on to whoever holds it */
        for (int i = 0; i < ACTORS; i++)
            drop_held(&sim->processes[i], message->answer.lease);
        break;
    default:
        break;
    }
}

/* ---- faults ---- */

static void cut(struct simulation *sim, struct process *process, bool kill) {
    hub_disconnected(sim->hub, process->connection, sim->now_ms);
    hub_check(sim->hub);
    process->connection = sim->next_connection++;
    process->hello_ms = INT64_MIN / 2;
    process->welcome = false;
    if (!kill)
        return;
    sim->kills++;
    process->incarnation = process->connection;
    process->held_count = 0;
    process->last_lease = process->progress = 0;
}

static void disturb(struct simulation *sim, struct process *process) {
    if (chance(sim, 3))
        cut(sim, process, true);
    if (chance(sim, 5))
        cut(sim, process, false);
    if (chance(sim, 3))
        process->stopped_until_ms = sim->now_ms + draw(sim, 8000);
    if (chance(sim, 3))
        process->stalled_until_ms = sim->now_ms + draw(sim, 15000); /* beats, but gets nowhere */
}

/* ---- the loop ---- */

static void land(struct simulation *sim, struct flight *flight) {
    struct message message;
    struct arena arena;
    arena_init(&arena, 1u << 24);
    ASSERT_OK(proto_decode(flight->frame, flight->bytes, &arena, &message));
    struct process *process = process_of(sim, flight->connection);
    sim->events++;
    if (flight->to_hub && process) { /* a connection that was cut carries nothing any more */
        hub_message(sim->hub, flight->connection, &message, sim->now_ms);
        hub_check(sim->hub);
        learn(sim);
        hub_check(sim->hub);
    } else if (process && process->stopped_until_ms > sim->now_ms) {
        flight->at_ms = process->stopped_until_ms; /* waits in its socket */
        arena_deinit(&arena);
        return;
    } else if (process) {
        receive(sim, process, &message);
    }
    free(flight->frame);
    flight->frame = NULL;
    arena_deinit(&arena);
}

static void step_processes(struct simulation *sim) {
    for (int i = 0; i < ACTORS + WORKERS; i++) {
        struct process *process = &sim->processes[i];
        disturb(sim, process);
        if (process->stopped_until_ms > sim->now_ms)
            continue;
        if (!process->welcome && sim->now_ms - process->hello_ms >= 1000)
            hello(sim, process);
        if (process->welcome && sim->now_ms - process->beat_ms >= 300)
            heartbeat(sim, process);
        if (process->role == ROLE_ACTOR)
            work_on(sim, process);
    }
}

static void run_to(struct simulation *sim, int64_t until_ms) {
    bool landed = true;
    while (landed) {
        landed = false;
        for (uint32_t i = 0; i < sim->flight_count; i++) {
            if (sim->flight[i].frame && sim->flight[i].at_ms <= until_ms) {
                land(sim, &sim->flight[i]);
                landed = true;
            }
        }
        uint32_t kept = 0;
        for (uint32_t i = 0; i < sim->flight_count; i++) {
            if (sim->flight[i].frame)
                sim->flight[kept++] = sim->flight[i];
        }
        sim->flight_count = kept;
    }
}

static struct digest simulate(struct simulation *sim, uint64_t seed, bool disturbed, uint32_t lag) {
    memset(sim, 0, sizeof *sim);
    sim->rng = (struct rng_key){.seed = seed, .stream = RNG_TEST};
    sim->disturbed = disturbed;
    sim->lag = lag;
    sim->next_connection = 100;
    arena_init(&sim->arena, 1u << 24);
    struct hub_settings settings = fake_settings();
    settings.heartbeat_ms = 500;
    settings.lease_ms = 5000;
    struct hub_events events = {sim, on_send, on_filled, on_completed, on_withdrawn, on_alarm, NULL};
    ASSERT_OK(hub_create(&settings, &events, &sim->hub));
    for (int i = 0; i < ACTORS + WORKERS; i++) {
        struct process *process = &sim->processes[i];
        process->role = i < ACTORS ? ROLE_ACTOR : ROLE_REWARD;
        process->connection = process->incarnation = sim->next_connection++;
        process->hello_ms = process->beat_ms = INT64_MIN / 2;
    }
    sim->versions[0] = hash128("v0", 2);
    publish(sim, 0);
    learn(sim);
    while ((sim->trained < STEPS || sim->evaluated == 0) && sim->now_ms < 3600000) {
        step_processes(sim);
        run_to(sim, sim->now_ms);
        hub_tick(sim->hub, sim->now_ms);
        hub_check(sim->hub);
        sim->now_ms += TICK_MS / 2;
        run_to(sim, sim->now_ms);
        sim->now_ms += TICK_MS / 2;
    }
    if (sim->trained < STEPS)
        fail_msg("seed %llu: only %u steps after an hour", (unsigned long long)seed, sim->trained);
    assert_true(hub_idle(sim->hub) || sim->disturbed);
    for (uint32_t i = 0; i < sim->flight_count; i++)
        free(sim->flight[i].frame);
    arena_deinit(&sim->arena);
    return sim->versions[STEPS];
}

static struct simulation sim;

static void every_history_ends_like_the_undisturbed_one(void **state) {
    (void)state;
    struct hub_counts sum = {0};
    uint64_t events = 0, kills = 0;
    for (uint32_t lag = 0; lag <= 3; lag++) {
        struct digest undisturbed = simulate(&sim, 0, false, lag);
        assert_int_equal(hub_counted(sim.hub)->lost + hub_counted(sim.hub)->expired, 0);
        hub_destroy(&sim.hub);
        for (uint64_t seed = 1; seed <= 60; seed++) {
            struct digest digest = simulate(&sim, 1000 * lag + seed, true, lag);
            if (!digest_equal(digest, undisturbed))
                fail_msg("seed %llu, lag %u: another history", (unsigned long long)(1000 * lag + seed), lag);
            const struct hub_counts *counts = hub_counted(sim.hub);
            sum.duplicates += counts->duplicates;
            sum.expired += counts->expired;
            sum.revived += counts->revived;
            sum.lost += counts->lost;
            sum.speculative += counts->speculative;
            sum.reconnects += counts->reconnects;
            sum.gone += counts->gone;
            sum.revoked += counts->revoked;
            events += sim.events;
            kills += sim.kills;
            hub_destroy(&sim.hub);
        }
    }
    print_message("%llu messages, %llu kills, %llu duplicates, %llu expired, %llu revived, %llu lost, %llu copies, "
                  "%llu reconnects, %llu gone, %llu revoked\n",
                  (unsigned long long)events, (unsigned long long)kills, (unsigned long long)sum.duplicates,
                  (unsigned long long)sum.expired, (unsigned long long)sum.revived, (unsigned long long)sum.lost,
                  (unsigned long long)sum.speculative, (unsigned long long)sum.reconnects, (unsigned long long)sum.gone,
                  (unsigned long long)sum.revoked);
    /* every kind of trouble was there, or the test shows nothing */
    assert_true(kills > 0 && sum.duplicates > 0 && sum.expired > 0 && sum.revived > 0 && sum.lost > 0);
    assert_true(sum.speculative > 0 && sum.reconnects > 0 && sum.gone > 0 && sum.revoked > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history_ends_like_the_undisturbed_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
