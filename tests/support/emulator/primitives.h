/* Host twins of the words that common/compute/cuda/primitives.cuh gives to kernels; their meaning stands there. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_PRIMITIVES_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_PRIMITIVES_H

#include "common/compute/math.h"
#include "tests/support/emulator/emulator.h"

#define KERNEL static __attribute__((unused))
#define DEVICE_MEMBER
#define UNROLL
#define __launch_bounds__(...)
#define DEVICE static inline __attribute__((unused))

#define threadIdx (emulator::here.thread)
#define blockIdx (emulator::here.block)
#define blockDim (emulator::here.block_size)
#define gridDim (emulator::here.grid_size)

#define HERE_IN_SOURCE const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <typename T> using shared_pointer = emulator::shared_pointer<T>;

#define SHARED(type, name, count)                                                                                      \
    static emulator::shared_storage<type, (count)> name##_storage(#name);                                              \
    shared_pointer<type> name{&name##_storage.array, 0}

DEVICE void __syncthreads(HERE_IN_SOURCE) {
    emulator::block_barrier({file, line});
}

DEVICE void __syncwarp(uint32_t mask = 0xffffffffu, HERE_IN_SOURCE) {
    emulator::warp_barrier(mask, {file, line});
}

/* ---- shuffles and votes ---- */

namespace emulator {
template <typename T> struct shuffle_operand {
    T value;
    unsigned source;
};

template <typename T> void shuffle_combine(uint32_t mask, const void *const *in, void *const *out) {
    for (unsigned i = 0; i < WARP; i++) {
        if (!(mask >> i & 1))
            continue;
        unsigned source = ((const shuffle_operand<T> *)in[i])->source;
        if (!(mask >> source & 1))
            report("wrong mask: a shuffle reads lane %u, which mask %08x does not name", source, mask);
        *(T *)out[i] = ((const shuffle_operand<T> *)in[source])->value;
    }
}

template <typename T> T shuffle(uint32_t mask, T value, unsigned source, site at) {
    shuffle_operand<T> in = {value, source % WARP};
    T out;
    collective("a shuffle", mask, &in, &out, shuffle_combine<T>, at);
    return out;
}

inline void ballot_combine(uint32_t mask, const void *const *in, void *const *out) {
    uint32_t votes = 0;
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1)
            votes |= (uint32_t) * (const bool *)in[i] << i;
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1)
            *(uint32_t *)out[i] = votes;
}
} // namespace emulator

template <typename T> DEVICE T __shfl_sync(uint32_t mask, T value, int source, HERE_IN_SOURCE) {
    return emulator::shuffle(mask, value, (unsigned)source, {file, line});
}

template <typename T> DEVICE T __shfl_xor_sync(uint32_t mask, T value, int flip, HERE_IN_SOURCE) {
    return emulator::shuffle(mask, value, threadIdx.x % 32 ^ (unsigned)flip, {file, line});
}

/* A lane without one `delta` below keeps its own. */
template <typename T> DEVICE T __shfl_up_sync(uint32_t mask, T value, unsigned delta, HERE_IN_SOURCE) {
    unsigned self = threadIdx.x % 32;
    return emulator::shuffle(mask, value, self >= delta ? self - delta : self, {file, line});
}

DEVICE uint32_t __ballot_sync(uint32_t mask, bool vote, HERE_IN_SOURCE) {
    uint32_t votes;
    emulator::collective("a vote", mask, &vote, &votes, emulator::ballot_combine, {file, line});
    return votes;
}

/* ---- integers ---- */

DEVICE int __ffs(uint32_t bits) {
    return __builtin_ffs((int)bits);
}

DEVICE int __popc(uint32_t bits) {
    return __builtin_popcount(bits);
}

/* Byte i of the result is byte (selector >> 4 i & 7) of high:low. */
DEVICE uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    uint64_t bytes = (uint64_t)high << 32 | low;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++)
        result |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return result;
}

/* Not watched: atomics of blocks are no race. */
__attribute__((noinline, no_sanitize_thread, unused)) static int atomicMax(int *to, int value) {
    int old = *to;
    *to = old > value ? old : value;
    return old;
}

DEVICE void shared_add(shared_pointer<unsigned long long> to, unsigned long long value) {
    /* Atomics are no race: nothing but that the element is there and was set is checked. */
    emulator::check_atomic(to.array, to.offset);
    *(unsigned long long *)(void *)(to.array->bytes + (size_t)to.offset * sizeof value) += value;
}

/* ---- memory ---- */

DEVICE uint4 load16(const void *from) {
    emulator::check_aligned(from, 16, "a load");
    emulator::global_access(false, from, 16);
    uint4 value;
    memcpy(&value, from, sizeof value);
    return value;
}

DEVICE void store16(void *to, uint4 value) {
    emulator::check_aligned(to, 16, "a store");
    emulator::global_access(true, to, 16);
    memcpy(to, &value, sizeof value);
}

DEVICE void copy_async16(shared_pointer<uint16_t> to, const void *from, int bytes) {
    emulator::copy_async(to.array, to.offset, from, (size_t)bytes, 16);
}

DEVICE void copy_async_commit() {
    emulator::copy_async_commit();
}

template <int GROUPS> DEVICE void copy_async_wait() {
    emulator::copy_async_wait(GROUPS);
}

/* ---- matrices ---- */

namespace emulator {
struct matrix_row {
    uint16_t element[8];
};

template <bool TRANSPOSED> void matrices_combine(uint32_t, const void *const *in, void *const *out) {
    for (unsigned lane = 0; lane < WARP; lane++)
        for (unsigned m = 0; m < 4; m++) {
            unsigned row = lane / 4, column = 2 * (lane % 4);
            const matrix_row *const *rows = (const matrix_row *const *)in + 8 * m;
            uint32_t low = TRANSPOSED ? rows[column]->element[row] : rows[row]->element[column];
            uint32_t high = TRANSPOSED ? rows[column + 1]->element[row] : rows[row]->element[column + 1];
            ((uint32_t *)out[lane])[m] = high << 16 | low;
        }
}

template <bool TRANSPOSED> void load_matrices(uint32_t *r, shared_pointer<uint16_t> row, site at) {
    check_aligned(row.array, row.offset, 16, "a matrix load");
    matrix_row mine;
    for (int i = 0; i < 8; i++)
        mine.element[i] = row[i];
    collective("a matrix load", 0xffffffffu, &mine, r, matrices_combine<TRANSPOSED>, at);
}

struct mma_operand {
    const uint32_t *a, *b;
    const float *c;
};

void mma_combine(uint32_t mask, const void *const *in, void *const *out);
} // namespace emulator

DEVICE void load_matrices(uint32_t (&r)[4], shared_pointer<uint16_t> row, HERE_IN_SOURCE) {
    emulator::load_matrices<false>(r, row, {file, line});
}

DEVICE void load_matrices_transposed(uint32_t (&r)[4], shared_pointer<uint16_t> row, HERE_IN_SOURCE) {
    emulator::load_matrices<true>(r, row, {file, line});
}

DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], HERE_IN_SOURCE) {
    emulator::mma_operand in = {a, b, d};
    emulator::collective("mma", 0xffffffffu, &in, d, emulator::mma_combine, {file, line});
}

/* ---- launching ---- */

template <typename... P, typename... A>
void launch(const void *, const char *name, void (*kernel)(P...), dim3 grid, unsigned block, A... arguments) {
    emulator::launch(name, grid, block, [=] { kernel(arguments...); });
}

#endif
