/* `candor grade`: verdicts for a file of answers. */
#ifndef CANDOR_REWARD_GRADE_H
#define CANDOR_REWARD_GRADE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/base/verdict.h"

struct grade_counts {
    uint64_t rows;
    uint64_t verdicts[VERDICT_COUNT];
};

typedef void (*grade_progress)(void *user, uint64_t rows, uint64_t bytes_read, uint64_t bytes_total);

/* JSONL in, JSONL out, row by row in the memory of one row: each row has `id`, `question`, `aliases` (a list; empty means
 * unanswerable) and `response`, and is written back with `final` (null when there is none) and `verdict`
 * added. plain: the response is itself the final answer. progress may be NULL; it is called about every 1,000 rows and at
 * the end. The first bad row ends it with STATUS_FORMAT naming file and line; out_path then is as it was. */
enum status grade_file(const char *in_path, const char *out_path, bool plain, grade_progress progress, void *user,
                       struct grade_counts *out_counts);

#endif
