/* Scored groups made by hand, for tests of the trainer and of what is written about a step. */
#ifndef CANDOR_TESTS_SUPPORT_LEARNER_STEP_H
#define CANDOR_TESTS_SUPPORT_LEARNER_STEP_H

#include "learner/trainer.h"

#define STEP_GROUPS 4
#define STEP_SAMPLES 4
#define STEP_TOKENS 6
#define STEP_PROMPT 5

struct step {
    int32_t prompts[STEP_GROUPS][STEP_PROMPT];
    int32_t ids[STEP_GROUPS][STEP_SAMPLES][STEP_TOKENS];
    float logprobs[STEP_GROUPS][STEP_SAMPLES][STEP_TOKENS];
    struct answer_sample samples[STEP_GROUPS][STEP_SAMPLES];
    struct sample_score scores[STEP_GROUPS][STEP_SAMPLES];
    struct message_scored scored[STEP_GROUPS];
    struct trainer_group groups[STEP_GROUPS];
};

/* Random ids and lengths from 1 to STEP_TOKENS; behaviour log-probabilities as the model gives them (on-policy); in
 * group g answer g is right. */
void step_make(struct step *step, struct model *model, uint32_t seed);

#endif
