/* What the weights socket serves: versions in host memory, deltas between them, and the model's small files. Pure: a
 * fetch comes in, chunks or gone go out. Nothing is queued here: a fetch is answered at once and its count is the
 * credit (I4), so a retired version's memory is free when store_retire returns. One thread. */
#ifndef CANDOR_WEIGHTS_STORE_H
#define CANDOR_WEIGHTS_STORE_H

#include "common/weights/content.h"

/* Versions served at once: those that leases of lag 8, an evaluation and a resume may name. */
#define STORE_VERSIONS_MAX 32

/* Deltas served at once; the one that leads to the lowest version makes room. An evaluation that is further behind
 * costs its actor a snapshot. */
#define STORE_DELTAS_MAX 64

struct store;

enum status store_create(struct store **out_store);
void store_destroy(struct store **store);

/* Offer the small files of a Hugging Face directory: configuration, tokenizer, chat template; by a fixed list of names, never
 * others. Hashes them. STATUS_NOT_FOUND without config.json. */
enum status store_open_files(struct store *store, const char *directory);
/* [out_count], owned by the store: for WELCOME. */
const struct model_file *store_files(const struct store *store, uint32_t *out_count);
bool store_file_allowed(const char *name);

/* A snapshot: data [manifest->payload_bytes] host memory, unchanged until store_retire. STATUS_LIMIT above
 * STORE_VERSIONS_MAX. Publishing a digest again replaces its data. */
enum status store_publish(struct store *store, const struct message_manifest *manifest, const void *data);
/* Absent is fine. */
void store_retire(struct store *store, struct digest weights);

/* A delta: take_data [manifest->payload_bytes], free()d by the store. A delta is served apart from the versions at its
 * ends, for those who go from an older version to a newer one past versions that nobody needs any more. */
enum status store_publish_delta(struct store *store, const struct message_manifest *manifest, void *take_data);
/* Let go of the deltas that lead to versions below. */
void store_retire_deltas(struct store *store, uint32_t version);

/* Answer a fetch: reply is called for each chunk in order (data borrowed for the call), or once with gone. It returns
 * false to stop: the peer's pipe is full, and it will ask again. */
typedef bool (*store_reply)(void *context, const struct message *message);
void store_fetch(struct store *store, const struct message_fetch *fetch, store_reply reply, void *context);

#endif
