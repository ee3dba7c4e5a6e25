#include "tests/support/learner/step.h"
#include "tests/support/learner/tiny.h"

#include <math.h>

struct fixture {
    struct tiny tiny;
    struct run_config *config;
    struct trainer *trainer;
    struct model *reference;
    struct step step;
    float advantages[STEP_GROUPS * STEP_SAMPLES];
    struct step_figures figures;
};

static void begin(struct fixture *f, const char *const *more) {
    const char *assignments[16] = {"loss.kl=0",      "optim.lr=1e-3",     "optim.warmup=0", "sample.max_new_tokens=6",
                                   "sample.group=4", "sample.questions=4"};
    for (size_t i = 6; *more; more++, i++)
        assignments[i] = *more;
    tiny_open(&f->tiny);
    f->config = tiny_config(&f->tiny, assignments);
    f->reference = NULL;
    if (f->config->loss_kl > 0) {
        ASSERT_OK(model_create(f->tiny.device, &f->tiny.model->config, DTYPE_BF16, 64, 0, &f->reference));
        ASSERT_OK(model_initialise(f->reference, 7, 0.1)); /* the same as the policy */
    }
    struct trainer_limits limits = {
        STEP_PROMPT, STEP_TOKENS, STEP_SAMPLES, STEP_GROUPS, (uint32_t)f->config->train_microbatch_tokens, 64};
    ASSERT_OK(trainer_create(f->tiny.model, f->reference, f->config, &limits, &f->trainer));
    step_make(&f->step, f->tiny.model, 1);
}

static void end(struct fixture *f) {
    trainer_destroy(&f->trainer);
    model_destroy(&f->reference);
    free(f->config);
    tiny_close(&f->tiny);
}

static enum status run(struct fixture *f, uint64_t step) {
    return trainer_step(f->trainer, step, f->step.groups, STEP_GROUPS, NULL, f->advantages, &f->figures);
}

static void count(void *context) {
    ++*(uint32_t *)context;
}

/* A step at 7B takes minutes: a watchdog must see that it goes on. */
static void each_micro_batch_is_a_beat(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, (const char *const[]){NULL});
    uint32_t beats = 0;
    struct trainer_hooks hooks = {.beat = count, .context = &beats};
    ASSERT_OK(trainer_step(f.trainer, 0, f.step.groups, STEP_GROUPS, &hooks, f.advantages, &f.figures));
    assert_true(beats > 0);
    assert_int_equal(beats, f.figures.micro_batches);
    end(&f);
}

static struct digest digest_of(struct fixture *f) {
    struct digest digest;
    ASSERT_OK(model_digest(f->tiny.model, &digest));
    return digest;
}

/* After one step in a fixture of its own, changed by change (may be NULL). */
static struct digest digest_after(const char *const *more, void (*change)(struct step *step)) {
    struct fixture f;
    begin(&f, more);
    if (change)
        change(&f.step);
    ASSERT_OK(run(&f, 0));
    struct digest digest = digest_of(&f);
    end(&f);
    return digest;
}

static const char *const none[] = {NULL};

static void on_policy_the_ratio_is_exactly_one(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, none);
    ASSERT_OK(run(&f, 0));
    assert_true(f.figures.behaviour_gap == 0 && f.figures.loss.ratio_max == 1);
    assert_true(f.figures.loss.ratio == (double)f.figures.loss.tokens);
    assert_int_equal(f.figures.verdicts[VERDICT_CORRECT], STEP_GROUPS);
    assert_int_equal(f.figures.truncated, STEP_GROUPS);
    assert_true(f.figures.entropy > 0 && f.figures.update.gradient_norm > 0);
    assert_true(f.advantages[0] > 0 && f.advantages[1] < 0);
    /* one flipped bit of a weight, and the log-probabilities no longer agree */
    struct step second;
    step_make(&second, f.tiny.model, 2);
    ((uint16_t *)f.tiny.model->data)[f.tiny.model->layout->layers[0].down + 3] ^= 1u << 7;
    f.step = second;
    for (uint32_t g = 0; g < STEP_GROUPS; g++)
        f.step.groups[g] = (struct trainer_group){second.prompts[g], STEP_PROMPT, &second.scored[g]};
    ASSERT_OK(run(&f, 1));
    assert_true(f.figures.behaviour_gap > 0);
    end(&f);
}

