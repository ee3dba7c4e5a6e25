/* A reward worker: the real one, scoring included. What it says to an actor is compared with what the hub said (W1). */
#include "reward/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "tests/fault/sim.h"

struct reward {
    struct worker *worker;
    struct sim *sim;
    uint32_t index; /* process */
    bool was_ready, old_build;
    char endpoint[32];
    struct map sent; /* leases whose group went to the hub */
};

/* I5: beside the scored group, another one that the hub must not take, under a lease that nobody holds. */
static void send_foreign(struct reward *reward, const void *frame, size_t bytes) {
    struct sim *sim = reward->sim;
    struct message message;
    struct arena arena;
    arena_init(&arena, 1u << 20);
    sim->burst[FAULT_FOREIGN]--;
    sim->fault_counts[FAULT_FOREIGN]++;
    if (proto_decode(frame, bytes, &arena, &message) != STATUS_OK)
        abort();
    struct message_group *group = &message.scored.group;
    group->lease ^= 1ull << 60;
    group->samples[0].ids[0] ^= 1; /* never the right content */
    group->same_class = 0;         /* or a filled slot shows a mismatch, rightly */
    switch (sim_draw(sim, 5)) {
    case 0:
        group->key.run_id++;
        break;
    case 1:
        group->config.low++;
        break;
    case 2:
        group->weights.low++;
        break;
    case 3:
        group->sample_count = message.scored.score_count = 1;
        break;
    default:
        group->key.slot += 1000;
    }
    network_send(sim, reward->index, LEARNER, CHANNEL_CONTROL, sim->processes[reward->index].control, &message);
    arena_deinit(&arena);
}

static void watch_sent(struct reward *reward, const void *frame, size_t bytes) {
    struct sim *sim = reward->sim;
    struct message message;
    struct arena arena;
    arena_init(&arena, 1u << 20);
    if (proto_decode(frame, bytes, &arena, &message) != STATUS_OK)
        sim_fail(sim, "%s sends what nobody can read", sim_name(reward->index));
    if (message.type == MESSAGE_SCORED) {
        uint64_t lease = message.scored.group.lease;
        sim_row(sim, map_get(&reward->sent, lease) ? ROW_WORKER_RESENT : ROW_WORKER_SENT);
        if (map_put(&reward->sent, lease, reward) != STATUS_OK)
            abort();
        if (sim->burst[FAULT_FOREIGN] > 0)
            send_foreign(reward, frame, bytes);
    }
    arena_deinit(&arena);
}

/* In place of all that a worker of another build says: its hello. */
static void send_hello(struct reward *reward) {
    struct sim *sim = reward->sim;
    struct text none = text_of("");
    struct message message = {.type = MESSAGE_HELLO};
    message.hello = (struct message_hello){.protocol = PROTOCOL_VERSION + 1,
                                           .role = ROLE_REWARD,
                                           .name = text_of(sim_name(reward->index)),
                                           .host = text_of("host"),
                                           .incarnation = 1,
                                           .fingerprint = {none, none, none, none},
                                           .endpoint = text_of(reward->endpoint),
                                           .key = none};
    network_send(sim, reward->index, LEARNER, CHANNEL_CONTROL, sim->processes[reward->index].control, &message);
}

static bool on_control(void *context, const void *frame, size_t bytes) {
    struct reward *reward = context;
    if (network_is_full(reward->sim))
        return false;
    watch_sent(reward, frame, bytes);
    if (reward->old_build) {
        send_hello(reward);
        return true;
    }
    network_send_frame(reward->sim, reward->index, LEARNER, CHANNEL_CONTROL,
                       reward->sim->processes[reward->index].control, frame, bytes);
    return true;
}

