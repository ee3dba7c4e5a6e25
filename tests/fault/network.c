/* The network: every message is encoded, flies for a while, and is decoded where it arrives. In order and whole, unless
 * a fault has it otherwise. */
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "tests/fault/sim.h"

/* ---- sending ---- */

static bool takes(struct sim *sim, enum fault fault, uint32_t rate) {
    bool hit = sim_chance(sim, rate);
    if (!hit && sim->burst[fault] > 0 && sim_chance(sim, 500)) {
        sim->burst[fault]--;
        hit = true;
    }
    sim->fault_counts[fault] += hit;
    return hit;
}

static void launch(struct sim *sim, struct event *event, int64_t extra_ms) {
    int64_t *last_ms = &sim->arrived_ms[event->from][event->process][event->channel];
    int64_t at_ms = sim->now_ms + 1 + sim_draw(sim, sim->latency_ms);
    if (extra_ms == 0) {
        at_ms = at_ms > *last_ms ? at_ms : *last_ms;
        *last_ms = at_ms;
    }
    event->at_ms = at_ms + extra_ms;
    if (++sim->flight_count > FLIGHT_MAX)
        sim_fail(sim, "I4: %u messages are on their way", sim->flight_count);
    sim_push(sim, event);
}

void network_send_frame(struct sim *sim, uint32_t from, uint32_t to, enum channel channel, peer_id connection,
                        const void *frame, size_t bytes) {
    if (takes(sim, FAULT_DROP, sim->drop_rate)) {
        sim_log(sim, "%s -> %s: %zu bytes are lost", sim_name(from), sim_name(to), bytes);
        return;
    }
    uint32_t copies = takes(sim, FAULT_DUPLICATE, sim->duplicate_rate) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        struct event event = {.kind = EVENT_FRAME,
                              .process = (uint8_t)to,
                              .from = (uint8_t)from,
                              .channel = (uint8_t)channel,
                              .life = sim->processes[to].life,
                              .connection = connection,
                              .frame = malloc(bytes),
                              .bytes = (uint32_t)bytes};
        if (!event.frame)
            abort();
        memcpy(event.frame, frame, bytes);
        if (takes(sim, FAULT_TRUNCATE, 0))
            event.bytes = sim_draw(sim, event.bytes);
        launch(sim, &event, i > 0 || takes(sim, FAULT_DELAY, sim->delay_rate) ? 1 + sim_draw(sim, 1500) : 0);
    }
}

/* A damaged chunk: the wire's damage has the wrong hash, that of the reader's memory the right one. */
static void corrupt(struct sim *sim, struct message_chunk *chunk, uint8_t *copy) {
    memcpy(copy, chunk->data, chunk->bytes);
    copy[sim_draw(sim, chunk->bytes)] ^= (uint8_t)(1u << sim_draw(sim, 8));
    chunk->data = copy;
    if (sim_draw(sim, 3) > 0)
        chunk->hash = hash64(copy, chunk->bytes);
    sim_log(sim, "chunk %u is damaged", chunk->index);
}

void network_send(struct sim *sim, uint32_t from, uint32_t to, enum channel channel, peer_id connection,
                  const struct message *message) {
    struct message sent = *message;
    uint8_t copy[CHUNK_BYTES];
    struct buf frame = {0};
    if (sent.type == MESSAGE_CHUNK && takes(sim, FAULT_CORRUPT, 0))
        corrupt(sim, &sent.chunk, copy);
    if (proto_encode(&sent, &frame) != STATUS_OK)
        sim_fail(sim, "%s cannot be sent: %s", message_name(sent.type), status_message());
    network_send_frame(sim, from, to, channel, connection, frame.data, frame.bytes);
    buf_deinit(&frame);
}

bool network_is_full(struct sim *sim) {
    return takes(sim, FAULT_FULL, 0);
}

/* ---- arriving ---- */

