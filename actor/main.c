/* candor-actor: answers leases. The main thread has the sockets and the state machine of client.h; the generation thread (engine.h)
 * has device and model; two bounded queues lie between them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actor/client.h"
#include "actor/engine.h"
#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/model/parameters.h"
#include "common/model/tokenizer.h"
#include "common/transport/daemon.h"
#include "common/transport/socket.h"
#include "proto/proto.h"

/* Frames taken from a socket before the others have their turn. */
#define FRAMES_A_TURN 64
/* Messages of one peer under way in ZeroMQ: large ones are bounded by credit, the others are small. Fewer would lose
 * answers when a starved process gets many at once. */
#define MESSAGES_MAX 1024
#define TICK_MS 50

struct actor {
    struct daemon *daemon;
    int generation; /* its thread, for the watchdog */
    const struct run_config *config;
    struct daemon_identity identity;
    struct transport *transport;
    void *control, *weights;
    void *workers[WORKERS_MAX];
    char control_endpoint[ENDPOINT_BYTES];
    struct engine *engine;
    struct client *client;
    struct tokenizer *tokenizer;
    struct inbox inbox;
    char cache[PATH_BYTES];
    enum status status; /* final, once it is not STATUS_OK, with its message */
    char reason[STATUS_MESSAGE_BYTES];
};

static void settle(struct actor *self, enum status status) {
    if (status == STATUS_OK || self->status != STATUS_OK)
        return;
    self->status = status;
    snprintf(self->reason, sizeof self->reason, "%s", status_message());
}

/* ---- the state machine's actions: sockets ---- */

static bool send_message(void *socket, const struct message *message) {
    struct buf frame = {0};
    bool sent = socket && proto_encode(message, &frame) == STATUS_OK &&
                socket_send(socket, frame.data, frame.bytes) == STATUS_OK;
    buf_deinit(&frame);
    return sent;
}

static bool send_control(void *context, const struct message *message) {
    struct actor *self = context;
    return send_message(self->control, message);
}

static bool send_fetch(void *context, const struct message_fetch *fetch) {
    struct actor *self = context;
    struct message message = {.type = MESSAGE_FETCH, .fetch = *fetch};
    return send_message(self->weights, &message);
}

static void open_weights(void *context, const char *endpoint) {
    struct actor *self = context;
    char resolved[ENDPOINT_BYTES_MAX + 1];
    socket_close(&self->weights);
    enum status status = endpoint_resolve(endpoint, self->control_endpoint, resolved);
    struct socket_settings settings = {
        "the learner's hub.weights", resolved,     transport_learner_key(self->transport),
        CHUNK_FRAME_BYTES_MAX,       MESSAGES_MAX, 0};
    if (status == STATUS_OK)
        status = socket_connect(self->transport, &settings, &self->weights);
    settle(self, status);
}

/* An endpoint that cannot be used costs one reward worker, not the actor: the name is what a peer sent (I5). */
static void open_worker(void *context, uint32_t slot, const char *endpoint, const char *key) {
    struct actor *self = context;
    struct socket_settings settings = {"reward worker", endpoint, key, FRAME_BYTES_MAX, MESSAGES_MAX, 0};
    if (socket_connect(self->transport, &settings, &self->workers[slot]) != STATUS_OK)
        log_event(LOG_WARNING, "reward_worker_unusable", "reason=\"%s\"", status_message());
}

static void close_worker(void *context, uint32_t slot) {
    struct actor *self = context;
    socket_close(&self->workers[slot]);
}

static bool send_worker(void *context, uint32_t slot, const void *frame, size_t bytes) {
    struct actor *self = context;
    return self->workers[slot] && socket_send(self->workers[slot], frame, bytes) == STATUS_OK;
}

/* ---- the state machine's actions: model and generation ---- */

static enum status open_model(void *context, const char *directory, const struct client_run *run,
                              uint64_t *out_elements) {
    struct actor *self = context;
    struct model_config config;
    struct parameter_layout *layout;
    TRY(model_config_read(directory, &config));
    TRY(tokenizer_open(directory, &self->tokenizer));
    TRY(parameter_layout_create(&config, &layout));
    *out_elements = (uint64_t)layout->total;
    parameter_layout_destroy(&layout);
    if (run->positions_max <= 0 || run->positions_max > config.max_positions)
        return fail(STATUS_MISMATCH, "run %s: sequences of %d tokens; the model has %d positions", run->name,
                    run->positions_max, config.max_positions);
    log_event(LOG_INFO, "model", "parameters=%llu positions=%d directory=%s", (unsigned long long)*out_elements,
              run->positions_max, directory);
    return engine_open(self->engine, &config, run->positions_max, run->valid_vocab);
}

static enum status text_of_ids(void *context, const int32_t *ids, uint32_t count, struct buf *out_text) {
    struct actor *self = context;
    return tokenizer_decode(self->tokenizer, ids, count, true, out_text);
}

