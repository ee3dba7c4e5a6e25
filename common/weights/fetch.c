#include "common/weights/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "common/compute/digest.h"

static uint32_t chunk_size(const struct fetch *fetch, uint32_t index) {
    uint64_t left = fetch->target.bytes - (uint64_t)index * fetch->target.chunk_bytes;
    return left < fetch->target.chunk_bytes ? (uint32_t)left : fetch->target.chunk_bytes;
}

/* Ask for chunks [first, first + count). */
static bool ask(struct fetch *fetch, uint32_t first, uint32_t count, fetch_send send, void *context) {
    struct message_fetch message = {.kind = fetch->target.kind,
                                    .object = fetch->target.object,
                                    .base = fetch->target.base,
                                    .first = first,
                                    .count = count};
    return send(context, &message);
}

/* Fill the window from where asking stopped, leaving out what is here (after a loss chunks arrive out of order). */
static void ask_more(struct fetch *fetch, fetch_send send, void *context) {
    while (fetch->in_flight < FETCH_WINDOW && fetch->asked < fetch->chunks) {
        uint32_t first = fetch->asked, end = first;
        while (end < fetch->chunks && !fetch->here[end] && fetch->in_flight + (end - first) < FETCH_WINDOW)
            end++;
        if (end > first && !ask(fetch, first, end - first, send, context))
            return;
        fetch->in_flight += end - first;
        fetch->asked = end > first ? end : first + 1;
    }
}

enum status fetch_begin(struct fetch *fetch, const struct fetch_target *target, int64_t now_ms, fetch_send send,
                        void *context) {
    ASSERT(target->chunk_bytes > 0 && target->chunk_bytes % 8 == 0);
    uint64_t chunks = (target->bytes + target->chunk_bytes - 1) / target->chunk_bytes;
    if (chunks > UINT32_MAX)
        return fail(STATUS_LIMIT, "%llu bytes in chunks of %u", (unsigned long long)target->bytes, target->chunk_bytes);
    struct fetch begun = {
        .target = *target, .chunks = chunks ? (uint32_t)chunks : 1, .last_ms = now_ms, .again_ms = FETCH_AGAIN_MS};
    begun.data = malloc(target->bytes ? target->bytes : 1);
    begun.here = calloc(begun.chunks, 1);
    if (!begun.data || !begun.here) {
        fetch_deinit(&begun);
        return fail(STATUS_NO_MEMORY, "no memory: %llu bytes for weights on their way",
                    (unsigned long long)target->bytes);
    }
    *fetch = begun;
    ask_more(fetch, send, context);
    return STATUS_OK;
}

void fetch_deinit(struct fetch *fetch) {
    free(fetch->data);
    free(fetch->here);
    memset(fetch, 0, sizeof *fetch);
}

bool fetch_chunk(struct fetch *fetch, const struct message_chunk *chunk, int64_t now_ms, fetch_send send,
                 void *context) {
    const struct fetch_target *target = &fetch->target;
    if (!fetch->data || chunk->kind != target->kind || !digest_equal(chunk->object, target->object))
        return false;
    if (chunk->index >= fetch->chunks || chunk->total_bytes != target->bytes ||
        chunk->bytes != chunk_size(fetch, chunk->index) || hash64(chunk->data, chunk->bytes) != chunk->hash) {
        fetch->corrupt++; /* asked for again when the others are here */
        return true;
    }
    fetch->last_ms = now_ms;
    fetch->again_ms = FETCH_AGAIN_MS;
    if (!fetch->here[chunk->index]) {
        if (fetch->in_flight)
            fetch->in_flight--;
        uint64_t first = (uint64_t)chunk->index * target->chunk_bytes;
        memcpy(fetch->data + first, chunk->data, chunk->bytes);
        fetch->content = digest_add(fetch->content, content_digest(chunk->data, first, chunk->bytes));
        fetch->here[chunk->index] = 1;
        fetch->arrived++;
    }
    ask_more(fetch, send, context);
    return true;
}

void fetch_tick(struct fetch *fetch, int64_t now_ms, fetch_send send, void *context) {
    if (!fetch->data || fetch_done(fetch))
        return;
    if (fetch->in_flight == 0)
        ask_more(fetch, send, context); /* what could not be sent before */
    if (now_ms - fetch->last_ms < fetch->again_ms)
        return;
    fetch->last_ms = now_ms;
    fetch->again_ms = 2 * fetch->again_ms < FETCH_AGAIN_MS_MAX ? 2 * fetch->again_ms : FETCH_AGAIN_MS_MAX;
    fetch->in_flight = 0;
    fetch->asked = 0;
    ask_more(fetch, send, context);
}

bool fetch_done(const struct fetch *fetch) {
    return fetch->data && fetch->arrived == fetch->chunks;
}

uint8_t *fetch_take(struct fetch *fetch) {
    ASSERT(fetch_done(fetch));
    uint8_t *data = fetch->data;
    fetch->data = NULL;
    fetch_deinit(fetch);
    return data;
}
