/* Loops over flat buffers. Twin: cpu/kernels/optimizer.c. AdamW has the twin's bits, as division and square root are
 * correctly rounded on both; the digest is whole numbers; the sum of squares adds in an order of its own, in double. */
#include "common/compute/cuda/kernel.cuh"
#include "common/compute/digest.h"
#include "common/compute/moments.h"

#define FLAT_LANES 256

/* ---- masters ---- */

/* The exact fp32 master of a bf16 weight is u = (w << 16) + remainder as a signed 16-bit number, modulo 2^32; the weight is u
 * rounded half away (cpu/kernels/optimizer.c). */
struct masters {
    void *w;
    uint16_t *rem; /* NULL: w is fp32 */
};

DEVICE float master_load(const struct masters &c, int64_t i) {
    if (c.rem == NULL)
        return ((const float *)c.w)[i];
    return f32_of_bits(((uint32_t)((const uint16_t *)c.w)[i] << 16) + (uint32_t)(int32_t)(int16_t)c.rem[i]);
}

DEVICE void master_store(const struct masters &c, int64_t i, float value) {
    if (c.rem == NULL) {
        ((float *)c.w)[i] = value;
        return;
    }
    uint32_t u = bits_of_f32(value), high = (u + 0x8000u) >> 16;
    ((uint16_t *)c.w)[i] = (uint16_t)high;
    c.rem[i] = (uint16_t)(u - (high << 16));
}

static struct masters masters_of(void *w, enum dtype type, uint16_t *rem) {
    ASSERT(type == DTYPE_F32 || rem != NULL);
    struct masters masters = {w, type == DTYPE_F32 ? NULL : rem};
    return masters;
}

/* 8 bytes an element */
KERNEL void decay_kernel(struct masters masters, int64_t count, float factor) {
    int64_t i = (int64_t)blockIdx.x * FLAT_LANES + threadIdx.x;
    if (i < count)
        master_store(masters, i, master_load(masters, i) * factor);
}

void cuda_decay(struct device *device, void *w, enum dtype type, uint16_t *rem, int64_t count, float factor) {
    struct masters masters = masters_of(w, type, rem);
    if (count > 0)
        LAUNCH(device, decay_kernel, dim3(blocks_for(count, FLAT_LANES)), FLAT_LANES, masters, count, factor);
}

/* ---- AdamW: 28 bytes an element ---- */

/* m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w = w - lr (m / bias1) / (sqrt(v / bias2) + eps) */
DEVICE float adamw_element(float w, float &m, float &v, float g, const struct adamw_step &s) {
    g *= s.grad_scale;
    m = fmaf(s.beta1, m, (1.0f - s.beta1) * g);
    v = fmaf(s.beta2, v, (1.0f - s.beta2) * g * g);
    float update = m / s.bias1 / (sqrtf(v / s.bias2) + s.eps);
    return fmaf(-s.lr, update, w);
}

KERNEL void adamw_kernel(struct masters masters, float *m, float *v, const float *g, int64_t count,
                         struct adamw_step step) {
    int64_t i = (int64_t)blockIdx.x * FLAT_LANES + threadIdx.x;
    if (i < count)
        master_store(masters, i, adamw_element(master_load(masters, i), m[i], v[i], g[i], step));
}

void cuda_adamw(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                int64_t count, const struct adamw_step *step) {
    struct masters masters = masters_of(w, type, rem);
    if (count > 0)
        LAUNCH(device, adamw_kernel, dim3(blocks_for(count, FLAT_LANES)), FLAT_LANES, masters, m, v, g, count, *step);
}

/* ---- AdamW with moments of eight bits: 16 bytes an element with a split master. A warp takes a block of moments at a time, a
 * lane every 32nd of its elements. ---- */

#define MOMENTS_WARPS 8
#define MOMENTS_LANES (MOMENTS_WARPS * WARP_LANES)
#define MOMENTS_PER_LANE (MOMENT_BLOCK / WARP_LANES)
#define MOMENTS_ROUNDS 32 /* blocks a warp takes one after another, so that the tables are read once for many */

struct moment_shared {
    shared_pointer<float> share, border;
    shared_pointer<uint8_t> below;
};

