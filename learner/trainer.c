#include "learner/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/train.h"
#include "learner/support.h"
#include "learner/microbatch.h"

struct trainer {
    struct model *model, *reference;
    struct optimiser *optimiser;
    struct train *train, *reference_train;
    struct train_batch *batch;
    struct trainer_limits limits;
    struct loss_settings loss;
    enum advantage_scale scale;
    double advantage_eps;
    bool count_dead_tokens, mask_truncated;
    float temperature;
    int64_t batch_bytes;
    /* one micro-batch, host: [targets most] */
    float *lp, *entropy, *reference_lp, *dlp;
    float *weight;           /* [answer_tokens] of one answer */
    const int32_t **answers; /* [group] */
    int32_t *answer_counts;  /* [group] */
    /* one step: [groups], and rewards [groups * group] */
    struct microbatch_weight *weights;
    struct microbatch *batches;
    uint32_t *sample_counts;
    bool *dead;
    float *rewards;
};

static enum status reserve(void **out_memory, size_t count, size_t bytes) {
    *out_memory = calloc(count ? count : 1, bytes);
    return *out_memory ? STATUS_OK : fail(STATUS_NO_MEMORY, "trainer: no memory for %zu elements", count);
}

static enum status allocate(struct trainer *t, struct microbatch_weight most) {
    const struct trainer_limits *limits = &t->limits;
    struct {
        void *out;
        size_t count, bytes;
    } wanted[] = {
        {&t->lp, most.targets, sizeof *t->lp},
        {&t->entropy, most.targets, sizeof *t->entropy},
        {&t->reference_lp, t->reference ? most.targets : 0, sizeof *t->reference_lp},
        {&t->dlp, most.targets, sizeof *t->dlp},
        {&t->weight, limits->answer_tokens, sizeof *t->weight},
        {&t->answers, limits->group, sizeof *t->answers},
        {&t->answer_counts, limits->group, sizeof *t->answer_counts},
        {&t->weights, limits->groups, sizeof *t->weights},
        {&t->batches, limits->groups, sizeof *t->batches},
        {&t->sample_counts, limits->groups, sizeof *t->sample_counts},
        {&t->dead, limits->groups, sizeof *t->dead},
        {&t->rewards, (size_t)limits->groups * limits->group, sizeof *t->rewards},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        TRY(reserve(wanted[i].out, wanted[i].count, wanted[i].bytes));
    return STATUS_OK;
}

static void settings_from(const struct run_config *config, struct trainer *t, struct optimiser_settings *out_optim) {
    loss_settings_from(config, &t->loss);
    t->scale = (enum advantage_scale)config->loss_scale;
    t->advantage_eps = config->loss_advantage_eps;
    t->count_dead_tokens = config->loss_count_dead_tokens;
    t->mask_truncated = config->loss_mask_truncated;
    t->temperature = (float)config->sample_temperature;
    *out_optim = (struct optimiser_settings){
        .lr = config->optim_lr,
        .beta1 = config->optim_beta1,
        .beta2 = config->optim_beta2,
        .eps = config->optim_eps,
        .weight_decay = config->optim_weight_decay,
        .clip = config->optim_clip,
        .moments = (enum moment_storage)config->optim_moments,
        .schedule = (enum lr_schedule)config->optim_schedule,
        .warmup = (uint64_t)config->optim_warmup,
        .steps = (uint64_t)config->run_steps,
    };
}

/* The heaviest group that the limits allow. */
static struct microbatch_weight heaviest(struct trainer *t) {
    const struct trainer_limits *limits = &t->limits;
    for (uint32_t i = 0; i < limits->group; i++)
        t->answer_counts[i] = (int32_t)limits->answer_tokens;
    int32_t rows = train_tree_rows((int32_t)limits->prompt_tokens, t->answer_counts, (int32_t)limits->group);
    return (struct microbatch_weight){(uint32_t)rows, limits->group * limits->answer_tokens};
}

static enum status set_up(struct trainer *t, const struct run_config *config) {
    struct optimiser_settings optim;
    settings_from(config, t, &optim);
    TRY(reserve((void **)&t->answer_counts, t->limits.group, sizeof *t->answer_counts));
    struct microbatch_weight most = microbatch_most(heaviest(t), t->limits.microbatch_tokens);
    free(t->answer_counts);
    t->answer_counts = NULL;
    TRY(allocate(t, most));
    TRY(optimiser_create(t->model, &optim, &t->optimiser));
    TRY(train_batch_create((int32_t)most.rows, (int32_t)most.targets, &t->batch));
    struct train_limits limits = {.rows_max = (int32_t)most.rows,
                                  .targets_max = (int32_t)most.targets,
                                  .logit_chunk = (int32_t)t->limits.logit_chunk};
    struct train_limits of_reference = limits;
    of_reference.forward_only = true;
    enum dtype activation = t->model->device->activation;
    if (t->reference)
        t->batch_bytes = train_bytes(&t->reference->config, &of_reference, activation);
    limits.keep_layers = support_keep_layers(t->model->device, &t->model->config, limits, t->batch_bytes);
    t->batch_bytes += train_bytes(&t->model->config, &limits, activation);
    TRY(train_create(t->model, &limits, &t->train));
    return t->reference ? train_create(t->reference, &of_reference, &t->reference_train) : STATUS_OK;
}

enum status trainer_create(struct model *model, struct model *reference, const struct run_config *config,
                           const struct trainer_limits *limits, struct trainer **out_trainer) {
    ASSERT((reference != NULL) == (config->loss_kl > 0));
    struct trainer *t = calloc(1, sizeof *t);
    if (!t)
        return fail(STATUS_NO_MEMORY, "trainer: no memory");
    t->model = model;
    t->reference = reference;
    t->limits = *limits;
    enum status status = set_up(t, config);
    if (status != STATUS_OK) {
        trainer_destroy(&t);
        return status;
    }
    *out_trainer = t;
    return STATUS_OK;
}

void trainer_destroy(struct trainer **trainer) {
    struct trainer *t = *trainer;
    if (!t)
        return;
    train_destroy(&t->train);
    train_destroy(&t->reference_train);
    train_batch_destroy(&t->batch);
    optimiser_destroy(&t->optimiser);
    void *memory[] = {t->lp,      t->entropy, t->reference_lp,  t->dlp,  t->weight, t->answers, t->answer_counts,
                      t->weights, t->batches, t->sample_counts, t->dead, t->rewards};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        free(memory[i]);
    free(t);
    *trainer = NULL;
}

struct optimiser *trainer_optimiser(struct trainer *trainer) {
    return trainer->optimiser;
}

int64_t trainer_batch_bytes(const struct trainer *trainer) {
    return trainer->batch_bytes;
}

/* ---- what came in ---- */

static enum status check_sample(const struct trainer *t, const struct answer_sample *sample, uint32_t slot,
                                uint32_t index) {
    if (sample->count == 0 || sample->count > t->limits.answer_tokens)
        return fail(STATUS_FORMAT, "slot %u: answer %u has %u tokens; right would be 1 to %u", slot, index,
                    sample->count, t->limits.answer_tokens);
    for (uint32_t i = 0; i < sample->count; i++)
        if (sample->ids[i] < 0 || sample->ids[i] >= t->model->valid_vocab)
            return fail(STATUS_FORMAT, "slot %u: answer %u: token id %d; right would be below %d", slot, index,
                        sample->ids[i], t->model->valid_vocab);
    return STATUS_OK;
}

static enum status check_groups(const struct trainer *t, const struct trainer_group *groups, uint32_t group_count) {
    if (group_count > t->limits.groups)
        return fail(STATUS_FORMAT, "a step of %u groups; right would be at most %u", group_count, t->limits.groups);
    for (uint32_t g = 0; g < group_count; g++) {
        const struct message_scored *scored = groups[g].scored;
        if (!scored)
            continue;
        if (groups[g].prompt_count == 0 || groups[g].prompt_count > t->limits.prompt_tokens)
            return fail(STATUS_FORMAT, "slot %u: a prompt of %u tokens; right would be 1 to %u", g,
                        groups[g].prompt_count, t->limits.prompt_tokens);
        if (scored->group.sample_count > t->limits.group || scored->score_count != scored->group.sample_count)
            return fail(STATUS_FORMAT, "slot %u: %u answers with %u scores; right would be equal and at most %u", g,
                        scored->group.sample_count, scored->score_count, t->limits.group);
        for (uint32_t i = 0; i < scored->group.sample_count; i++)
            TRY(check_sample(t, &scored->group.samples[i], g, i));
    }
    return STATUS_OK;
}

static void tally(const struct trainer_group *group, struct step_figures *figures) {
    const struct message_scored *scored = group->scored;
    figures->groups++;
    figures->prompt_tokens += group->prompt_count;
    for (uint32_t i = 0; i < scored->group.sample_count; i++) {
        const struct answer_sample *sample = &scored->group.samples[i];
        figures->answers++;
        figures->answer_tokens += sample->count;
        figures->truncated += sample->finish == FINISH_LENGTH;
        figures->other_class += !scored->group.same_class;
        figures->longest = sample->count > figures->longest ? sample->count : figures->longest;
        figures->shortest =
            figures->answers == 1 || sample->count < figures->shortest ? sample->count : figures->shortest;
        if (scored->scores[i].verdict < VERDICT_COUNT)
            figures->verdicts[scored->scores[i].verdict]++;
    }
}

/* Rewards to advantages, and the weight of each group. */
static void prepare(struct trainer *t, const struct trainer_group *groups, uint32_t group_count, float *out_advantages,
                    struct step_figures *figures) {
    uint32_t total = 0;
    for (uint32_t g = 0; g < group_count; g++) {
        const struct message_scored *scored = groups[g].scored;
        t->sample_counts[g] = scored ? scored->group.sample_count : 0;
        t->weights[g] = (struct microbatch_weight){0, 0};
        if (!scored)
            continue;
        tally(&groups[g], figures);
        for (uint32_t i = 0; i < scored->group.sample_count; i++) {
            t->rewards[total++] = scored->scores[i].reward;
            t->answer_counts[i] = (int32_t)scored->group.samples[i].count;
            t->weights[g].targets += scored->group.samples[i].count;
        }
        t->weights[g].rows = (uint32_t)train_tree_rows((int32_t)groups[g].prompt_count, t->answer_counts,
                                                       (int32_t)scored->group.sample_count);
    }
    advantage_compute(t->scale, t->advantage_eps, t->rewards, t->sample_counts, group_count, out_advantages, t->dead,
                      &figures->advantage);
}

/* ---- one micro-batch ---- */

static bool masked(const struct trainer *t, const struct answer_sample *sample) {
    return t->mask_truncated && sample->finish == FINISH_LENGTH;
}

/* A group that gives a gradient. */
static bool live(const struct trainer *t, const struct trainer_group *groups, uint32_t g) {
    return groups[g].scored && (!t->dead[g] || t->loss.kl > 0);
}

static bool counted(const struct trainer *t, const struct trainer_group *groups, uint32_t g) {
    return groups[g].scored && (t->count_dead_tokens || live(t, groups, g));
}

static void count_group(const struct trainer *t, const struct trainer_group *group, uint64_t *tokens,
                        uint64_t *answers) {
    for (uint32_t i = 0; i < group->scored->group.sample_count; i++) {
        const struct answer_sample *sample = &group->scored->group.samples[i];
        *tokens += masked(t, sample) ? 0 : sample->count;
        *answers += 1;
    }
}

static enum status pack(struct trainer *t, const struct trainer_group *groups, struct microbatch cut) {
    train_batch_reset(t->batch);
    for (uint32_t g = cut.first; g < cut.first + cut.count; g++) {
        if (!live(t, groups, g))
            continue;
        int32_t count = 0;
        for (uint32_t i = 0; i < groups[g].scored->group.sample_count; i++) {
            const struct answer_sample *sample = &groups[g].scored->group.samples[i];
            if (masked(t, sample))
                continue;
            t->answers[count] = sample->ids;
            t->answer_counts[count++] = (int32_t)sample->count;
        }
        if (count > 0)
            TRY(train_batch_add_tree(t->batch, groups[g].prompt, (int32_t)groups[g].prompt_count, t->answers,
                                     t->answer_counts, count));
    }
    return STATUS_OK;
}

static void answer_loss(struct trainer *t, const struct message_group *group, const struct answer_sample *sample,
                        float advantage, const struct loss_counts *counts, uint32_t at, struct step_figures *figures) {
    struct loss_answer answer = {.count = sample->count,
                                 .lp = t->lp + at,
                                 .old = sample->logprobs,
                                 .reference = t->reference ? t->reference_lp + at : NULL,
                                 .advantage = advantage};
    if (!group->same_class) { /* one update a step: the policy before it is the policy itself */
        loss_importance(t->lp + at, sample->logprobs, sample->count, t->weight);
        answer.old = t->lp + at;
        answer.weight = t->weight;
    } else {
        for (uint32_t i = 0; i < sample->count; i++) {
            double gap = fabs((double)t->lp[at + i] - (double)sample->logprobs[i]);
            figures->behaviour_gap = gap <= figures->behaviour_gap ? figures->behaviour_gap : gap; /* NaN shows */
        }
    }
    loss_answer(&t->loss, &answer, loss_scale(&t->loss, counts, sample->count), t->dlp + at, &figures->loss);
    for (uint32_t i = 0; i < sample->count; i++)
        figures->entropy += (double)t->entropy[at + i];
}

/* Losses of the packed answers, in order; advantages is that of group cut.first's first answer. */
static void batch_loss(struct trainer *t, const struct trainer_group *groups, struct microbatch cut,
                       const float *advantages, const struct loss_counts *counts, struct step_figures *figures) {
    uint32_t at = 0;
    for (uint32_t g = cut.first; g < cut.first + cut.count; advantages += t->sample_counts[g], g++) {
        if (!live(t, groups, g))
            continue;
        const struct message_group *group = &groups[g].scored->group;
        for (uint32_t i = 0; i < group->sample_count; i++) {
            if (masked(t, &group->samples[i]))
                continue;
            answer_loss(t, group, &group->samples[i], advantages[i], counts, at, figures);
            at += group->samples[i].count;
        }
    }
    ASSERT(at == (uint32_t)train_batch_targets(t->batch));
    figures->trained_tokens += at;
}

static enum status run_batch(struct trainer *t, const struct trainer_group *groups, struct microbatch cut,
                             const float *advantages, const struct loss_counts *counts, struct step_figures *figures) {
    TRY(pack(t, groups, cut));
    if (train_batch_targets(t->batch) == 0)
        return STATUS_OK;
    figures->trained_rows += (uint64_t)train_batch_rows(t->batch);
    double start = clock_seconds();
    TRY(train_forward(t->train, t->batch, t->temperature, t->lp, t->entropy));
    if (t->reference)
        TRY(train_forward(t->reference_train, t->batch, t->temperature, t->reference_lp, NULL));
    double forwarded = clock_seconds();
    batch_loss(t, groups, cut, advantages, counts, figures);
    TRY(train_backward(t->train, t->batch, t->dlp, t->optimiser->gradient));
    figures->forward_seconds += forwarded - start;
    figures->backward_seconds += clock_seconds() - forwarded;
    return STATUS_OK;
}

enum status trainer_step(struct trainer *t, uint64_t step, const struct trainer_group *groups, uint32_t group_count,
                         const struct trainer_hooks *hooks, float *out_advantages, struct step_figures *out_figures) {
    TRY(check_groups(t, groups, group_count));
    struct step_figures figures = {0};
    prepare(t, groups, group_count, out_advantages, &figures);
    struct loss_counts counts = {0};
    for (uint32_t g = 0; g < group_count; g++)
        if (counted(t, groups, g))
            count_group(t, &groups[g], &counts.step_tokens, &counts.step_answers);
    counts.batches = microbatch_cut(t->weights, group_count, t->limits.microbatch_tokens, t->batches);
    figures.micro_batches = counts.batches;
    optimiser_zero_gradient(t->optimiser);
    const float *advantages = out_advantages;
    for (uint32_t b = 0; b < counts.batches; b++) {
        struct microbatch cut = t->batches[b];
        uint64_t answers = 0;
        counts.batch_tokens = 0;
        for (uint32_t g = cut.first; g < cut.first + cut.count; g++)
            if (counted(t, groups, g))
                count_group(t, &groups[g], &counts.batch_tokens, &answers);
        TRY(run_batch(t, groups, cut, advantages, &counts, &figures));
        for (uint32_t g = cut.first; g < cut.first + cut.count; g++)
            advantages += t->sample_counts[g];
        if (hooks && hooks->beat)
            hooks->beat(hooks->context);
    }
    if (hooks && hooks->gate)
        hooks->gate(hooks->context);
    double start = clock_seconds();
    TRY(optimiser_update(t->optimiser, step, figures.loss.loss, &figures.update));
    figures.update_seconds = clock_seconds() - start;
    *out_figures = figures;
    return STATUS_OK;
}
