#include "common/weights/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/weights/route.h"

struct sync {
    uint64_t elements;
    fetch_send send;
    void *context;
    struct message_manifest snapshots[SYNC_VERSIONS_MAX], deltas[SYNC_DELTAS_MAX];
    uint32_t snapshot_count, delta_count;
    enum sync_state state;
    struct digest wanted; /* while fetching or ready */
    /* What is fetched: hops[at], one after the other. A snapshot is the only one of its way. */
    struct message_manifest hops[CHAIN_HOPS_MAX];
    uint32_t hop_count, at;
    struct chain *chain; /* NULL: a snapshot. hop_count of it are here */
    struct digest held;  /* what the chain begins at */
    bool second;         /* a snapshot's digest was wrong once */
    struct fetch fetch;
    uint64_t here; /* bytes of finished hops */
    uint64_t ever; /* bytes of finished and dropped fetches */
    uint64_t refusals;
    char reason[256];
};

enum status sync_create(uint64_t elements, fetch_send send, void *context, struct sync **out_sync) {
    struct sync *sync = calloc(1, sizeof *sync);
    if (!sync)
        return fail(STATUS_NO_MEMORY, "no memory: weight sync");
    sync->elements = elements;
    sync->send = send;
    sync->context = context;
    *out_sync = sync;
    return STATUS_OK;
}

void sync_destroy(struct sync **sync) {
    if (*sync) {
        fetch_deinit(&(*sync)->fetch);
        chain_destroy(&(*sync)->chain);
    }
    free(*sync);
    *sync = NULL;
}

/* ---- versions ---- */

static bool same_object(const struct message_manifest *a, const struct message_manifest *b) {
    return digest_equal(a->weights, b->weights) && (a->form == FORM_SNAPSHOT || digest_equal(a->base, b->base));
}

/* In place of the one of the same object; when full, in place of the lowest version. */
static void keep(struct message_manifest *list, uint32_t *count, uint32_t most,
                 const struct message_manifest *manifest) {
    uint32_t at = 0, lowest = 0;
    for (; at < *count && !same_object(&list[at], manifest); at++)
        if (list[at].version < list[lowest].version)
            lowest = at;
    if (at == most)
        at = lowest;
    else if (at == *count)
        ++*count;
    list[at] = *manifest;
}

enum status sync_manifest(struct sync *sync, const struct message_manifest *manifest) {
    TRY(content_check(manifest, sync->elements));
    if (manifest->form == FORM_SNAPSHOT)
        keep(sync->snapshots, &sync->snapshot_count, SYNC_VERSIONS_MAX, manifest);
    else
        keep(sync->deltas, &sync->delta_count, SYNC_DELTAS_MAX, manifest);
    return STATUS_OK;
}

const struct message_manifest *sync_find(const struct sync *sync, struct digest weights) {
    for (uint32_t i = 0; i < sync->snapshot_count; i++)
        if (digest_equal(sync->snapshots[i].weights, weights))
            return &sync->snapshots[i];
    return NULL;
}

static void forget(struct message_manifest *list, uint32_t *count, struct digest weights) {
    for (uint32_t i = *count; i-- > 0;)
        if (digest_equal(list[i].weights, weights))
            list[i] = list[--*count];
}

/* ---- fetching ---- */

static uint64_t fetched_bytes(const struct fetch *fetch) {
    uint64_t bytes = (uint64_t)fetch->arrived * fetch->target.chunk_bytes;
    return bytes < fetch->target.bytes ? bytes : fetch->target.bytes;
}

static bool snapshot_under_way(const struct sync *sync) {
    return (sync->state == SYNC_FETCHING || sync->state == SYNC_READY) && !sync->chain;
}

static void drop(struct sync *sync) {
    sync->ever += sync->here + fetched_bytes(&sync->fetch);
    sync->here = 0;
    fetch_deinit(&sync->fetch);
    chain_destroy(&sync->chain);
    sync->state = SYNC_IDLE;
    sync->wanted = (struct digest){0, 0};
    sync->hop_count = sync->at = 0;
}

