#include "tests/support/compute/fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"

struct device *devices[DEVICES_MAX];
int device_count;

int devices_open(void **state) {
    (void)state;
    static const char *const paths[] = {"avx512", "avx2", "portable"};
    for (int i = 0; i < 3; i++)
        for (int threads = 1; threads <= 2; threads++)
            if (cpu_open(paths[i], threads, &devices[device_count]) == STATUS_OK)
                device_count++;
    return device_count >= 2 ? 0 : -1;
}

int devices_close(void **state) {
    (void)state;
    while (device_count > 0)
        device_close(&devices[--device_count]);
    return 0;
}

static void *blocks[1024];
static int block_count;

void *bytes_of(size_t bytes) {
    assert_true(block_count < 1024);
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, bytes > 0 ? bytes : 1), 0);
    memset(memory, 0, bytes);
    blocks[block_count++] = memory;
    return memory;
}

float *floats(int64_t count) {
    return bytes_of((size_t)count * sizeof(float));
}

int fixture_free_all(void **state) {
    (void)state;
    while (block_count > 0)
        free(blocks[--block_count]);
    return 0;
}

static uint32_t draws;

static uint32_t next_word(void) {
    struct rng_key key = {.seed = 1, .stream = RNG_TEST};
    uint32_t words[4];
    rng_words(&key, draws++, words);
    return words[0];
}

float *random_floats(int64_t count) {
    float *to = floats(count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)(int32_t)next_word() * 0x1p-31f;
    return to;
}

float *random_integers(int64_t count, int most) {
    float *to = floats(count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)random_below(2 * most + 1) - (float)most;
    return to;
}

int32_t random_below(int32_t bound) {
    return (int32_t)(((uint64_t)next_word() * (uint32_t)bound) >> 32);
}

float random_uniform(void) {
    return ((float)(next_word() >> 9) + 0.5f) * 0x1p-23f;
}

uint16_t *to_bf16(const float *from, int64_t count) {
    uint16_t *to = bytes_of((size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++)
        to[i] = bf16_of_f32(from[i]);
    return to;
}

float *of_bf16(const uint16_t *from, int64_t count) {
    float *to = floats(count);
    for (int64_t i = 0; i < count; i++)
        to[i] = f32_of_bf16(from[i]);
    return to;
}

float *copy_floats(const float *from, int64_t count) {
    float *to = floats(count);
    memcpy(to, from, (size_t)count * sizeof *to);
    return to;
}

void assert_same_bits(const float *a, const float *b, int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0 && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("%s: element %lld of %lld: %.9g (%08x) against %.9g (%08x)", what, (long long)i, (long long)count,
                     (double)a[i], bits_of_f32(a[i]), (double)b[i], bits_of_f32(b[i]));
}

void assert_close(const float *got, const double *want, int64_t count, double tolerance, double scale,
                  const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * (scale + fabs(want[i]))))
            fail_msg("%s: element %lld of %lld: got %.9g, want %.9g (tolerance %.3g)", what, (long long)i,
                     (long long)count, (double)got[i], want[i], tolerance);
}
