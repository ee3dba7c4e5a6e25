/* Weight sync of an actor: which versions there are, how to get to the one that is needed, what waits to be loaded.
 * Pure: manifests, chunks and time in; fetches out.
 *
 *   idle --sync_want--> fetching --last chunk--> ready --sync_take or sync_take_chain--> idle
 *                          | a snapshot's digest wrong: once more from the start; wrong again: failed (exit code 75)
 *                          | a delta that is not what was announced, or gone: forgotten, and another way is found
 *                          | a snapshot gone: idle, and the snapshot is forgotten
 *
 * The way is the one of the fewest bytes still to fetch: deltas, forward or back, from the version that the device
 * holds; or the snapshot of the wanted version; or the snapshot of another from which deltas lead on: that one is
 * loaded first. A snapshot under way counts with what is missing of it, so a slow reader is not sent back to the start
 * by each new version.
 *
 * Invariants: S1 what sync_take gives has the digest that its manifest names; what sync_take_chain gives leads, by its
 * deltas' headers, from the held version to the wanted one, and its application verifies that. S2 the buffer of another
 * version is never handed out. */
#ifndef CANDOR_WEIGHTS_SYNC_H
#define CANDOR_WEIGHTS_SYNC_H

#include "common/weights/chain.h"
#include "common/weights/fetch.h"

/* Manifests kept of snapshots and of deltas; the lowest version goes first. */
#define SYNC_VERSIONS_MAX 32
#define SYNC_DELTAS_MAX CHAIN_HOPS_MAX

enum sync_state { SYNC_IDLE, SYNC_FETCHING, SYNC_READY, SYNC_FAILED };

struct sync;

/* elements: parameters of the model. send: to the weights socket. */
enum status sync_create(uint64_t elements, fetch_send send, void *context, struct sync **out_sync);
void sync_destroy(struct sync **sync);

/* A snapshot or a delta is announced. STATUS_MISMATCH when it is not of this model. */
enum status sync_manifest(struct sync *sync, const struct message_manifest *manifest);
/* A snapshot's; NULL when not announced. */
const struct message_manifest *sync_find(const struct sync *sync, struct digest weights);

/* This version is needed next; the device holds `held` (zero: nothing). Another way under way or ready is dropped
 * unless it serves this one too. out_known false when no way is known. STATUS_NO_MEMORY. */
enum status sync_want(struct sync *sync, struct digest weights, struct digest held, int64_t now_ms, bool *out_known);
void sync_chunk(struct sync *sync, const struct message_chunk *chunk, int64_t now_ms);
void sync_gone(struct sync *sync, const struct message_gone *gone);
void sync_tick(struct sync *sync, int64_t now_ms);
/* A chain could not be applied: no delta that is known now is used again, so that the next way is a snapshot. */
void sync_refused(struct sync *sync);

enum sync_state sync_state(const struct sync *sync);
/* The version that is wanted while something is fetched or ready; zero when idle. */
struct digest sync_version(const struct sync *sync);
/* Bytes here and in all, of what is under way; grows with every chunk ever taken: for heartbeats. */
void sync_progress(const struct sync *sync, uint64_t *out_bytes, uint64_t *out_total, uint64_t *out_ever);
/* Why it failed; "" otherwise. */
const char *sync_reason(const struct sync *sync);
/* Deltas that were not what their manifests said, or could not be applied. */
uint64_t sync_refusals(const struct sync *sync);

/* Only when ready: whether deltas wait, not a snapshot. */
bool sync_has_chain(const struct sync *sync);
/* The staged snapshot: [elements] of the manifest's type, free()d by the caller; not of the wanted version when deltas
 * lead on from it. */
void *sync_take(struct sync *sync, struct message_manifest *out_manifest);
struct chain *sync_take_chain(struct sync *sync);

#endif
