#include "common/eval/metrics.h"

#include <string.h>

bool outcome_matches(const struct outcome *outcome, const struct outcome_filter *filter) {
    if (filter == NULL)
        return true;
    return (filter->split == NULL || strcmp(filter->split, outcome->split) == 0) &&
           (filter->class_label == NULL || strcmp(filter->class_label, outcome->class_label) == 0) &&
           (filter->set == NULL || strcmp(filter->set, outcome->set) == 0);
}

struct shares outcome_shares(const struct outcome_file *file, const struct outcome_filter *filter) {
    struct shares shares = {0};
    for (uint32_t i = 0; i < file->count; i++) {
        const struct outcome *outcome = &file->outcomes[i];
        if (outcome->samples == 0 || !outcome_matches(outcome, filter))
            continue;
        double n = outcome->samples;
        shares.questions++;
        shares.correct += outcome->counts[VERDICT_CORRECT] / n;
        shares.abstain += outcome->counts[VERDICT_ABSTAIN] / n;
    }
    if (shares.questions == 0)
        return shares;
    shares.correct /= shares.questions;
    shares.abstain /= shares.questions;
    shares.wrong = 1 - shares.correct - shares.abstain;
    if (shares.wrong < 1e-12)
        shares.wrong = 0; /* rounding of the two means */
    return shares;
}

struct decomposition outcome_decomposition(const struct outcome_file *file, const struct outcome_filter *filter) {
    struct decomposition sum = {0};
    for (uint32_t i = 0; i < file->count; i++) {
        const struct outcome *outcome = &file->outcomes[i];
        if (outcome->samples == 0 || !outcome_matches(outcome, filter))
            continue;
        uint32_t correct = outcome->counts[VERDICT_CORRECT], abstain = outcome->counts[VERDICT_ABSTAIN];
        sum.questions++;
        sum.all_correct += correct == outcome->samples;
        sum.partial_correct += correct > 0 && correct < outcome->samples;
        sum.partial_not_attempted += correct == 0 && abstain > 0 && abstain < outcome->samples;
        sum.all_not_attempted += abstain == outcome->samples;
        sum.all_wrong += correct == 0 && abstain == 0;
    }
    double scale = sum.questions > 0 ? 100.0 / sum.questions : 0;
    sum.all_correct *= scale;
    sum.partial_correct *= scale;
    sum.partial_not_attempted *= scale;
    sum.all_not_attempted *= scale;
    sum.all_wrong *= scale;
    return sum;
}

struct metrics shares_metrics(struct shares shares) {
    double attempted = shares.correct + shares.wrong;
    return (struct metrics){
        .correct_given_attempted = attempted > 0 ? shares.correct / attempted : 0,
        .f = 2 * shares.correct / (1 + attempted),
        .truthfulness = shares.correct - shares.wrong,
        .penalised = shares.correct - 3 * shares.wrong,
    };
}
