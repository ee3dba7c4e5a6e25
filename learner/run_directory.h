/* A run is a directory (DESIGN section 9): config.ini, run.json, metrics.jsonl, rollouts/, eval/, bad-batches/,
 * checkpoints/ and the lock that keeps a second learner out. All of it but the checkpoints is owned here. One thread.
 */
#ifndef CANDOR_LEARNER_RUN_DIRECTORY_H
#define CANDOR_LEARNER_RUN_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/fs.h"
#include "common/base/run_config.h"
#include "learner/trainer.h"

#define BAD_BATCHES_KEPT 3

struct run_directory {
    char path[PATH_BYTES];
    int lock;
    uint64_t run_id; /* random, made with the directory */
    bool fresh;      /* no learner was here before */
    FILE *metrics;
    uint64_t metrics_bytes;
    uint64_t rollout_bytes, rollout_bytes_max;
};

/* Makes the directory or takes it up again.
 * STATUS_AGAIN when another learner has it; STATUS_CONFIG, with the keys that differ, when it belongs to another configuration. */
enum status run_directory_open(const struct run_config *config, struct run_directory *out_directory);
/* Once what checkpoints there are is known to be of this configuration, and what it names the same content: config.ini says how the
 * run goes on. A run without checkpoints has it already. */
enum status run_directory_keep_config(const struct run_directory *directory, const struct run_config *config);
/* There is no checkpoint: answers and outcomes are of a run that died early, perhaps of another configuration. They go. */
enum status run_directory_begin_anew(struct run_directory *directory);
void run_directory_close(struct run_directory *directory);

/* Cut metrics.jsonl to its first bytes (0 when starting over) and open it for appending. */
enum status run_directory_open_metrics(struct run_directory *directory, uint64_t bytes);
enum status run_directory_add_metrics(struct run_directory *directory, const struct buf *line);

/* rollouts/step-NNNNNN.jsonl: a line a group, nothing in it that depends on who answered or when. Removes the oldest steps above
 * hub.rollout_bytes. */
enum status run_directory_write_rollouts(struct run_directory *directory, uint32_t step,
                                         const struct trainer_group *groups, uint32_t group_count,
                                         const float *advantages);
/* bad-batches/step-NNNNNN.jsonl: the same with token ids and behaviour log-probabilities, to be looked into; the last 3
 * stay. */
enum status run_directory_write_bad_batch(struct run_directory *directory, uint32_t step,
                                          const struct trainer_group *groups, uint32_t group_count,
                                          const float *advantages);

/* out_path = <run>/eval/step-NNNNNN.jsonl of a version. */
enum status run_directory_eval_path(const struct run_directory *directory, uint32_t version, char out_path[PATH_BYTES]);

#endif