static void generate(void *context, const struct message_lease *lease) {
    struct actor *self = context;
    settle(self, engine_generate(self->engine, lease));
}

static void cancel(void *context, uint64_t lease) {
    struct actor *self = context;
    settle(self, engine_cancel(self->engine, lease));
}

static void load(void *context, void *take_weights, const struct message_manifest *manifest) {
    struct actor *self = context;
    settle(self, engine_load(self->engine, take_weights, manifest));
}

static void stage(void *context, struct chain *take_chain) {
    struct actor *self = context;
    settle(self, engine_stage(self->engine, take_chain));
}

static void patch(void *context) {
    struct actor *self = context;
    settle(self, engine_patch(self->engine));
}

/* ---- receiving ---- */

static void count_malformed(void *context) {
    struct actor *self = context;
    client_malformed(self->client);
}

static bool take_control(struct actor *self) {
    struct message message;
    int turn = 0;
    for (; turn < FRAMES_A_TURN && inbox_take(&self->inbox, self->control, &message); turn++)
        settle(self, client_control(self->client, &message, clock_boot_ms()));
    return turn == FRAMES_A_TURN;
}

static bool take_weights(struct actor *self) {
    struct message message;
    int turn = 0;
    for (; turn < FRAMES_A_TURN && self->weights && inbox_take(&self->inbox, self->weights, &message); turn++)
        settle(self, client_weights(self->client, &message, clock_boot_ms()));
    return turn == FRAMES_A_TURN;
}

static bool take_worker(struct actor *self, uint32_t slot) {
    struct message message;
    int turn = 0;
    for (; turn < FRAMES_A_TURN && self->workers[slot] && inbox_take(&self->inbox, self->workers[slot], &message);
         turn++)
        client_worker(self->client, slot, &message, clock_boot_ms());
    return turn == FRAMES_A_TURN;
}

static void take_event(struct actor *self, const struct engine_event *event) {
    int64_t now_ms = clock_boot_ms();
    switch (event->type) {
    case ENGINE_GENERATED:
        client_generated(self->client, &event->group, event->generation_ms, now_ms);
        break;
    case ENGINE_REFUSED:
        client_refused(self->client, event->lease, event->reason, now_ms);
        break;
    case ENGINE_PROGRESS:
        client_progress(self->client, event->progress, event->progress_count, &event->counters);
        break;
    case ENGINE_SWAPPED:
        client_swapped(self->client, &event->weights, event->pause_ms);
        break;
    case ENGINE_CANARY:
        client_canary(self->client, &event->weights, &event->canary, now_ms);
        break;
    case ENGINE_UNPATCHED:
        client_patch_refused(self->client, &event->weights, event->reason);
        break;
    case ENGINE_FAILED:
        settle(self, fail(event->status, "%s", event->reason));
        break;
    }
}

static void take_events(struct actor *self) {
    struct engine_event *event;
    while ((event = engine_next(self->engine))) {
        take_event(self, event);
        free(event);
    }
}

/* ---- running ---- */

static void wait_for_something(struct actor *self, bool more) {
    struct poll_set set = {.count = 0};
    poll_add_socket(&set, self->control);
    if (self->weights)
        poll_add_socket(&set, self->weights);
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        if (self->workers[slot])
            poll_add_socket(&set, self->workers[slot]);
    poll_add_fd(&set, engine_fd(self->engine));
    poll_add_fd(&set, daemon_stop_fd(self->daemon));
    poll_wait(&set, more ? 0 : TICK_MS);
}

static void say_state(struct actor *self, int64_t now_ms) {
    char state[256];
    client_state(self->client, now_ms, state, sizeof state);
    daemon_state(self->daemon, state, client_in_touch(self->client) ? NULL : self->control_endpoint);
}

static void loop(struct actor *self) {
    int thread = daemon_thread(self->daemon, "transport");
    int64_t deadline_ms = INT64_MAX;
    bool more = false;
    while (self->status == STATUS_OK) {
        wait_for_something(self, more);
        more = take_control(self);
        more = take_weights(self) || more;
        for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
            more = take_worker(self, slot) || more;
        take_events(self);
        int64_t now_ms = clock_boot_ms();
        settle(self, client_tick(self->client, now_ms));
        if (daemon_stopping(self->daemon) && deadline_ms == INT64_MAX) {
            deadline_ms = now_ms + self->config->net_drain_ms;
            client_drain(self->client, now_ms);
        }
        if (client_drained(self->client) || now_ms >= deadline_ms)
            break;
        say_state(self, now_ms);
        daemon_beat(self->daemon, thread);
        daemon_tick(self->daemon);
    }
    uint32_t left = client_leave(self->client, self->status == STATUS_OK ? "stopped" : self->reason);
    log_event(LOG_INFO, "left", "undelivered=%u", left);
}

