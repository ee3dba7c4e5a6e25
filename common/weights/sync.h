/* Weight sync of an actor: which versions there are, which one is on its way, which one waits to be loaded. Pure: manifests, chunks
 * and time in; fetches out. One version is staged at a time, in host memory of the model's size.
 *
 *   idle --sync_want--> fetching --last chunk--> ready --sync_take--> idle
 *                          | digest wrong: once more from the start; wrong again: failed (the process exits 75)
 *                          | gone: idle, and the version is forgotten
 *
 * Invariants: S1 what sync_take gives has the digest that was wanted. S2 the buffer of another version is never handed out. */
#ifndef CANDOR_WEIGHTS_SYNC_H
#define CANDOR_WEIGHTS_SYNC_H

#include "common/weights/fetch.h"

/* Manifests kept; the lowest version goes first. */
#define SYNC_VERSIONS_MAX 32

enum sync_state { SYNC_IDLE, SYNC_FETCHING, SYNC_READY, SYNC_FAILED };

struct sync;

/* elements: parameters of the model. send: to the weights socket. */
enum status sync_create(uint64_t elements, fetch_send send, void *context, struct sync **out_sync);
void sync_destroy(struct sync **sync);

/* A version is announced. STATUS_UNSUPPORTED for a delta ("not built yet"), STATUS_MISMATCH when it is not of this
 * model. */
enum status sync_manifest(struct sync *sync, const struct message_manifest *manifest);
/* NULL when not announced. */
const struct message_manifest *sync_find(const struct sync *sync, struct digest weights);

/* This version is needed next. Another one under way or ready is dropped. False when it is not announced.
 * STATUS_NO_MEMORY. */
enum status sync_want(struct sync *sync, struct digest weights, int64_t now_ms, bool *out_known);
void sync_chunk(struct sync *sync, const struct message_chunk *chunk, int64_t now_ms);
void sync_gone(struct sync *sync, const struct message_gone *gone);
void sync_tick(struct sync *sync, int64_t now_ms);

enum sync_state sync_state(const struct sync *sync);
/* The version that is fetched or ready; zero when idle. */
struct digest sync_version(const struct sync *sync);
/* Bytes here and in all, of the version under way; grows with every chunk ever taken: for heartbeats. */
void sync_progress(const struct sync *sync, uint64_t *out_bytes, uint64_t *out_total, uint64_t *out_ever);
/* Why it failed; "" otherwise. */
const char *sync_reason(const struct sync *sync);
/* The staged weights: [elements] of the manifest's type, free()d by the caller. Only when ready. */
void *sync_take(struct sync *sync, struct message_manifest *out_manifest);

#endif