#define SHARED_MOMENTS(name)                                                                                           \
    SHARED(float, name##_share, MOMENT_CODES);                                                                         \
    SHARED(float, name##_border, MOMENT_CODES);                                                                        \
    SHARED(uint8_t, name##_below, MOMENT_KEYS);                                                                        \
    struct moment_shared name = {name##_share, name##_border, name##_below}

DEVICE void moments_load(const struct moment_shared &to, const struct moment_codes &from) {
    for (int i = (int)threadIdx.x; i < MOMENT_CODES; i += MOMENTS_LANES) {
        to.share[i] = from.share[i];
        to.border[i] = from.border[i];
    }
    for (int i = (int)threadIdx.x; i < (int)MOMENT_KEYS; i += MOMENTS_LANES)
        to.below[i] = from.below[i];
}

/* cpu/kernels/optimizer.c: moments_encode */
DEVICE uint8_t moment_encode(const struct moment_shared &codes, float value, float most) {
    float share = value / (most > 0.0f ? most : 1.0f);
    share = share < 1.0f ? share : 1.0f;
    share = share > -1.0f ? share : -1.0f;
    int code = codes.below[(int)moment_key(share)];
    return (uint8_t)(code + (share > codes.border[code]));
}

KERNEL void adamw8_kernel(struct masters masters, struct moments8 moments, const float *g, int64_t count,
                          struct adamw_step step, const struct moment_tables *tables) {
    SHARED_MOMENTS(for_m);
    SHARED_MOMENTS(for_v);
    moments_load(for_m, tables->m);
    moments_load(for_v, tables->v);
    __syncthreads();
    for (int round = 0; round < MOMENTS_ROUNDS; round++) {
        int64_t b = ((int64_t)blockIdx.x * MOMENTS_ROUNDS + round) * MOMENTS_WARPS + threadIdx.x / WARP_LANES;
        int64_t first = b * MOMENT_BLOCK + threadIdx.x % WARP_LANES;
        if (b * MOMENT_BLOCK >= count)
            return;
        float m[MOMENTS_PER_LANE], v[MOMENTS_PER_LANE], m_was = moments.m_most[b], v_was = moments.v_most[b],
                                                        m_most = 0.0f, v_most = 0.0f;
        UNROLL
        for (int j = 0; j < MOMENTS_PER_LANE; j++) {
            int64_t i = first + j * WARP_LANES;
            m[j] = v[j] = 0.0f;
            if (i < count) {
                m[j] = for_m.share[moments.m[i]] * m_was;
                v[j] = for_v.share[moments.v[i]] * v_was;
                master_store(masters, i, adamw_element(master_load(masters, i), m[j], v[j], g[i], step));
                v[j] = v[j] < MOMENT_MOST ? v[j] : MOMENT_MOST;
            }
            m_most = fmaxf(m_most, fabsf(m[j]));
            v_most = fmaxf(v_most, v[j]);
        }
        m_most = warp_most(m_most);
        v_most = warp_most(v_most);
        UNROLL
        for (int j = 0; j < MOMENTS_PER_LANE; j++) {
            int64_t i = first + j * WARP_LANES;
            if (i < count) {
                moments.m[i] = moment_encode(for_m, m[j], m_most);
                moments.v[i] = moment_encode(for_v, v[j], v_most);
            }
        }
        if (threadIdx.x % WARP_LANES == 0) {
            moments.m_most[b] = m_most;
            moments.v_most[b] = v_most;
        }
    }
}

void cuda_adamw8(struct device *device, void *w, enum dtype type, uint16_t *rem, const struct moments8 *moments,
                 const float *g, int64_t count, const struct adamw_step *step) {
    struct masters masters = masters_of(w, type, rem);
    if (count <= 0)
        return;
    struct moment_tables tables, *on_device = (struct moment_tables *)cuda_scratch(device, sizeof tables);
    if (on_device == NULL)
        return;
    moment_tables_fill(&tables);
    cuda_upload(device, on_device, &tables, sizeof tables);
    LAUNCH(device, adamw8_kernel, dim3(blocks_for(moment_blocks(count), MOMENTS_WARPS * MOMENTS_ROUNDS)), MOMENTS_LANES,
           masters, *moments, g, count, *step, on_device);
}

/* ---- sum of squares: a warp SQUARES_BLOCK elements, then one warp the blocks' sums, each in one order, in double ---- */

#define SQUARES_BLOCK 16384

KERNEL void squares_kernel(double *partial, const float *g, int64_t count) {
    int64_t first = (int64_t)blockIdx.x * SQUARES_BLOCK,
            last = first + SQUARES_BLOCK < count ? first + SQUARES_BLOCK : count;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < last; i += WARP_LANES)
        sum += (double)g[i] * (double)g[i];
    sum = warp_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

KERNEL void squares_total_kernel(double *total, const double *partial, int64_t blocks) {
    double sum = 0;
    for (int64_t b = threadIdx.x; b < blocks; b += WARP_LANES)
        sum += partial[b];
    sum = warp_sum(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

void cuda_sum_squares(struct device *device, double *host_out, const float *g, int64_t count) {
    unsigned blocks = blocks_for(count, SQUARES_BLOCK);
    *host_out = 0;
    double *partial = blocks > 0 ? (double *)cuda_scratch(device, ((size_t)blocks + 1) * sizeof *partial) : NULL;
    if (partial == NULL)
        return;
    LAUNCH(device, squares_kernel, dim3(blocks), WARP_LANES, partial, g, count);
    LAUNCH(device, squares_total_kernel, dim3(1), WARP_LANES, partial + blocks, partial, (int64_t)blocks);
    cuda_download(device, host_out, partial + blocks, sizeof *host_out);
}

/* ---- digest: a lane the mixes of DIGEST_BLOCK elements or more, then one warp the lanes' sums, modulo 2^128 ---- */

#define DIGEST_BLOCK 1024
#define DIGEST_LANES_MAX 131072 /* fill a device; more would be for the one warp to add */

KERNEL void digest_kernel(struct digest *partial, const void *w, enum dtype type, uint64_t first, int64_t count,
                          int64_t lanes) {
    int64_t lane = (int64_t)blockIdx.x * FLAT_LANES + threadIdx.x;
    if (lane >= lanes)
        return;
    struct digest sum = {0, 0};
    for (int64_t i = lane; i < count; i += lanes) {
        uint64_t index = first + (uint64_t)i;
        sum = digest_add(sum, type == DTYPE_BF16 ? digest_mix16(index, ((const uint16_t *)w)[i])
                                                 : digest_mix32(index, ((const uint32_t *)w)[i]));
    }
    partial[lane] = sum;
}

KERNEL void digest_total_kernel(struct digest *total, const struct digest *partial, int64_t lanes) {
    struct digest sum = {0, 0};
    for (int64_t i = threadIdx.x; i < lanes; i += WARP_LANES)
        sum = digest_add(sum, partial[i]);
    for (int flip = WARP_LANES / 2; flip > 0; flip /= 2) {
        struct digest other;
        other.low = __shfl_xor_sync(FULL_MASK, (unsigned long long)sum.low, flip);
        other.high = __shfl_xor_sync(FULL_MASK, (unsigned long long)sum.high, flip);
        sum = digest_add(sum, other);
    }
    if (threadIdx.x == 0)
        *total = sum;
}

void cuda_digest(struct device *device, struct digest *host_out, const void *w, enum dtype type, int64_t first,
                 int64_t count) {
    int64_t lanes = (count + DIGEST_BLOCK - 1) / DIGEST_BLOCK;
    lanes = lanes < DIGEST_LANES_MAX ? lanes : DIGEST_LANES_MAX;
    *host_out = digest_of_u128(0);
    struct digest *partial =
        lanes > 0 ? (struct digest *)cuda_scratch(device, ((size_t)lanes + 1) * sizeof *partial) : NULL;
    if (partial == NULL)
        return;
    LAUNCH(device, digest_kernel, dim3(blocks_for(lanes, FLAT_LANES)), FLAT_LANES, partial, w, type, (uint64_t)first,
           count, lanes);
    LAUNCH(device, digest_total_kernel, dim3(1), WARP_LANES, partial + lanes, partial, lanes);
    cuda_download(device, host_out, partial + lanes, sizeof *host_out);
}
