/* The learner: hub and store are the real ones; training is a hash, and lag, evaluation, retirement, checkpoint and
 * resume are the rules of DESIGN sections 4 and 9. What survives its death is in `checkpoint` and `evaluated`, nowhere
 * else (I7). */
#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/hub/internal.h"
#include "common/weights/delta.h"
#include "proto/proto.h"
#include "tests/fault/sim.h"

struct checkpoint {
    uint32_t trained, version_count;
    struct content versions[STEPS + 1]; /* the newest last */
};

struct learner {
    struct sim *sim;
    struct hub *hub; /* NULL: dead */
    struct store *store;
    struct observer *observer;
    /* of this life */
    uint32_t trained, offered, version_count;
    struct content *versions[STEPS + 1]; /* by number, the newest last */
    struct used_group groups[STEPS][SLOTS];
    uint8_t arrival[STEPS][SLOTS];
    uint32_t filled_count[STEPS];
    bool filled[STEPS][SLOTS], completed[STEPS], eval_filled[STEPS + 1][EVAL_SLOTS], eval_pending[STEPS + 1];
    bool extra_filled[EXTRA_WORKS][EXTRA_SLOTS], extra_open[EXTRA_WORKS];
    uint32_t extra_version[EXTRA_WORKS];
    bool trains, withdraws, stops;
    uint64_t answers; /* sent */
    /* what lasts */
    struct checkpoint checkpoint, writing;
    bool has_checkpoint, writes;
    bool evaluated[STEPS + 1], extra_done[EXTRA_WORKS];
    uint32_t checkpoint_every;
    /* for the checks */
    uint32_t most_trained;
    struct map answered; /* leases */
    struct hub_counts counts;
    uint32_t lives;
};

static const struct content *reference_of(const struct learner *learner, uint32_t version) {
    return &history_reference(learner->sim->lag)[version];
}

/* ---- the hub's events ---- */

static void on_send(void *context, peer_id peer, const struct message *message) {
    struct learner *learner = context;
    struct sim *sim = learner->sim;
    if (message->type == MESSAGE_ANSWER) {
        learner->answers++;
        if (map_put(&learner->answered, message->answer.lease, learner) != STATUS_OK)
            abort();
    }
    for (uint32_t i = 0; i < LEARNER; i++)
        if (sim->processes[i].control == peer) {
            network_send(sim, LEARNER, i, CHANNEL_CONTROL, peer, message);
            return;
        }
}

/* The content that this work must have, from the version that it must sample from. */
static void check_content(struct sim *sim, const struct message_group *group, const struct content *version) {
    if (!digest_equal(group->weights, version->manifest.weights))
        sim_fail(sim, "section 4: stream %u step %u slot %u is not of version %u", group->key.stream, group->key.step,
                 group->key.slot, version->manifest.version);
    if (!digest_equal(group_digest(group), history_group_digest(version->data, &group->key)))
        sim_fail(sim, "stream %u step %u slot %u: its content is not that of version %u", group->key.stream,
                 group->key.step, group->key.slot, version->manifest.version);
}

static void fill_once(struct sim *sim, const struct work_key *key, bool *filled) {
    if (*filled)
        sim_fail(sim, "I1: stream %u step %u slot %u is handed over twice", key->stream, key->step, key->slot);
    *filled = true;
}

static void on_filled(void *context, const struct message_scored *scored) {
    struct learner *learner = context;
    struct sim *sim = learner->sim;
    const struct message_group *group = &scored->group;
    const struct work_key *key = &group->key;
    sim_log(sim, "hub takes stream %u step %u slot %u from %s", key->stream, key->step, key->slot,
            group->actor_name.data);
    if (key->stream == WORK_TRAIN) {
        if (key->step >= STEPS || key->slot >= SLOTS || key->step < learner->trained)
            sim_fail(sim, "I1: step %u slot %u is filled while step %u is next", key->step, key->slot,
                     learner->trained);
        check_content(sim, group, reference_of(learner, history_version_of_step(key->step, sim->lag)));
        fill_once(sim, key, &learner->filled[key->step][key->slot]);
        learner->arrival[key->step][learner->filled_count[key->step]++] = (uint8_t)key->slot;
        learner->groups[key->step][key->slot] = (struct used_group){group_digest(group), group->weights};
    } else if (key->stream == WORK_EVAL) {
        if (key->step > STEPS || key->slot >= EVAL_SLOTS || !learner->eval_pending[key->step])
            sim_fail(sim, "evaluation of version %u slot %u was not asked for", key->step, key->slot);
        check_content(sim, group, reference_of(learner, key->step));
        fill_once(sim, key, &learner->eval_filled[key->step][key->slot]);
    } else {
        check_content(sim, group, reference_of(learner, learner->extra_version[key->step]));
        fill_once(sim, key, &learner->extra_filled[key->step][key->slot]);
    }
}

