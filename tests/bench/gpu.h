/* candor-bench gpu: each operation on a GPU at a 7B model's shapes against what the device can do. */
#ifndef CANDOR_TESTS_BENCH_GPU_H
#define CANDOR_TESTS_BENCH_GPU_H

#include <stdio.h>

#include "common/compute/ops.h"

struct bench_shapes {
    int32_t hidden, ffn, heads, kv_heads, head_dim, vocab;
    int32_t decode_rows, context;            /* samples in flight and their tokens so far */
    int32_t prompt, answers, answer, groups; /* packed trees of training */
    int32_t logit_rows;
    int64_t flat; /* elements of a flat buffer */
};

extern const struct bench_shapes bench_shapes_7b;

/* The table to out; seconds is spent on each figure. */
enum status bench_gpu_table(struct device *device, const struct bench_shapes *shapes, double seconds, FILE *out);

/* The command: candor-bench gpu [--device cuda:N] [--seconds S]. Returns the exit code. */
int bench_gpu(int argc, char **argv);

#endif
