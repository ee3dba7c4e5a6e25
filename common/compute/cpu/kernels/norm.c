/* RMSNorm. The sum of squares of a row is sixteen running sums (lane i takes elements i, i+16, ...), added by v16_sum.
 */
#include "common/compute/cpu/kernels/kernels.h"

struct norm {
    float *y, *rstd;
    const float *x;
    struct weight w;
    int64_t H;
    float eps;
};

static void norm_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct norm *c = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = c->x + r * c->H;
        v16 squares = v16_zero();
        for (int64_t i = 0; i < c->H; i += LANES) {
            v16 some = v16_load_some(x + i, c->H - i);
            squares = v16_fma(some, some, squares);
        }
        float rstd = rsqrt_f32(v16_sum(squares) / (float)c->H + c->eps);
        c->rstd[r] = rstd;
        for (int64_t i = 0; i < c->H; i += LANES) {
            int64_t left = c->H - i;
            v16 scaled = v16_mul(v16_load_some(x + i, left), v16_set(rstd));
            v16_store_some(c->y + r * c->H + i, v16_mul(scaled, weight_load(c->w, i, left)), left);
        }
    }
}

void PATH(rmsnorm_forward)(struct device *device, void *y, float *rstd, const void *x, struct weight w, int32_t R,
                           int32_t H, float eps) {
    struct norm context = {y, rstd, x, w, H, eps};
    team_for(cpu_team(device), R, cpu_grain(H), norm_rows, &context);
}

/* With n = x * rstd: dx = rstd * (dy*w - n * mean(dy*w*n)); dw += dy * n. */
struct norm_backward {
    float *dx, *dw;
    enum write_mode mode;
    const float *dy, *x, *rstd;
    struct weight w;
    int64_t R, H;
};

static void norm_backward_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct norm_backward *c = context;
    int64_t H = c->H;
    for (int64_t r = begin; r < end; r++) {
        const float *x = c->x + r * H, *dy = c->dy + r * H;
        v16 rstd = v16_set(c->rstd[r]), sum = v16_zero();
        for (int64_t i = 0; i < H; i += LANES) {
            v16 dn = v16_mul(v16_load_some(dy + i, H - i), weight_load(c->w, i, H - i));
            sum = v16_fma(dn, v16_mul(v16_load_some(x + i, H - i), rstd), sum);
        }
        v16 mean = v16_set(v16_sum(sum) / (float)H);
        for (int64_t i = 0; i < H; i += LANES) {
            int64_t left = H - i;
            v16 dn = v16_mul(v16_load_some(dy + i, left), weight_load(c->w, i, left));
            v16 n = v16_mul(v16_load_some(x + i, left), rstd);
            v16 d = v16_mul(rstd, v16_fnma(n, mean, dn));
            if (c->mode == WRITE_ADD)
                d = v16_add(v16_load_some(c->dx + r * H + i, left), d);
            v16_store_some(c->dx + r * H + i, d, left);
        }
    }
}

/* A chunk is a range of columns, in units of LANES; rows ascending (ops.h O2). */
static void norm_backward_weight(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct norm_backward *c = context;
    int64_t first = begin * LANES, last = least_i64(end * LANES, c->H);
    for (int64_t i = first; i < last; i += LANES) {
        int64_t left = c->H - i;
        v16 sum = v16_load_some(c->dw + i, left);
        for (int64_t r = 0; r < c->R; r++) {
            v16 n = v16_mul(v16_load_some(c->x + r * c->H + i, left), v16_set(c->rstd[r]));
            sum = v16_fma(v16_load_some(c->dy + r * c->H + i, left), n, sum);
        }
        v16_store_some(c->dw + i, sum, left);
    }
}

void PATH(rmsnorm_backward)(struct device *device, void *dx, enum write_mode mode, float *dw, const void *dy,
                            const void *x, const float *rstd, struct weight w, int32_t R, int32_t H) {
    struct norm_backward context = {dx, dw, mode, dy, x, rstd, w, R, H};
    int64_t units = (H + LANES - 1) / LANES;
    /* The weight's gradient first: dx may be the memory of dy. */
    team_for(cpu_team(device), units, (int64_t)R * H < 32768 ? units : 2, norm_backward_weight, &context);
    team_for(cpu_team(device), R, cpu_grain(H), norm_backward_rows, &context);
}