static bool all(const bool *filled, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (!filled[i])
            return false;
    return true;
}

static void on_completed(void *context, uint8_t stream, uint32_t step) {
    struct learner *learner = context;
    sim_log(learner->sim, "stream %u step %u is complete", stream, step);
    if (stream == WORK_GENERATE) { /* its poison may be skipped */
        learner->extra_open[step] = false;
        learner->extra_done[step] = true;
        return;
    }
    bool whole = stream == WORK_TRAIN ? all(learner->filled[step], SLOTS) : all(learner->eval_filled[step], EVAL_SLOTS);
    if (!whole)
        sim_fail(learner->sim, "I1: stream %u step %u is complete with slots that are not", stream, step);
    if (stream == WORK_TRAIN) {
        learner->completed[step] = true;
    } else {
        learner->eval_pending[step] = false;
        learner->evaluated[step] = true;
    }
}

static void on_withdrawn(void *context, uint8_t stream, uint32_t step) {
    struct learner *learner = context;
    if (!learner->withdraws)
        sim_fail(learner->sim, "stream %u step %u is withdrawn while it is needed", stream, step);
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    struct learner *learner = context;
    sim_log(learner->sim, "alarm: %s %s", name, text);
    bool stuck = strcmp(name, "slot_stuck") == 0 && !strstr(text, "stream=3");
    if (fatal || stuck || strcmp(name, "duplicate_mismatch") == 0 || strcmp(name, "canary_mismatch") == 0)
        sim_fail(learner->sim, "alarm: %s %s", name, text);
}

/* ---- offering ---- */

static struct content *find_version(const struct learner *learner, uint32_t number) {
    for (uint32_t i = 0; i < learner->version_count; i++)
        if (learner->versions[i]->manifest.version == number)
            return learner->versions[i];
    return NULL;
}

static struct content *newest(const struct learner *learner) {
    return learner->versions[learner->version_count - 1];
}

static void offer(struct learner *learner, uint8_t stream, uint32_t step, uint32_t slots, uint32_t priority,
                  const struct content *version) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {STOP};
    static struct text aliases[1];
    struct message_lease templates[SLOTS];
    aliases[0] = text_of("w17 w22");
    for (uint32_t i = 0; i < slots; i++)
        templates[i] = (struct message_lease){.prompt = prompt,
                                              .prompt_count = 3,
                                              .samples = SAMPLES,
                                              .temperature = 1,
                                              .max_new_tokens = TOKENS,
                                              .stops = stops,
                                              .stop_count = 1,
                                              .grading = {.question_id = text_of("q17"),
                                                          .question = text_of("why?"),
                                                          .aliases = aliases,
                                                          .alias_count = 1,
                                                          .answerable = 1,
                                                          .rule = text_of("both"),
                                                          .known_k = -1}};
    struct hub_work work = {.stream = stream,
                            .step = step,
                            .priority = priority,
                            .weights = version->manifest.weights,
                            .version = version->manifest.version,
                            .slot_count = slots,
                            .slots = templates};
    if (hub_offer(learner->hub, &work, learner->sim->now_ms) != STATUS_OK)
        sim_fail(learner->sim, "stream %u step %u cannot be offered: %s", stream, step, status_message());
}

static void offer_steps(struct learner *learner) {
    struct sim *sim = learner->sim;
    for (; learner->offered < STEPS; learner->offered++) {
        uint32_t number = history_version_of_step(learner->offered, sim->lag);
        if (number > newest(learner)->manifest.version)
            return;
        const struct content *version = find_version(learner, number);
        if (PLANTED(VERSION_OFF_BY_ONE) && find_version(learner, number + 1))
            version = find_version(learner, number + 1);
        if (PLANTED(RESUMED_WITH_NEWEST) && !version)
            version = newest(learner);
        if (!version)
            sim_fail(sim, "step %u needs version %u, which is gone", learner->offered, number);
        offer(learner, WORK_TRAIN, learner->offered, SLOTS, 2 * learner->offered, version);
    }
}

static void offer_eval(struct learner *learner, const struct content *version) {
    uint32_t number = version->manifest.version;
    if (number % EVAL_EVERY != 0 || learner->evaluated[number] || learner->eval_pending[number])
        return;
    learner->eval_pending[number] = true;
    memset(learner->eval_filled[number], 0, sizeof learner->eval_filled[number]);
    offer(learner, WORK_EVAL, number, EVAL_SLOTS, 2 * (number + learner->sim->lag) + 1, version);
}

