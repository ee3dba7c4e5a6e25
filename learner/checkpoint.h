/* Checkpoints: everything that must survive the learner's death (I7), as directories that any Hugging Face tool loads.
 *
 *   <run>/checkpoints/step-00000050/
 *     config.json model.safetensors tokenizer files    version 50, an ordinary model directory
 *     optimiser.safetensors    remainder (U16), exp_avg, exp_avg_sq (F32), each [parameters], in the buffer's order; moments of
 *                              eight bits are U8, with exp_avg_absmax, exp_avg_sq_absmax (F32) [a block of 256 parameters]
 *     delta-00000049           back to an older version that steps or evaluations to come sample from (checkpoint_older.h)
 *     state.json               where the run stands, and size and checksum of every other file; at its end its own checksum
 *   <run>/checkpoints/latest   the name of the newest; written last
 *
 * metrics.jsonl is fsynced first: state.json says how far it is to be read. A directory is written beside, every file fsynced, renamed, its parent fsynced: a crash leaves the old or the new
 * one, whole. It is written by a thread of its own while training goes on. Weights come from frozen versions;
 * remainders and moments are read from the device, so the next update waits for checkpointer_wait_read: between updates
 * they do not change. */
#ifndef CANDOR_LEARNER_CHECKPOINT_H
#define CANDOR_LEARNER_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/fs.h"
#include "learner/optimiser.h"
#include "learner/version.h"

#define CHECKPOINT_FORMAT 2
#define CHECKPOINT_OLDER_MAX 17 /* run.lag + 1 (9) and evaluations that are still being answered (8) */

/* Where a run stands between two steps. */
struct checkpoint_state {
    uint64_t step;    /* steps done: the next one to train, and the version of the weights */
    uint64_t updates; /* of them not skipped */
    uint32_t skips_in_row;
    uint64_t run_id;
    struct digest weights, config;
    struct digest reference; /* zero: no KL */
    uint64_t questions;      /* to train on and to evaluate, by their content */
    uint64_t metrics_bytes;  /* metrics.jsonl holds the steps done and ends here */
};

/* ---- reading ---- */
struct checkpoint {
    char directory[PATH_BYTES];
    struct checkpoint_state state;
    struct {
        uint32_t number;
        struct digest digest;
    } older[CHECKPOINT_OLDER_MAX];
    uint32_t older_count;
};

/* The newest checkpoint whose files are all there with the right checksums. A damaged one is named to damaged(context, text) and
 * passed over. STATUS_NOT_FOUND when there is none at all; STATUS_FORMAT when every one is damaged. */
enum status checkpoint_find(const char *run_directory, void (*damaged)(void *context, const char *text), void *context,
                            struct checkpoint *out_checkpoint);
/* Remainder, moments and counts; the model's weights are loaded from the directory by model_load before. */
enum status checkpoint_load_optimiser(const struct checkpoint *checkpoint, struct optimiser *optimiser);
/* The older versions, in order: each is led back to from the one after it, the last from current, the checkpoint's own
 * weights, and verified against its digest. Canaries are left zero: they are the device's. */
enum status checkpoint_load_older(const struct checkpoint *checkpoint, const struct version *current, int threads,
                                  struct version **out_older);

/* ---- writing ---- */
struct checkpointer;

struct checkpointer_settings {
    const char *run_directory;
    const char *model_directory; /* where the tokenizer's files are copied from */
    const struct model *model;   /* its shape */
    struct optimiser *optimiser; /* read while the training thread computes */
    uint32_t keep;
};

/* Makes the directory, removes what a crash left half-written, starts the thread. */
enum status checkpointer_open(const struct checkpointer_settings *settings, struct checkpointer **out_checkpointer);
/* Bytes that one checkpoint takes, with older_count older versions; their deltas are an estimate. */
uint64_t checkpoint_bytes(const struct optimiser *optimiser, uint32_t older_count);
/* STATUS_IO, with the numbers, when the disk has no room for keep + 1 of them, less those that are there already. */
enum status checkpoint_check_room(const char *run_directory, uint64_t bytes, uint32_t keep);

/* Start writing state; waits for the one before. current is version state->step; older [older_count] in ascending
 * order. */
void checkpointer_begin(struct checkpointer *checkpointer, const struct checkpoint_state *state,
                        struct version *current, struct version *const *older, uint32_t older_count);
/* Until remainders and moments are read: before they change. */
void checkpointer_wait_read(struct checkpointer *checkpointer);
/* Until nothing is being written; the status of the last one. A failure was logged when it happened
 * (checkpoint_failed). */
enum status checkpointer_finish(struct checkpointer *checkpointer);
uint32_t checkpointer_failures(struct checkpointer *checkpointer);
void checkpointer_close(struct checkpointer **checkpointer); /* finishes first */

#endif