static void rewarded_answers_become_likelier(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, (const char *const[]){"optim.lr=1e-2", NULL});
    for (uint64_t i = 0; i < 10; i++)
        ASSERT_OK(run(&f, i));
    struct step now;
    step_make(&now, f.tiny.model, 1);
    for (uint32_t g = 0; g < STEP_GROUPS; g++) {
        double before = 0, after = 0;
        for (uint32_t t = 0; t < f.step.samples[g][g].count; t++) {
            before += (double)f.step.logprobs[g][g][t];
            after += (double)now.logprobs[g][g][t];
        }
        assert_true(after > before);
    }
    end(&f);
}

static void the_same_groups_give_the_same_bits_and_other_cuts_nearly(void **state) {
    (void)state;
    struct digest a = digest_after(none, NULL), b = digest_after(none, NULL);
    assert_true(digest_equal(a, b));
    struct fixture whole, cut;
    begin(&whole, none);
    ASSERT_OK(run(&whole, 0));
    begin(&cut, (const char *const[]){"train.microbatch_tokens=20", NULL});
    ASSERT_OK(run(&cut, 0));
    assert_true(cut.figures.micro_batches > 1 && whole.figures.micro_batches == 1);
    double difference = cut.figures.update.gradient_norm - whole.figures.update.gradient_norm;
    assert_true(fabs(difference) < 1e-5 * whole.figures.update.gradient_norm);
    end(&whole);
    end(&cut);
}

static void all_equal(struct step *step) {
    for (uint32_t g = 0; g < STEP_GROUPS; g++)
        for (uint32_t s = 0; s < STEP_SAMPLES; s++)
            step->scores[g][s].reward = .95f;
}

static void groups_of_equal_rewards_teach_exactly_nothing(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, none);
    struct digest before = digest_of(&f);
    all_equal(&f.step);
    ASSERT_OK(run(&f, 0));
    assert_true(f.figures.update.gradient_norm == 0 && f.figures.trained_tokens == 0);
    assert_int_equal(f.figures.advantage.dead_groups, STEP_GROUPS);
    assert_true(digest_equal(before, digest_of(&f)));
    end(&f);
}

static void with_kl_they_still_pull_to_the_reference(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, (const char *const[]){"loss.kl=0.1", NULL});
    all_equal(&f.step);
    ASSERT_OK(run(&f, 0)); /* the policy is the reference: KL and its gradient are 0 */
    assert_true(f.figures.loss.kl == 0 && f.figures.trained_tokens > 0 && f.figures.update.gradient_norm == 0);
    uint16_t *weights = f.tiny.model->data;
    for (int i = 0; i < 64; i++)
        weights[f.tiny.model->layout->layers[0].down + i] ^= 0x8000;
    ASSERT_OK(run(&f, 1));
    assert_true(f.figures.loss.kl > 0 && f.figures.update.gradient_norm > 0);
    end(&f);
}

static void change_truncated(struct step *step) {
    for (uint32_t g = 0; g < STEP_GROUPS; g++)
        for (uint32_t t = 0; t < step->samples[g][1].count; t++)
            step->ids[g][1][t] = (step->ids[g][1][t] + 17) % 190;
}

static void masked_truncated_answers_change_no_bit(void **state) {
    (void)state;
    static const char *const masked[] = {"loss.mask_truncated=yes", NULL};
    assert_true(digest_equal(digest_after(masked, NULL), digest_after(masked, change_truncated)));
    assert_false(digest_equal(digest_after(none, NULL), digest_after(none, change_truncated)));
}

