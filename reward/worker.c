#include "reward/worker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/transport/outbox.h"
#include "proto/proto.h"

/* An actor's connection since its knock. */
struct actor {
    uint64_t peer, incarnation;
    uint64_t taken;   /* bytes of its groups */
    uint64_t inside;  /* bytes of its scored groups in the outbox */
    uint64_t granted; /* told to it */
    int64_t heard_ms;
};

struct worker {
    struct worker_settings settings;
    struct worker_actions actions;
    bool joined, draining, leaving;
    bool unheard; /* the last heartbeat could not be sent */
    uint64_t hub; /* incarnation */
    uint32_t heartbeat_interval_ms;
    int64_t hello_ms, heartbeat_ms; /* the next ones */
    struct outbox *outbox;
    struct actor *actors;
    uint32_t actor_count, actor_capacity;
    uint64_t groups, answers, unscorable, repeated, dropped;
    uint64_t verdicts[VERDICT_COUNT];
};

/* ---- creation ---- */

enum status worker_create(const struct worker_settings *settings, const struct worker_actions *actions, int64_t now_ms,
                          struct worker **out_worker) {
    ASSERT(settings->incarnation != 0);
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return fail(STATUS_NO_MEMORY, "reward worker");
    worker->settings = *settings;
    worker->actions = *actions;
    worker->hello_ms = now_ms;
    enum status status = outbox_create(WORKER_OUTBOX_BYTES, &worker->outbox);
    if (status != STATUS_OK)
        worker_destroy(&worker);
    else
        *out_worker = worker;
    return status;
}

void worker_destroy(struct worker **worker) {
    if (*worker) {
        outbox_destroy(&(*worker)->outbox);
        free((*worker)->actors);
    }
    free(*worker);
    *worker = NULL;
}

/* ---- the hub ---- */

/* False: it was not sent. */
static bool send_control(struct worker *worker, const struct message *message) {
    struct buf frame = {0};
    bool sent = false;
    if (proto_encode(message, &frame) == STATUS_OK)
        sent = worker->actions.control(worker->actions.context, frame.data, frame.bytes);
    else
        LOG_EVERY(10000, LOG_ERROR, "message_not_sent", "reason=\"%s\"", status_message());
    buf_deinit(&frame);
    return sent;
}

static void say_hello(struct worker *worker, int64_t now_ms) {
    struct message message = {.type = MESSAGE_HELLO};
    struct text none = text_of("");
    message.hello = (struct message_hello){
        .protocol = PROTOCOL_VERSION,
        .role = ROLE_REWARD,
        .name = worker->settings.name,
        .host = worker->settings.host,
        .incarnation = worker->settings.incarnation,
        .pid = worker->settings.pid,
        .fingerprint = {none, none, none, none},
        .endpoint = worker->settings.endpoint,
        .key = worker->settings.key,
    };
    worker->hello_ms = now_ms + WORKER_HELLO_MS;
    send_control(worker, &message);
}

static void beat(struct worker *worker, int64_t now_ms) {
    char state[REASON_BYTES_MAX + 1];
    worker_state(worker, now_ms, state, sizeof state);
    struct counter counters[] = {
        {text_of("groups"), (double)worker->groups},
        {text_of("answers"), (double)worker->answers},
        {text_of("unscorable"), (double)worker->unscorable},
        {text_of("groups_repeated"), (double)worker->repeated},
        {text_of("messages_dropped"), (double)worker->dropped},
        {text_of("actors"), worker->actor_count},
        {text_of("outbox_groups"), outbox_count(worker->outbox)},
        {text_of("outbox_bytes"), (double)outbox_bytes(worker->outbox)},
        {text_of("outbox_age_ms"), (double)outbox_age_ms(worker->outbox, now_ms)},
        {text_of("correct"), (double)worker->verdicts[VERDICT_CORRECT]},
        {text_of("process_correct"), (double)worker->verdicts[VERDICT_PROCESS_CORRECT]},
        {text_of("abstain"), (double)worker->verdicts[VERDICT_ABSTAIN]},
        {text_of("wrong"), (double)worker->verdicts[VERDICT_WRONG]},
        {text_of("malformed"), (double)worker->verdicts[VERDICT_MALFORMED]},
    };
    struct message message = {.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){
        .incarnation = worker->settings.incarnation,
        .progress = worker->answers,
        .counters = counters,
        .counter_count = sizeof counters / sizeof *counters,
        .state = text_of(state),
    };
    worker->heartbeat_ms = now_ms + worker->heartbeat_interval_ms;
    worker->unheard = !send_control(worker, &message);
}

