/* `candor sft`: supervised training on JSONL examples, from a model or from nothing. It makes the demo's base model and a cold
 * start for real ones. Same engine and optimiser as the learner's; loss is the mean over answer tokens (the answer and the
 * token that ends it) of -log p. Same configuration and seed, same bits. */
#ifndef CANDOR_LEARNER_SFT_H
#define CANDOR_LEARNER_SFT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/run_config.h"

struct sft_progress {
    uint64_t step, steps; /* step: updates made */
    double loss, lr, gradient_norm;
    double tokens_per_second; /* tokens that went through the model */
    double seconds;
    double flop; /* of all updates so far, forward and backward */
};

struct sft_events {
    void *context;
    /* After each update. */
    void (*progress)(void *context, const struct sft_progress *progress);
    /* True ends the run with STATUS_INTERRUPTED and nothing written. NULL: never. */
    bool (*stopped)(void *context);
};

/* Reads sft.*, run.seed, model.path, model.device, model.storage, train.*, optim.beta1, .eps, .clip of config.
 *   from_nothing  model.path holds config.json and tokenizer files; weights are drawn with sft.init_std
 *   out_directory becomes an ordinary Hugging Face directory: written beside and renamed; STATUS_EXISTS when it is not empty
 * A non-finite loss is STATUS_NONFINITE: supervised data have no excuse for it. */
enum status sft_run(const struct run_config *config, bool from_nothing, const char *out_directory,
                    const struct sft_events *events);

#endif