static void change_last_group(struct step *step) {
    for (uint32_t s = 0; s < STEP_SAMPLES; s++)
        step->scores[STEP_GROUPS - 1][s].reward = NAN;
}

static void drop_last_group(struct step *step) {
    step->groups[STEP_GROUPS - 1].scored = NULL;
}

static void unscorable_and_skipped_groups_give_no_gradient(void **state) {
    (void)state;
    static const char *const uncounted[] = {"loss.count_dead_tokens=no", NULL};
    assert_true(digest_equal(digest_after(uncounted, change_last_group), digest_after(uncounted, drop_last_group)));
    assert_false(digest_equal(digest_after(uncounted, NULL), digest_after(uncounted, drop_last_group)));
}

static void a_batch_that_overflows_is_skipped(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, (const char *const[]){"loss.dual_clip=0", NULL});
    struct digest before = digest_of(&f);
    f.step.logprobs[0][1][0] = -200; /* a bad answer that became e^190 times likelier */
    ASSERT_OK(run(&f, 0));
    assert_true(f.figures.update.skipped);
    assert_true(digest_equal(before, digest_of(&f)));
    end(&f);
}

static void other_class(struct step *step) {
    for (uint32_t g = 0; g < STEP_GROUPS; g++)
        step->scored[g].group.same_class = 0;
}

static void answers_of_another_class_are_weighted(void **state) {
    (void)state;
    /* where the other class gave the same log-probabilities every weight is 1: the same update */
    assert_true(digest_equal(digest_after(none, NULL), digest_after(none, other_class)));
    struct fixture f;
    begin(&f, none);
    other_class(&f.step);
    f.step.logprobs[0][0][0] -= 5; /* weight 2 at most, where a ratio would be e^5 and clipped */
    ASSERT_OK(run(&f, 0));
    assert_true(f.figures.loss.ratio_max == 1 && f.figures.other_class == STEP_GROUPS * STEP_SAMPLES);
    assert_true(f.figures.behaviour_gap == 0);
    end(&f);
}

static void what_does_not_fit_is_refused_before_anything_changes(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, none);
    struct digest before = digest_of(&f);
    f.step.ids[2][1][0] = 192;
    ASSERT_FAILS(STATUS_FORMAT, run(&f, 0));
    f.step.ids[2][1][0] = -1;
    ASSERT_FAILS(STATUS_FORMAT, run(&f, 0));
    f.step.ids[2][1][0] = 0;
    f.step.samples[1][0].count = 7;
    ASSERT_FAILS(STATUS_FORMAT, run(&f, 0));
    f.step.samples[1][0].count = 0;
    ASSERT_FAILS(STATUS_FORMAT, run(&f, 0));
    f.step.samples[1][0].count = 1;
    f.step.scored[0].score_count = 3;
    ASSERT_FAILS(STATUS_FORMAT, run(&f, 0));
    assert_true(digest_equal(before, digest_of(&f)));
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_micro_batch_is_a_beat),
        cmocka_unit_test(on_policy_the_ratio_is_exactly_one),
        cmocka_unit_test(rewarded_answers_become_likelier),
        cmocka_unit_test(the_same_groups_give_the_same_bits_and_other_cuts_nearly),
        cmocka_unit_test(groups_of_equal_rewards_teach_exactly_nothing),
        cmocka_unit_test(with_kl_they_still_pull_to_the_reference),
        cmocka_unit_test(masked_truncated_answers_change_no_bit),
        cmocka_unit_test(unscorable_and_skipped_groups_give_no_gradient),
        cmocka_unit_test(a_batch_that_overflows_is_skipped),
        cmocka_unit_test(answers_of_another_class_are_weighted),
        cmocka_unit_test(what_does_not_fit_is_refused_before_anything_changes),
    };
    return cmocka_run_group_tests_name("trainer", tests, NULL, NULL);
}
