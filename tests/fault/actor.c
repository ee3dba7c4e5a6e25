/* An actor: the real lease client and weight sync over a generation that takes virtual time and whose groups are a pure
 * function of the weights that were really loaded. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/weights/chain.h"
#include "proto/proto.h"
#include "tests/fault/actor.h"

/* ---- the client's actions ---- */

static bool on_control(void *context, const struct message *message) {
    struct actor *actor = context;
    struct message sent = *message;
    actor->gave_back |= message->type == MESSAGE_GIVE_BACK;
    if (network_is_full(actor->sim))
        return false;
    if (message->type == MESSAGE_HELLO && actor->old_build)
        sent.hello.protocol++;
    network_send(actor->sim, actor->index, LEARNER, CHANNEL_CONTROL, actor->sim->processes[actor->index].control,
                 &sent);
    return true;
}

static void on_weights_open(void *context, const char *endpoint) {
    (void)context;
    (void)endpoint;
}

static bool on_fetch(void *context, const struct message_fetch *fetch) {
    struct actor *actor = context;
    struct message message = {.type = MESSAGE_FETCH, .fetch = *fetch};
    if (network_is_full(actor->sim))
        return false;
    network_send(actor->sim, actor->index, LEARNER, CHANNEL_WEIGHTS, actor->sim->processes[actor->index].control,
                 &message);
    return true;
}

static void on_worker_open(void *context, uint32_t slot, const char *endpoint, const char *key) {
    struct actor *actor = context;
    (void)key;
    uint32_t worker = (uint32_t)(endpoint[strlen(endpoint) - 1] - '0');
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        if (actor->slots[i] == worker + 1)
            sim_fail(actor->sim, "%s connects twice to one reward worker", sim_name(actor->index));
    actor->slots[slot] = worker + 1;
    actor->sim->group_links[actor->index][worker] = actor->sim->next_connection++;
}

static void on_worker_close(void *context, uint32_t slot) {
    struct actor *actor = context;
    if (actor->slots[slot])
        actor->sim->group_links[actor->index][actor->slots[slot] - 1] = 0;
    actor->slots[slot] = 0;
}

static bool on_worker_send(void *context, uint32_t slot, const void *frame, size_t bytes) {
    struct actor *actor = context;
    uint32_t worker = actor->slots[slot];
    if (network_is_full(actor->sim))
        return false;
    if (worker)
        network_send_frame(actor->sim, actor->index, ACTORS + worker - 1, CHANNEL_GROUPS,
                           actor->sim->group_links[actor->index][worker - 1], frame, bytes);
    return worker != 0;
}

static enum status on_model_open(void *context, const char *directory, const struct client_run *run,
                                 uint64_t *out_elements) {
    (void)context;
    (void)directory;
    (void)run;
    *out_elements = ELEMENTS;
    return STATUS_OK;
}

static enum status on_text(void *context, const int32_t *ids, uint32_t count, struct buf *out_text) {
    (void)context;
    for (uint32_t i = 0; i < count; i++)
        buf_printf(out_text, "w%d ", ids[i]);
    return STATUS_OK;
}

static void wake(struct actor *actor) {
    if (actor->works || !actor->has_loaded || actor->loading || actor->patching)
        return;
    actor->works = true;
    sim_at(actor->sim, 1, EVENT_GENERATE, actor->index, 0);
}

static void on_generate(void *context, const struct message_lease *lease) {
    struct actor *actor = context;
    if (actor->job_count == ACTOR_JOBS)
        sim_fail(actor->sim, "I4: %s generates %u groups", sim_name(actor->index), actor->job_count);
    actor->jobs[actor->job_count++] = (struct job){.lease = lease->lease,
                                                   .key = lease->key,
                                                   .weights = lease->weights,
                                                   .priority = lease->priority,
                                                   .whole = 3 + sim_draw(actor->sim, 4)};
    wake(actor);
}

static bool is_broken(const struct actor *actor) {
    struct sim *sim = actor->sim;
    bool broken = sim->processes[actor->index].broken_until_ms > sim->now_ms;
    sim->fault_counts[FAULT_BROKEN] += broken;
    return broken;
}