/* A driver's work beside the training: 0 has a question that kills, 1 is withdrawn a step later. */
static void offer_extra(struct learner *learner) {
    const struct sim *sim = learner->sim;
    bool wanted[EXTRA_WORKS] = {sim->has_poison && learner->trained >= 2, sim->has_extra && learner->trained >= 3};
    for (uint32_t i = 0; i < EXTRA_WORKS; i++) {
        if (!wanted[i] || learner->extra_open[i] || learner->extra_done[i])
            continue;
        learner->extra_open[i] = true;
        learner->extra_version[i] = newest(learner)->manifest.version;
        memset(learner->extra_filled[i], 0, sizeof learner->extra_filled[i]);
        offer(learner, WORK_GENERATE, i, EXTRA_SLOTS, 2 * learner->trained, newest(learner));
    }
}

static void withdraw_extra(struct learner *learner) {
    if (!learner->extra_open[1])
        return;
    learner->withdraws = true;
    hub_withdraw(learner->hub, WORK_GENERATE, 1);
    learner->withdraws = false;
    learner->extra_open[1] = false;
    learner->extra_done[1] = true;
}

/* ---- versions ---- */

/* What leads here from the version before, where that is still there. */
static void publish_delta(struct learner *learner, const struct content *version) {
    const struct content *before = find_version(learner, version->manifest.version - 1);
    uint8_t *data;
    uint64_t bytes;
    if (!before || version->manifest.version == 0)
        return;
    if (delta_encode((const uint16_t *)(const void *)before->data, (const uint16_t *)(const void *)version->data,
                     ELEMENTS, before->manifest.weights, version->manifest.weights, 1, &data, &bytes,
                     NULL) != STATUS_OK)
        sim_fail(learner->sim, "version %u has no delta: %s", version->manifest.version, status_message());
    struct message_manifest manifest = content_delta_manifest(version->manifest.version, version->manifest.weights,
                                                              before->manifest.weights, ELEMENTS, bytes);
    manifest.chunk_bytes = CHUNK_BYTES;
    if (store_publish_delta(learner->store, &manifest, data) != STATUS_OK ||
        hub_publish(learner->hub, &manifest, learner->sim->now_ms) != STATUS_OK)
        sim_fail(learner->sim, "a delta cannot be published: %s", status_message());
}

static void add_version(struct learner *learner, const struct content *content) {
    struct sim *sim = learner->sim;
    struct content *version = malloc(sizeof *version);
    if (!version)
        abort();
    *version = *content;
    learner->versions[learner->version_count++] = version;
    struct digest canary = hash128(version->data, WEIGHT_BYTES);
    hub_canary(learner->hub, &version->manifest.weights, &canary, sim->now_ms);
    publish_delta(learner, version);
    if (store_publish(learner->store, &version->manifest, version->data) != STATUS_OK ||
        hub_publish(learner->hub, &version->manifest, sim->now_ms) != STATUS_OK)
        sim_fail(sim, "version %u cannot be published: %s", version->manifest.version, status_message());
}

static void retire_versions(struct learner *learner) {
    uint32_t needed = history_version_of_step(learner->trained, learner->sim->lag) + PLANTED(RETIRED_EARLY), kept = 0;
    for (uint32_t v = 0; v < needed; v++)
        if (learner->eval_pending[v] || (learner->extra_open[0] && learner->extra_version[0] == v) ||
            (learner->extra_open[1] && learner->extra_version[1] == v))
            needed = v;
    for (uint32_t i = 0; i < learner->version_count; i++) {
        struct content *version = learner->versions[i];
        if (version->manifest.version >= needed) {
            learner->versions[kept++] = version;
            continue;
        }
        store_retire(learner->store, version->manifest.weights);
        hub_retire(learner->hub, &version->manifest.weights);
        free(version);
    }
    learner->version_count = kept;
    if (needed >= DELTAS_BEHIND) {
        store_retire_deltas(learner->store, needed - DELTAS_BEHIND + 1);
        hub_retire_deltas(learner->hub, needed - DELTAS_BEHIND + 1);
    }
}

/* ---- checkpoints ---- */

