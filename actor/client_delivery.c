/* Finished groups on their way to reward workers, and the workers' credit. */
#include "actor/client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/base/utf8.h"
#include "proto/proto.h"

/* ---- making the group ---- */

/* The texts of all samples, one behind another, each cut to what its lease has room for. */
static enum status decode_texts(struct client *client, const struct generated_group *group,
                                struct answer_sample *samples, struct buf *texts) {
    size_t starts[SAMPLES_MAX + 1];
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct generated_sample *sample = &group->samples[i];
        starts[i] = texts->bytes;
        TRY(client->actions.text(client->actions.context, sample->ids, sample->count, texts));
        size_t bytes = texts->bytes - starts[i], most = ANSWER_TEXT_BYTES_MAX(sample->count);
        if (bytes > most)
            texts->bytes = starts[i] + utf8_cut(texts->data + starts[i], bytes, most);
        samples[i] = (struct answer_sample){
            .ids = sample->ids,
            .logprobs = sample->logprobs,
            .count = sample->count,
            .finish = sample->stopped ? FINISH_STOP : FINISH_LENGTH,
            .text.bytes = (uint32_t)(texts->bytes - starts[i]),
        };
    }
    if (!buf_ok(texts))
        return fail(STATUS_NO_MEMORY, "no memory: the texts of a group");
    for (uint32_t i = 0; i < group->sample_count; i++)
        samples[i].text.data = texts->data + starts[i]; /* the buffer no longer moves */
    return STATUS_OK;
}

static enum status encode_group(struct client *client, const struct held_lease *held,
                                const struct generated_group *group, uint32_t generation_ms, struct buf *out_frame) {
    struct answer_sample samples[SAMPLES_MAX];
    struct buf texts = {0};
    if (group->sample_count > SAMPLES_MAX)
        return fail(STATUS_LIMIT, "a group of %u samples", group->sample_count);
    buf_reserve(&texts, 1);
    enum status status = decode_texts(client, group, samples, &texts);
    if (status == STATUS_OK) {
        const struct message_lease *lease = &held->lease;
        struct message message = {.type = MESSAGE_GROUP};
        message.group = (struct message_group){
            .lease = lease->lease,
            .key = lease->key,
            .attempt = lease->attempt,
            .weights = lease->weights,
            .config = lease->config,
            .canary = digest_equal(lease->weights, client->loaded) ? client->canary : no_digest(),
            .actor = client->settings.incarnation,
            .actor_name = client->settings.name,
            .same_class = client->same_class,
            .samples = samples,
            .sample_count = group->sample_count,
            .generation_ms = generation_ms,
            .grading = lease->grading,
        };
        status = proto_encode(&message, out_frame);
    }
    buf_deinit(&texts);
    return status;
}

void client_generated(struct client *client, const struct generated_group *group, uint32_t generation_ms,
                      int64_t now_ms) {
    struct held_lease *held = leases_find(client, group->id);
    if (!held || held->state == LEASE_DONE)
        return; /* revoked meanwhile */
    held->given = false;
    if (!group->finite) {
        leases_give_back(client, group->id, "a log-probability is not finite", true);
        return;
    }
    struct buf frame = {0};
    enum status status = encode_group(client, held, group, generation_ms, &frame);
    if (status == STATUS_OK) {
        outbox_unreserve(client->outbox, held->room);
        held->room = 0;
        status = outbox_put(client->outbox, &held->lease.key, group->id, 0, &frame, now_ms);
        if (status != STATUS_OK)
            status = fail(status, status == STATUS_EXISTS ? "a group of this lease waits already"
                                                          : "the group is heavier than its lease");
    }
    buf_deinit(&frame);
    if (status != STATUS_OK) {
        log_event(LOG_ERROR, "group_not_delivered", "lease=%llu reason=\"%s\"", (unsigned long long)group->id,
                  status_message());
        leases_give_back(client, group->id, status_message(), true);
        return;
    }
    held->state = LEASE_DONE;
    held->work += group->tokens;
    client->heartbeat_ms = 0; /* its samples no longer take room */
    delivery_pump(client, now_ms);
}

/* ---- sending ---- */

/* full [WORKERS_MAX]: those whose sockets take nothing now. */
static int32_t richest_worker(const struct client *client, const bool *full) {
    int32_t best = -1;
    uint64_t most = 0;
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        const struct worker *worker = &client->workers[i];
        if (worker->open && !full[i] && worker->credit > worker->sent && worker->credit - worker->sent > most) {
            best = (int32_t)i;
            most = worker->credit - worker->sent;
        }
    }
    return best;
}

void delivery_pump(struct client *client, int64_t now_ms) {
    struct outbox_entry *entry;
    bool full[WORKERS_MAX] = {false};
    while ((entry = outbox_due(client->outbox, now_ms, CLIENT_RESEND_MS))) {
        int32_t slot = richest_worker(client, full);
        if (slot < 0)
            return;
        struct worker *worker = &client->workers[slot];
        if (worker->credit - worker->sent < entry->bytes)
            return;
        if (!client->actions.worker_send(client->actions.context, (uint32_t)slot, entry->frame, entry->bytes)) {
            full[slot] = true; /* another has room, perhaps */
            continue;
        }
        worker->sent += entry->bytes;
        outbox_sent(client->outbox, entry, worker->incarnation, now_ms);
        if (PLANTED(OUTBOX_FREED_EARLY))
            outbox_remove_lease(client->outbox, entry->lease);
    }
}

/* ---- workers ---- */

static void send_worker(struct client *client, uint32_t slot, const struct message *message) {
    struct buf frame = {0};
    if (proto_encode(message, &frame) == STATUS_OK)
        client->actions.worker_send(client->actions.context, slot, frame.data, frame.bytes);
    buf_deinit(&frame);
}

