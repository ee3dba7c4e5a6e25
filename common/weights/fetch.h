/* One object on its way here: chunks are asked for by credit, checked, and put in their places. Pure: time and chunks in,
 * fetches out. What was lost is asked for again with back-off, for ever: the status line says for how long. One thread. */
#ifndef CANDOR_WEIGHTS_FETCH_H
#define CANDOR_WEIGHTS_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/weights/content.h"

/* Chunks asked for and not here yet: 8 MiB keep a 10 Gbit/s link of 5 ms round trip busy. */
#define FETCH_WINDOW 8
/* No chunk for this long: the missing ones are asked for again, then after twice as long, up to the most. */
#define FETCH_AGAIN_MS 2000
#define FETCH_AGAIN_MS_MAX 30000

struct fetch_target {
    uint8_t kind; /* enum fetch_kind */
    struct digest object, base;
    uint64_t bytes;
    uint32_t chunk_bytes;
};

struct fetch {
    struct fetch_target target;
    uint8_t *data;                   /* [target.bytes] */
    uint8_t *here;                   /* [chunks] 1: arrived */
    uint32_t chunks, arrived, asked; /* chunks below `asked` were asked for */
    uint32_t in_flight;
    struct digest content; /* sum of content_digest over the chunks that arrived */
    int64_t last_ms;       /* of the last chunk, or of the last asking */
    int64_t again_ms;
    uint64_t corrupt; /* chunks whose hash was wrong */
};

/* false: it could not be sent (no connection yet); it is tried again at the next tick. */
typedef bool (*fetch_send)(void *context, const struct message_fetch *message);

/* Allocates the buffer and asks for the first chunks. */
enum status fetch_begin(struct fetch *fetch, const struct fetch_target *target, int64_t now_ms, fetch_send send,
                        void *context);
/* Frees what is left; a fetch of all zeros is fine. */
void fetch_deinit(struct fetch *fetch);

/* A chunk: of another object, out of range, of a wrong size or hash is counted and dropped (I5). True when it was one
 * of ours. */
bool fetch_chunk(struct fetch *fetch, const struct message_chunk *chunk, int64_t now_ms, fetch_send send,
                 void *context);
/* Call at least each second. */
void fetch_tick(struct fetch *fetch, int64_t now_ms, fetch_send send, void *context);

bool fetch_done(const struct fetch *fetch);
/* The buffer, free()d by the caller. */
uint8_t *fetch_take(struct fetch *fetch);

#endif