static void begin_checkpoint(struct learner *learner) {
    if (learner->writes || learner->trained % learner->checkpoint_every != 0)
        return;
    struct checkpoint *writing = &learner->writing;
    uint32_t first = PLANTED(RESUMED_WITH_NEWEST) ? learner->version_count - 1 : 0;
    learner->writes = true;
    writing->trained = learner->trained;
    writing->version_count = 0;
    for (uint32_t i = first; i < learner->version_count; i++)
        writing->versions[writing->version_count++] = *learner->versions[i];
    sim_at(learner->sim, 20 + sim_draw(learner->sim, 300), EVENT_DURABLE, LEARNER, 0);
}

void learner_durable(struct sim *sim, uint64_t checkpoint) {
    (void)checkpoint;
    struct learner *learner = sim->learner;
    learner->checkpoint = learner->writing;
    learner->has_checkpoint = true;
    learner->writes = false;
    sim_log(sim, "the checkpoint of step %u is written", learner->checkpoint.trained);
}

/* ---- training ---- */

static void train_when_complete(struct learner *learner) {
    if (learner->trains || learner->stops || learner->trained == STEPS || !learner->completed[learner->trained])
        return;
    learner->trains = true;
    sim_at(learner->sim, 20 + sim_draw(learner->sim, 100), EVENT_TRAINED, LEARNER, 0);
}

static void begin_event(struct learner *learner, peer_id connection, const struct message *message) {
    observer_before(learner->sim, learner->observer, learner->hub, connection, message);
}

static void end_event(struct learner *learner) {
    hub_check(learner->hub);
    observer_after(learner->sim, learner->observer, learner->hub);
    train_when_complete(learner);
}

void learner_trained(struct sim *sim) {
    struct learner *learner = sim->learner;
    uint32_t step = learner->trained;
    struct used_group groups[SLOTS];
    if (learner->stops)
        return;
    struct content version;
    for (uint32_t i = 0; i < SLOTS; i++)
        groups[i] = learner->groups[step][PLANTED(ARRIVAL_ORDER) ? learner->arrival[step][i] : i];
    history_next(newest(learner), groups, &version);
    if (!digest_equal(version.history, reference_of(learner, step + 1)->history))
        sim_fail(sim, "version %u has another history than in the undisturbed run", step + 1);
    learner->trains = false;
    learner->trained++;
    if (learner->trained > learner->most_trained)
        learner->most_trained = learner->trained;
    sim_log(sim, "step %u is trained", step);
    begin_event(learner, 0, NULL);
    withdraw_extra(learner);
    add_version(learner, &version);
    offer_steps(learner);
    retire_versions(learner);
    offer_eval(learner, newest(learner));
    offer_extra(learner);
    begin_checkpoint(learner);
    end_event(learner);
}

/* ---- life ---- */

void learner_create(struct sim *sim) {
    struct learner *learner = sim->learner = calloc(1, sizeof *learner);
    if (!learner)
        abort();
    learner->sim = sim;
    learner->observer = observer_create();
    learner->checkpoint_every = 1 + sim_draw(sim, 3);
}

void learner_start(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct hub_settings settings = {.run_id = 42,
                                    .incarnation = sim_incarnation(sim),
                                    .run = "sim",
                                    .config = {1, 2},
                                    .fingerprint = {text_of("b"), text_of("cpu"), text_of(""), text_of("x")},
                                    .skip_stuck = sim->has_poison,
                                    .heartbeat_ms = HEARTBEAT_MS,
                                    .lease_ms = LEASE_MS,
                                    .weights_endpoint = "ipc:///w",
                                    .valid_vocab = VOCABULARY,
                                    .positions_max = 64};
    struct hub_events events = {learner, on_send, on_filled, on_completed, on_withdrawn, on_alarm, NULL};
    if (hub_create(&settings, &events, &learner->hub) != STATUS_OK || store_create(&learner->store) != STATUS_OK)
        abort();
    learner->lives++;
    observer_new_hub(learner->observer);
    begin_event(learner, 0, NULL);
    if (learner->has_checkpoint) {
        learner->trained = learner->offered = learner->checkpoint.trained + PLANTED(RESUMED_A_STEP_LATE);
        for (uint32_t i = 0; i < learner->checkpoint.version_count; i++)
            add_version(learner, &learner->checkpoint.versions[i]);
    } else {
        struct content version;
        history_begin(&version);
        add_version(learner, &version);
    }
    for (uint32_t i = 0; i < learner->version_count; i++)
        offer_eval(learner, learner->versions[i]);
    offer_steps(learner);
    offer_extra(learner);
    end_event(learner);
}

static void add_counts(struct hub_counts *sum, const struct hub_counts *counts) {
    sum->duplicates += counts->duplicates;
    sum->expired += counts->expired;
    sum->revived += counts->revived;
    sum->speculative += counts->speculative;
    sum->lost += counts->lost;
}