/* Send what is due, oldest first, as far as the socket takes it. */
static void deliver(struct worker *worker, int64_t now_ms) {
    struct outbox_entry *entry;
    while (worker->joined && (entry = outbox_due(worker->outbox, now_ms, WORKER_RESEND_MS))) {
        if (!worker->actions.control(worker->actions.context, entry->frame, entry->bytes))
            return;
        outbox_sent(worker->outbox, entry, worker->hub, now_ms);
    }
}

static void lose_hub(struct worker *worker, int64_t hello_ms, const char *why) {
    if (worker->joined)
        log_event(LOG_INFO, "hub_lost", "reason=\"%s\"", why);
    worker->joined = false;
    worker->hello_ms = hello_ms;
    outbox_lost(worker->outbox, worker->hub);
}

/* ---- actors ---- */

static struct actor *find_actor(struct worker *worker, uint64_t peer) {
    for (uint32_t i = 0; i < worker->actor_count; i++)
        if (worker->actors[i].peer == peer)
            return &worker->actors[i];
    return NULL;
}

static void grant(struct worker *worker, struct actor *actor) {
    uint64_t share = WORKER_WINDOW_BYTES / worker->actor_count;
    if (share < FRAME_BYTES_MAX)
        share = FRAME_BYTES_MAX;
    uint64_t granted = actor->taken + (actor->inside < share ? share - actor->inside : 0);
    /* Worth a message when it is the first, or moved by an eighth of the share. */
    if (worker->draining || (actor->granted && granted < actor->granted + share / 8))
        return;
    actor->granted = granted;
    struct message message = {.type = MESSAGE_CREDIT, .credit = {worker->settings.incarnation, granted}};
    worker->actions.actor(worker->actions.context, actor->peer, &message);
}

static void refuse(struct worker *worker, uint64_t peer, const char *reason, bool again) {
    struct message message = {.type = MESSAGE_REFUSE, .refuse = {text_of(reason), again}};
    worker->dropped++;
    worker->actions.actor(worker->actions.context, peer, &message);
}

static void forget_actor(struct worker *worker, struct actor *actor) {
    *actor = worker->actors[--worker->actor_count];
}

static struct actor *add_actor(struct worker *worker) {
    if (worker->actor_count == PEERS_MAX)
        return NULL;
    if (worker->actor_count == worker->actor_capacity) {
        uint32_t capacity = worker->actor_capacity ? 2 * worker->actor_capacity : 16;
        struct actor *actors = realloc(worker->actors, capacity * sizeof *actors);
        if (!actors)
            return NULL;
        worker->actors = actors;
        worker->actor_capacity = capacity;
    }
    return &worker->actors[worker->actor_count++];
}

static void take_knock(struct worker *worker, uint64_t peer, const struct message_knock *knock, int64_t now_ms) {
    if (knock->protocol != PROTOCOL_VERSION) {
        char reason[96];
        snprintf(reason, sizeof reason, "protocol %u; this reward worker speaks %d", knock->protocol, PROTOCOL_VERSION);
        refuse(worker, peer, reason, false);
        return;
    }
    if (worker->draining)
        return; /* no credit, no groups */
    for (uint32_t i = worker->actor_count; i-- > 0;)
        if (worker->actors[i].incarnation == knock->incarnation || worker->actors[i].peer == peer)
            forget_actor(worker, &worker->actors[i]);
    struct actor *actor = add_actor(worker);
    if (!actor) {
        refuse(worker, peer, "this reward worker has no room for another actor", true);
        return;
    }
    *actor = (struct actor){.peer = peer, .incarnation = knock->incarnation, .heard_ms = now_ms};
    grant(worker, actor);
}

