/* SwiGLU: h = silu(gate) * up with silu(g) = g / (1 + e^-g). */
#include "common/compute/cpu/kernels/kernels.h"

struct swiglu {
    float *to;
    const float *dh, *gate_up;
    int64_t F;
};

/* 1 / (1 + e^-g): 0 for very negative g, as e^-g is then infinite. */
static inline v16 sigmoid(v16 g) {
    v16 one = v16_set(1.0f);
    return v16_div(one, v16_add(one, v16_exp(v16_sub(v16_zero(), g))));
}

static void swiglu_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct swiglu *c = context;
    for (int64_t r = begin; r < end; r++) {
        const float *gate = c->gate_up + 2 * r * c->F, *up = gate + c->F;
        for (int64_t i = 0; i < c->F; i += LANES) {
            v16 g = v16_load_some(gate + i, c->F - i), u = v16_load_some(up + i, c->F - i);
            v16_store_some(c->to + r * c->F + i, v16_mul(v16_mul(g, sigmoid(g)), u), c->F - i);
        }
    }
}

void PATH(swiglu_forward)(struct device *device, void *h, const void *gate_up, int32_t R, int32_t F) {
    struct swiglu context = {h, NULL, gate_up, F};
    team_for(cpu_team(device), R, cpu_grain(2 * (int64_t)F), swiglu_rows, &context);
}

/* s = sigmoid(g): d_up = dh * g * s; d_gate = dh * up * s * (1 + g * (1 - s)) */
static void swiglu_backward_rows(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct swiglu *c = context;
    v16 one = v16_set(1.0f);
    for (int64_t r = begin; r < end; r++) {
        const float *gate = c->gate_up + 2 * r * c->F, *up = gate + c->F, *dh = c->dh + r * c->F;
        float *d_gate = c->to + 2 * r * c->F, *d_up = d_gate + c->F;
        for (int64_t i = 0; i < c->F; i += LANES) {
            int64_t left = c->F - i;
            v16 g = v16_load_some(gate + i, left), u = v16_load_some(up + i, left), d = v16_load_some(dh + i, left);
            v16 s = sigmoid(g);
            v16 slope = v16_mul(s, v16_fma(g, v16_sub(one, s), one));
            v16_store_some(d_gate + i, v16_mul(v16_mul(d, u), slope), left);
            v16_store_some(d_up + i, v16_mul(d, v16_mul(g, s)), left);
        }
    }
}

void PATH(swiglu_backward)(struct device *device, void *d_gate_up, const void *dh, const void *gate_up, int32_t R,
                           int32_t F) {
    struct swiglu context = {d_gate_up, dh, gate_up, F};
    team_for(cpu_team(device), R, cpu_grain(3 * (int64_t)F), swiglu_backward_rows, &context);
}
