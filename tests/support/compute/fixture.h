/* What the tests of compute share: devices of every path, seeded data, comparison by bits and by error. */
#ifndef CANDOR_TESTS_COMPUTE_FIXTURE_H
#define CANDOR_TESTS_COMPUTE_FIXTURE_H

#include "common/compute/cpu/cpu.h"
#include "common/compute/math.h"
#include "common/compute/ops.h"

/* After status.h: cmocka makes a macro of the name fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* Every path this machine has, each with 1 and with 2 threads; fixture[0] is the best path with one thread. */
#define DEVICES_MAX 6
extern struct device *devices[DEVICES_MAX];
extern int device_count;
int devices_open(void **state);
int devices_close(void **state);

/* Zeroed memory of count elements, freed by the test's end (fixture_free_all, the teardown of each test). */
float *floats(int64_t count);
void *bytes_of(size_t bytes);
int fixture_free_all(void **state);

/* Seeded: uniform in [-1, 1); whole numbers in [-most, most]. Each call draws from a stream of its own. */
float *random_floats(int64_t count);
float *random_integers(int64_t count, int most);
int32_t random_below(int32_t bound);
float random_uniform(void); /* (0, 1) */
/* The nearest bf16 of each; and these as fp32. */
uint16_t *to_bf16(const float *from, int64_t count);
float *of_bf16(const uint16_t *from, int64_t count);
float *copy_floats(const float *from, int64_t count);

/* Equal bits (a NaN equals a NaN), else fails naming the first place. */
void assert_same_bits(const float *a, const float *b, int64_t count, const char *what);
/* |got - want| <= tolerance * (scale + |want|) everywhere. */
void assert_close(const float *got, const double *want, int64_t count, double tolerance, double scale,
                  const char *what);

static inline struct weight weight_bf16(const uint16_t *data) {
    return (struct weight){data, DTYPE_BF16};
}

static inline struct weight weight_f32(const float *data) {
    return (struct weight){data, DTYPE_F32};
}

#define NO_BIAS ((struct weight){NULL, DTYPE_F32})

#endif
