/* The trainer: one step's scored groups in, one update out. It knows the model, the reference, the objective and the optimiser,
 * and nothing of hubs, versions or files.
 *
 * Groups come in slot order. They are cut into micro-batches (microbatch.h), packed as trees, and gradients add in that order,
 * so the update's bits depend on nothing but the groups. A dead group (zero variance) without a KL term has no gradient and is
 * not computed. Actors of another class: old is the policy itself, the behaviour enters as a weight (loss_importance).
 * One thread, the device's. */
#ifndef CANDOR_LEARNER_TRAINER_H
#define CANDOR_LEARNER_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/verdict.h"
#include "common/model/parameters.h"
#include "learner/advantage.h"
#include "learner/loss.h"
#include "learner/optimiser.h"
#include "proto/messages.h"

struct trainer;

struct trainer_limits {
    uint32_t prompt_tokens; /* longest prompt */
    uint32_t answer_tokens; /* longest answer */
    uint32_t group, groups; /* answers a group, groups a step */
    uint32_t microbatch_tokens, logit_chunk;
};

/* model and reference (NULL exactly when settings->kl is 0) are borrowed and outlive the trainer. */
enum status trainer_create(struct model *model, struct model *reference, const struct run_config *config,
                           const struct trainer_limits *limits, struct trainer **out_trainer);
void trainer_destroy(struct trainer **trainer);
struct optimiser *trainer_optimiser(struct trainer *trainer);
/* Device memory for activations and logits of the largest micro-batch, the reference's pass included. */
int64_t trainer_batch_bytes(const struct trainer *trainer);

/* A step's figures; the shares are made of these by metrics.c. */
struct step_figures {
    struct advantage_stats advantage;
    struct loss_sums loss;
    struct update update;
    double entropy;          /* sum over trained tokens */
    double behaviour_gap;    /* greatest |lp - behaviour lp| over answers of the learner's class; exactly 0 at lag 0 */
    uint64_t trained_tokens; /* answer tokens that went through the model */
    uint64_t trained_rows;   /* with their prompts, each once */
    uint64_t answer_tokens, prompt_tokens;
    uint32_t groups, answers, truncated, longest, shortest;
    uint32_t other_class; /* answers of actors of another class */
    uint32_t verdicts[VERDICT_COUNT];
    uint32_t micro_batches;
    double forward_seconds, backward_seconds, update_seconds;
};

/* Called on the way; each may be NULL. */
struct trainer_hooks {
    void (*beat)(void *context); /* a micro-batch is done */
    void (*gate)(void *context); /* weights and moments are about to change: wait while a checkpoint reads them */
    void *context;
};

/* groups [group_count]: prompts[g] are the ids that groups[g] answered; groups[g] NULL: a slot that was skipped.
 * out_advantages [sum of samples], group after group. */
struct trainer_group {
    const int32_t *prompt;
    uint32_t prompt_count;
    const struct message_scored *scored;
};

/* hooks may be NULL. STATUS_FORMAT, and nothing changed, when a group does not fit the limits or holds an id outside the
 * vocabulary. A non-finite loss or norm is no error: figures->update.skipped. */
enum status trainer_step(struct trainer *trainer, uint64_t step, const struct trainer_group *groups,
                         uint32_t group_count, const struct trainer_hooks *hooks, float *out_advantages,
                         struct step_figures *out_figures);

#endif
