#include "common/weights/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sync {
    uint64_t elements;
    fetch_send send;
    void *context;
    struct message_manifest known[SYNC_VERSIONS_MAX];
    uint32_t known_count;
    enum sync_state state;
    struct message_manifest wanted; /* while fetching or ready */
    bool second;                    /* the digest was wrong once */
    struct fetch fetch;
    uint64_t ever; /* bytes of finished and dropped fetches */
    char reason[256];
};

enum status sync_create(uint64_t elements, fetch_send send, void *context, struct sync **out_sync) {
    struct sync *sync = calloc(1, sizeof *sync);
    if (!sync)
        return fail(STATUS_NO_MEMORY, "weight sync");
    sync->elements = elements;
    sync->send = send;
    sync->context = context;
    *out_sync = sync;
    return STATUS_OK;
}

void sync_destroy(struct sync **sync) {
    if (*sync)
        fetch_deinit(&(*sync)->fetch);
    free(*sync);
    *sync = NULL;
}

/* ---- versions ---- */

static int32_t find(const struct sync *sync, struct digest weights) {
    for (uint32_t i = 0; i < sync->known_count; i++)
        if (digest_equal(sync->known[i].weights, weights))
            return (int32_t)i;
    return -1;
}

static void forget(struct sync *sync, struct digest weights) {
    int32_t at = find(sync, weights);
    if (at >= 0)
        sync->known[at] = sync->known[--sync->known_count];
}

enum status sync_manifest(struct sync *sync, const struct message_manifest *manifest) {
    TRY(content_check(manifest, sync->elements));
    int32_t at = find(sync, manifest->weights);
    if (at < 0 && sync->known_count == SYNC_VERSIONS_MAX) {
        at = 0;
        for (uint32_t i = 1; i < sync->known_count; i++)
            if (sync->known[i].version < sync->known[at].version)
                at = (int32_t)i;
    }
    sync->known[at >= 0 ? (uint32_t)at : sync->known_count++] = *manifest;
    return STATUS_OK;
}

const struct message_manifest *sync_find(const struct sync *sync, struct digest weights) {
    int32_t at = find(sync, weights);
    return at >= 0 ? &sync->known[at] : NULL;
}

/* ---- fetching ---- */

static uint64_t fetched_bytes(const struct fetch *fetch) {
    uint64_t bytes = (uint64_t)fetch->arrived * fetch->target.chunk_bytes;
    return bytes < fetch->target.bytes ? bytes : fetch->target.bytes;
}

static void drop(struct sync *sync) {
    sync->ever += fetched_bytes(&sync->fetch);
    fetch_deinit(&sync->fetch);
    sync->state = SYNC_IDLE;
    memset(&sync->wanted, 0, sizeof sync->wanted);
}

static enum status begin(struct sync *sync, int64_t now_ms) {
    struct fetch_target target = {.kind = FETCH_SNAPSHOT,
                                  .object = sync->wanted.weights,
                                  .bytes = sync->wanted.payload_bytes,
                                  .chunk_bytes = sync->wanted.chunk_bytes};
    TRY(fetch_begin(&sync->fetch, &target, now_ms, sync->send, sync->context));
    sync->state = SYNC_FETCHING;
    return STATUS_OK;
}

enum status sync_want(struct sync *sync, struct digest weights, int64_t now_ms, bool *out_known) {
    const struct message_manifest *manifest = sync_find(sync, weights);
    *out_known = manifest != NULL;
    bool under_way = sync->state != SYNC_IDLE && digest_equal(sync->wanted.weights, weights);
    if (!manifest || under_way || sync->state == SYNC_FAILED)
        return STATUS_OK;
    drop(sync);
    sync->wanted = *manifest;
    sync->second = false;
    return begin(sync, now_ms);
}

static void complete(struct sync *sync, int64_t now_ms) {
    if (digest_equal(sync->fetch.content, sync->wanted.weights)) { /* S1 */
        sync->state = SYNC_READY;
        return;
    }
    char expected[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    digest_format(sync->wanted.weights, expected);
    digest_format(sync->fetch.content, found);
    snprintf(sync->reason, sizeof sync->reason, "weights of version %u: digest %s arrived, %s was announced%s",
             sync->wanted.version, found, expected, sync->second ? ", twice" : "");
    sync->ever += fetched_bytes(&sync->fetch);
    fetch_deinit(&sync->fetch);
    if (sync->second || begin(sync, now_ms) != STATUS_OK)
        sync->state = SYNC_FAILED;
    sync->second = true;
}

void sync_chunk(struct sync *sync, const struct message_chunk *chunk, int64_t now_ms) {
    if (sync->state == SYNC_FETCHING && fetch_chunk(&sync->fetch, chunk, now_ms, sync->send, sync->context) &&
        fetch_done(&sync->fetch))
        complete(sync, now_ms);
}

void sync_gone(struct sync *sync, const struct message_gone *gone) {
    if (gone->kind != FETCH_SNAPSHOT)
        return;
    forget(sync, gone->object);
    if (sync->state == SYNC_FETCHING && digest_equal(sync->wanted.weights, gone->object))
        drop(sync);
}

void sync_tick(struct sync *sync, int64_t now_ms) {
    if (sync->state == SYNC_FETCHING)
        fetch_tick(&sync->fetch, now_ms, sync->send, sync->context);
}

/* ---- queries ---- */

enum sync_state sync_state(const struct sync *sync) {
    return sync->state;
}

struct digest sync_version(const struct sync *sync) {
    return sync->wanted.weights;
}

void sync_progress(const struct sync *sync, uint64_t *out_bytes, uint64_t *out_total, uint64_t *out_ever) {
    *out_bytes = fetched_bytes(&sync->fetch);
    *out_total = sync->fetch.target.bytes;
    *out_ever = sync->ever + *out_bytes;
}

const char *sync_reason(const struct sync *sync) {
    return sync->state == SYNC_FAILED ? sync->reason : "";
}

void *sync_take(struct sync *sync, struct message_manifest *out_manifest) {
    ASSERT(sync->state == SYNC_READY && digest_equal(sync->fetch.target.object, sync->wanted.weights)); /* S2 */
    *out_manifest = sync->wanted;
    sync->ever += fetched_bytes(&sync->fetch);
    void *data = fetch_take(&sync->fetch);
    sync->state = SYNC_IDLE;
    memset(&sync->wanted, 0, sizeof sync->wanted);
    return data;
}
