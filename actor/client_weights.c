/* Which version is fetched, loaded and answered from.
 *
 * The version to load next is that of the most urgent unfinished lease; without leases it is the one that the hub announced as
 * current, so that it is there when the first lease comes. Less urgent leases of the loaded version go on until the next one is
 * staged; the swap then parks them, and they go on, with the same bits, when their version is loaded again. */
#include "actor/client_internal.h"

#include <string.h>

#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/compute/device.h"

/* ---- joining ---- */

static enum status open_model(struct client *client) {
    struct client_run run = {client->run, client->valid_vocab, client->positions_max};
    uint64_t elements;
    TRY(client->actions.model_open(client->actions.context, files_directory(client->files), &run, &elements));
    TRY(sync_create(elements, client->actions.fetch, client->actions.context, &client->sync));
    for (uint32_t i = 0; i < client->early_count; i++)
        weights_manifest(client, &client->early[i]);
    client->early_count = 0;
    return STATUS_OK;
}

/* A model that is open serves another run of the same files, or a restarted hub, as it is. */
static enum status check_same_model(const struct client *client, const struct message_welcome *welcome) {
    if (files_same(client->files, welcome->files, welcome->file_count) && welcome->valid_vocab == client->valid_vocab &&
        welcome->positions_max <= client->positions_max)
        return STATUS_OK;
    return fail(STATUS_AGAIN, "run %s: the learner has another model now; this actor must start anew",
                welcome->run.data);
}

enum status weights_welcome(struct client *client, const struct message_welcome *welcome, int64_t now_ms) {
    if (client->files)
        return check_same_model(client, welcome);
    client->valid_vocab = welcome->valid_vocab;
    client->positions_max = welcome->positions_max;
    return files_create(client->settings.cache, welcome->files, welcome->file_count, now_ms, client->actions.fetch,
                        client->actions.context, &client->files);
}

void weights_manifest(struct client *client, const struct message_manifest *manifest) {
    if (!client->sync) {
        if (client->early_count == EARLY_MAX) {
            memmove(client->early, client->early + 1, (EARLY_MAX - 1) * sizeof *client->early);
            client->early_count--;
        }
        client->early[client->early_count++] = *manifest;
        return;
    }
    if (sync_manifest(client->sync, manifest) != STATUS_OK) {
        client->dropped++;
        LOG_EVERY(10000, LOG_WARNING, "manifest_refused", "reason=\"%s\"", status_message());
        return;
    }
    if (manifest->current)
        client->current = manifest->weights;
}

/* ---- swapping ---- */

/* The version to be loaded next; zero: none besides the loaded one. */
static struct digest next_version(const struct client *client) {
    const struct held_lease *first = leases_first(client, NULL);
    if (first && !digest_equal(first->lease.weights, client->loaded))
        return first->lease.weights;
    const struct held_lease *other = first ? leases_first(client, &client->loaded) : NULL;
    struct digest next = other ? other->lease.weights : client->current;
    return digest_equal(next, client->loaded) ? no_digest() : next;
}

/* Whether the loaded version has nothing more urgent to do than `next`. */
static bool swap_is_due(const struct client *client) {
    const struct held_lease *first = leases_first(client, NULL);
    return !first || !digest_equal(first->lease.weights, client->loaded);
}

static void give_waiting(struct client *client) {
    for (uint32_t i = 0; i < client->held_count; i++) {
        struct held_lease *held = client->held[i];
        if (held->given || held->state == LEASE_DONE ||
            (!digest_equal(held->lease.weights, client->loaded) && !PLANTED(STALE_WEIGHTS)))
            continue;
        held->given = true; /* A2 */
        client->actions.generate(client->actions.context, &held->lease);
    }
}