static void on_cancel(void *context, uint64_t lease) {
    struct actor *actor = context;
    for (uint32_t i = 0; i < actor->job_count; i++)
        if (actor->jobs[i].lease == lease)
            actor->jobs[i--] = actor->jobs[--actor->job_count];
}

static void on_load(void *context, void *take_weights, const struct message_manifest *manifest) {
    struct actor *actor = context;
    struct sim *sim = actor->sim;
    sim_row(sim, ROW_SYNC_TAKEN);
    if (manifest->payload_bytes != WEIGHT_BYTES ||
        !digest_equal(content_digest(take_weights, 0, WEIGHT_BYTES), manifest->weights)) /* S1 */
        sim_fail(sim, "S1: %s loads weights that are not version %u", sim_name(actor->index), manifest->version);
    if (actor->loading || actor->patching)
        sim_fail(sim, "A2: %s loads twice at a time", sim_name(actor->index));
    chain_destroy(&actor->staged); /* it begins at what is loaded now */
    actor->loading = take_weights;
    actor->manifest = *manifest;
    sim_at(sim, 5 + sim_draw(sim, 60), EVENT_LOADED, actor->index, 0);
}

static void on_stage(void *context, struct chain *take_chain) {
    struct actor *actor = context;
    sim_row(actor->sim, ROW_SYNC_CHAIN_TAKEN);
    chain_destroy(&actor->staged);
    actor->staged = take_chain;
}

static void on_patch(void *context) {
    struct actor *actor = context;
    if (actor->loading || actor->patching)
        sim_fail(actor->sim, "A2: %s loads twice at a time", sim_name(actor->index));
    if (!actor->staged)
        sim_fail(actor->sim, "A2: %s loads deltas that were never staged", sim_name(actor->index));
    actor->patching = actor->staged;
    actor->staged = NULL;
    sim_at(actor->sim, 5 + sim_draw(actor->sim, 30), EVENT_LOADED, actor->index, 0);
}

/* ---- generation ---- */

static struct job *next_job(struct actor *actor) {
    struct job *first = NULL;
    for (uint32_t i = 0; i < actor->job_count; i++) {
        struct job *job = &actor->jobs[i];
        bool ready = digest_equal(job->weights, actor->manifest.weights) || PLANTED(STALE_WEIGHTS);
        if (ready && (!first || job->priority < first->priority ||
                      (job->priority == first->priority && job->lease < first->lease)))
            first = job;
    }
    return first;
}

static void finish(struct actor *actor, struct job *done) {
    struct job job = *done;
    struct made_group made;
    struct generated_sample samples[SAMPLES];
    on_cancel(actor, job.lease);
    history_group(actor->loaded, &job.key, !actor->other_class, &made);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        samples[i] = (struct generated_sample){made.ids[i], made.logprobs[i], made.counts[i], made.counts[i] < TOKENS};
        tokens += made.counts[i];
    }
    bool broken = is_broken(actor);
    if (broken && job.lease % 2 == 0) { /* the generator cannot take it, or it comes to nothing */
        client_refused(actor->client, job.lease, "it does not fit", sim_clock(actor->sim, actor->index));
        actor_watch(actor, -1, STATUS_OK);
        return;
    }
    struct generated_group group = {job.lease, SAMPLES, samples, tokens, !broken};
    actor->sim->samples_made += SAMPLES;
    sim_log(actor->sim, "%s made stream %u step %u slot %u", sim_name(actor->index), job.key.stream, job.key.step,
            job.key.slot);
    client_generated(actor->client, &group, 10, sim_clock(actor->sim, actor->index));
    actor_watch(actor, -1, STATUS_OK);
}

void actor_generate(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    const struct process *process = &sim->processes[index];
    actor->works = false;
    struct job *job = actor->loading || actor->patching ? NULL : next_job(actor);
    if (!job)
        return;
    if (process->stalled_until_ms <= sim->now_ms) {
        if (sim_is_poison(sim, &job->key)) { /* I8: a question that kills whoever answers it */
            faults_kill(sim, index);
            return;
        }
        job->done++;
        actor->counters.rows++;
        if (job->done >= job->whole)
            finish(actor, job);
    }
    actor->works = true;
    sim_at(sim, (process->slow_until_ms > sim->now_ms ? 400 : 10) + sim_draw(sim, 30), EVENT_GENERATE, index, 0);
}

