/* The versions that a hub serves: hub (who is told), store (who reads) and the holder's memory in step. Pure: calls and time
 * in. The hub's thread. */
#ifndef CANDOR_HUB_VERSIONS_H
#define CANDOR_HUB_VERSIONS_H

#include "common/hub/hub.h"
#include "common/weights/store.h"

/* A version in host memory; the server serves its snapshot from there until retired, when release(context) is called on
 * the hub's thread. With a delta from an older version (delta.h): free()d in any case, and served for as
 * long as a version below it is published, and a little longer. On failure release is not called.
 * One retired version that is being read goes on being served, without leases, until nobody reads on or its deadline. */
struct published {
    uint32_t version;
    struct digest digest, canary; /* canary zero: none to compare */
    const void *data;
    uint64_t elements;
    uint8_t dtype;
    void *take_delta; /* [delta_bytes]; NULL: none */
    uint64_t delta_bytes;
    struct digest delta_base;
    void (*release)(void *context);
    void *context;
    int64_t read_ms; /* set here: of the last fetch that did not reach its end; 0: none */
};

struct versions {
    struct hub *hub;
    struct store *store;
    struct published list[STORE_VERSIONS_MAX];
    uint32_t count;
    uint32_t chunk_bytes;       /* of what is served; 0: CHUNK_BYTES_MAX */
    struct published lingering; /* retired and being read; data NULL: none */
    int64_t lingering_until_ms;
};

/* published->take_delta becomes NULL when it was taken. STATUS_LIMIT above STORE_VERSIONS_MAX. */
enum status versions_publish(struct versions *versions, struct published *published, int64_t now_ms);
/* Versions [first, end), and the deltas that then lead nowhere that is needed. */
enum status versions_retire(struct versions *versions, uint32_t first, uint32_t end, int64_t now_ms);
/* Somebody fetches: whether it is in the middle of a snapshot. */
void versions_read(struct versions *versions, const struct message_fetch *fetch, int64_t now_ms);
/* Call at least each second. */
void versions_tick(struct versions *versions, int64_t now_ms);
/* Releases every version. */
void versions_deinit(struct versions *versions);

#endif
