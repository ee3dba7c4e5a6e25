/* The hub's thread of the learner: the real hub, versions, store and collect, each message on its way in and out, and what a filled
 * slot must hold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hub/internal.h"
#include "proto/proto.h"
#include "tests/fault/learner.h"

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
    if (peer == sim->stranger && message->type == MESSAGE_REFUSE && !message->refuse.again)
        sim_check_refused(sim, message);
}

/* The content that this work must have, from the version that it must sample from. */
static void check_content(struct sim *sim, const struct message_group *group, const struct content *content) {
    uint32_t version = content->manifest.version;
    if (!digest_equal(group->weights, content->manifest.weights))
        sim_fail(sim, "section 4: stream %u step %u slot %u is not of version %u", group->key.stream, group->key.step,
                 group->key.slot, version);
    if (!digest_equal(group_digest(group), history_group_digest(content->data, &group->key, group->same_class)))
        sim_fail(sim, "stream %u step %u slot %u: its content is not that of version %u", group->key.stream,
                 group->key.step, group->key.slot, version);
}

static void fill_once(struct sim *sim, const struct work_key *key, bool *filled) {
    if (*filled)
        sim_fail(sim, "I1: stream %u step %u slot %u is handed over twice", key->stream, key->step, key->slot);
    *filled = true;
}

static void on_filled(void *context, const struct message_scored *scored) {
    struct learner *learner = context;
    struct life *life = learner->life;
    struct sim *sim = learner->sim;
    const struct message_group *group = &scored->group;
    const struct work_key *key = &group->key;
    sim_log(sim, "hub takes stream %u step %u slot %u from %s", key->stream, key->step, key->slot,
            group->actor_name.data);
    if (sim_is_poison(sim, key))
        sim_fail(sim, "a question that nobody survives is answered");
    if (key->stream == WORK_TRAIN) {
        if (key->step >= STEPS || key->slot >= SLOTS || key->step < course_step(&life->course))
            sim_fail(sim, "I1: step %u slot %u is filled while step %u is next", key->step, key->slot,
                     course_step(&life->course));
        check_content(sim, group, learner_expected(learner, history_version_of_step(key->step, sim->lag)));
        fill_once(sim, key, &life->filled[key->step][key->slot]);
    } else if (key->stream == WORK_EVAL) {
        const struct course_version *version = course_find(&life->course, key->step);
        if (key->slot >= EVAL_SLOTS || !version || version->eval != COURSE_EVAL_PENDING)
            sim_fail(sim, "evaluation of version %u slot %u was not asked for", key->step, key->slot);
        check_content(sim, group, learner_expected(learner, key->step));
        fill_once(sim, key, &life->eval_filled[key->step][key->slot]);
    } else {
        check_content(sim, group, &life->extra_version[key->step]);
        fill_once(sim, key, &life->extra_filled[key->step][key->slot]);
    }
    collect_group(life->collect, scored, &sim->arena);
}

/* I1: every slot was handed over; one that was skipped is the one that had to be. */
static void check_complete(struct learner *learner, uint8_t stream, uint32_t step) {
    struct life *life = learner->life;
    struct sim *sim = learner->sim;
    const bool *filled = stream == WORK_TRAIN  ? life->filled[step]
                         : stream == WORK_EVAL ? life->eval_filled[step]
                                               : life->extra_filled[step];
    uint32_t count = stream == WORK_TRAIN ? SLOTS : stream == WORK_EVAL ? EVAL_SLOTS : EXTRA_SLOTS;
    for (uint32_t slot = 0; slot < count; slot++) {
        struct work_key key = {.stream = stream, .step = step, .slot = slot};
        if (filled[slot] == sim_is_poison(sim, &key))
            sim_fail(sim, "I1: stream %u step %u is complete, and slot %u is %s", stream, step, slot,
                     filled[slot] ? "filled" : "not");
    }
}

static void on_completed(void *context, uint8_t stream, uint32_t step) {
    struct learner *learner = context;
    sim_log(learner->sim, "stream %u step %u is complete", stream, step);
    check_complete(learner, stream, step);
    collect_completed(learner->life->collect, stream, step);
    learner_wake(learner);
}

/* A driver's work goes with its version, and is offered again. */
static void on_withdrawn(void *context, uint8_t stream, uint32_t step) {
    struct learner *learner = context;
    struct life *life = learner->life;
    if (stream != WORK_GENERATE)
        sim_fail(learner->sim, "stream %u step %u is withdrawn while it is needed", stream, step);
    sim_log(learner->sim, "stream %u step %u is withdrawn", stream, step);
    life->extra_open[step] = false;
    observer_withdrawn(learner->observer, stream, step);
    collect_forget(life->collect, stream, step);
}

