/* candor-bench-hub [--actors N] [--seconds S]: real groups (20 answers of 100 tokens) through lease, delivery and acknowledgement.
 *
 * The hub's thread serves over ipc, as in a learner; this process is the hub alone, and its memory is printed. A second process
 * plays N actors and two reward workers with a socket each: an actor generates at once, a worker sends what is scored to the hub and
 * takes the answer, the actor beats when its lease is free. Counted are accepted groups taken by the owner as whole steps. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/hub/server.h"
#include "common/transport/socket.h"
#include "proto/proto.h"

enum { SAMPLES = 20, TOKENS = 100, SLOTS = 2048, AHEAD = 3, WORKERS = 2, HELD = 8, STOP = 1 };

struct actor {
    void *socket;
    uint64_t held[HELD], last_lease;
    uint32_t held_count;
};

struct players {
    struct transport *transport;
    const char *control;
    uint32_t actor_count;
    struct actor *actors;
    uint32_t holder[LEASES_MAX]; /* of the lease with this place in the hub's table */
    void *workers[WORKERS];
    struct answer_sample samples[SAMPLES];
    struct sample_score scores[SAMPLES];
    struct arena arena;
    struct buf frame;
};

static void require(enum status status) {
    if (status != STATUS_OK) {
        fprintf(stderr, "candor-bench-hub: %s\n", status_message());
        exit(status_exit_code(status));
    }
}

/* ---- actors and workers ---- */

static void send_message(struct players *players, void *socket, const struct message *message) {
    buf_reset(&players->frame);
    require(proto_encode(message, &players->frame));
    enum status status;
    while ((status = socket_send(socket, players->frame.data, players->frame.bytes)) == STATUS_AGAIN)
        poll(NULL, 0, 1);
    require(status);
}

static const struct message_lease template = {.samples = SAMPLES,
                                              .max_new_tokens = TOKENS,
                                              .temperature = 1,
                                              .grading = {.question = {"what is the capital of France?", 30}}};

static void *join(struct players *players, uint8_t role, uint64_t incarnation) {
    void *socket;
    struct socket_settings settings = {
        .name = "bench", .endpoint = players->control, .frame_bytes_max = FRAME_BYTES_MAX, .messages_max = 1000};
    require(socket_connect(players->transport, &settings, &socket));
    struct message hello = {.type = MESSAGE_HELLO};
    hello.hello = (struct message_hello){.protocol = PROTOCOL_VERSION,
                                         .role = role,
                                         .name = text_of("bench"),
                                         .incarnation = incarnation,
                                         .capacity_samples = SAMPLES,
                                         .capacity_bytes = HELD * lease_weigh(&template),
                                         .endpoint = text_of("ipc:///bench")};
    send_message(players, socket, &hello);
    return socket;
}

static void make_samples(struct players *players) {
    static int32_t ids[SAMPLES][TOKENS];
    static float logprobs[SAMPLES][TOKENS];
    static char text[4 * TOKENS + 1];
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < SAMPLES; i++) {
        for (int t = 0; t < TOKENS; t++) {
            ids[i][t] = 2 + (i * TOKENS + t) * 7919 % 150000;
            logprobs[i][t] = -(float)(t % 17) / 16;
        }
        players->samples[i] = (struct answer_sample){
            .ids = ids[i], .logprobs = logprobs[i], .count = TOKENS, .finish = FINISH_LENGTH, .text = text_of(text)};
    }
}

static struct message scored_of(struct players *players, uint32_t index, const struct message_lease *lease) {
    struct message message = {.type = MESSAGE_SCORED};
    message.scored = (struct message_scored){.group = {.lease = lease->lease,
                                                       .key = lease->key,
                                                       .weights = lease->weights,
                                                       .config = lease->config,
                                                       .actor = index + 1,
                                                       .actor_name = text_of("bench"),
                                                       .same_class = 1,
                                                       .samples = players->samples,
                                                       .sample_count = SAMPLES,
                                                       .grading = lease->grading},
                                             .scores = players->scores,
                                             .score_count = SAMPLES,
                                             .worker = 1u << 20,
                                             .worker_name = text_of("bench")};
    return message;
}

