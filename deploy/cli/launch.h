/* Children of one machine: start, watch and end candor-learner, candor-actor and candor-reward beside this program.
 *
 * They speak over ipc sockets in a private directory of short path (ipc names have 107 bytes). Their logs go to
 * <logs>/<name>.log. A child dies with its parent (PR_SET_PDEATHSIG). When one fails, its last error line is repeated. */
#ifndef CANDOR_DEPLOY_LAUNCH_H
#define CANDOR_DEPLOY_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/status.h"

#define LAUNCH_CHILDREN_MAX 256

struct launch;

/* logs: directory for log files (made). The socket directory is made under $XDG_RUNTIME_DIR or /tmp and removed at the end. */
enum status launch_create(const char *logs, struct launch **out_launch);
/* Ends whatever still runs: SIGTERM, drain_ms, SIGKILL. */
void launch_destroy(struct launch **launch, int drain_ms);

/* "ipc://<socket directory>/<name>" */
const char *launch_endpoint(struct launch *launch, const char *name);

/* Start <directory of this program>/<program> with these arguments (NULL-terminated, without argv[0]). restart: a child that
 * dies is started again, at most 5 times in a row. */
enum status launch_start(struct launch *launch, const char *name, const char *program, const char *const *arguments,
                         bool restart);
/* Reap and restart; call every 100 ms or so. STATUS_RUN_FAILED with the child's last error line when a child is gone for good;
 * *out_done true once the child `until` has exited with 0. */
enum status launch_watch(struct launch *launch, const char *until, bool *out_done);
pid_t launch_pid(const struct launch *launch, const char *name);
/* Arguments that every local actor and reward worker needs: endpoints, threads shared out over `actors`. */
enum status launch_workers(struct launch *launch, uint32_t actors, uint32_t rewards, uint32_t threads_per_actor);

#endif
