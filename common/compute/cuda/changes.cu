/* What changed between two versions of bf16 weights, and the way from one to the other (DESIGN section 8). A block serves one
 * block of weights. The twin is common/weights on host memory; the host codes and decodes the lists, so a delta's bytes do not
 * depend on where it was made. Bound by memory: finding reads 4 bytes an element, twice, the second time from the
 * cache; applying touches what changed alone. */
#include <string.h>

#include "common/compute/cuda/kernel.cuh"
#include "common/compute/digest.h"

#define CHANGE_LANES 256
#define CHANGE_WARPS (CHANGE_LANES / WARP_LANES)
#define CHANGE_STEP (CHANGE_LANES * 8) /* elements that a block looks at at once */

/* One bit for each of eight elements, of which `left` exist, that differs. */
DEVICE uint32_t differing(const uint16_t *before, const uint16_t *after, int64_t left) {
    uint32_t mask = 0;
    if (left >= 8) {
        uint4 a = load16(before), b = load16(after);
        uint32_t words[4] = {a.x ^ b.x, a.y ^ b.y, a.z ^ b.z, a.w ^ b.w};
        for (int i = 0; i < 4; i++)
            mask |= (uint32_t)((words[i] & 0xffffu) != 0) << 2 * i | (uint32_t)(words[i] >> 16 != 0) << (2 * i + 1);
        return mask;
    }
    for (int i = 0; i < left; i++)
        mask |= (uint32_t)(before[i] != after[i]) << i;
    return mask;
}

struct change_block {
    int64_t first, elements;
};

DEVICE struct change_block change_block_of(int64_t count) {
    int64_t first = (int64_t)blockIdx.x * CHANGE_BLOCK, left = count - first;
    return {first, left < CHANGE_BLOCK ? left : CHANGE_BLOCK};
}

/* The lanes' numbers in front of this lane's, and all of them. */
struct prefix {
    uint32_t before, total;
};

DEVICE struct prefix prefix_of(shared_pointer<uint32_t> sums, uint32_t own) {
    uint32_t lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES, through = own;
    for (uint32_t delta = 1; delta < WARP_LANES; delta *= 2) {
        uint32_t below = __shfl_up_sync(FULL_MASK, through, delta);
        if (lane >= delta)
            through += below;
    }
    if (lane == WARP_LANES - 1)
        sums[warp] = through;
    __syncthreads();
    struct prefix result = {through - own, 0};
    for (uint32_t w = 0; w < CHANGE_WARPS; w++) {
        uint32_t sum = sums[w];
        result.before += w < warp ? sum : 0;
        result.total += sum;
    }
    __syncthreads(); /* sums may be written again */
    return result;
}

KERNEL void count_changes_kernel(uint32_t *counts, const uint16_t *before, const uint16_t *after, int64_t count) {
    SHARED(uint32_t, sums, CHANGE_WARPS);
    struct change_block block = change_block_of(count);
    uint32_t own = 0;
    for (int64_t i = (int64_t)threadIdx.x * 8; i < block.elements; i += CHANGE_STEP)
        own += (uint32_t)__popc(differing(before + block.first + i, after + block.first + i, block.elements - i));
    struct prefix all = prefix_of(sums, own);
    if (threadIdx.x == 0)
        counts[blockIdx.x] = all.total;
}

/* offsets [blocks]: where each block's changes begin. */
KERNEL void list_changes_kernel(uint16_t *at, uint16_t *step, const uint32_t *offsets, const uint16_t *before,
                                const uint16_t *after, int64_t count) {
    SHARED(uint32_t, sums, CHANGE_WARPS);
    struct change_block block = change_block_of(count);
    before += block.first;
    after += block.first;
    uint32_t done = offsets[blockIdx.x];
    for (int64_t row = 0; row < block.elements; row += CHANGE_STEP) {
        int64_t first = row + (int64_t)threadIdx.x * 8;
        uint32_t mask = first < block.elements ? differing(before + first, after + first, block.elements - first) : 0;
        struct prefix place = prefix_of(sums, (uint32_t)__popc(mask));
        for (uint32_t to = done + place.before; mask != 0; mask &= mask - 1, to++) {
            int64_t i = first + __ffs(mask) - 1;
            at[to] = (uint16_t)i;
            step[to] = (uint16_t)(after[i] - before[i]);
        }
        done += place.total;
    }
}