/* The staged deltas, or a snapshot. Either begins anew what else may be staged. */
static void swap(struct client *client, bool patching) {
    client->loading = true;
    client->patching = patching;
    if (patching) {
        client->loading_version = client->staged_version;
        client->actions.patch(client->actions.context);
        return;
    }
    struct message_manifest manifest;
    void *weights = sync_take(client->sync, &manifest);
    client->loading_version = manifest.version;
    client->staged = no_digest();
    client->actions.load(client->actions.context, weights, &manifest);
}

static void stage(struct client *client) {
    struct chain *chain = sync_take_chain(client->sync);
    client->staged = chain->to;
    client->staged_version = chain->version;
    client->actions.stage(client->actions.context, chain);
}

static enum status fetch_next(struct client *client, struct digest next, int64_t now_ms) {
    bool known;
    if (!digest_equal(client->staged, next)) {
        TRY(sync_want(client->sync, next, client->loaded, now_ms, &known));
        if (!known && now_ms >= client->hello_ms) { /* its manifest was lost: the hub sends all of them again */
            client_say_hello(client, now_ms);
            client->hello_ms = now_ms + client->heartbeat_interval_ms;
        }
        bool ready = sync_state(client->sync) == SYNC_READY && digest_equal(sync_version(client->sync), next);
        if (ready && sync_has_chain(client->sync))
            stage(client);
        else if (ready && swap_is_due(client))
            swap(client, false);
    }
    if (!client->loading && digest_equal(client->staged, next) && swap_is_due(client))
        swap(client, true);
    return STATUS_OK;
}

enum status weights_pump(struct client *client, int64_t now_ms) {
    if (client->files && files_done(client->files) && !client->sync)
        TRY(open_model(client));
    if (!client->sync || client->loading || client->leaving)
        return STATUS_OK;
    if (sync_state(client->sync) == SYNC_FAILED)
        return fail(STATUS_AGAIN, "%s", sync_reason(client->sync));
    if (!digest_is_zero(client->loaded))
        give_waiting(client);
    struct digest next = next_version(client);
    return digest_is_zero(next) ? STATUS_OK : fetch_next(client, next, now_ms);
}

void client_swapped(struct client *client, const struct digest *weights, uint32_t pause_ms) {
    client->loading = false;
    client->loaded = *weights;
    client->canary = client->staged = no_digest();
    client->loaded_version = client->loading_version;
    client->swaps++;
    client->patches += client->patching;
    client->pause_ms += pause_ms;
}

void client_canary(struct client *client, const struct digest *weights, const struct digest *canary, int64_t now_ms) {
    if (!digest_equal(client->loaded, *weights))
        return;
    client->canary = *canary;
    if (client->phase == CLIENT_JOINED)
        client_beat(client, now_ms);
}

void client_patch_refused(struct client *client, const struct digest *weights, const char *reason) {
    if (digest_equal(client->staged, *weights)) {
        client->staged = no_digest();
        client->loading = client->loading && !client->patching;
    }
    sync_refused(client->sync);
    log_event(LOG_WARNING, "deltas_refused", "version=%u reason=\"%s\" its snapshot is fetched instead",
              client->staged_version, reason);
}

/* ---- the weights socket ---- */

enum status client_weights(struct client *client, const struct message *message, int64_t now_ms) {
    if (message->type == MESSAGE_CHUNK && message->chunk.kind == FETCH_FILE && client->files) {
        TRY(files_chunk(client->files, &message->chunk, now_ms));
    } else if (message->type == MESSAGE_CHUNK && client->sync) {
        sync_chunk(client->sync, &message->chunk, now_ms);
    } else if (message->type == MESSAGE_GONE) {
        if (client->files)
            TRY(files_gone(client->files, &message->gone));
        if (client->sync)
            sync_gone(client->sync, &message->gone);
        if (client->sync && message->gone.kind == FETCH_SNAPSHOT) {
            if (digest_equal(client->current, message->gone.object))
                client->current = client->loaded;
            if (!digest_equal(client->loaded, message->gone.object))
                leases_give_back_unfinished(client, &message->gone.object, "its weights are gone");
        }
    } else {
        client->dropped++;
    }
    return weights_pump(client, now_ms);
}