/* I8: five losses, and the question is the one that kills. */
static void on_stuck(struct learner *learner, bool fatal, const char *text) {
    struct sim *sim = learner->sim;
    char where[64];
    snprintf(where, sizeof where, "stream=%u step=%u slot=%u ", sim->poison.stream, sim->poison.step, sim->poison.slot);
    if (!sim->has_poison || !strstr(text, where) || fatal != !sim->skips_stuck)
        sim_fail(sim, "I8: slot_stuck %s", text);
    uint32_t losses = 1;
    for (const char *at = strstr(text, "; "); at; at = strstr(at + 1, "; "))
        losses++;
    if (losses != LOSSES_MAX)
        sim_fail(sim, "I8: slot_stuck after %u losses: %s", losses, text);
    learner->stuck++;
    if (!fatal)
        return;
    sim_row(sim, ROW_STUCK_ENDS);
    collect_fail(learner->life->collect, STATUS_RUN_FAILED, text);
    learner_wake(learner);
}

/* Only who is damaged is accused. */
static void on_mismatch(struct learner *learner, const char *text) {
    char label[32] = "";
    sscanf(text, "actor=\"%31[^\"]", label);
    if (!actor_was_damaged(learner->sim, label))
        sim_fail(learner->sim, "section 5: canary_mismatch %s", text);
    sim_row(learner->sim, ROW_CANARY_REFUSED);
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    struct learner *learner = context;
    sim_log(learner->sim, "alarm: %s %s", name, text);
    if (strcmp(name, "slot_stuck") == 0)
        on_stuck(learner, fatal, text);
    else if (strcmp(name, "canary_mismatch") == 0)
        on_mismatch(learner, text);
    else if (fatal || strcmp(name, "duplicate_mismatch") == 0)
        sim_fail(learner->sim, "alarm: %s %s", name, text);
}

/* ---- life ---- */

void hub_thread_start(struct learner *learner) {
    struct sim *sim = learner->sim;
    struct life *life = learner->life;
    struct hub_settings settings = {.run_id = 42,
                                    .incarnation = sim_incarnation(sim),
                                    .run = "sim",
                                    .config = {1, 2},
                                    .fingerprint = sim_fingerprint(false),
                                    .strict = sim->is_strict,
                                    .skip_stuck = sim->skips_stuck,
                                    .heartbeat_ms = HEARTBEAT_MS,
                                    .lease_ms = LEASE_MS,
                                    .weights_endpoint = "ipc:///w",
                                    .valid_vocab = VOCABULARY,
                                    .positions_max = 64};
    struct hub_events events = {learner, on_send, on_filled, on_completed, on_withdrawn, on_alarm, NULL};
    if (hub_create(&settings, &events, &life->hub) != STATUS_OK || store_create(&life->store) != STATUS_OK ||
        collect_create(&life->collect) != STATUS_OK)
        abort();
    life->versions = (struct versions){.hub = life->hub, .store = life->store, .chunk_bytes = CHUNK_BYTES};
    observer_new_hub(learner->observer);
}

void hub_thread_end(struct learner *learner) {
    struct life *life = learner->life;
    hub_destroy(&life->hub);
    versions_deinit(&life->versions);
    store_destroy(&life->store);
    collect_destroy(&life->collect);
}

void hub_event_begins(struct learner *learner, peer_id connection, const struct message *message) {
    observer_before(learner->sim, learner->observer, learner->life->hub, connection, message);
}

/* I4: who is told of a version can get it, and nothing is served for nobody. */
static void check_versions(struct learner *learner) {
    struct life *life = learner->life;
    const struct versions *versions = &life->versions;
    uint32_t published = 0, most = versions->count + (versions->lingering.data != NULL);
    for (uint32_t i = 0; i < life->hub->version_count; i++)
        published += life->hub->versions[i].published;
    if (published > most || most > COURSE_VERSIONS_MAX + 1 || life->hub->version_count > published + 1)
        sim_fail(learner->sim, "I4: %u versions are announced, %u are served", published, most);
    if (life->lingers != (versions->lingering.data != NULL)) {
        life->lingers = !life->lingers;
        sim_row(learner->sim, life->lingers ? ROW_VERSION_LINGERS : ROW_VERSION_LINGERED);
    }
    if (life->hub->delta_count > STEPS)
        sim_fail(learner->sim, "I4: %u deltas are announced", life->hub->delta_count);
}

void hub_event_ends(struct learner *learner) {
    hub_check(learner->life->hub);
    check_versions(learner);
    observer_after(learner->sim, learner->observer, learner->life->hub);
}

