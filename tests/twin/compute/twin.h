/* The CPU and a CUDA device side by side: the emulated one, or, under tests/gpu, a real one by the same name. Both get the same numbers: what is an activation on CUDA is rounded to
 * bf16 first and goes to the CPU as these values in fp32. Device memory comes from the device, each tensor its own
 * allocation, so that the emulator watches its borders. */
#ifndef CANDOR_TESTS_TWIN_COMPUTE_TWIN_H
#define CANDOR_TESTS_TWIN_COMPUTE_TWIN_H

#include "tests/support/compute/fixture.h"
#include "tests/support/emulator/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rounding to bf16 moves a value by at most half a step, 2^-9 of it. */
#define BF16_STEP 0x1p-8

static struct device *cpu, *cuda;

static inline int twins_open(void **state) {
    (void)state;
    return cpu_open(NULL, 1, &cpu) == STATUS_OK && emulator_open(0, &cuda) == STATUS_OK ? 0 : -1;
}

static inline int twins_close(void **state) {
    (void)state;
    device_close(&cpu);
    emulator_close(&cuda);
    return 0;
}

/* Lanes and blocks ascending, descending, and in two shuffled orders. */
static const unsigned orders[] = {0, 1, 2, 99};
#define EACH_ORDER(i)                                                                                                  \
    for (unsigned i = 0; i < 4; i++)                                                                                   \
        if (emulator_close(&cuda), emulator_open(orders[i], &cuda) == STATUS_OK)

/* ---- device memory, freed at the test's end ---- */

static struct {
    void *memory;
    size_t bytes;
} tensors[512];
static int tensor_count;

static inline void *device_bytes(const void *host, size_t bytes) {
    assert_true(tensor_count < 512);
    void *memory = NULL;
    assert_int_equal(cuda->ops->allocate(cuda, bytes, &memory), STATUS_OK);
    tensors[tensor_count].memory = memory;
    tensors[tensor_count++].bytes = bytes;
    if (host != NULL)
        cuda->ops->upload(cuda, memory, host, bytes);
    return memory;
}

static inline int twin_free_all(void **state) {
    while (tensor_count > 0)
        cuda->ops->release(cuda, tensors[--tensor_count].memory);
    return fixture_free_all(state);
}

static inline void *device_bf16(const float *host, int64_t count) {
    return device_bytes(to_bf16(host, count), (size_t)count * 2);
}

static inline float *device_floats(const float *host, int64_t count) {
    return device_bytes(host, (size_t)count * sizeof *host);
}

static inline int32_t *device_ints(const int32_t *host, int64_t count) {
    return device_bytes(host, (size_t)count * sizeof *host);
}

static inline float *host_of_bf16(const void *from, int64_t count) {
    uint16_t *host = bytes_of((size_t)count * sizeof *host);
    cuda->ops->download(cuda, host, from, (size_t)count * sizeof *host);
    return of_bf16(host, count);
}

static inline float *host_of_floats(const void *from, int64_t count) {
    float *host = floats(count);
    cuda->ops->download(cuda, host, from, (size_t)count * sizeof *host);
    return host;
}

static inline void *host_of_bytes(const void *from, size_t bytes) {
    void *host = bytes_of(bytes);
    cuda->ops->download(cuda, host, from, bytes);
    return host;
}

/* ---- numbers ---- */

/* Uniform in [-1, 1), rounded to bf16. */
static inline float *rounded_floats(int64_t count) {
    return of_bf16(to_bf16(random_floats(count), count), count);
}

/* |got - want| <= relative * |want| + absolute everywhere. */
static inline void assert_near(const float *got, const float *want, int64_t count, double relative, double absolute,
                               const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= relative * fabs((double)want[i]) + absolute))
            fail_msg("%s: element %lld of %lld: cuda %.9g, cpu %.9g (tolerance %.3g of it + %.3g)", what, (long long)i,
                     (long long)count, (double)got[i], (double)want[i], relative, absolute);
}

#endif
