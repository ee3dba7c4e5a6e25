/* Answers that people (or a strong model) have judged, read from the data folder beside the repository: what the
 * matcher is measured against. Used by tests/bench/reward.c and tests/unit/reward. */
#ifndef CANDOR_TESTS_REWARD_JUDGED_H
#define CANDOR_TESTS_REWARD_JUDGED_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

#define JUDGED_ALIASES_MAX 512

struct judged {
    const char *question;
    const char *aliases[JUDGED_ALIASES_MAX];
    size_t alias_count;
    const char *answer; /* the whole answer is the final answer: for score_plain */
    bool correct;       /* as judged */
};

typedef void (*judged_visit)(void *user, const struct judged *row);

/* One set of answers: a name for the table, the file under the data folder, how to read it. */
struct judged_set {
    const char *name, *file;
    const char *judge; /* who judged, for the table */
    enum status (*read)(const struct judged_set *set, const char *path, judged_visit visit, void *user);
    const char *select; /* reader's own: which answers of the file */
};

/* Rows without a usable judgement (EVOUNA's improper and null ones) are left out. */
const struct judged_set *judged_sets(size_t *out_count);
/* STATUS_NOT_FOUND when the file is not there. */
enum status judged_read(const struct judged_set *set, const char *data_directory, judged_visit visit, void *user);

#endif
