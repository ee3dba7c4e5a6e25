/* Children of one machine: start, watch and end candor-learner, candor-actor and candor-reward beside this program.
 *
 * They find each other through the run's directory (daemon_endpoint). Their logs go to <logs>/<name>.log. A child dies with its
 * parent (PR_SET_PDEATHSIG). When one fails, its last error line is repeated. One thread. */
#ifndef CANDOR_DEPLOY_LAUNCH_H
#define CANDOR_DEPLOY_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/run_config.h"
#include "common/base/status.h"

#define LAUNCH_CHILDREN_MAX 256
#define LAUNCH_RESTARTS_MAX 5 /* in a row; a child that lived for a minute starts from zero again */

struct launch;

/* logs: directory for log files (made). */
enum status launch_create(const char *logs, struct launch **out_launch);
/* Ends whatever still runs: SIGTERM to all, then SIGKILL after drain_ms. */
void launch_destroy(struct launch **launch, int drain_ms);

/* Start <directory of this program>/<program> with these arguments (NULL-terminated, without argv[0]). */
enum status launch_start(struct launch *launch, const char *name, const char *program, const char *const *arguments,
                         bool restart);
/* Reap and restart; call every 100 ms or so. When a child is gone for good: its last error line, with the status that its
 * exit status means (STATUS_RUN_FAILED for a signal). */
enum status launch_watch(struct launch *launch);
/* True once the child has exited with 0. */
bool launch_done(const struct launch *launch, const char *name);
/* SIGTERM to one child. */
void launch_stop(struct launch *launch, const char *name);

/* Actors and reward workers of a run, with the machine's threads (0: all) shared out between the actors; what actors take from a
 * file of their own elsewhere, their device first of all, is here that of config. */
enum status launch_workers(struct launch *launch, const struct run_config *config, const char *run_directory,
                           uint32_t actors, uint32_t rewards, uint32_t threads);

#endif
