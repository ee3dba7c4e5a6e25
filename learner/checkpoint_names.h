/* Names inside <run>/checkpoints, for the two halves of checkpoint.h. */
#ifndef CANDOR_LEARNER_CHECKPOINT_NAMES_H
#define CANDOR_LEARNER_CHECKPOINT_NAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CHECKPOINT_FOLDER "checkpoints"
#define CHECKPOINT_METRICS "metrics.jsonl" /* beside that folder (run_directory.h) */
#define CHECKPOINT_LATEST "latest"
#define CHECKPOINT_STATE "state.json"
/* The end of state.json: ,\n "digest": "<32 hex digits>"\n}\n */
#define CHECKPOINT_DIGEST "digest"
#define CHECKPOINT_STATE_END "\n}\n"
#define CHECKPOINT_OPTIMISER "optimiser.safetensors"
#define CHECKPOINT_PART ".part"
#define CHECKPOINT_NAME_BYTES 64

static inline void checkpoint_name(uint64_t step, char out_name[CHECKPOINT_NAME_BYTES]) {
    snprintf(out_name, CHECKPOINT_NAME_BYTES, "step-%08llu", (unsigned long long)step);
}

static inline bool checkpoint_is_name(const char *name) {
    return strncmp(name, "step-", 5) == 0 && strlen(name) == 13 && strspn(name + 5, "0123456789") == 8;
}

#endif