/* offsets [blocks + 1]; partial [blocks]: the change of the digest. No two changes of a block are of one element. */
KERNEL void apply_changes_kernel(uint16_t *w, struct digest *partial, const uint16_t *at, const uint16_t *step,
                                 const uint32_t *offsets, bool take_away, uint64_t first) {
    SHARED(unsigned long long, low, CHANGE_WARPS);
    SHARED(unsigned long long, high, CHANGE_WARPS);
    uint64_t block_first = (uint64_t)blockIdx.x * CHANGE_BLOCK;
    struct digest sum = {0, 0};
    for (uint32_t i = offsets[blockIdx.x] + threadIdx.x; i < offsets[blockIdx.x + 1]; i += CHANGE_LANES) {
        uint64_t place = block_first + at[i], index = first + place;
        uint16_t old = w[place], moved = (uint16_t)(take_away ? old - step[i] : old + step[i]);
        w[place] = moved;
        sum = digest_add(sum, digest_subtract(digest_mix16(index, moved), digest_mix16(index, old)));
    }
    for (int flip = WARP_LANES / 2; flip > 0; flip /= 2) {
        struct digest other;
        other.low = __shfl_xor_sync(FULL_MASK, (unsigned long long)sum.low, flip);
        other.high = __shfl_xor_sync(FULL_MASK, (unsigned long long)sum.high, flip);
        sum = digest_add(sum, other);
    }
    if (threadIdx.x % WARP_LANES == 0) {
        low[(int)threadIdx.x / WARP_LANES] = sum.low;
        high[(int)threadIdx.x / WARP_LANES] = sum.high;
    }
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    struct digest total = {0, 0};
    for (int warp = 0; warp < CHANGE_WARPS; warp++) {
        struct digest one = {low[warp], high[warp]};
        total = digest_add(total, one);
    }
    partial[blockIdx.x] = total;
}

/* ---- the operations ---- */

/* out_offsets [blocks + 1]; returns the number of changes. */
static uint32_t offsets_of(const uint32_t *counts, unsigned blocks, uint32_t *out_offsets) {
    uint32_t total = 0;
    for (unsigned b = 0; b < blocks; b++) {
        out_offsets[b] = total;
        total += counts[b];
    }
    out_offsets[blocks] = total;
    return total;
}

static unsigned change_blocks(int64_t count) {
    ASSERT(count >= 0 && count <= (int64_t)CHANGE_BLOCKS_MAX * CHANGE_BLOCK);
    return blocks_for(count, CHANGE_BLOCK);
}

/* Scratch of both directions: offsets [blocks + 1], then at and step [total]. */
struct change_lists {
    uint32_t *offsets;
    uint16_t *at, *step;
};

static size_t lists_bytes(unsigned blocks, uint32_t total) {
    return (blocks + 1) * sizeof(uint32_t) + 2 * (size_t)total * sizeof(uint16_t);
}

static struct change_lists lists_at(void *scratch, unsigned blocks, uint32_t total) {
    uint32_t *offsets = (uint32_t *)scratch;
    uint16_t *at = (uint16_t *)(void *)(offsets + blocks + 1);
    return {offsets, at, at + total};
}

void cuda_find_changes(struct device *device, uint32_t *host_counts, uint16_t *host_at, uint16_t *host_step,
                       const uint16_t *before, const uint16_t *after, int64_t count) {
    unsigned blocks = change_blocks(count);
    uint32_t offsets[CHANGE_BLOCKS_MAX + 1];
    ASSERT(((uintptr_t)before | (uintptr_t)after) % 16 == 0);
    memset(host_counts, 0, blocks * sizeof *host_counts);
    uint32_t *counts = blocks > 0 ? (uint32_t *)cuda_scratch(device, blocks * sizeof *counts) : NULL;
    if (counts == NULL)
        return;
    LAUNCH(device, count_changes_kernel, dim3(blocks), CHANGE_LANES, counts, before, after, count);
    cuda_download(device, host_counts, counts, blocks * sizeof *host_counts);
    uint32_t total = offsets_of(host_counts, blocks, offsets);
    void *scratch = total > 0 ? cuda_scratch(device, lists_bytes(blocks, total)) : NULL;
    if (scratch == NULL)
        return;
    struct change_lists lists = lists_at(scratch, blocks, total);
    cuda_upload(device, lists.offsets, offsets, (blocks + 1) * sizeof *offsets);
    LAUNCH(device, list_changes_kernel, dim3(blocks), CHANGE_LANES, lists.at, lists.step, lists.offsets, before, after,
           count);
    cuda_download(device, host_at, lists.at, total * sizeof *host_at);
    cuda_download(device, host_step, lists.step, total * sizeof *host_step);
}

void cuda_apply_changes(struct device *device, uint16_t *w, struct digest *host_sum, const uint32_t *host_counts,
                        const uint16_t *host_at, const uint16_t *host_step, bool take_away, int64_t first,
                        int64_t count) {
    unsigned blocks = change_blocks(count);
    uint32_t offsets[CHANGE_BLOCKS_MAX + 1], total = offsets_of(host_counts, blocks, offsets);
    struct digest sums[CHANGE_BLOCKS_MAX] = {};
    *host_sum = digest_of_u128(0);
    char *scratch = total > 0 ? (char *)cuda_scratch(device, blocks * sizeof *sums + lists_bytes(blocks, total)) : NULL;
    if (scratch == NULL)
        return;
    struct digest *partial = (struct digest *)(void *)scratch;
    struct change_lists lists = lists_at(partial + blocks, blocks, total);
    cuda_upload(device, lists.offsets, offsets, (blocks + 1) * sizeof *offsets);
    cuda_upload(device, lists.at, host_at, total * sizeof *host_at);
    cuda_upload(device, lists.step, host_step, total * sizeof *host_step);
    LAUNCH(device, apply_changes_kernel, dim3(blocks), CHANGE_LANES, w, partial, lists.at, lists.step, lists.offsets,
           take_away, (uint64_t)first);
    cuda_download(device, sums, partial, blocks * sizeof *sums);
    for (unsigned b = 0; b < blocks; b++)
        *host_sum = digest_add(*host_sum, sums[b]);
}
