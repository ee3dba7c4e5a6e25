#include "learner/optimiser.h"

#include <math.h>
#include <stdlib.h>

#define CLIP_EPS 1e-6 /* torch.nn.utils.clip_grad_norm_ */

/* (1 + cos(pi x)) / 2 for x in [0, 1] by the cosine's series; the error is below 1e-12. */
static double half_cosine(double x) {
    double mirrored = x > 0.5 ? 1 - x : x, y = 3.14159265358979323846 * mirrored, term = 1, sum = 1;
    for (int k = 1; k <= 9; k++) {
        term *= -y * y / ((2 * k - 1) * (2 * k));
        sum += term;
    }
    return 0.5 * (1 + (x > 0.5 ? -sum : sum));
}

double learning_rate(const struct optimiser_settings *settings, uint64_t step) {
    if (step < settings->warmup)
        return settings->lr * (double)(step + 1) / (double)settings->warmup;
    if (settings->schedule == SCHEDULE_CONSTANT)
        return settings->lr;
    if (step >= settings->steps)
        return 0;
    double done = (double)(step - settings->warmup) / (double)(settings->steps - settings->warmup);
    return settings->lr * (settings->schedule == SCHEDULE_LINEAR ? 1 - done : half_cosine(done));
}

int64_t optimiser_bytes(int64_t parameters, enum dtype type) {
    return parameters * (3 * (int64_t)sizeof(float) + (type == DTYPE_BF16 ? (int64_t)sizeof(uint16_t) : 0));
}

static enum status allocate(struct optimiser *optimiser) {
    struct device *device = optimiser->model->device;
    size_t total = (size_t)optimiser->model->layout->total;
    void *memory;
    TRY(device->ops->allocate(device, total * sizeof(float), &memory));
    optimiser->gradient = memory;
    TRY(device->ops->allocate(device, total * sizeof(float), &memory));
    optimiser->m = memory;
    TRY(device->ops->allocate(device, total * sizeof(float), &memory));
    optimiser->v = memory;
    if (optimiser->model->type == DTYPE_F32)
        return STATUS_OK;
    TRY(device->ops->allocate(device, total * sizeof(uint16_t), &memory));
    optimiser->remainder = memory;
    return STATUS_OK;
}

enum status optimiser_create(struct model *model, const struct optimiser_settings *settings,
                             struct optimiser **out_optimiser) {
    struct optimiser *optimiser = calloc(1, sizeof *optimiser);
    if (!optimiser)
        return fail(STATUS_NO_MEMORY, "optimiser: no memory");
    *optimiser = (struct optimiser){.model = model, .settings = *settings, .beta1_power = 1, .beta2_power = 1};
    enum status status = allocate(optimiser);
    if (status != STATUS_OK) {
        optimiser_destroy(&optimiser);
        return fail_context(status, "optimiser of %lld parameters", (long long)model->layout->total);
    }
    *out_optimiser = optimiser;
    return STATUS_OK;
}

void optimiser_destroy(struct optimiser **optimiser) {
    struct optimiser *o = *optimiser;
    if (!o)
        return;
    struct device *device = o->model->device;
    void *memory[] = {o->gradient, o->m, o->v, o->remainder};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        if (memory[i])
            device->ops->release(device, memory[i]);
    free(o);
    *optimiser = NULL;
}

void optimiser_zero_gradient(struct optimiser *optimiser) {
    struct device *device = optimiser->model->device;
    device->ops->zero(device, optimiser->gradient, (size_t)optimiser->model->layout->total * sizeof(float));
}

/* Only matrices decay. */
static void decay(struct optimiser *o, float factor) {
    struct device *device = o->model->device;
    const struct parameter_layout *layout = o->model->layout;
    for (int32_t i = 0; i < layout->count; i++) {
        const struct tensor_entry *entry = &layout->entries[i];
        if (entry->rank == 2)
            device->ops->decay(device, (char *)o->model->data + (size_t)entry->offset * dtype_bytes(o->model->type),
                               o->model->type, o->remainder ? o->remainder + entry->offset : NULL,
                               (int64_t)entry->rows * entry->cols, factor);
    }
}

enum status optimiser_update(struct optimiser *o, uint64_t step, double loss, struct update *out_update) {
    struct device *device = o->model->device;
    double squares = 0;
    device->ops->sum_squares(device, &squares, o->gradient, o->model->layout->total);
    TRY(device->ops->synchronize(device));
    struct update update = {.lr = learning_rate(&o->settings, step), .gradient_norm = sqrt(squares), .clip_factor = 1};
    update.skipped = !isfinite(loss) || !isfinite(update.gradient_norm);
    if (!update.skipped) {
        if (o->settings.clip > 0 && update.gradient_norm + CLIP_EPS > o->settings.clip)
            update.clip_factor = o->settings.clip / (update.gradient_norm + CLIP_EPS);
        o->beta1_power *= o->settings.beta1;
        o->beta2_power *= o->settings.beta2;
        o->updates++;
        struct adamw_step adamw = {
            .lr = (float)update.lr,
            .beta1 = (float)o->settings.beta1,
            .beta2 = (float)o->settings.beta2,
            .eps = (float)o->settings.eps,
            .bias1 = (float)(1 - o->beta1_power),
            .bias2 = (float)(1 - o->beta2_power),
            .grad_scale = (float)update.clip_factor,
        };
        if (o->settings.weight_decay > 0)
            decay(o, 1.0f - adamw.lr * (float)o->settings.weight_decay);
        device->ops->adamw(device, o->model->data, o->model->type, o->remainder, o->m, o->v, o->gradient,
                           o->model->layout->total, &adamw);
        TRY(device->ops->synchronize(device));
    }
    *out_update = update;
    return STATUS_OK;
}
