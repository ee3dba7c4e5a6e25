/* Advantages: how much better each answer did than its group (objective reference, section 1.2).
 *
 *   A = (R - mean of the group) / (std + eps)      std with n - 1 (Bessel), in two passes
 *
 * A reward that is not finite is unscorable: it enters no mean and no std, and its advantage is 0. A group whose scored
 * rewards are exactly equal has zero variance: its advantages are exactly 0, found by comparing and not by subtracting,
 * since E[x^2] - E[x]^2 of equal rewards such as .95 leaves noise, which a tiny std makes large. Thread-safe. */
#ifndef CANDOR_LEARNER_ADVANTAGE_H
#define CANDOR_LEARNER_ADVANTAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/run_config.h"

struct advantage_stats {
    uint32_t scored, unscorable;    /* answers */
    uint32_t dead_groups;           /* zero variance, or nothing scored */
    double reward_mean, reward_std; /* over all scored answers; std with n - 1; 0 when there are none */
    double group_std_mean;          /* mean over groups of the group's std */
};

/* scale    SCALE_GROUP: the group's own std; SCALE_BATCH: one std over all scored rewards; SCALE_NONE: R - mean alone
 * rewards  [sum of counts] group after group; counts [group_count], a count may be 0 (a skipped slot)
 * out_advantages [sum of counts]; out_dead [group_count] */
void advantage_compute(enum advantage_scale scale, double eps, const float *rewards, const uint32_t *counts,
                       uint32_t group_count, float *out_advantages, bool *out_dead, struct advantage_stats *out_stats);

#endif