static void on_actor(void *context, uint64_t peer, const struct message *message) {
    struct reward *reward = context;
    struct sim *sim = reward->sim;
    if (message->type == MESSAGE_ANSWER) {
        sim_row(sim, ROW_WORKER_ANSWERED);
        if (!learner_answered(sim, message->answer.lease))
            sim_fail(sim, "W1: %s acknowledges what the hub has not", sim_name(reward->index));
    }
    if (peer == sim->stranger)
        sim_check_refused(sim, message);
    for (uint32_t a = 0; a < ACTORS; a++)
        if (sim->group_links[a][reward->index - ACTORS] == peer) {
            network_send(sim, reward->index, a, CHANNEL_GROUPS, peer, message);
            return;
        }
}

static void watch(struct reward *reward, enum status status) {
    struct sim *sim = reward->sim;
    worker_check(reward->worker);
    if (status == STATUS_CONFIG && reward->old_build && strstr(status_message(), "protocol")) {
        sim_row(sim, ROW_WORKER_REFUSED_FOR_GOOD);
        faults_kill(sim, reward->index);
        return;
    }
    if (status != STATUS_OK)
        sim_fail(sim, "%s ends: %s", sim_name(reward->index), status_message());
    bool ready = worker_ready(reward->worker);
    if (ready != reward->was_ready)
        sim_row(sim, ready ? ROW_WORKER_WELCOMED : ROW_WORKER_REFUSED);
    reward->was_ready = ready;
}

void reward_start(struct sim *sim, uint32_t index) {
    struct reward *reward = calloc(1, sizeof *reward);
    if (!reward)
        abort();
    struct process *process = &sim->processes[ACTORS + index];
    *reward = (struct reward){.sim = sim, .index = ACTORS + index, .old_build = process->old_build};
    process->old_build = false;
    snprintf(reward->endpoint, sizeof reward->endpoint, "ipc:///groups%u", index);
    struct worker_settings settings = {.name = text_of(sim_name(ACTORS + index)),
                                       .host = text_of("host"),
                                       .incarnation = sim_incarnation(sim) + ACTORS + index,
                                       .pid = index,
                                       .endpoint = text_of(reward->endpoint),
                                       .key = text_of("")};
    struct worker_actions actions = {reward, on_control, on_actor};
    if (worker_create(&settings, &actions, sim_clock(sim, ACTORS + index), &reward->worker) != STATUS_OK)
        sim_fail(sim, "%s: %s", sim_name(ACTORS + index), status_message());
    sim->rewards[index] = reward;
}

void reward_kill(struct sim *sim, uint32_t index) {
    struct reward *reward = sim->rewards[index];
    sim->rewards[index] = NULL;
    if (!reward)
        return;
    worker_destroy(&reward->worker);
    map_deinit(&reward->sent);
    free(reward);
}

void reward_tick(struct sim *sim, uint32_t index) {
    struct reward *reward = sim->rewards[index];
    const struct process *process = &sim->processes[ACTORS + index];
    worker_tick(reward->worker, sim_clock(sim, ACTORS + index));
    watch(reward, STATUS_OK);
    if (!process->stopping || (!worker_drained(reward->worker) && sim->now_ms < process->leave_ms))
        return;
    if (worker_drained(reward->worker))
        sim_row(sim, ROW_WORKER_DRAINED);
    worker_leave(reward->worker, "it stops");
    faults_kill(sim, ACTORS + index);
}

void reward_control(struct sim *sim, uint32_t index, const struct message *message) {
    struct reward *reward = sim->rewards[index];
    watch(reward, worker_control(reward->worker, message, sim_clock(sim, ACTORS + index)));
}

void reward_actor(struct sim *sim, uint32_t index, peer_id peer, const struct message *message, size_t bytes) {
    struct reward *reward = sim->rewards[index];
    worker_actor(reward->worker, peer, message, bytes, sim_clock(sim, ACTORS + index));
    watch(reward, STATUS_OK);
}

void reward_malformed(struct sim *sim, uint32_t index) {
    worker_malformed(sim->rewards[index]->worker);
}

void reward_drain(struct sim *sim, uint32_t index) {
    worker_drain(sim->rewards[index]->worker);
    watch(sim->rewards[index], STATUS_OK);
}