/* Begin with this worker anew: what flew to it may be lost. */
static void knock(struct client *client, uint32_t slot, int64_t now_ms) {
    struct worker *worker = &client->workers[slot];
    outbox_lost(client->outbox, worker->incarnation);
    worker->credit = worker->sent = 0;
    worker->knock_ms = now_ms + CLIENT_KNOCK_MS;
    struct message message = {.type = MESSAGE_KNOCK};
    message.knock = (struct message_knock){PROTOCOL_VERSION, client->settings.incarnation, client->settings.name};
    send_worker(client, slot, &message);
}

static void close_worker(struct client *client, uint32_t slot) {
    struct worker *worker = &client->workers[slot];
    outbox_lost(client->outbox, worker->incarnation);
    client->actions.worker_close(client->actions.context, slot);
    worker->open = false;
}

static struct worker *worker_at(struct client *client, const char *endpoint) {
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        if (client->workers[slot].open && strcmp(client->workers[slot].endpoint, endpoint) == 0)
            return &client->workers[slot];
    return NULL;
}

static bool is_listed(const struct worker *worker, const struct message_workers *list) {
    for (uint32_t i = 0; i < list->worker_count; i++)
        if (worker->incarnation == list->workers[i].incarnation &&
            strcmp(worker->endpoint, list->workers[i].endpoint.data) == 0)
            return true;
    return false;
}

static void open_worker(struct client *client, const struct worker_entry *entry, int64_t now_ms) {
    uint32_t slot = 0;
    while (slot < WORKERS_MAX && client->workers[slot].open)
        slot++;
    if (slot == WORKERS_MAX || entry->incarnation == 0) {
        client->dropped++;
        return;
    }
    struct worker *worker = &client->workers[slot];
    *worker = (struct worker){.open = true, .incarnation = entry->incarnation};
    snprintf(worker->endpoint, sizeof worker->endpoint, "%s", entry->endpoint.data);
    snprintf(worker->name, sizeof worker->name, "%s", entry->name.data);
    log_event(LOG_INFO, "reward_worker", "name=%s endpoint=%s", worker->name, worker->endpoint);
    client->actions.worker_open(client->actions.context, slot, worker->endpoint, entry->key.data);
    knock(client, slot, now_ms);
}

/* There is one process at an endpoint, and one connection to it. After a restart the hub may list the old one beside the new for a while:
 * which of them it is, credit says. */
void delivery_workers(struct client *client, const struct message_workers *list, int64_t now_ms) {
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        if (client->workers[slot].open && !is_listed(&client->workers[slot], list))
            close_worker(client, slot);
    for (uint32_t i = 0; i < list->worker_count; i++)
        if (!worker_at(client, list->workers[i].endpoint.data))
            open_worker(client, &list->workers[i], now_ms);
    delivery_pump(client, now_ms);
}

void delivery_tick(struct client *client, int64_t now_ms) {
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++) {
        const struct worker *worker = &client->workers[slot];
        if (worker->open && !worker->refused && worker->credit == 0 && now_ms >= worker->knock_ms)
            knock(client, slot, now_ms);
    }
    delivery_pump(client, now_ms);
}

void delivery_close(struct client *client) {
    struct message message = {.type = MESSAGE_BYE, .bye = {text_of("the actor stops")}};
    for (uint32_t slot = 0; slot < WORKERS_MAX; slot++)
        if (client->workers[slot].open) {
            send_worker(client, slot, &message);
            close_worker(client, slot);
        }
}

static void take_answer(struct client *client, const struct message_answer *answer) {
    if (!outbox_remove(client->outbox, &answer->key, answer->lease)) {
        client->dropped++; /* a second answer, or after a revoke */
        return;
    }
    leases_free(client, answer->lease); /* A3 */
    client->accepted += answer->outcome == OUTCOME_ACCEPTED;
    client->duplicate += answer->outcome == OUTCOME_DUPLICATE;
    client->not_wanted += answer->outcome == OUTCOME_NOT_WANTED;
    if (answer->outcome == OUTCOME_NOT_WANTED)
        LOG_EVERY(10000, LOG_INFO, "group_not_wanted", "step=%u slot=%u reason=\"%s\"", answer->key.step,
                  answer->key.slot, answer->reason.data);
}

void client_worker(struct client *client, uint32_t slot, const struct message *message, int64_t now_ms) {
    struct worker *worker = &client->workers[slot];
    if (slot >= WORKERS_MAX || !worker->open)
        return;
    switch (message->type) {
    case MESSAGE_CREDIT:
        if (message->credit.incarnation != worker->incarnation) { /* restarted at the same endpoint */
            outbox_lost(client->outbox, worker->incarnation);
            worker->incarnation = message->credit.incarnation;
            worker->credit = worker->sent = 0;
        }
        if (message->credit.bytes > worker->credit)
            worker->credit = message->credit.bytes;
        break;
    case MESSAGE_ANSWER:
        take_answer(client, &message->answer);
        break;
    case MESSAGE_REFUSE:
        worker->refused = !message->refuse.again;
        worker->credit = worker->sent = 0;
        outbox_lost(client->outbox, worker->incarnation);
        if (message->refuse.again)
            knock(client, slot, now_ms);
        else
            log_event(LOG_WARNING, "reward_worker_refuses", "name=%s reason=\"%s\"", worker->name,
                      message->refuse.reason.data);
        break;
    case MESSAGE_BYE:
        outbox_lost(client->outbox, worker->incarnation);
        worker->credit = worker->sent = 0;
        worker->knock_ms = now_ms + CLIENT_KNOCK_MS;
        break;
    default:
        client->dropped++;
    }
    delivery_pump(client, now_ms);
}
