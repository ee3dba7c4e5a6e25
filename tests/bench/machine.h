/* What the machine can do, measured with the same instruction path and threads as the operations: its peak of fused multiply-adds
 * and its reading bandwidth. Included by the benches alone. */
#ifndef CANDOR_TESTS_BENCH_MACHINE_H
#define CANDOR_TESTS_BENCH_MACHINE_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/compute/cpu/cpu.h"
#include "common/compute/ops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Seconds. With one thread: CPU time, so that other programs on the machine count less. */
static double machine_now(const struct device *device) {
    struct timespec time;
    if (device->threads > 1)
        return clock_seconds();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Rounds over independent chains, enough to fill the pipelines; returns flops. The result goes to sink so that it is
 * computed. */
static volatile float machine_sink;

#if defined(__x86_64__)
#define CHAINS 12
__attribute__((target("avx2,fma"))) static double burst_avx2(int64_t rounds) {
    __m256 chain[CHAINS], scale = _mm256_set1_ps(0.999f), shift = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++)
        chain[i] = _mm256_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            chain[i] = _mm256_fmadd_ps(chain[i], scale, shift);
    }
    for (int i = 1; i < CHAINS; i++)
        chain[0] = _mm256_add_ps(chain[0], chain[i]);
    machine_sink = _mm256_cvtss_f32(chain[0]);
    return (double)rounds * CHAINS * 8 * 2;
}

__attribute__((target("avx512f"))) static double burst_avx512(int64_t rounds) {
    __m512 chain[CHAINS], scale = _mm512_set1_ps(0.999f), shift = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++)
        chain[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            chain[i] = _mm512_fmadd_ps(chain[i], scale, shift);
    }
    for (int i = 1; i < CHAINS; i++)
        chain[0] = _mm512_add_ps(chain[0], chain[i]);
    machine_sink = _mm512_cvtss_f32(chain[0]);
    return (double)rounds * CHAINS * 16 * 2;
}
#endif

static double burst_portable(int64_t rounds) {
    float chain[16];
    for (int i = 0; i < 16; i++)
        chain[i] = (float)i;
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < 16; i++)
            chain[i] = fmaf(chain[i], 0.999f, 1e-3f);
    machine_sink = chain[0] + chain[15];
    return (double)rounds * 16 * 2;
}

struct bursts {
    double (*burst)(int64_t rounds);
    int64_t rounds;
    double flops;
};

static void burst_task(void *context, int64_t begin, int64_t end, int thread) {
    struct bursts *c = context;
    for (int64_t i = begin; i < end; i++) {
        double flops = c->burst(c->rounds);
        if (thread == 0)
            c->flops = flops;
    }
}

/* GFLOP/s of fused multiply-adds with the device's path and threads. */
static double machine_peak(struct device *device) {
    struct bursts bursts = {burst_portable, 5000, 0};
#if defined(__x86_64__)
    if (strstr(device->name, "avx512") != NULL)
        bursts = (struct bursts){burst_avx512, 100000, 0};
    else if (strstr(device->name, "avx2") != NULL)
        bursts = (struct bursts){burst_avx2, 100000, 0};
#endif
    double best = 0;
    int64_t count = 4 * device->threads;
    for (int run = 0; run < 5; run++) {
        double start = machine_now(device);
        team_for(cpu_team(device), count, 1, burst_task, &bursts);
        best = fmax(best, bursts.flops * (double)count / (machine_now(device) - start));
    }
    return best / 1e9;
}

struct reading {
    const uint64_t *data;
    uint64_t sums[TEAM_THREADS_MAX][8];
};

static void read_task(void *context, int64_t begin, int64_t end, int thread) {
    struct reading *c = context;
    uint64_t sum[8] = {0};
    for (int64_t i = begin; i < end; i += 8)
        for (int l = 0; l < 8; l++)
            sum[l] += c->data[i + l];
    for (int l = 0; l < 8; l++)
        c->sums[thread][l] += sum[l];
}

/* GB/s of reading 512 MiB, far beyond the caches; 0 when there is no memory for it. */
static double machine_reading(struct device *device) {
    size_t bytes = (size_t)512 << 20;
    void *memory;
    if (device->ops->allocate(device, bytes, &memory) != STATUS_OK)
        return 0;
    static struct reading reading;
    reading = (struct reading){.data = memory};
    double best = 0;
    for (int run = 0; run < 5; run++) {
        double start = machine_now(device);
        team_for(cpu_team(device), (int64_t)(bytes / 8), 1 << 17, read_task, &reading);
        best = fmax(best, (double)bytes / (machine_now(device) - start));
    }
    device->ops->release(device, memory);
    return best / 1e9;
}

#endif