void learner_kill(struct sim *sim) {
    struct learner *learner = sim->learner;
    if (!learner->hub)
        return;
    add_counts(&learner->counts, hub_counted(learner->hub));
    hub_destroy(&learner->hub);
    store_destroy(&learner->store);
    for (uint32_t i = 0; i < learner->version_count; i++)
        free(learner->versions[i]);
    size_t first = offsetof(struct learner, trained), last = offsetof(struct learner, checkpoint);
    memset((char *)learner + first, 0, last - first);
    learner->writes = false;
}

void learner_stop(struct sim *sim) {
    struct learner *learner = sim->learner;
    if (!learner->hub)
        return;
    learner->stops = true;
    begin_event(learner, 0, NULL);
    hub_drain(learner->hub, sim->now_ms, 300, "the learner stops");
    end_event(learner);
}

void learner_destroy(struct sim *sim) {
    learner_kill(sim);
    map_deinit(&sim->learner->answered);
    observer_destroy(&sim->learner->observer);
    free(sim->learner);
}

/* ---- what comes in ---- */

void learner_tick(struct sim *sim) {
    begin_event(sim->learner, 0, NULL);
    hub_tick(sim->learner->hub, sim->now_ms);
    end_event(sim->learner);
}

void learner_message(struct sim *sim, peer_id connection, const struct message *message) {
    struct learner *learner = sim->learner;
    const struct peer *peer = hub_peer(learner->hub, connection);
    bool is_delivery = message->type == MESSAGE_SCORED && peer && peer->role == ROLE_REWARD;
    uint64_t answers = learner->answers;
    begin_event(learner, connection, message);
    hub_message(learner->hub, connection, message, sim->now_ms);
    end_event(learner);
    if (is_delivery && learner->answers != answers + 1)
        sim_fail(sim, "section 3: a delivery got %llu answers", (unsigned long long)(learner->answers - answers));
}

static bool reply(void *context, const struct message *message) {
    struct event *to = context;
    struct sim *sim = (struct sim *)(void *)to->frame;
    network_send(sim, LEARNER, to->process, CHANNEL_WEIGHTS, to->connection, message);
    return true;
}

void learner_fetch(struct sim *sim, uint32_t from, const struct message *message) {
    struct event to = {.process = (uint8_t)from, .connection = sim->processes[from].control, .frame = (char *)sim};
    if (message->type == MESSAGE_FETCH && sim->processes[from].alive)
        store_fetch(sim->learner->store, &message->fetch, reply, &to);
}

void learner_malformed(struct sim *sim, peer_id connection) {
    begin_event(sim->learner, connection, NULL);
    hub_malformed(sim->learner->hub, connection, "it cannot be read");
    end_event(sim->learner);
}

void learner_disconnected(struct sim *sim, peer_id connection) {
    if (!sim->learner->hub)
        return;
    begin_event(sim->learner, connection, NULL);
    hub_disconnected(sim->learner->hub, connection, sim->now_ms);
    end_event(sim->learner);
}

/* ---- queries ---- */

bool learner_done(const struct sim *sim) {
    const struct learner *learner = sim->learner;
    if (!learner->hub || learner->trained < STEPS || (sim->has_poison && !learner->extra_done[0]))
        return false;
    for (uint32_t v = 0; v <= STEPS; v += EVAL_EVERY)
        if (!learner->evaluated[v])
            return false;
    return true;
}

uint32_t learner_steps(const struct sim *sim) {
    return sim->learner->most_trained;
}

bool learner_is_poison(const struct sim *sim, const struct work_key *key) {
    return sim->has_poison && key->stream == WORK_GENERATE && key->step == 0 && key->slot == 1;
}

bool learner_answered(const struct sim *sim, uint64_t lease) {
    return map_get(&sim->learner->answered, lease) != NULL;
}

void learner_end(struct sim *sim, struct totals *totals) {
    struct learner *learner = sim->learner;
    struct hub_counts counts = learner->counts;
    add_counts(&counts, hub_counted(learner->hub));
    if (!sim->disturbed && (counts.lost || counts.expired || counts.duplicates))
        sim_fail(sim, "undisturbed, and yet %llu leases were lost, %llu expired", (unsigned long long)counts.lost,
                 (unsigned long long)counts.expired);
    totals->duplicates += counts.duplicates;
    totals->expired += counts.expired;
    totals->revived += counts.revived;
    totals->copies += counts.speculative;
    totals->restarts += learner->lives - 1;
}
