#include "learner/advantage.h"

#include <math.h>

struct moments {
    uint32_t count;
    double mean, std;
    bool equal; /* all scored rewards are the same bits' value */
};

static struct moments moments_of(const float *rewards, uint32_t count) {
    struct moments moments = {.equal = true};
    double sum = 0;
    float first = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(rewards[i]))
            continue;
        if (moments.count == 0)
            first = rewards[i];
        moments.equal = moments.equal && rewards[i] == first;
        moments.count++;
        sum += (double)rewards[i];
    }
    if (moments.count == 0)
        return moments;
    if (moments.equal) {
        moments.mean = (double)first;
        return moments;
    }
    moments.mean = sum / moments.count;
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        double deviation = (double)rewards[i] - moments.mean;
        if (isfinite(rewards[i]))
            squares += deviation * deviation;
    }
    moments.std = sqrt(squares / (moments.count - 1)); /* not equal, so at least two */
    return moments;
}

void advantage_compute(enum advantage_scale scale, double eps, const float *rewards, const uint32_t *counts,
                       uint32_t group_count, float *out_advantages, bool *out_dead, struct advantage_stats *out_stats) {
    uint32_t total = 0;
    for (uint32_t g = 0; g < group_count; g++)
        total += counts[g];
    struct moments batch = moments_of(rewards, total);
    struct advantage_stats stats = {
        .scored = batch.count, .unscorable = total - batch.count, .reward_mean = batch.mean, .reward_std = batch.std};
    for (uint32_t g = 0, at = 0; g < group_count; at += counts[g], g++) {
        struct moments group = moments_of(rewards + at, counts[g]);
        double divisor = scale == SCALE_NONE ? 1 : (scale == SCALE_BATCH ? batch.std : group.std) + eps;
        out_dead[g] = group.equal;
        stats.dead_groups += group.equal;
        stats.group_std_mean += group.std / group_count;
        for (uint32_t i = at; i < at + counts[g]; i++) {
            bool zero = group.equal || !isfinite(rewards[i]);
            out_advantages[i] = zero ? 0.0f : (float)(((double)rewards[i] - group.mean) / divisor);
        }
    }
    *out_stats = stats;
}