static void generate(struct players *players, uint32_t index, const struct message_lease *lease) {
    struct message message = scored_of(players, index, lease);
    send_message(players, players->workers[index % WORKERS], &message);
}

/* What one scored group is on the wire. */
static size_t group_bytes(void) {
    static struct sample_score scores[SAMPLES];
    struct players players = {0};
    struct buf frame = {0};
    make_samples(&players);
    struct message_lease lease = template;
    lease.lease = 1;
    lease.key.stream = WORK_TRAIN;
    struct message message = scored_of(&players, 0, &lease);
    message.scored.scores = scores;
    require(proto_encode(&message, &frame));
    size_t bytes = frame.bytes;
    buf_deinit(&frame);
    return bytes;
}

/* Everything that it holds is done: it waits for an answer. */
static void beat(struct players *players, uint32_t index) {
    struct actor *actor = &players->actors[index];
    struct lease_progress held[HELD];
    for (uint32_t i = 0; i < actor->held_count; i++)
        held[i] =
            (struct lease_progress){.lease = actor->held[i], .tokens_done = SAMPLES * TOKENS, .state = LEASE_DONE};
    struct message message = {.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){
        .incarnation = index + 1, .last_lease = actor->last_lease, .held = held, .held_count = actor->held_count};
    send_message(players, actor->socket, &message);
}

static void take_lease(struct players *players, uint32_t index, const struct message_lease *lease) {
    struct actor *actor = &players->actors[index];
    ASSERT(actor->held_count < HELD); /* the hub keeps to capacity_bytes */
    actor->held[actor->held_count++] = lease->lease;
    if (lease->lease > actor->last_lease)
        actor->last_lease = lease->lease;
    players->holder[lease->lease & (LEASES_MAX - 1)] = index;
    generate(players, index, lease);
}

/* As a worker does that knows whose group it was. */
static void take_answer(struct players *players, uint64_t lease) {
    uint32_t index = players->holder[lease & (LEASES_MAX - 1)];
    struct actor *actor = &players->actors[index];
    for (uint32_t i = 0; i < actor->held_count; i++) {
        if (actor->held[i] != lease)
            continue;
        actor->held[i] = actor->held[--actor->held_count];
        beat(players, index);
        return;
    }
}

/* Everything that came to one socket. */
static void receive_all(struct players *players, void *socket, uint32_t index, struct socket_frame *frame) {
    while (socket_receive(socket, frame) == STATUS_OK) {
        struct message message;
        arena_reset(&players->arena);
        require(proto_decode(frame->data, frame->bytes, &players->arena, &message));
        if (message.type == MESSAGE_LEASE)
            take_lease(players, index, &message.lease);
        else if (message.type == MESSAGE_ANSWER)
            take_answer(players, message.answer.lease);
    }
}

/* Until it is killed. */
static void play(struct players *players) {
    struct socket_frame frame = {0};
    make_samples(players);
    arena_init(&players->arena, 1u << 26);
    players->actors = calloc(players->actor_count, sizeof players->actors[0]);
    if (!players->actors)
        exit(1);
    require(transport_create(&(struct transport_settings){"", "", ""}, &players->transport));
    for (int i = 0; i < WORKERS; i++)
        players->workers[i] = join(players, ROLE_REWARD, (1u << 20) + (uint64_t)i);
    for (uint32_t i = 0; i < players->actor_count; i++)
        players->actors[i].socket = join(players, ROLE_ACTOR, i + 1);
    double beaten = clock_seconds();
    for (;;) {
        for (uint32_t i = 0; i < players->actor_count; i++) {
            receive_all(players, players->actors[i].socket, i, &frame);
            if (i % 16 == 0) {
                for (int w = 0; w < WORKERS; w++)
                    receive_all(players, players->workers[w], 0, &frame);
            }
        }
        if (clock_seconds() - beaten > 1) {
            for (uint32_t i = 0; i < players->actor_count; i++)
                beat(players, i);
            for (int i = 0; i < WORKERS; i++) {
                struct message message = {.type = MESSAGE_HEARTBEAT,
                                          .heartbeat = {.incarnation = (1u << 20) + (uint64_t)i}};
                send_message(players, players->workers[i], &message);
            }
            beaten = clock_seconds();
        }
    }
}

