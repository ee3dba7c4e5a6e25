/* `candor report`: one HTML file about one run or several, out of their directories alone, without network or scripts; and the
 * answers of one step, readable. */
#ifndef CANDOR_REPORT_REPORT_H
#define CANDOR_REPORT_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define REPORT_RUNS_MAX 8

/* Write the page to path, atomically. The first run is described in full; all are compared. */
enum status report_write(const char *const *directories, size_t count, uint32_t bootstrap_draws, const char *path);

/* Append the answers of a step (rollouts/step-N.jsonl) as text. STATUS_NOT_FOUND names the steps there are. */
enum status report_rollouts(const char *directory, uint32_t step, struct buf *out);

#endif