void hub_offer_work(struct learner *learner, const struct hub_work *work) {
    struct life *life = learner->life;
    hub_event_begins(learner, 0, NULL);
    if (hub_offer(life->hub, work, sim_clock(learner->sim, LEARNER)) != STATUS_OK ||
        collect_begin(life->collect, work->stream, work->step, work->slot_count) != STATUS_OK)
        sim_fail(learner->sim, "stream %u step %u cannot be offered: %s", work->stream, work->step, status_message());
    hub_event_ends(learner);
}

/* ---- what comes in ---- */

void learner_tick(struct sim *sim) {
    struct learner *learner = sim->learner;
    int64_t now_ms = sim_clock(sim, LEARNER);
    hub_event_begins(learner, 0, NULL);
    hub_tick(learner->life->hub, now_ms);
    versions_tick(&learner->life->versions, now_ms);
    hub_event_ends(learner);
    learner_wake(learner);
}

void learner_message(struct sim *sim, peer_id connection, const struct message *message) {
    struct learner *learner = sim->learner;
    const struct peer *peer = hub_peer(learner->life->hub, connection);
    bool is_delivery = message->type == MESSAGE_SCORED && peer && peer->role == ROLE_REWARD;
    uint64_t answers = learner->answers;
    hub_event_begins(learner, connection, message);
    hub_message(learner->life->hub, connection, message, sim_clock(sim, LEARNER));
    hub_event_ends(learner);
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
    struct life *life = sim->learner->life;
    struct event to = {.process = (uint8_t)from, .connection = sim->processes[from].control, .frame = (char *)sim};
    if (message->type != MESSAGE_FETCH || !sim->processes[from].alive)
        return;
    if (message->fetch.kind == FETCH_SNAPSHOT)
        versions_read(&life->versions, &message->fetch, sim_clock(sim, LEARNER));
    store_fetch(life->store, &message->fetch, reply, &to);
}

/* I5 */
void learner_malformed(struct sim *sim, peer_id connection) {
    struct learner *learner = sim->learner;
    uint64_t malformed = learner->life->hub->counts.malformed;
    hub_event_begins(learner, connection, NULL);
    hub_malformed(learner->life->hub, connection, "it cannot be read");
    hub_event_ends(learner);
    if (learner->life->hub->counts.malformed != malformed + 1)
        sim_fail(sim, "I5: what cannot be read is not counted");
}

void learner_stranger(struct sim *sim, const struct message *message) {
    if (sim->learner->life && !sim_stands(sim, LEARNER))
        learner_message(sim, sim->stranger, message);
}

/* Says hello as an actor, and speaks of whatever leases there are: gives them back, lists them, delivers. The observer sees that
 * nobody else's lease changes. */
void learner_forge(struct sim *sim) {
    if (!sim->learner->life)
        return;
    const struct lease_table *table = &sim->learner->life->hub->table;
    uint64_t leases[HELD_MAX], incarnation = sim_incarnation(sim) + 77;
    struct lease_progress held[HELD_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->ever_used && count < HELD_MAX; i++)
        if (table->leases[i].status != LEASE_STATUS_FREE) {
            leases[count] = table->leases[i].number;
            held[count++] = (struct lease_progress){table->leases[i].number, 1000, LEASE_GENERATING};
        }
    struct text none = text_of("");
    struct message hello = {.type = MESSAGE_HELLO}, give_back = {.type = MESSAGE_GIVE_BACK};
    struct message beat = {.type = MESSAGE_HEARTBEAT}, bye = {.type = MESSAGE_BYE, .bye = {text_of("was nobody")}};
    hello.hello = (struct message_hello){.protocol = PROTOCOL_VERSION,
                                         .role = ROLE_ACTOR,
                                         .name = text_of("stranger"),
                                         .host = text_of("host"),
                                         .incarnation = incarnation,
                                         .fingerprint = sim_fingerprint(false),
                                         .endpoint = none,
                                         .key = none};
    give_back.give_back = (struct message_give_back){leases, count, text_of("mine"), 1};
    beat.heartbeat = (struct message_heartbeat){.incarnation = incarnation,
                                                .last_lease = UINT64_MAX,
                                                .held = held,
                                                .held_count = count,
                                                .progress = 1000,
                                                .state = none};
    learner_stranger(sim, &hello);
    learner_stranger(sim, &give_back);
    learner_stranger(sim, &beat);
    learner_stranger(sim, &bye);
}

void learner_disconnected(struct sim *sim, peer_id connection) {
    struct learner *learner = sim->learner;
    if (!learner->life || sim_stands(sim, LEARNER))
        return;
    hub_event_begins(learner, connection, NULL);
    hub_disconnected(learner->life->hub, connection, sim_clock(sim, LEARNER));
    hub_event_ends(learner);
}

bool learner_answered(const struct sim *sim, uint64_t lease) {
    return map_get(&sim->learner->answered, lease) != NULL;
}
