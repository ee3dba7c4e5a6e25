/* The threads of a CPU device. One call hands out the chunks of one loop; whoever is free takes the next, so a core
 * that is busy with another process does not hold up the others. Who computes a chunk never changes a bit: chunks are
 * disjoint outputs.
 *
 * Why not OpenMP: libgomp reads its wait policy once, when it is loaded, so a program cannot choose it, and the thread
 * sanitizer reports races in it that are none. Waiting here spins for some microseconds, the length of the gap between
 * two operations, and then sleeps: several processes may share a machine. One caller at a time. */
#ifndef CANDOR_COMPUTE_CPU_TEAM_H
#define CANDOR_COMPUTE_CPU_TEAM_H

#include <stdint.h>

#include "common/base/status.h"

#define TEAM_THREADS_MAX 256

struct team;

/* Elements begin .. end-1 of the loop, on thread 0 .. threads-1 (for scratch memory). */
typedef void (*team_task)(void *context, int64_t begin, int64_t end, int thread);

enum status team_create(int threads, struct team **out_team);
void team_destroy(struct team **team);
/* The loop 0 .. count-1 in chunks of grain; returns when all are done. One chunk runs on the caller alone. */
void team_for(struct team *team, int64_t count, int64_t grain, team_task task, void *context);
int team_threads(const struct team *team);

#endif