static enum status begin(struct sync *sync, int64_t now_ms) {
    const struct message_manifest *hop = &sync->hops[sync->at];
    struct fetch_target target = {.kind = hop->form == FORM_SNAPSHOT ? FETCH_SNAPSHOT : FETCH_DELTA,
                                  .object = hop->weights,
                                  .base = hop->base,
                                  .bytes = hop->payload_bytes,
                                  .chunk_bytes = hop->chunk_bytes};
    TRY(fetch_begin(&sync->fetch, &target, now_ms, sync->send, sync->context));
    sync->state = SYNC_FETCHING;
    return STATUS_OK;
}

static bool find_route(const struct sync *sync, struct digest wanted, struct digest held, struct route *out_route) {
    uint64_t left[SYNC_VERSIONS_MAX];
    for (uint32_t i = 0; i < sync->snapshot_count; i++) {
        bool under_way = snapshot_under_way(sync) && same_object(&sync->snapshots[i], &sync->hops[0]);
        left[i] = sync->snapshots[i].payload_bytes - (under_way ? fetched_bytes(&sync->fetch) : 0);
    }
    struct route_map map = {sync->snapshots, sync->deltas, left, sync->snapshot_count, sync->delta_count};
    return route_find(&map, held, wanted, out_route);
}

static enum status follow(struct sync *sync, const struct route *route, struct digest held) {
    if (route->snapshot >= 0) {
        sync->hops[0] = sync->snapshots[route->snapshot];
        sync->hop_count = 1;
        return STATUS_OK;
    }
    sync->chain = calloc(1, sizeof *sync->chain);
    if (!sync->chain)
        return fail(STATUS_NO_MEMORY, "no memory: weight sync");
    for (uint32_t i = 0; i < route->hop_count; i++) {
        sync->hops[i] = sync->deltas[route->hops[i].delta];
        sync->chain->hops[i].direction = route->hops[i].direction;
    }
    /* A hop forward leads to its own version, one back to the version before it. */
    const struct message_manifest *last = &sync->hops[route->hop_count - 1];
    bool back = route->hops[route->hop_count - 1].direction == DELTA_BACK;
    const struct message_manifest *snapshot = sync_find(sync, back ? last->base : last->weights);
    sync->chain->version = snapshot ? snapshot->version : last->version - back;
    sync->chain->from = held;
    sync->hop_count = route->hop_count;
    return STATUS_OK;
}

enum status sync_want(struct sync *sync, struct digest weights, struct digest held, int64_t now_ms, bool *out_known) {
    struct route route;
    *out_known = true;
    bool serves = !sync->chain || digest_equal(sync->held, held); /* what is under way, for the version it is for */
    if (sync->state == SYNC_FAILED || digest_equal(weights, held) ||
        (sync->state != SYNC_IDLE && serves && digest_equal(sync->wanted, weights)))
        return STATUS_OK;
    if (!find_route(sync, weights, held, &route)) {
        *out_known = false;
        return STATUS_OK;
    }
    if (snapshot_under_way(sync) && route.snapshot >= 0 &&
        same_object(&sync->snapshots[route.snapshot], &sync->hops[0])) {
        sync->wanted = weights;
        return STATUS_OK;
    }
    drop(sync);
    sync->second = false;
    sync->held = held;
    TRY(follow(sync, &route, held));
    sync->wanted = weights;
    enum status status = begin(sync, now_ms);
    if (status != STATUS_OK)
        drop(sync);
    return status;
}

/* ---- arrived ---- */