/* In a process of its own, which begins when the hub listens. */
static pid_t start_players(struct players *players, int *out_begin) {
    int ends[2];
    char byte;
    if (pipe(ends) != 0)
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[1]);
        if (read(ends[0], &byte, 1) == 1)
            play(players);
        _exit(1);
    }
    close(ends[0]);
    *out_begin = ends[1];
    return child;
}

/* ---- the owner ---- */

static void offer(struct hub_server *server, uint32_t step) {
    static int32_t prompt[150], stops[] = {STOP};
    static struct message_lease slots[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        slots[i] = template;
        slots[i].prompt = prompt;
        slots[i].prompt_count = 150;
        slots[i].stops = stops;
        slots[i].stop_count = 1;
    }
    struct hub_work work = {.stream = WORK_TRAIN, .step = step, .priority = step, .slot_count = SLOTS, .slots = slots};
    require(hub_server_offer(server, &work));
}

static double run(struct hub_server *server, double seconds) {
    struct completed_work *work;
    uint32_t offered = 0, taken = 0;
    for (; offered < AHEAD; offered++)
        offer(server, offered);
    require(hub_server_take(server, WORK_TRAIN, taken++, 60000, &work)); /* everybody has joined */
    completed_work_free(&work);
    double begin = clock_seconds();
    uint32_t first = taken;
    do {
        offer(server, offered++);
        require(hub_server_take(server, WORK_TRAIN, taken++, 60000, &work));
        completed_work_free(&work);
    } while (clock_seconds() - begin < seconds);
    return (double)(taken - first) * SLOTS / (clock_seconds() - begin);
}

static struct published first_version(void) {
    static uint64_t content;
    return (struct published){.data = &content, .elements = 4, .dtype = 0};
}

int main(int argc, char **argv) {
    static struct run_config config;
    static struct players players = {.actor_count = 1000};
    double seconds = 5;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--actors") == 0)
            players.actor_count = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
    }
    char directory[] = "/tmp/candor-bench-XXXXXX", control[64], weights[64];
    if (!mkdtemp(directory) || players.actor_count == 0)
        return 64;
    snprintf(control, sizeof control, "ipc://%s/control", directory);
    snprintf(weights, sizeof weights, "ipc://%s/weights", directory);
    require(config_defaults(&run_options, &config));
    int begin;
    players.control = control;
    pid_t child = start_players(&players, &begin);
    if (child < 0)
        return 1;
    struct hub_server *server;
    struct hub_server_settings settings = {
        .hub = {.run_id = 1, .incarnation = 1, .run = "bench", .heartbeat_ms = 1000, .lease_ms = 60000},
        .control = control,
        .weights = weights,
        .config = &config,
        .model_directory = ""};
    settings.hub.fingerprint = (struct fingerprint){text_of(""), text_of(""), text_of(""), text_of("")};
    require(hub_server_start(&settings, &server));
    struct published version = first_version();
    require(hub_server_publish(server, &version));
    if (write(begin, "b", 1) != 1)
        return 1;
    double rate = run(server, seconds);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("groups of %d x %d tokens, %zu bytes each, over ipc, %u actors: %.0f groups/s, %.1f million tokens/s, peak "
           "memory of the hub %ld MB with %d slots open\n",
           SAMPLES, TOKENS, group_bytes(), players.actor_count, rate, rate * SAMPLES * TOKENS / 1e6,
           usage.ru_maxrss / 1024, AHEAD * SLOTS);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    hub_server_stop(&server, 0, "done");
    require(fs_remove_tree(directory));
    return 0;
}
