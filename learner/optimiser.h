/* AdamW over the flat parameter buffer: gradient, moments and the 16-bit remainders that make bf16 weights exact fp32 masters.
 *
 * Bytes a parameter, beside the weights' 2: gradient 4, remainder 2, moments 8 in fp32 or 2.03 in eight bits
 * (common/compute/moments.h): 14 or 8.03.
 *
 * A loss or gradient norm that is not finite skips the update: weights, remainders and moments stay as they are (objective
 * reference 3.7). Everything that decides bits is in double with fixed order and without libm: beta powers are products, the
 * cosine is a series. One thread, the device's. */
#ifndef CANDOR_LEARNER_OPTIMISER_H
#define CANDOR_LEARNER_OPTIMISER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/run_config.h"
#include "common/model/parameters.h"
#include "common/weights/record.h"
#include "common/model/safetensors.h"

struct optimiser_settings {
    double lr, beta1, beta2, eps, weight_decay; /* decay of matrices; norms and biases have none */
    double clip;                                /* global gradient norm; 0: none */
    enum moment_storage moments;
    enum lr_schedule schedule;
    uint64_t warmup, steps;
};

/* The learning rate of update `step` (from 0): linear warm-up, reaching lr at update warmup - 1; then constant, or down to 0 at
 * update `steps`, linearly or along half a cosine. */
double learning_rate(const struct optimiser_settings *settings, uint64_t step);

/* A flat tensor of what lasts from update to update, as a checkpoint holds it. */
struct optimiser_part {
    const char *name;
    enum st_dtype type;
    int64_t elements;
    uint64_t bytes;
    void *data; /* device */
};
#define OPTIMISER_PARTS_MAX 5

struct optimiser {
    struct model *model; /* borrowed */
    struct optimiser_settings settings;
    float *gradient; /* [layout->total] device, as are all below */
    struct optimiser_part parts[OPTIMISER_PARTS_MAX];
    uint32_t part_count;
    /* The same, each by its name. */
    float *m, *v;         /* [layout->total]; NULL with MOMENTS_INT8 */
    struct moments8 coded; /* with MOMENTS_INT8 */
    uint16_t *remainder;  /* [layout->total]; NULL when the model itself is fp32 */
    struct record *record; /* borrowed: what each update changes is recorded there; NULL: it is not */
    uint64_t updates;     /* that were taken */
    double beta1_power, beta2_power;
};

/* Zero state: the model's weights are the masters. */
enum status optimiser_create(struct model *model, const struct optimiser_settings *settings,
                             struct optimiser **out_optimiser);
void optimiser_destroy(struct optimiser **optimiser);
/* Device bytes that optimiser_create allocates; and of these what a checkpoint holds: all but the gradient. */
int64_t optimiser_bytes(int64_t parameters, enum dtype type, enum moment_storage moments);
int64_t optimiser_state_bytes(int64_t parameters, enum dtype type, enum moment_storage moments);

void optimiser_zero_gradient(struct optimiser *optimiser);

struct update {
    double lr, gradient_norm;
    double clip_factor; /* 1: not clipped */
    bool skipped;
};

/* One update with the gradient gathered so far. loss: what it is the gradient of. */
enum status optimiser_update(struct optimiser *optimiser, uint64_t step, double loss, struct update *out_update);

#endif