/* Score and keep. */
static void score_group(struct worker *worker, struct actor *actor, const struct message_group *group, int64_t now_ms) {
    struct sample_score scores[SAMPLES_MAX];
    const char *reason;
    worker_score(group, scores, &reason);
    if (reason) {
        worker->unscorable++;
        LOG_EVERY(10000, LOG_WARNING, "group_unscorable", "step=%u slot=%u reason=\"%s\"", group->key.step,
                  group->key.slot, reason);
    } else {
        for (uint32_t i = 0; i < group->sample_count; i++)
            worker->verdicts[scores[i].verdict]++;
    }
    struct message message = {.type = MESSAGE_SCORED};
    message.scored = (struct message_scored){*group, scores, group->sample_count, worker->settings.incarnation,
                                             worker->settings.name};
    struct buf frame = {0};
    enum status status = proto_encode(&message, &frame);
    uint64_t bytes = frame.bytes;
    if (status == STATUS_OK)
        status = outbox_put(worker->outbox, &group->key, group->lease, actor->peer, &frame, now_ms);
    buf_deinit(&frame);
    if (status != STATUS_OK) {
        worker->dropped++; /* the actor keeps it and sends it again */
        LOG_EVERY(10000, LOG_WARNING, "group_dropped", "reason=\"%s\"",
                  status == STATUS_AGAIN ? "the outbox is full: the learner takes nothing" : status_message());
        return;
    }
    actor->inside += bytes;
    worker->groups++;
    worker->answers += group->sample_count;
}

static void take_group(struct worker *worker, uint64_t peer, const struct message_group *group, size_t frame_bytes,
                       int64_t now_ms) {
    struct actor *actor = find_actor(worker, peer);
    if (!actor || actor->taken + frame_bytes > actor->granted) { /* W3 */
        if (actor)
            forget_actor(worker, actor);
        refuse(worker, peer, "knock first", true);
        return;
    }
    actor->taken += frame_bytes;
    struct outbox_entry *inside = outbox_find(worker->outbox, &group->key, group->lease);
    if (inside) { /* W2 */
        inside->tag = peer;
        worker->repeated++;
    } else {
        score_group(worker, actor, group, now_ms);
        if (PLANTED(ANSWERED_EARLY)) {
            struct message early = {.type = MESSAGE_ANSWER, .answer = {.key = group->key, .lease = group->lease}};
            early.answer.reason = text_of("");
            worker->actions.actor(worker->actions.context, peer, &early);
        }
    }
    grant(worker, actor);
    deliver(worker, now_ms);
}

void worker_actor(struct worker *worker, uint64_t peer, const struct message *message, size_t frame_bytes,
                  int64_t now_ms) {
    struct actor *actor = find_actor(worker, peer);
    if (actor)
        actor->heard_ms = now_ms;
    switch (message->type) {
    case MESSAGE_KNOCK:
        take_knock(worker, peer, &message->knock, now_ms);
        break;
    case MESSAGE_GROUP:
        take_group(worker, peer, &message->group, frame_bytes, now_ms);
        break;
    case MESSAGE_BYE:
        if (actor)
            forget_actor(worker, actor);
        break;
    default:
        worker->dropped++;
    }
}

void worker_malformed(struct worker *worker) {
    worker->dropped++;
}

/* ---- what the hub says ---- */

static void take_answer(struct worker *worker, const struct message_answer *answer) {
    struct outbox_entry *entry = outbox_find(worker->outbox, &answer->key, answer->lease);
    if (!entry) {
        worker->dropped++;
        return;
    }
    uint64_t peer = entry->tag, bytes = entry->bytes;
    outbox_remove(worker->outbox, &answer->key, answer->lease);
    struct message message = {.type = MESSAGE_ANSWER, .answer = *answer}; /* W1 */
    worker->actions.actor(worker->actions.context, peer, &message);
    struct actor *actor = find_actor(worker, peer);
    if (!actor)
        return;
    actor->inside -= bytes < actor->inside ? bytes : actor->inside;
    grant(worker, actor);
}