static int32_t least(int64_t a, int64_t b) {
    return (int32_t)(a < b ? a : b);
}

/* A quarter more than what is in flight, so that the device does not wait for the next lease. */
static uint32_t capacity_samples(const struct run_config *config) {
    return (uint32_t)(config->actor_in_flight + config->actor_in_flight / 4);
}

static void beat_generation(void *context) {
    struct actor *self = context;
    daemon_beat(self->daemon, self->generation);
}

static void allow_generation(void *context, int64_t ms) {
    struct actor *self = context;
    daemon_allow(self->daemon, self->generation, ms);
}

static enum status open_engine(struct actor *self) {
    const struct run_config *config = self->config;
    self->generation = daemon_thread(self->daemon, "generation");
    struct engine_settings settings = {
        .device = config->actor_device,
        .threads = (int)config->actor_threads,
        .in_flight = (int32_t)config->actor_in_flight,
        .kv_tokens = config->actor_kv_tokens,
        .groups_max = least(HELD_MAX, 2 * (int64_t)capacity_samples(config) + 8),
        .beat = beat_generation,
        .allow = allow_generation,
        .beat_context = self,
    };
    return engine_start(&settings, &self->engine);
}

static enum status open_control(struct actor *self) {
    const struct run_config *config = self->config;
    struct transport_settings keys = {config->net_key, config->net_learner_key, config->net_allow};
    TRY(transport_create(&keys, &self->transport));
    if (daemon_endpoint(config->net_learner, config->run_directory, "control", false, self->control_endpoint) !=
        STATUS_OK)
        return fail_context(STATUS_CONFIG, "net.learner");
    struct socket_settings settings = {"net.learner",   self->control_endpoint, transport_learner_key(self->transport),
                                       FRAME_BYTES_MAX, MESSAGES_MAX,           0};
    return socket_connect(self->transport, &settings, &self->control);
}

static enum status open_cache(struct actor *self) {
    if (self->config->actor_cache[0]) {
        snprintf(self->cache, sizeof self->cache, "%s", self->config->actor_cache);
        return fs_make_directories(self->cache) == STATUS_OK ? STATUS_OK : fail_context(STATUS_CONFIG, "actor.cache");
    }
    return daemon_temporary("models", self->cache);
}

static enum status open_client(struct actor *self) {
    struct client_settings settings = {
        .name = text_of(self->identity.name),
        .host = text_of(self->identity.host),
        .incarnation = self->identity.incarnation,
        .pid = self->identity.pid,
        .fingerprint = engine_fingerprint(self->engine),
        .capacity_samples = capacity_samples(self->config),
        .outbox_bytes = (uint64_t)self->config->actor_outbox_bytes,
        .cache = self->cache,
    };
    struct client_actions actions = {self,         send_control, open_weights, send_fetch,  open_worker,
                                     close_worker, send_worker,  open_model,   text_of_ids, generate,
                                     cancel,       load,         stage,        patch};
    return client_create(&settings, &actions, clock_boot_ms(), &self->client);
}

static enum status run(struct daemon *daemon, const struct run_config *config) {
    static struct actor actor;
    struct actor *self = &actor;
    self->daemon = daemon;
    self->config = config;
    enum status status;
    self->inbox = (struct inbox){.malformed = count_malformed, .context = self};
    TRY_GOTO(daemon_identify(config->actor_name, &self->identity), out);
    TRY_GOTO(open_cache(self), out);
    TRY_GOTO(open_control(self), out);
    TRY_GOTO(open_engine(self), out);
    TRY_GOTO(open_client(self), out);
    log_event(LOG_INFO, "ready", "name=%s learner=%s", self->identity.name, self->control_endpoint);
    daemon_ready(daemon);
    loop(self);
    status = self->status == STATUS_OK ? STATUS_OK : fail(self->status, "%s", self->reason);
out:
    client_destroy(&self->client);
    engine_stop(&self->engine);
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        socket_close(&self->workers[slot]);
    inbox_deinit(&self->inbox);
    socket_close(&self->weights);
    socket_close(&self->control);
    transport_destroy(&self->transport);
    tokenizer_close(&self->tokenizer);
    return status;
}

static enum status check(const struct run_config *config) {
    if (!config->net_learner[0] && !config->run_directory[0])
        return fail(STATUS_CONFIG,
                    "net.learner = (empty): the learner's control endpoint, or --run DIR on the learner's machine");
    return STATUS_OK;
}

int main(int argc, char **argv) {
    static const char *const sections[] = {"run", "actor", "net", "log", NULL};
    static const struct daemon_about about = {
        .program = "candor-actor",
        .purpose =
            "Generates answers for a run of Candor: takes leases from the learner, delivers groups to reward workers.",
        .sections = sections,
        .check = check,
        .run = run,
    };
    return daemon_main(&about, argc, argv);
}
