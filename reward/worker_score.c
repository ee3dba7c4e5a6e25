/* From a group to its scores. */
#include "reward/worker.h"

#include <math.h>

#include "reward/rules.h"
#include "reward/score.h"

static struct rule_context context_of(const struct grading *grading) {
    return (struct rule_context){
        .step = grading->step,
        .switch_step = grading->switch_step,
        .base_known_k = grading->known_k,
        .anchor_k = (int)grading->anchor_k,
        .threshold_t = (double)grading->threshold_t,
    };
}

static enum status open_golds(const struct grading *grading, struct gold_set **out_set) {
    const char *aliases[ALIASES_MAX];
    size_t count = grading->answerable ? grading->alias_count : 0;
    if (count > ALIASES_MAX)
        return fail(STATUS_LIMIT, "%zu aliases; at most %d", count, ALIASES_MAX);
    for (size_t i = 0; i < count; i++)
        aliases[i] = grading->aliases[i].data;
    struct question_golds golds = {grading->question.data, aliases, count};
    return gold_set_create(&golds, out_set);
}

static void unscorable(const struct message_group *group, struct sample_score *out_scores) {
    for (uint32_t i = 0; i < group->sample_count; i++)
        out_scores[i] = (struct sample_score){.verdict = VERDICT_MALFORMED, .reward = NAN};
}

void worker_score(const struct message_group *group, struct sample_score *out_scores, const char **out_reason) {
    const struct rule *rule = rule_find(group->grading.rule.data);
    struct gold_set *set;
    if (open_golds(&group->grading, &set) != STATUS_OK) {
        *out_reason = status_message();
        unscorable(group, out_scores);
        return;
    }
    *out_reason = !rule ? "no reward rule of that name in this build" : NULL;
    enum verdict verdicts[SAMPLES_MAX];
    float rewards[SAMPLES_MAX];
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct answer_sample *sample = &group->samples[i];
        struct score score;
        score_answer(set, sample->text.data, sample->text.bytes, &score);
        verdicts[i] = score.verdict;
        out_scores[i].final_start = (uint32_t)score.final_start;
        out_scores[i].final_bytes = (uint32_t)score.final_bytes;
    }
    gold_set_destroy(&set);
    struct rule_context context = context_of(&group->grading);
    if (rule)
        rule_apply(rule, &context, verdicts, group->sample_count, rewards);
    for (uint32_t i = 0; i < group->sample_count; i++) {
        out_scores[i].verdict = (uint8_t)verdicts[i];
        out_scores[i].reward = rule ? rewards[i] : NAN;
    }
}
