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

static void add_part(struct optimiser_part *parts, uint32_t *count, const char *name, enum st_dtype type,
                     int64_t elements, size_t element_bytes) {
    parts[(*count)++] = (struct optimiser_part){
        .name = name, .type = type, .elements = elements, .bytes = (uint64_t)elements * element_bytes};
}

/* Without data. The order is the checkpoint's. */
static uint32_t list_parts(int64_t parameters, enum dtype type, enum moment_storage moments,
                           struct optimiser_part out_parts[OPTIMISER_PARTS_MAX]) {
    uint32_t count = 0;
    int64_t blocks = moment_blocks(parameters);
    if (moments == MOMENTS_INT8) {
        add_part(out_parts, &count, "exp_avg", ST_U8, parameters, sizeof(uint8_t));
        add_part(out_parts, &count, "exp_avg_absmax", ST_F32, blocks, sizeof(float));
        add_part(out_parts, &count, "exp_avg_sq", ST_U8, parameters, sizeof(uint8_t));
        add_part(out_parts, &count, "exp_avg_sq_absmax", ST_F32, blocks, sizeof(float));
    } else {
        add_part(out_parts, &count, "exp_avg", ST_F32, parameters, sizeof(float));
        add_part(out_parts, &count, "exp_avg_sq", ST_F32, parameters, sizeof(float));
    }
    if (type == DTYPE_BF16)
        add_part(out_parts, &count, "remainder", ST_U16, parameters, sizeof(uint16_t));
    return count;
}

int64_t optimiser_state_bytes(int64_t parameters, enum dtype type, enum moment_storage moments) {
    struct optimiser_part parts[OPTIMISER_PARTS_MAX];
    uint32_t count = list_parts(parameters, type, moments, parts);
    int64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += (int64_t)parts[i].bytes;
    return bytes;
}

int64_t optimiser_bytes(int64_t parameters, enum dtype type, enum moment_storage moments) {
    return parameters * (int64_t)sizeof(float) + optimiser_state_bytes(parameters, type, moments);
}

static enum status allocate(struct optimiser *o) {
    struct device *device = o->model->device;
    int64_t total = o->model->layout->total;
    void *memory;
    TRY(device->ops->allocate(device, (size_t)total * sizeof(float), &memory));
    o->gradient = memory;
    o->part_count = list_parts(total, o->model->type, o->settings.moments, o->parts);
    for (uint32_t i = 0; i < o->part_count; i++)
        TRY(device->ops->allocate(device, (size_t)o->parts[i].bytes, &o->parts[i].data));
    const struct optimiser_part *p = o->parts;
    if (o->settings.moments == MOMENTS_INT8) {
        o->coded = (struct moments8){.m = p[0].data, .m_most = p[1].data, .v = p[2].data, .v_most = p[3].data};
    } else {
        o->m = p[0].data;
        o->v = p[1].data;
    }
    if (o->model->type == DTYPE_BF16)
        o->remainder = p[o->part_count - 1].data;
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
    if (o->gradient)
        device->ops->release(device, o->gradient);
    for (uint32_t i = 0; i < o->part_count; i++)
        if (o->parts[i].data)
            device->ops->release(device, o->parts[i].data);
    free(o);
    *optimiser = NULL;
}

void optimiser_zero_gradient(struct optimiser *optimiser) {
    struct device *device = optimiser->model->device;
    device->ops->zero(device, optimiser->gradient, (size_t)optimiser->model->layout->total * sizeof(float));
}

/* ---- the update, of elements [first, end) ---- */

/* Only matrices decay. */
static void decay(struct optimiser *o, float factor, int64_t first, int64_t end) {
    struct device *device = o->model->device;
    const struct parameter_layout *layout = o->model->layout;
    for (int32_t i = 0; i < layout->count; i++) {
        const struct tensor_entry *entry = &layout->entries[i];
        int64_t from = entry->offset, to = from + (int64_t)entry->rows * entry->cols;
        from = from > first ? from : first;
        to = to < end ? to : end;
        if (entry->rank == 2 && from < to)
            device->ops->decay(device, (char *)o->model->data + (size_t)from * dtype_bytes(o->model->type),
                               o->model->type, o->remainder ? o->remainder + from : NULL, to - from, factor);
    }
}

/* first is a multiple of MOMENT_BLOCK. */
static void step(struct optimiser *o, const struct adamw_step *adamw, int64_t first, int64_t end) {
    struct device *device = o->model->device;
    enum dtype type = o->model->type;
    char *weights = (char *)o->model->data + (size_t)first * dtype_bytes(type);
    uint16_t *remainder = o->remainder ? o->remainder + first : NULL;
    if (o->settings.moments == MOMENTS_INT8) {
        int64_t block = first / MOMENT_BLOCK;
        struct moments8 coded = {o->coded.m + first, o->coded.v + first, o->coded.m_most + block,
                                 o->coded.v_most + block};
        device->ops->adamw8(device, weights, type, remainder, &coded, o->gradient + first, end - first, adamw);
    } else {
        device->ops->adamw(device, weights, type, remainder, o->m + first, o->v + first, o->gradient + first,
                           end - first, adamw);
    }
}

/* In one piece, or in those of the record: the same bits. */
static void update_all(struct optimiser *o, const struct adamw_step *adamw) {
    int64_t total = o->model->layout->total, most = o->record ? RECORD_PIECE : total;
    for (int64_t first = 0; first < total; first += most) {
        int64_t end = total - first < most ? total : first + most;
        if (o->record)
            record_before(o->record, o->model->data, first, end - first);
        if (o->settings.weight_decay > 0)
            decay(o, 1.0f - adamw->lr * (float)o->settings.weight_decay, first, end);
        step(o, adamw, first, end);
        if (o->record)
            record_after(o->record, o->model->data, first, end - first);
    }
}

enum status optimiser_update(struct optimiser *o, uint64_t number, double loss, struct update *out_update) {
    struct device *device = o->model->device;
    double squares = 0;
    device->ops->sum_squares(device, &squares, o->gradient, o->model->layout->total);
    TRY(device->ops->synchronize(device));
    if (o->record)
        record_begin(o->record);
    struct update update = {
        .lr = learning_rate(&o->settings, number), .gradient_norm = sqrt(squares), .clip_factor = 1};
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
        update_all(o, &adamw);
        TRY(device->ops->synchronize(device));
    }
    *out_update = update;
    return STATUS_OK;
}
