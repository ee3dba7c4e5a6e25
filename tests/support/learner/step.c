#include "tests/support/learner/step.h"

#include "common/base/rng.h"
#include "common/model/train.h"
#include "tests/support/test.h"

static void fill_group(struct step *step, uint32_t g, struct rng_key key) {
    for (uint32_t i = 0; i < STEP_PROMPT; i++)
        step->prompts[g][i] = (int32_t)rng_below(&key, i, 190);
    for (uint32_t s = 0; s < STEP_SAMPLES; s++) {
        key.sample = (uint16_t)(s + 1);
        uint32_t count = 1 + rng_below(&key, 0, STEP_TOKENS);
        for (uint32_t t = 0; t < count; t++)
            step->ids[g][s][t] = (int32_t)rng_below(&key, t + 1, 190);
        step->samples[g][s] = (struct answer_sample){.ids = step->ids[g][s],
                                                     .logprobs = step->logprobs[g][s],
                                                     .count = count,
                                                     .finish = s == 1 ? FINISH_LENGTH : FINISH_STOP,
                                                     .text = {"some \"text\"", 11}};
        step->scores[g][s] =
            (struct sample_score){.verdict = s == g ? VERDICT_CORRECT : VERDICT_WRONG, .reward = s == g};
    }
    step->scored[g] =
        (struct message_scored){.group = {.samples = step->samples[g],
                                          .sample_count = STEP_SAMPLES,
                                          .same_class = 1,
                                          .grading = {.question_id = {"q-1", 3}, .question = {"who?", 4}}},
                                .scores = step->scores[g],
                                .score_count = STEP_SAMPLES};
    step->groups[g] =
        (struct trainer_group){.prompt = step->prompts[g], .prompt_count = STEP_PROMPT, .scored = &step->scored[g]};
}

static void score_behaviour(struct step *step, struct model *model) {
    struct train_limits limits = {.rows_max = 256, .targets_max = 256, .logit_chunk = 64, .keep_layers = 0};
    struct train *train;
    struct train_batch *batch;
    float lp[256];
    ASSERT_OK(train_create(model, &limits, &train));
    ASSERT_OK(train_batch_create(256, 256, &batch));
    for (uint32_t g = 0; g < STEP_GROUPS; g++)
        for (uint32_t s = 0; s < STEP_SAMPLES; s++) {
            const int32_t *ids = step->ids[g][s];
            int32_t count = (int32_t)step->samples[g][s].count;
            train_batch_reset(batch);
            ASSERT_OK(train_batch_add_tree(batch, step->prompts[g], STEP_PROMPT, &ids, &count, 1));
            ASSERT_OK(train_forward(train, batch, 1, lp, NULL));
            memcpy(step->logprobs[g][s], lp, (size_t)count * sizeof *lp);
        }
    train_batch_destroy(&batch);
    train_destroy(&train);
}

void step_make(struct step *step, struct model *model, uint32_t seed) {
    *step = (struct step){0};
    struct rng_key key = {.seed = seed, .stream = RNG_TEST};
    for (uint32_t g = 0; g < STEP_GROUPS; g++) {
        key.slot = g;
        key.sample = 0;
        fill_group(step, g, key);
    }
    score_behaviour(step, model);
}
