/* The older versions in a checkpoint (checkpoint.h): a chain of deltas, back from the checkpoint's own weights.
 *
 *   delta-00000048   common/weights/delta.h, from version 48 to the next one that the checkpoint holds
 *   weights-00000048.safetensors   fp32 has no deltas: the weights themselves, [parameters]
 * No file at all for a version whose content is that of the next one: the step between them was skipped. */
#ifndef CANDOR_LEARNER_CHECKPOINT_OLDER_H
#define CANDOR_LEARNER_CHECKPOINT_OLDER_H

#include "learner/version.h"

/* Write older [count], ascending, into directory; next after the last one is current. Files are fsynced. */
enum status checkpoint_older_write(const char *directory, struct version *const *older, uint32_t count,
                                   const struct version *current);

/* The version before `next` in the chain: next's content led back, verified against digest. canary is left zero. */
enum status checkpoint_older_read(const char *directory, uint32_t number, struct digest digest,
                                  const struct version *next, int threads, struct version **out_version);

#endif
