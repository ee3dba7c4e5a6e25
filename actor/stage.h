/* A chain of deltas on its way into the weights: decoded and verified on a thread of its own, while the generation thread
 * still reads the weights that it changes. Nobody may write them before stage_wait or stage_destroy has returned. */
#ifndef CANDOR_ACTOR_STAGE_H
#define CANDOR_ACTOR_STAGE_H

#include <stdbool.h>

#include "common/weights/patch.h"

struct stage;

/* Start. held: digest of the weights [elements]; weights NULL: the host cannot read them, and who applies the patch verifies
 * it. The chain is taken in any case. */
enum status stage_start(struct chain *take_chain, struct digest held, uint64_t elements, const uint16_t *weights,
                        int threads, struct stage **out_stage);
/* Waits for the thread. */
void stage_destroy(struct stage **stage);

bool stage_done(const struct stage *stage);
/* Waits for the thread. The patch is the stage's. STATUS_MISMATCH, STATUS_FORMAT: the chain is not what it should be. */
enum status stage_wait(struct stage *stage, const struct patch **out_patch);
const struct chain *stage_chain(const struct stage *stage);

#endif