static void complete_snapshot(struct sync *sync, int64_t now_ms) {
    const struct message_manifest *snapshot = &sync->hops[0];
    if (digest_equal(sync->fetch.content, snapshot->weights) || PLANTED(DIGEST_UNCHECKED)) { /* S1 */
        sync->state = SYNC_READY;
        return;
    }
    char expected[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    digest_format(snapshot->weights, expected);
    digest_format(sync->fetch.content, found);
    snprintf(sync->reason, sizeof sync->reason, "weights of version %u: digest %s arrived, %s was announced%s",
             snapshot->version, found, expected, sync->second ? ", twice" : "");
    sync->ever += fetched_bytes(&sync->fetch);
    fetch_deinit(&sync->fetch);
    if (sync->second || begin(sync, now_ms) != STATUS_OK)
        sync->state = SYNC_FAILED;
    sync->second = true;
}

static bool delta_is_right(const struct sync *sync, const uint8_t *data) {
    const struct message_manifest *hop = &sync->hops[sync->at];
    struct delta delta;
    return delta_open(data, hop->payload_bytes, &delta) == STATUS_OK && delta.elements == sync->elements &&
           digest_equal(delta.base, hop->base) && digest_equal(delta.result, hop->weights);
}

/* Of the way under way nothing is right any more; the next sync_want finds another. */
static void refuse_delta(struct sync *sync) {
    sync->refusals++;
    forget(sync->deltas, &sync->delta_count, sync->hops[sync->at].weights);
    drop(sync);
}

static void complete_delta(struct sync *sync, int64_t now_ms) {
    struct chain *chain = sync->chain;
    uint64_t bytes = sync->fetch.target.bytes;
    uint8_t *data = fetch_take(&sync->fetch);
    if (!delta_is_right(sync, data)) {
        sync->here += bytes;
        free(data);
        refuse_delta(sync);
        return;
    }
    chain->hops[chain->hop_count].data = data;
    chain->hops[chain->hop_count++].bytes = bytes;
    sync->here += bytes;
    if (++sync->at == sync->hop_count || PLANTED(CHAIN_PRUNED)) {
        chain->to = sync->wanted;
        sync->state = SYNC_READY;
    } else if (begin(sync, now_ms) != STATUS_OK) {
        drop(sync);
    }
}

void sync_chunk(struct sync *sync, const struct message_chunk *chunk, int64_t now_ms) {
    if (sync->state != SYNC_FETCHING || !fetch_chunk(&sync->fetch, chunk, now_ms, sync->send, sync->context) ||
        !fetch_done(&sync->fetch))
        return;
    if (sync->chain)
        complete_delta(sync, now_ms);
    else
        complete_snapshot(sync, now_ms);
}

void sync_gone(struct sync *sync, const struct message_gone *gone) {
    if (gone->kind == FETCH_FILE)
        return;
    bool delta = gone->kind == FETCH_DELTA;
    if (delta)
        forget(sync->deltas, &sync->delta_count, gone->object);
    else
        forget(sync->snapshots, &sync->snapshot_count, gone->object);
    if (sync->state == SYNC_FETCHING && delta == (sync->chain != NULL) &&
        digest_equal(sync->hops[sync->at].weights, gone->object))
        drop(sync);
}

void sync_tick(struct sync *sync, int64_t now_ms) {
    if (sync->state == SYNC_FETCHING)
        fetch_tick(&sync->fetch, now_ms, sync->send, sync->context);
}

void sync_refused(struct sync *sync) {
    sync->refusals++;
    sync->delta_count = 0;
    if (sync->chain)
        drop(sync);
}

/* ---- queries ---- */

enum sync_state sync_state(const struct sync *sync) {
    return sync->state;
}

struct digest sync_version(const struct sync *sync) {
    return sync->wanted;
}

void sync_progress(const struct sync *sync, uint64_t *out_bytes, uint64_t *out_total, uint64_t *out_ever) {
    *out_bytes = sync->here + fetched_bytes(&sync->fetch);
    *out_total = 0;
    for (uint32_t i = 0; i < sync->hop_count; i++)
        *out_total += sync->hops[i].payload_bytes;
    *out_ever = sync->ever + *out_bytes;
}

const char *sync_reason(const struct sync *sync) {
    return sync->state == SYNC_FAILED ? sync->reason : "";
}

uint64_t sync_refusals(const struct sync *sync) {
    return sync->refusals;
}

bool sync_has_chain(const struct sync *sync) {
    ASSERT(sync->state == SYNC_READY);
    return sync->chain != NULL;
}

void *sync_take(struct sync *sync, struct message_manifest *out_manifest) {
    ASSERT(snapshot_under_way(sync) && sync->state == SYNC_READY &&
           digest_equal(sync->fetch.target.object, sync->hops[0].weights)); /* S2 */
    *out_manifest = sync->hops[0];
    sync->ever += fetched_bytes(&sync->fetch);
    void *data = fetch_take(&sync->fetch);
    drop(sync);
    return data;
}

struct chain *sync_take_chain(struct sync *sync) {
    ASSERT(sync->state == SYNC_READY && sync->chain && sync->chain->hop_count == sync->hop_count); /* S2 */
    struct chain *chain = sync->chain;
    sync->chain = NULL;
    drop(sync);
    return chain;
}
