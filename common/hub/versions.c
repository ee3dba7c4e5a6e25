#include "common/hub/versions.h"

#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/weights/content.h"
#include "proto/limits.h"

/* Deltas kept below the lowest published version: a slow actor that is so many versions behind still goes on by deltas.
 */
#define DELTAS_BEHIND 4
/* A reader that is slower than training would never end: the snapshot that it reads outlives its retirement, one at a time.
 * Deltas lead on from it. */
#define READER_SILENT_MS 10000
#define READER_MS (10 * 60 * 1000)

static uint32_t chunk_bytes(const struct versions *versions) {
    return versions->chunk_bytes ? versions->chunk_bytes : CHUNK_BYTES_MAX;
}

static struct message_manifest snapshot_of(const struct versions *versions, const struct published *published) {
    struct message_manifest manifest =
        content_manifest(published->version, published->digest, published->elements, (enum dtype)published->dtype);
    manifest.chunk_bytes = chunk_bytes(versions);
    return manifest;
}

static struct published *find_published(struct versions *versions, struct digest digest) {
    for (uint32_t i = 0; i < versions->count; i++) {
        if (digest_equal(versions->list[i].digest, digest))
            return &versions->list[i];
    }
    return NULL;
}

/* Whether somebody is in the middle of a snapshot. */
void versions_read(struct versions *versions, const struct message_fetch *fetch, int64_t now_ms) {
    struct published *read = find_published(versions, fetch->object);
    if (!read && versions->lingering.data && digest_equal(versions->lingering.digest, fetch->object))
        read = &versions->lingering;
    if (read && ((uint64_t)fetch->first + fetch->count) * chunk_bytes(versions) <
                    read->elements * dtype_bytes((enum dtype)read->dtype))
        read->read_ms = now_ms;
}

/* Deltas that lead to the lowest published version, or to one before it, lead nowhere that is needed. */
static void retire_deltas(struct versions *versions) {
    uint32_t lowest = versions->lingering.data ? versions->lingering.version : UINT32_MAX;
    for (uint32_t i = 0; i < versions->count; i++)
        lowest = versions->list[i].version < lowest ? versions->list[i].version : lowest;
    if (versions->count == 0 || lowest < DELTAS_BEHIND)
        return;
    store_retire_deltas(versions->store, lowest - DELTAS_BEHIND + 1);
    hub_retire_deltas(versions->hub, lowest - DELTAS_BEHIND + 1);
}

static void end_lingering(struct versions *versions) {
    struct published ended = versions->lingering;
    versions->lingering = (struct published){0};
    if (ended.data && !find_published(versions, ended.digest)) /* published again: the store serves that */
        store_retire(versions->store, ended.digest);
    if (ended.data && ended.release)
        ended.release(ended.context);
    retire_deltas(versions);
}

static enum status publish_delta(struct versions *versions, struct published *published, int64_t now_ms) {
    if (!published->take_delta)
        return STATUS_OK;
    struct message_manifest manifest = content_delta_manifest(
        published->version, published->digest, published->delta_base, published->elements, published->delta_bytes);
    manifest.chunk_bytes = chunk_bytes(versions);
    void *delta = published->take_delta;
    published->take_delta = NULL;
    TRY(store_publish_delta(versions->store, &manifest, delta));
    return hub_publish(versions->hub, &manifest, now_ms);
}

enum status versions_publish(struct versions *versions, struct published *published, int64_t now_ms) {
    struct message_manifest manifest = snapshot_of(versions, published);
    manifest.current = 1;
    if (versions->count == STORE_VERSIONS_MAX)
        return fail(STATUS_LIMIT, "version %u: %d versions are published already", published->version,
                    STORE_VERSIONS_MAX);
    TRY(store_publish(versions->store, &manifest, published->data));
    hub_canary(versions->hub, &published->digest, &published->canary, now_ms);
    enum status status = publish_delta(versions, published, now_ms);
    status = status == STATUS_OK ? hub_publish(versions->hub, &manifest, now_ms) : status;
    if (status != STATUS_OK) {
        store_retire(versions->store, published->digest);
        return status;
    }
    versions->list[versions->count++] = *published;
    return STATUS_OK;
}

/* A skipped step publishes the same content under the next number: the content goes when its last number does, and is
 * served from the memory of one that stays. */
static enum status retire_one(struct versions *versions, const struct published *retired, int64_t now_ms) {
    const struct published *other = PLANTED(RETIRED_SHARED) ? NULL : find_published(versions, retired->digest);
    enum status status = STATUS_OK;
    if (other) {
        struct message_manifest manifest = snapshot_of(versions, other);
        status = store_publish(versions->store, &manifest, other->data);
    } else {
        hub_retire(versions->hub, &retired->digest);
        if (!versions->lingering.data && retired->read_ms && now_ms - retired->read_ms < READER_SILENT_MS) {
            versions->lingering = *retired;
            versions->lingering_until_ms = now_ms + READER_MS;
            log_event(LOG_INFO, "slow_reader", "version=%u is still read", retired->version);
            return STATUS_OK;
        }
        store_retire(versions->store, retired->digest);
    }
    if (retired->release)
        retired->release(retired->context);
    return status;
}

enum status versions_retire(struct versions *versions, uint32_t first, uint32_t end, int64_t now_ms) {
    struct published retired[STORE_VERSIONS_MAX];
    uint32_t kept = 0, retired_count = 0;
    for (uint32_t i = 0; i < versions->count; i++) {
        if (versions->list[i].version >= first && versions->list[i].version < end)
            retired[retired_count++] = versions->list[i];
        else
            versions->list[kept++] = versions->list[i];
    }
    versions->count = kept;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < retired_count; i++) {
        enum status one = retire_one(versions, &retired[i], now_ms);
        status = status == STATUS_OK ? one : status;
    }
    retire_deltas(versions);
    return status;
}

void versions_tick(struct versions *versions, int64_t now_ms) {
    if (versions->lingering.data &&
        (now_ms >= versions->lingering_until_ms || now_ms - versions->lingering.read_ms >= READER_SILENT_MS))
        end_lingering(versions);
}

void versions_deinit(struct versions *versions) {
    for (uint32_t i = 0; i < versions->count; i++)
        if (versions->list[i].release)
            versions->list[i].release(versions->list[i].context);
    if (versions->lingering.data && versions->lingering.release)
        versions->lingering.release(versions->lingering.context);
    versions->count = 0;
    versions->lingering = (struct published){0};
}
