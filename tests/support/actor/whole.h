/* What the tests of clients and of whole actors share: the smallest model that an engine takes, what a hub says to an actor, and
 * the client's actions that mean nothing to them. */
#ifndef CANDOR_TESTS_SUPPORT_ACTOR_WHOLE_H
#define CANDOR_TESTS_SUPPORT_ACTOR_WHOLE_H

#include "common/base/buf.h"
#include "common/model/config.h"
#include "common/weights/store.h"
#include "proto/messages.h"

#define WHOLE_POSITIONS 128
#define WHOLE_VOCAB 64

extern const struct model_config whole_shape;

/* Of hub incarnation `hub` and run `run`; the store's files are borrowed. */
struct message whole_welcome(struct store *store, uint64_t hub, uint64_t run);
/* One question at this version, ended by token 5; the caller sets number, prompt, samples and max_new_tokens. */
struct message_lease whole_lease(uint64_t run, uint32_t slot, const struct message_manifest *manifest);

void whole_weights_open(void *context, const char *endpoint);
void whole_worker_open(void *context, uint32_t slot, const char *endpoint, const char *key);
void whole_worker_close(void *context, uint32_t slot);
enum status whole_text(void *context, const int32_t *ids, uint32_t count, struct buf *out_text);

#endif
