/* Operations that move or add rows. Sums over rows run in ascending order for each element; threads share out the
 * columns. */
#include "common/compute/cpu/kernels/kernels.h"

struct embed {
    float *x;
    struct weight w;
    const int32_t *ids;
    int64_t H;
};

static void embed_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct embed *c = context;
    for (int64_t r = begin; r < end; r++)
        for (int64_t i = 0; i < c->H; i += LANES)
            v16_store_some(c->x + r * c->H + i, weight_load(c->w, c->ids[r] * c->H + i, c->H - i), c->H - i);
}

void PATH(embed_forward)(struct device *device, void *x, struct weight w, const int32_t *ids, int32_t R, int32_t H) {
    struct embed context = {x, w, ids, H};
    team_for(cpu_team(device), R, cpu_grain(H), embed_rows, &context);
}

/* to[to_rows[r]] += from[r] for ascending r */
struct sum_rows {
    float *to;
    const float *from;
    const int32_t *to_rows; /* NULL: all into row 0 */
    int64_t R, H;
};

/* A chunk is a range of columns, in units of LANES. */
static void sum_columns(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct sum_rows *c = context;
    int64_t first = begin * LANES, last = least_i64(end * LANES, c->H);
    for (int64_t r = 0; r < c->R; r++) {
        const float *from = c->from + r * c->H;
        float *to = c->to + (c->to_rows != NULL ? c->to_rows[r] * c->H : 0);
        for (int64_t i = first; i < last; i += LANES) {
            v16 sum = v16_add(v16_load_some(to + i, last - i), v16_load_some(from + i, last - i));
            v16_store_some(to + i, sum, last - i);
        }
    }
}

static void sum_rows(struct device *device, const struct sum_rows *job) {
    struct sum_rows context = *job;
    int64_t units = (job->H + LANES - 1) / LANES, threads = team_threads(cpu_team(device));
    int64_t grain = job->R * job->H < 32768 ? units : (units + threads - 1) / threads;
    team_for(cpu_team(device), units, grain > 0 ? grain : 1, sum_columns, &context);
}

void PATH(embed_backward)(struct device *device, float *dw, const void *dx, const int32_t *ids, int32_t R, int32_t H,
                          int32_t V) {
    (void)V;
    sum_rows(device, &(struct sum_rows){dw, dx, ids, R, H});
}

void PATH(scatter_add_rows)(struct device *device, void *x, const void *y, const int32_t *rows, int32_t count,
                            int32_t H) {
    sum_rows(device, &(struct sum_rows){x, y, rows, count, H});
}

void PATH(bias_backward)(struct device *device, float *db, const void *dy, int32_t R, int32_t n) {
    sum_rows(device, &(struct sum_rows){db, dy, NULL, R, n});
}

struct add {
    float *y;
    const float *x;
};

static void add_range(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct add *c = context;
    for (int64_t i = begin; i < end; i += LANES)
        v16_store_some(c->y + i, v16_add(v16_load_some(c->y + i, end - i), v16_load_some(c->x + i, end - i)), end - i);
}

void PATH(add)(struct device *device, void *y, const void *x, int64_t count) {
    struct add context = {y, x};
    team_for(cpu_team(device), count, 65536, add_range, &context);
}

struct gather {
    float *y;
    const float *x;
    const int32_t *rows;
    int64_t H;
};

static void gather_range(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct gather *c = context;
    for (int64_t i = begin; i < end; i++)
        memcpy(c->y + i * c->H, c->x + c->rows[i] * c->H, (size_t)c->H * sizeof(float));
}

void PATH(gather_rows)(struct device *device, void *y, const void *x, const int32_t *rows, int32_t count, int32_t H) {
    struct gather context = {y, x, rows, H};
    team_for(cpu_team(device), count, cpu_grain(H / 2), gather_range, &context);
}