static enum status welcome(struct worker *worker, const struct message_welcome *welcome, int64_t now_ms) {
    if (welcome->protocol != PROTOCOL_VERSION)
        return fail(STATUS_CONFIG,
                    "net.learner: it speaks protocol %u, this reward worker %d: install the same release on both",
                    welcome->protocol, PROTOCOL_VERSION);
    if (welcome->incarnation != worker->hub)
        outbox_lost(worker->outbox, worker->hub);
    if (!worker->joined)
        log_event(LOG_INFO, "joined", "run=%s", welcome->run.data);
    worker->joined = true;
    worker->unheard = false;
    worker->hub = welcome->incarnation;
    worker->heartbeat_interval_ms = welcome->heartbeat_ms ? welcome->heartbeat_ms : 1000;
    worker->heartbeat_ms = now_ms;
    deliver(worker, now_ms);
    return STATUS_OK;
}

enum status worker_control(struct worker *worker, const struct message *message, int64_t now_ms) {
    switch (message->type) {
    case MESSAGE_WELCOME:
        return welcome(worker, &message->welcome, now_ms);
    case MESSAGE_REFUSE:
        if (!message->refuse.again)
            return fail(STATUS_CONFIG, "net.learner: the learner refuses this reward worker: %s",
                        message->refuse.reason.data);
        lose_hub(worker, now_ms, message->refuse.reason.data);
        break;
    case MESSAGE_ANSWER:
        take_answer(worker, &message->answer);
        break;
    case MESSAGE_BYE:
        lose_hub(worker, now_ms + WORKER_HELLO_MS, message->bye.reason.data);
        break;
    default:
        worker->dropped++;
    }
    return STATUS_OK;
}

void worker_tick(struct worker *worker, int64_t now_ms) {
    if (worker->leaving)
        return;
    if (!worker->joined && now_ms >= worker->hello_ms)
        say_hello(worker, now_ms);
    if (worker->joined && now_ms >= worker->heartbeat_ms)
        beat(worker, now_ms);
    for (uint32_t i = worker->actor_count; i-- > 0;)
        if (now_ms - worker->actors[i].heard_ms > WORKER_SILENCE_MS)
            forget_actor(worker, &worker->actors[i]);
    deliver(worker, now_ms);
}

/* ---- stopping ---- */

void worker_drain(struct worker *worker) {
    worker->draining = true;
}

bool worker_drained(const struct worker *worker) {
    return worker->draining && (outbox_count(worker->outbox) == 0 || !worker->joined);
}

uint32_t worker_leave(struct worker *worker, const char *reason) {
    struct message message = {.type = MESSAGE_BYE, .bye = {text_of(reason)}};
    worker->leaving = true;
    for (uint32_t i = 0; i < worker->actor_count; i++)
        worker->actions.actor(worker->actions.context, worker->actors[i].peer, &message);
    if (worker->joined)
        send_control(worker, &message);
    return outbox_clear(worker->outbox);
}

/* ---- queries ---- */

bool worker_ready(const struct worker *worker) {
    return worker->joined && !worker->unheard;
}

void worker_state(const struct worker *worker, int64_t now_ms, char *out_text, size_t bytes) {
    uint32_t inside = outbox_count(worker->outbox);
    if (worker->draining)
        snprintf(out_text, bytes, "stopping: %u groups to deliver", inside);
    else if (!worker_ready(worker))
        snprintf(out_text, bytes, "waiting for the learner");
    else if (worker->actor_count == 0)
        snprintf(out_text, bytes, "waiting for an actor");
    else if (inside)
        snprintf(out_text, bytes, "%u actors, %u groups unacknowledged, oldest %.1f s", worker->actor_count, inside,
                 (double)outbox_age_ms(worker->outbox, now_ms) / 1e3);
    else
        snprintf(out_text, bytes, "%u actors, %llu groups scored", worker->actor_count,
                 (unsigned long long)worker->groups);
}

void worker_check(const struct worker *worker) {
    outbox_check(worker->outbox);
    for (uint32_t i = 0; i < worker->actor_count; i++) {
        ASSERT(worker->actors[i].peer != 0 && worker->actors[i].taken <= worker->actors[i].granted);
        for (uint32_t j = 0; j < i; j++)
            ASSERT(worker->actors[i].peer != worker->actors[j].peer);
    }
}