/* False: the deltas cannot be applied, and the weights are as they were. */
static bool patch(struct actor *actor) {
    struct sim *sim = actor->sim;
    struct chain *chain = actor->patching;
    uint16_t weights[ELEMENTS];
    memcpy(weights, actor->loaded, WEIGHT_BYTES);
    actor->patching = NULL;
    enum status status = chain_apply(chain, actor->manifest.weights, ELEMENTS, 1, weights);
    if (status == STATUS_OK) {
        actor->manifest.weights = chain->to;
        actor->manifest.version = chain->version;
        memcpy(actor->loaded, weights, WEIGHT_BYTES);
    } else if (memcmp(actor->loaded, weights, WEIGHT_BYTES) != 0) {
        sim_fail(sim, "section 8: refused deltas have changed the weights");
    } else if (status != STATUS_MISMATCH && status != STATUS_FORMAT) {
        sim_fail(sim, "deltas: %s", status_message());
    }
    chain_destroy(&chain);
    return status == STATUS_OK;
}

/* Memory that is damaged once is damaged for the process's life. */
static void damage(struct actor *actor) {
    struct sim *sim = actor->sim;
    struct process *process = &sim->processes[actor->index];
    if (process->damages && !actor->other_class) {
        sim->fault_counts[FAULT_CANARY]++;
        actor->damaged = process->was_damaged = true;
        sim_log(sim, "a bit of %s's weights flips", sim_name(actor->index));
    }
    process->damages = false;
    if (actor->damaged)
        actor->loaded[7] ^= 16;
}

static void load(struct actor *actor) {
    memcpy(actor->loaded, actor->loading, WEIGHT_BYTES);
    free(actor->loading);
    actor->loading = NULL;
    actor->has_loaded = true;
}

void actor_loaded(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    struct digest refused = actor->patching ? actor->patching->to : (struct digest){0, 0};
    if (actor->patching && !patch(actor)) {
        sim_log(sim, "%s refuses deltas: %s", sim_name(index), status_message());
        sim_row(sim, ROW_SYNC_CHAIN_REFUSED);
        actor->refused = true;
        client_patch_refused(actor->client, &refused, status_message());
    } else {
        if (actor->loading)
            load(actor);
        damage(actor);
        if (!actor->damaged &&
            !digest_equal(content_digest(actor->loaded, 0, WEIGHT_BYTES), actor->manifest.weights)) /* S1 */
            sim_fail(sim, "S1: %s holds weights that are not version %u", sim_name(index), actor->manifest.version);
        struct digest canary = hash128(actor->loaded, WEIGHT_BYTES);
        client_swapped(actor->client, &actor->manifest.weights, 10);
        client_canary(actor->client, &actor->manifest.weights, &canary, sim_clock(sim, index));
    }
    actor_watch(actor, -1, STATUS_OK);
    wake(actor);
}

/* ---- life ---- */

/* One actor in four has an outbox for two groups only. */
static uint64_t outbox_bytes_of(uint32_t index) {
    int32_t prompt[3] = {1, 2, 3}, stops[] = {STOP};
    struct message_lease lease = {.prompt = prompt,
                                  .prompt_count = 3,
                                  .samples = SAMPLES,
                                  .max_new_tokens = TOKENS,
                                  .stops = stops,
                                  .stop_count = 1};
    lease.grading =
        (struct grading){.question_id = text_of("q17"), .question = text_of("why?"), .rule = text_of("both")};
    return (index == 3 ? 2 : 8) * (lease_weigh(&lease) + 64);
}

