/* One token a draw by inverse CDF over fixed blocks. Twin: cpu/kernels/sample.c. A block a row of logits: the blocks' sums
 * come with the log-sum-exp (vocabulary.cuh), so only the vocabulary block in which the uniform falls is read again.
 * Cumulative weights are added in double by one warp: each lane a run of neighbours, then the lanes before it.
 *
 * top-k and top-p become one threshold on z, found digit by digit of its bit pattern without sorting. Weights are counted in
 * units of 2^-40 of the greatest, in whole numbers, whose sum is free of order; the twin adds doubles, and near a tie may
 * differ by one id. */
#include "common/compute/cuda/vocabulary.cuh"

struct sample {
    int32_t *ids;
    float *lp;
    const float *logits, *uniforms;
    const int32_t *rows;
    int32_t draws, V, valid, top_k;
    float inv_temperature, top_p;
};

#define WEIGHT_ONE 1099511627776.0 /* 2^40; 2^18 ids of weight 1 fit 64 bits */
#define DIGITS 256

/* Order of floats as order of unsigned integers, and back. */
DEVICE uint32_t key_of(float value) {
    uint32_t bits = bits_of_f32(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE float of_key(uint32_t key) {
    return f32_of_bits(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* ---- top-k, top-p ---- */

/* The weight of one id: 1 by count, else e^(z - most) in units. */
DEVICE unsigned long long unit_weight(float z, float most, bool by_count) {
    return by_count ? 1ull : (unsigned long long)((double)exp_f32(z - most) * WEIGHT_ONE);
}

/* The greatest threshold t >= least such that the ids with z >= t weigh at least `enough`. Eight bits of t at a time. */
DEVICE float threshold_find(const struct sample &c, const float *logits, shared_pointer<unsigned long long> bins,
                            float least, float most, bool by_count, unsigned long long enough) {
    uint32_t prefix = 0;
    unsigned long long above = 0; /* weight of the ids whose leading bits are greater than the prefix */
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < DIGITS; i += VOCABULARY_LANES)
            bins[i] = 0ull;
        __syncthreads();
        for (int32_t id = (int32_t)threadIdx.x; id < c.valid; id += VOCABULARY_LANES) {
            float z = logits[id] * c.inv_temperature;
            uint32_t key = key_of(z);
            if (z >= least && (shift == 24 || key >> (shift + 8) == prefix))
                shared_add(bins + (key >> shift & 255), unit_weight(z, most, by_count));
        }
        __syncthreads();
        int bin = 255, lowest = 255;
        for (int i = 255; i >= 0; i--)
            if (bins[i] > 0)
                lowest = i;
        while (bin > lowest && above + bins[bin] < enough)
            above += bins[bin--];
        prefix = prefix << 8 | (uint32_t)bin;
    }
    return of_key(prefix);
}

/* The blocks' sums over the ids with z >= least only; returns the row's total, the same in every lane. */
DEVICE double restrict_blocks(const struct sample &c, const struct vocabulary_shared &blocks, const float *logits,
                              float least, float most) {
    int32_t lane = (int32_t)threadIdx.x % WARP_LANES, count = vocabulary_blocks(c.valid);
    __syncthreads();
    for (int32_t b = (int32_t)threadIdx.x / WARP_LANES; b < count; b += VOCABULARY_WARPS) {
        float sum = 0.0f, block_most = blocks.most[b];
        for (int i = 0; i < VOCABULARY_PER_LANE; i++) {
            int32_t id = b * VOCABULARY_BLOCK + lane + i * WARP_LANES;
            float z = id < c.valid ? logits[id] * c.inv_temperature : -INFINITY;
            if (id < c.valid && z >= least)
                sum += exp_f32(z - block_most);
        }
        sum = warp_sum(sum);
        if (lane == 0)
            blocks.sum[b] = sum;
    }
    __syncthreads();
    double total = 0;
    for (int32_t b = lane; b < count; b += WARP_LANES)
        if (blocks.sum[b] > 0.0f)
            total += (double)exp_f32(blocks.most[b] - most) * (double)(float)blocks.sum[b];
    return warp_sum(total);
}

/* What top-k and top-p leave: the least z that stays in; blocks and total are restricted to it. */
DEVICE float restrict_row(const struct sample &c, const struct vocabulary_shared &blocks,
                          shared_pointer<unsigned long long> bins, const float *logits, float most, double *total) {
    float least = -INFINITY;
    if (c.top_k > 0 && c.top_k < c.valid) {
        least = threshold_find(c, logits, bins, least, most, true, (unsigned long long)c.top_k);
        *total = restrict_blocks(c, blocks, logits, least, most);
    }
    if (c.top_p < 1.0f) {
        least = threshold_find(c, logits, bins, least, most, false,
                               (unsigned long long)((double)c.top_p * *total * WEIGHT_ONE));
        *total = restrict_blocks(c, blocks, logits, least, most);
    }
    return least;
}

/* ---- the draw, by one warp ---- */

/* Lane i holds `own`, the weight of its run: the weight of the runs before it. */
DEVICE double sum_before(double own) {
    double through = own;
    for (unsigned delta = 1; delta < WARP_LANES; delta *= 2) {
        double below = __shfl_up_sync(FULL_MASK, through, delta);
        if (threadIdx.x % WARP_LANES >= delta)
            through += below;
    }
    double before = __shfl_up_sync(FULL_MASK, through, 1);
    return threadIdx.x % WARP_LANES == 0 ? 0 : before;
}

/* Each lane offers a candidate, or -1; the answer is that of the lowest lane that offers one at or past the target, else of
 * the highest lane that offers any. past: its cumulative weight exceeds the target. */
DEVICE int32_t elect(int32_t candidate, bool past) {
    uint32_t offers = __ballot_sync(FULL_MASK, candidate >= 0),
             beyond = __ballot_sync(FULL_MASK, candidate >= 0 && past);
    int lane = beyond != 0 ? __ffs(beyond) - 1 : 0;
    if (beyond == 0)
        while (offers >> lane > 1)
            lane++;
    return __shfl_sync(FULL_MASK, candidate, lane);
}

struct located {
    int32_t index; /* -1: nothing weighs anything */
    double before; /* cumulative weight in front of it */
};

/* The first entry whose cumulative weight is greater than target; the last one that weighs anything when rounding leaves
 * none. weight(i) of a lane's own run of `run` entries is asked for twice. */
template <typename WEIGHT> DEVICE struct located locate(int32_t count, double target, WEIGHT weight) {
    int32_t run = (count + WARP_LANES - 1) / WARP_LANES, first = (int32_t)(threadIdx.x % WARP_LANES) * run;
    int32_t last = first + run < count ? first + run : count;
    double own = 0;
    for (int32_t i = first; i < last; i++)
        own += weight(i);
    double sum = sum_before(own), before = sum;
    int32_t found = -1;
    for (int32_t i = first; i < last && !(found >= 0 && sum > target); i++) {
        double w = weight(i);
        if (!(w > 0))
            continue;
        found = i;
        before = sum;
        sum += w;
    }
    struct located result;
    result.index = elect(found, sum > target);
    int lane = result.index < 0 ? 0 : result.index / run;
    result.before = __shfl_sync(FULL_MASK, before, lane);
    return result;
}

struct block_weight {
    const struct vocabulary_shared &blocks;
    float most;
    DEVICE_MEMBER double operator()(int32_t b) const {
        float sum = blocks.sum[b];
        return sum > 0.0f ? (double)exp_f32(blocks.most[b] - most) * (double)sum : 0.0;
    }
};

struct id_weight {
    const float *logits; /* of the block */
    float inv_temperature, least, block_most;
    DEVICE_MEMBER double operator()(int32_t i) const {
        float z = logits[i] * inv_temperature;
        return z >= least ? (double)exp_f32(z - block_most) : 0.0;
    }
};

DEVICE int32_t draw(const struct sample &c, const struct vocabulary_shared &blocks, const float *logits, float least,
                    float most, double target) {
    struct block_weight by_block = {blocks, most};
    struct located block = locate(vocabulary_blocks(c.valid), target, by_block);
    if (block.index < 0)
        return 0; /* no finite logit: lp says so */
    int32_t first = block.index * VOCABULARY_BLOCK, left = c.valid - first;
    float block_most = blocks.most[block.index];
    struct id_weight by_id = {logits + first, c.inv_temperature, least, block_most};
    struct located id = locate(left < VOCABULARY_BLOCK ? left : VOCABULARY_BLOCK,
                               (target - block.before) / (double)exp_f32(block_most - most), by_id);
    return first + (id.index < 0 ? 0 : id.index);
}

/* The lowest id of the greatest logit, by one warp. */
DEVICE int32_t greatest(const float *logits, int32_t valid) {
    int32_t best = 0;
    float most = logits[0];
    for (int32_t i = (int32_t)threadIdx.x % WARP_LANES; i < valid; i += WARP_LANES)
        if (logits[i] > most) {
            most = logits[i];
            best = i;
        }
    for (int flip = WARP_LANES / 2; flip > 0; flip /= 2) {
        float other = __shfl_xor_sync(FULL_MASK, most, flip);
        int32_t id = __shfl_xor_sync(FULL_MASK, best, flip);
        if (other > most || (other == most && id < best)) {
            most = other;
            best = id;
        }
    }
    return best;
}

/* Block i serves draw i and those behind it that are of the same row; a draw that is not the first of its row has no
 * block's work. */
KERNEL void __launch_bounds__(VOCABULARY_LANES) sample_kernel(struct sample c, bool greedy) {
    SHARED_VOCABULARY(blocks);
    SHARED(unsigned long long, bins, DIGITS);
    int32_t first = (int32_t)blockIdx.x, last = first + 1;
    if (c.rows != NULL && first > 0 && c.rows[first - 1] == c.rows[first])
        return;
    while (c.rows != NULL && last < c.draws && c.rows[last] == c.rows[first])
        last++;
    const float *logits = c.logits + (c.rows != NULL ? c.rows[first] : first) * (int64_t)c.V;
    struct vocabulary_row row = vocabulary_scan(blocks, logits, c.valid, c.inv_temperature);
    float least = -INFINITY;
    double total = row.total;
    if (!greedy)
        least = restrict_row(c, blocks, bins, logits, row.most, &total);
    /* the warps share the draws */
    for (int32_t i = first + (int32_t)threadIdx.x / WARP_LANES; i < last; i += VOCABULARY_WARPS) {
        int32_t id = greedy ? greatest(logits, c.valid)
                            : draw(c, blocks, logits, least, row.most, (double)c.uniforms[i] * total);
        if (threadIdx.x % WARP_LANES == 0) {
            c.ids[i] = id;
            c.lp[i] = logits[id] * c.inv_temperature - row.lse;
        }
    }
}

void cuda_sample(struct device *device, int32_t *ids, float *lp, const float *logits, const int32_t *rows,
                 const float *uniforms, int32_t draws, int32_t V, int32_t valid, float inv_temperature, int32_t top_k,
                 float top_p) {
    ASSERT(valid >= 1 && valid <= V && valid <= VOCABULARY_BLOCKS_MAX * VOCABULARY_BLOCK);
    bool greedy = inv_temperature == 0.0f;
    struct sample context = {ids,  lp, logits, uniforms, rows, draws, V, valid, top_k, greedy ? 1.0f : inv_temperature,
                             top_p};
    if (draws > 0)
        LAUNCH(device, sample_kernel, dim3((unsigned)draws), VOCABULARY_LANES, context, greedy);
}
