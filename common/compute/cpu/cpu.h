/* The CPU device's inside: its threads and their scratch memory. Private to common/compute. */
#ifndef CANDOR_COMPUTE_CPU_CPU_H
#define CANDOR_COMPUTE_CPU_CPU_H

#include "common/compute/cpu/team.h"
#include "common/compute/device.h"

/* Scratch of one thread: the largest user is the matrix product (kernels/matmul.c asserts that it fits). */
#define CPU_SCRATCH_BYTES ((size_t)1 << 20)

/* Raised when a change of the kernels changes a bit of any result; part of the fingerprint. */
#define CPU_KERNELS_VERSION 1

struct cpu_state {
    struct team *team;
    unsigned char *scratch; /* [threads][CPU_SCRATCH_BYTES] */
};

/* path NULL: the best this machine has; else "portable", "avx2" or "avx512" (tests and the bench compare them).
 * STATUS_UNSUPPORTED when this machine or this build lacks it. */
enum status cpu_open(const char *path, int threads, struct device **out_device);
void cpu_close(struct device *device);

static inline struct team *cpu_team(const struct device *device) {
    const struct cpu_state *state = device->state;
    return state->team;
}

static inline void *cpu_scratch(const struct device *device, int thread) {
    const struct cpu_state *state = device->state;
    return state->scratch + (size_t)thread * CPU_SCRATCH_BYTES;
}

/* Rows of a chunk so that a chunk is worth handing to a thread: about 16k elements of simple work. */
static inline int64_t cpu_grain(int64_t elements_per_row) {
    int64_t rows = 16384 / (elements_per_row > 0 ? elements_per_row : 1);
    return rows > 1 ? rows : 1;
}

#endif