/* The connection is still the one over which it was sent. */
static bool is_open(const struct sim *sim, const struct event *event) {
    uint32_t from = event->from, to = event->process;
    if (event->channel == CHANNEL_GROUPS)
        return to < ACTORS ? sim->group_links[to][from - ACTORS] == event->connection
                           : sim->group_links[from][to - ACTORS] == event->connection;
    return to == LEARNER ? event->connection >= sim->processes[from].cut_below
                         : event->connection == sim->processes[to].control;
}

static void hand_over(struct sim *sim, const struct event *event, const struct message *message) {
    uint32_t to = event->process;
    if (to == LEARNER && event->channel == CHANNEL_WEIGHTS)
        learner_fetch(sim, event->from, message);
    else if (to == LEARNER)
        learner_message(sim, event->connection, message);
    else if (to >= ACTORS && event->channel == CHANNEL_CONTROL)
        reward_control(sim, to - ACTORS, message);
    else if (to >= ACTORS)
        reward_actor(sim, to - ACTORS, event->connection, message, event->bytes);
    else if (event->channel == CHANNEL_CONTROL)
        actor_control(sim, to, message);
    else if (event->channel == CHANNEL_WEIGHTS)
        actor_weights(sim, to, message);
    else
        actor_worker(sim, to, event->from - ACTORS, message);
}

static void malformed(struct sim *sim, const struct event *event) {
    if (event->process == LEARNER)
        learner_malformed(sim, event->connection);
    else if (event->process >= ACTORS)
        reward_malformed(sim, event->process - ACTORS);
    else
        actor_malformed(sim, event->process);
}

static void log_frame(struct sim *sim, const struct event *event, const struct message *message) {
    const char *from = sim_name(event->from), *to = sim_name(event->process);
    if (!message)
        sim_log(sim, "%s -> %s: cannot be read", from, to);
    else if (message->type == MESSAGE_LEASE)
        sim_log(sim, "%s -> %s: lease %llx of stream %u step %u slot %u, version %u", from, to,
                (unsigned long long)message->lease.lease, message->lease.key.stream, message->lease.key.step,
                message->lease.key.slot, message->lease.version);
    else if (message->type == MESSAGE_HEARTBEAT)
        sim_log(sim, "%s -> %s: heartbeat: %s", from, to, message->heartbeat.state.data);
    else if (message->type == MESSAGE_FETCH)
        sim_log(sim, "%s -> %s: fetch %u from %u of %llx", from, to, message->fetch.count, message->fetch.first,
                (unsigned long long)message->fetch.object.low);
    else
        sim_log(sim, "%s -> %s: %s", from, to, message_name(message->type));
}

void network_arrive(struct sim *sim, struct event *event) {
    struct message message;
    if (is_open(sim, event)) {
        arena_reset(&sim->arena);
        bool whole = proto_decode(event->frame, event->bytes, &sim->arena, &message) == STATUS_OK;
        if (sim->logs)
            log_frame(sim, event, whole ? &message : NULL);
        if (whole)
            hand_over(sim, event, &message);
        else
            malformed(sim, event); /* I5 */
    }
    sim->flight_count--;
    free(event->frame);
}

/* What flies over the old connections is lost, or, where it was in the receiver's buffers, comes late, over a connection that has
 * nobody behind it any more; the process goes on over new ones without knowing. */
void network_cut(struct sim *sim, uint32_t process, bool noticed) {
    struct process *cut = &sim->processes[process];
    peer_id old = cut->control;
    cut->control = sim->next_connection++;
    if (sim_draw(sim, 3) > 0)
        cut->cut_below = cut->control;
    for (uint32_t a = 0; a < ACTORS; a++)
        for (uint32_t w = 0; w < WORKERS; w++)
            if ((a == process || ACTORS + w == process) && sim->group_links[a][w])
                sim->group_links[a][w] = sim->next_connection++;
    if (noticed)
        learner_disconnected(sim, old);
}
