/* candor-reward: scores groups of answers. One thread: a ROUTER for actors, a DEALER to the learner, and the state machine of
 * worker.h between them. It holds nothing that must survive. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/transport/daemon.h"
#include "common/transport/socket.h"
#include "proto/proto.h"
#include "reward/worker.h"

/* Frames taken from a socket before the other one has its turn. */
#define FRAMES_A_TURN 64
/* Messages of one peer under way in ZeroMQ: large ones are bounded by credit, the others are small. Fewer would lose
 * answers when a starved process gets many at once. */
#define MESSAGES_MAX 1024

struct daemon_reward {
    struct daemon *daemon;
    struct transport *transport;
    void *groups, *control;
    struct worker *worker;
    struct worker_settings settings;
    struct daemon_identity identity;
    char endpoint[ENDPOINT_BYTES_MAX + 1], learner[ENDPOINT_BYTES];
    struct inbox inbox;
    enum status status; /* final, once it is not STATUS_OK, with its message */
    char reason[STATUS_MESSAGE_BYTES];
};

/* ---- the state machine's actions ---- */

static bool send_control(void *context, const void *frame, size_t bytes) {
    struct daemon_reward *self = context;
    return socket_send(self->control, frame, bytes) == STATUS_OK;
}

static void send_actor(void *context, uint64_t peer, const struct message *message) {
    struct daemon_reward *self = context;
    struct buf frame = {0};
    if (proto_encode(message, &frame) == STATUS_OK)
        socket_send_to(self->groups, peer, frame.data, frame.bytes); /* an actor that is gone asks again */
    buf_deinit(&frame);
}

/* ---- receiving ---- */

static void count_malformed(void *context) {
    struct daemon_reward *self = context;
    worker_malformed(self->worker);
}

static bool take_control(struct daemon_reward *self) {
    struct message message;
    int turn = 0;
    for (; turn < FRAMES_A_TURN && self->status == STATUS_OK && inbox_take(&self->inbox, self->control, &message);
         turn++)
        self->status = worker_control(self->worker, &message, clock_boot_ms());
    if (self->status != STATUS_OK)
        snprintf(self->reason, sizeof self->reason, "%s", status_message());
    return turn == FRAMES_A_TURN;
}

static bool take_groups(struct daemon_reward *self) {
    struct message message;
    int turn = 0;
    for (; turn < FRAMES_A_TURN && inbox_take(&self->inbox, self->groups, &message); turn++)
        worker_actor(self->worker, self->inbox.frame.peer, &message, self->inbox.frame.bytes, clock_boot_ms());
    return turn == FRAMES_A_TURN;
}

/* ---- running ---- */

static void say_state(struct daemon_reward *self, int64_t now_ms) {
    char state[256];
    worker_state(self->worker, now_ms, state, sizeof state);
    daemon_state(self->daemon, state, worker_ready(self->worker) ? NULL : self->learner);
}

static void loop(struct daemon_reward *self, int64_t drain_ms) {
    int thread = daemon_thread(self->daemon, "main");
    int64_t deadline_ms = INT64_MAX;
    bool more = false;
    while (self->status == STATUS_OK) {
        struct poll_set set = {.count = 0};
        poll_add_socket(&set, self->control);
        poll_add_socket(&set, self->groups);
        poll_add_fd(&set, daemon_stop_fd(self->daemon));
        poll_wait(&set, more ? 0 : 100);
        more = take_control(self);
        more = take_groups(self) || more;
        int64_t now_ms = clock_boot_ms();
        worker_tick(self->worker, now_ms);
        if (daemon_stopping(self->daemon) && deadline_ms == INT64_MAX) {
            deadline_ms = now_ms + drain_ms;
            worker_drain(self->worker);
        }
        if (worker_drained(self->worker) || now_ms >= deadline_ms)
            break;
        say_state(self, now_ms);
        daemon_beat(self->daemon, thread);
        daemon_tick(self->daemon);
    }
    uint32_t left = worker_leave(self->worker, self->status == STATUS_OK ? "stopped" : self->reason);
    log_event(LOG_INFO, "left", "undelivered=%u", left);
}

static enum status open_sockets(struct daemon_reward *self, const struct run_config *config) {
    char bind[ENDPOINT_BYTES], name[64];
    struct transport_settings keys = {config->net_key, config->net_learner_key, config->net_allow};
    TRY(transport_create(&keys, &self->transport));
    if (daemon_endpoint(config->net_learner, config->run_directory, "control", false, self->learner) != STATUS_OK)
        return fail_context(STATUS_CONFIG, "net.learner");
    snprintf(name, sizeof name, "reward-%u", self->identity.pid);
    if (daemon_endpoint(config->reward_bind, config->run_directory, name, true, bind) != STATUS_OK)
        return fail_context(STATUS_CONFIG, "reward.bind");
    struct socket_settings settings = {"reward.bind", bind, NULL, FRAME_BYTES_MAX, MESSAGES_MAX, 0};
    TRY(socket_bind(self->transport, &settings, &self->groups));
    TRY(socket_endpoint(self->groups, self->endpoint));
    settings = (struct socket_settings){"net.learner",   self->learner, transport_learner_key(self->transport),
                                        FRAME_BYTES_MAX, MESSAGES_MAX,  0};
    TRY(socket_connect(self->transport, &settings, &self->control));
    log_event(LOG_INFO, "ready", "groups=%s learner=%s", self->endpoint, self->learner);
    return STATUS_OK;
}

static enum status run(struct daemon *daemon, const struct run_config *config) {
    struct daemon_reward self = {.daemon = daemon};
    enum status status;
    self.inbox = (struct inbox){.malformed = count_malformed, .context = &self};
    TRY_GOTO(daemon_identify("", &self.identity), out);
    TRY_GOTO(open_sockets(&self, config), out);
    self.settings = (struct worker_settings){
        .name = text_of(self.identity.name),
        .host = text_of(self.identity.host),
        .incarnation = self.identity.incarnation,
        .pid = self.identity.pid,
        .endpoint = text_of(config->reward_advertise[0] ? config->reward_advertise : self.endpoint),
        .key = text_of(transport_public_key(self.transport)),
    };
    struct worker_actions actions = {&self, send_control, send_actor};
    TRY_GOTO(worker_create(&self.settings, &actions, clock_boot_ms(), &self.worker), out);
    daemon_ready(daemon);
    loop(&self, config->net_drain_ms);
    status = self.status == STATUS_OK ? STATUS_OK : fail(self.status, "%s", self.reason);
out:
    worker_destroy(&self.worker);
    inbox_deinit(&self.inbox);
    socket_close(&self.groups);
    socket_close(&self.control);
    transport_destroy(&self.transport);
    return status;
}

static enum status check(const struct run_config *config) {
    if (!config->net_learner[0] && !config->run_directory[0])
        return fail(STATUS_CONFIG,
                    "net.learner = (empty): the learner's control endpoint, or --run DIR on the learner's machine");
    return STATUS_OK;
}

int main(int argc, char **argv) {
    static const char *const sections[] = {"run", "reward", "net", "log", NULL};
    static const struct daemon_about about = {
        .program = "candor-reward",
        .purpose =
            "Scores groups of answers for a run of Candor: takes them from actors, delivers them to the learner.",
        .sections = sections,
        .check = check,
        .run = run,
    };
    return daemon_main(&about, argc, argv);
}