void actor_start(struct sim *sim, uint32_t index) {
    struct actor *actor = calloc(1, sizeof *actor);
    if (!actor)
        abort();
    struct process *process = &sim->processes[index];
    *actor = (struct actor){
        .index = index, .sim = sim, .old_build = process->old_build, .other_class = sim->has_class && index == 2};
    process->old_build = false;
    sim->fault_counts[FAULT_CLASS] += actor->other_class && !sim->is_strict;
    sim->fault_counts[FAULT_NAMESAKE] += sim->has_namesakes && index == ACTORS - 1;
    struct client_actions actions = {.context = actor,
                                     .control = on_control,
                                     .weights_open = on_weights_open,
                                     .fetch = on_fetch,
                                     .worker_open = on_worker_open,
                                     .worker_close = on_worker_close,
                                     .worker_send = on_worker_send,
                                     .model_open = on_model_open,
                                     .text = on_text,
                                     .generate = on_generate,
                                     .cancel = on_cancel,
                                     .load = on_load,
                                     .stage = on_stage,
                                     .patch = on_patch};
    struct client_settings settings = {.name = text_of(sim_label(sim, index)),
                                       .host = text_of("host"),
                                       .incarnation = sim_incarnation(sim) + index,
                                       .pid = index,
                                       .fingerprint = sim_fingerprint(actor->other_class),
                                       .capacity_samples = HELD_LIMIT * SAMPLES,
                                       .outbox_bytes = outbox_bytes_of(index),
                                       .cache = sim_cache};
    if (client_create(&settings, &actions, sim_clock(sim, index), &actor->client) != STATUS_OK)
        sim_fail(sim, "%s: %s", sim_name(index), status_message());
    sim->actors[index] = actor;
    actor_watch_begin(actor);
}

void actor_kill(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    sim->actors[index] = NULL;
    memset(sim->group_links[index], 0, sizeof sim->group_links[index]);
    if (!actor)
        return;
    client_destroy(&actor->client);
    free(actor->loading);
    chain_destroy(&actor->staged);
    chain_destroy(&actor->patching);
    free(actor);
}

static void leave(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    if (client_drained(actor->client))
        sim_row(sim, ROW_CLIENT_DRAINED);
    if (client_leave(actor->client, "it stops") > 0)
        sim_row(sim, ROW_OUTBOX_LEFT);
    faults_kill(sim, index);
}

void actor_tick(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    const struct process *process = &sim->processes[index];
    struct client_progress progress[ACTOR_JOBS];
    for (uint32_t i = 0; i < actor->job_count; i++) {
        const struct job *job = &actor->jobs[i];
        bool loaded = !actor->loading && !actor->patching && digest_equal(job->weights, actor->manifest.weights);
        progress[i] =
            (struct client_progress){job->lease, {job->done, job->done, job->done > 0, job->done > 0 && !loaded}};
    }
    client_progress(actor->client, progress, actor->job_count, &actor->counters);
    actor_watch(actor, -1, client_tick(actor->client, sim_clock(sim, index)));
    if (process->alive && process->stopping && (client_drained(actor->client) || sim->now_ms >= process->leave_ms))
        leave(sim, index);
}

void actor_control(struct sim *sim, uint32_t index, const struct message *message) {
    struct actor *actor = sim->actors[index];
    actor_watch(actor, (int)message->type, client_control(actor->client, message, sim_clock(sim, index)));
}

void actor_weights(struct sim *sim, uint32_t index, const struct message *message) {
    struct actor *actor = sim->actors[index];
    actor->gone_delta = message->type == MESSAGE_GONE && message->gone.kind == FETCH_DELTA;
    actor_watch(actor, (int)message->type, client_weights(actor->client, message, sim_clock(sim, index)));
}

void actor_worker(struct sim *sim, uint32_t index, uint32_t worker, const struct message *message) {
    struct actor *actor = sim->actors[index];
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        if (actor->slots[slot] == worker + 1) {
            client_worker(actor->client, slot, message, sim_clock(sim, index));
            actor_watch(actor, (int)message->type, STATUS_OK);
            return;
        }
}

void actor_malformed(struct sim *sim, uint32_t index) {
    client_malformed(sim->actors[index]->client);
}

void actor_drain(struct sim *sim, uint32_t index) {
    struct actor *actor = sim->actors[index];
    client_drain(actor->client, sim_clock(sim, index));
    actor_watch(actor, -1, STATUS_OK);
}

bool actor_was_damaged(const struct sim *sim, const char *label) {
    for (uint32_t i = 0; i < ACTORS; i++)
        if (sim->processes[i].was_damaged && strcmp(sim_label(sim, i), label) == 0)
            return true;
    return false;
}
