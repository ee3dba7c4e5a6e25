/* The emulator runs good kernels right in every order, and catches those that are broken on purpose. A broken kernel ends its
 * process, so each runs in a child whose report is read. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}
#undef fail

#include "common/compute/cuda/kernel.cuh"
#include "tests/support/emulator/device.h"

static const unsigned orders[] = {0, 1, 2, 3, 4};

static void *device_memory(size_t bytes) {
    void *memory = emulator::memory_allocate(bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

/* ---- good kernels ---- */

#define SUM_LANES 256

/* to[block] = sum of a block's numbers: shuffles within warps, shared memory between them. */
KERNEL void sum_kernel(float *to, const float *from) {
    SHARED(float, sums, SUM_LANES / WARP_LANES);
    int warp = (int)threadIdx.x / WARP_LANES;
    float sum = warp_sum(from[blockIdx.x * SUM_LANES + threadIdx.x]);
    if (threadIdx.x % WARP_LANES == 0)
        sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    sum = 0.0f;
    for (int i = 0; i < SUM_LANES / WARP_LANES; i++)
        sum += sums[i];
    to[blockIdx.x] = sum;
}

static void sums_are_right_in_every_order(void **) {
    enum { BLOCKS = 7 };
    float *from = (float *)device_memory(BLOCKS * SUM_LANES * sizeof *from);
    float *to = (float *)device_memory(BLOCKS * sizeof *to), want[BLOCKS] = {};
    for (int i = 0; i < BLOCKS * SUM_LANES; i++) {
        from[i] = (float)(i % 101);
        want[i / SUM_LANES] += from[i];
    }
    for (unsigned order : orders) {
        emulator::set_order(order);
        memset(to, 0, BLOCKS * sizeof *to);
        LAUNCH(NULL, sum_kernel, dim3(BLOCKS), SUM_LANES, to, from);
        for (int b = 0; b < BLOCKS; b++)
            assert_true(to[b] == want[b]);
    }
    emulator::memory_release(from);
    emulator::memory_release(to);
}

/* Two halves of a warp shuffle by masks of their own; votes; a warp's own exchange through shared memory. */
KERNEL void halves_kernel(int *to) {
    SHARED(int, left, WARP_LANES);
    int lane = (int)threadIdx.x;
    uint32_t mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    int first = __shfl_sync(mask, lane, lane < 16 ? 0 : 16);
    uint32_t odd = __ballot_sync(FULL_MASK, lane % 2 == 1);
    left[lane] = first + (int)(odd & 0xf);
    __syncwarp();
    to[lane] = left[(lane + 1) % WARP_LANES];
}

static void warp_operations_follow_their_masks(void **) {
    int *to = (int *)device_memory(WARP_LANES * sizeof *to);
    for (unsigned order : orders) {
        emulator::set_order(order);
        LAUNCH(NULL, halves_kernel, dim3(1), WARP_LANES, to);
        for (int i = 0; i < WARP_LANES; i++)
            assert_int_equal(to[i], ((i + 1) % WARP_LANES < 16 ? 0 : 16) + 0xa);
    }
    emulator::memory_release(to);
}

/* out [16,8] = a [16,16] b [8,16]^T from matrices loaded both ways; small whole numbers, so any order is exact. */
KERNEL void product_kernel(float *out, const uint16_t *a_from, const uint16_t *b_from, bool transposed) {
    SHARED(uint16_t, a_tile, 16 * 16);
    SHARED(uint16_t, b_tile, 16 * 16);
    int lane = (int)threadIdx.x;
    for (int i = lane * 8; i < 256; i += WARP_LANES * 8) {
        copy_async16(a_tile + i, a_from + i, 16);
        copy_async16(b_tile + i, i < 128 ? b_from + i : b_from, i < 128 ? 16 : 0);
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    uint32_t a[4], b[4];
    if (transposed) /* a lies as [k, row] */
        load_matrices_transposed(a, a_tile + ((lane / 16 * 8 + lane % 8) * 16 + lane / 8 % 2 * 8));
    else
        load_matrices(a, a_tile + (lane % 16 * 16 + lane / 16 * 8));
    load_matrices(b, b_tile + ((lane / 16 * 8 + lane % 8) * 16 + lane / 8 % 2 * 8));
    float d[4] = {};
    uint32_t low[2] = {b[0], b[1]};
    mma_bf16(d, a, low);
    for (int i = 0; i < 4; i++)
        out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

static void matrices_lie_as_documented(void **) {
    uint16_t *a = (uint16_t *)device_memory(512), *b = (uint16_t *)device_memory(256);
    float *out = (float *)device_memory(512);
    for (int transposed = 0; transposed < 2; transposed++) {
        for (int i = 0; i < 16; i++)
            for (int k = 0; k < 16; k++)
                a[transposed ? k * 16 + i : i * 16 + k] = bf16_of_f32((float)((i * 7 + k * 3) % 11 - 5));
        for (int n = 0; n < 8; n++)
            for (int k = 0; k < 16; k++)
                b[n * 16 + k] = bf16_of_f32((float)((n * 5 + k) % 9 - 4));
        LAUNCH(NULL, product_kernel, dim3(1), WARP_LANES, out, a, b, transposed != 0);
        for (int i = 0; i < 16; i++)
            for (int n = 0; n < 8; n++) {
                int want = 0;
                for (int k = 0; k < 16; k++)
                    want += ((i * 7 + k * 3) % 11 - 5) * ((n * 5 + k) % 9 - 4);
                assert_true(out[i * 8 + n] == (float)want);
            }
    }
    emulator::memory_release(a);
    emulator::memory_release(b);
    emulator::memory_release(out);
}

/* ---- broken kernels ---- */

enum break_kind {
    READ_WITHOUT_BARRIER,
    WRITE_AFTER_READ,
    READ_ACROSS_WARPS,
    READ_UNWRITTEN,
    READ_BEFORE_COPY_ARRIVES,
    SHARED_INDEX,
    MASK_WITHOUT_SELF,
    MASKS_DISAGREE,
    MASK_NAMES_THE_GONE,
    DIVERGENT_BARRIER,
    BARRIER_IN_A_BRANCH,
    MISALIGNED_LOAD,
    MISALIGNED_SHARED,
};

KERNEL void broken_kernel(int *to, break_kind kind) {
    SHARED(int, tile, 64);
    SHARED(uint16_t, half_tile, 64);
    int lane = (int)threadIdx.x;
    switch (kind) {
    case READ_WITHOUT_BARRIER:
        tile[lane] = lane;
        to[lane] = tile[63 - lane];
        break;
    case WRITE_AFTER_READ: /* the barrier that is there is not enough */
        tile[lane] = lane;
        __syncthreads();
        to[lane] = tile[(lane + 1) % 64];
        tile[lane] = 0;
        break;
    case READ_ACROSS_WARPS: /* a warp barrier does not order the other warp */
        tile[lane] = lane;
        __syncwarp();
        to[lane] = tile[(lane + 32) % 64];
        break;
    case READ_UNWRITTEN:
        to[lane] = tile[lane];
        break;
    case READ_BEFORE_COPY_ARRIVES:
        copy_async16(half_tile + lane / 8 * 8, to, 16);
        copy_async_commit();
        __syncthreads();
        to[lane] = half_tile[lane];
        break;
    case SHARED_INDEX:
        tile[lane + 1] = lane;
        break;
    case MASK_WITHOUT_SELF:
        to[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
        break;
    case MASKS_DISAGREE:
        to[lane] = lane % 32 < 16 ? __shfl_sync(FULL_MASK, lane, 0) : __shfl_sync(0xffff0000u, lane, 16);
        break;
    case MASK_NAMES_THE_GONE:
        if (lane % 32 < 8)
            return;
        to[lane] = __shfl_sync(FULL_MASK, lane, 9);
        break;
    case DIVERGENT_BARRIER:
        if (lane < 32)
            __syncthreads();
        else
            __syncthreads();
        break;
    case BARRIER_IN_A_BRANCH:
        if (lane < 32)
            __syncthreads();
        break;
    case MISALIGNED_LOAD:
        to[lane] = (int)load16(to + 1).x;
        break;
    case MISALIGNED_SHARED:
        copy_async16(half_tile + 4, to, 16);
        break;
    }
}

/* to[lane + shift], with as many lanes as there are elements. */
KERNEL void shifted_kernel(int *to, int shift, bool write) {
    int at = (int)threadIdx.x + shift;
    if (write)
        to[at] = 1;
    else if (to[at] == 12345)
        to[0] = 2;
}

/* Blocks of 32 lanes, each with 32 ints of its own, and what they must not do with those of others. */
enum neighbour { READ_NEXT, READ_NEXT_VECTOR, WRITE_SAME, WRITE_WHAT_ALL_READ, COPY_NEXT };

KERNEL void neighbours_kernel(int *to, neighbour kind) {
    SHARED(uint16_t, tile, 8 * WARP_LANES);
    int own = (int)(blockIdx.x * WARP_LANES + threadIdx.x), next = (int)((own + WARP_LANES) % (gridDim.x * WARP_LANES));
    switch (kind) {
    case READ_NEXT:
        to[own] = to[next] + 1;
        break;
    case READ_NEXT_VECTOR:
        to[own] = (int)load16(to + next / 4 * 4).x;
        break;
    case WRITE_SAME:
        to[threadIdx.x] = 1;
        break;
    case WRITE_WHAT_ALL_READ:
        if (to[0] == 0 && own == 40)
            to[0] = 1;
        break;
    case COPY_NEXT:
        to[own] = 1;
        copy_async16(tile + (int)threadIdx.x * 8, to + next / 4 * 4, 16);
        break;
    }
}

/* Runs body in a child and wants a report that contains this text. */
template <typename BODY> static void assert_caught(const char *text, BODY body) {
    for (unsigned order : orders) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[1], STDERR_FILENO);
            close(ends[0]);
            signal(SIGABRT, SIG_DFL);
            emulator::set_order(order);
            body();
            _exit(0);
        }
        close(ends[1]);
        char report[4096] = "";
        size_t length = 0;
        for (ssize_t got;
             length < sizeof report - 1 && (got = read(ends[0], report + length, sizeof report - 1 - length)) > 0;)
            length += (size_t)got;
        report[length] = '\0';
        close(ends[0]);
        int status = 0;
        waitpid(child, &status, 0);
        if (status == 0 || strstr(report, text) == NULL) {
            print_error("order %u: wanted a report with \"%s\", got: %s\n", order, text, report);
            assert_true(false);
        }
    }
}

static void assert_broken(break_kind kind, const char *text) {
    assert_caught(text, [=] {
        int *to = (int *)device_memory(64 * sizeof *to);
        LAUNCH(NULL, broken_kernel, dim3(1), 64, to, kind);
    });
}

static void missing_barriers_are_caught(void **) {
    assert_broken(READ_WITHOUT_BARRIER, "missing barrier");
    assert_broken(WRITE_AFTER_READ, "missing barrier");
    assert_broken(READ_ACROSS_WARPS, "missing barrier");
}

static void reads_of_what_is_not_there_are_caught(void **) {
    assert_broken(READ_UNWRITTEN, "which no lane of this block has written");
    assert_broken(READ_BEFORE_COPY_ARRIVES, "which no lane of this block has written");
}

static void indices_out_of_bounds_are_caught(void **) {
    assert_broken(SHARED_INDEX, "out of bounds: tile[64]; it has 64 elements");
    for (int write = 0; write < 2; write++) { /* 64 ints end at the page's end: a multiple of the alignment */
        assert_caught("out of bounds: ", [=] {
            LAUNCH(NULL, shifted_kernel, dim3(1), 64, (int *)device_memory(64 * sizeof(int)), 1, write != 0);
        });
        assert_caught("out of bounds: ", [=] { /* 4096 ints fill their pages: nothing lies in front either */
                                               LAUNCH(NULL, shifted_kernel, dim3(1), 64,
                                                      (int *)device_memory(4096 * sizeof(int)), -1, write != 0);
        });
    }
    assert_caught("out of bounds: byte 240 of an allocation of 240 bytes was written",
                  [] { /* 60 ints, then 16 bytes of fill */
                       LAUNCH(NULL, shifted_kernel, dim3(1), 64, (int *)device_memory(60 * sizeof(int)), 0, true);
                  });
}

/* In every order of blocks; the good kernels above share nothing, or by atomics. */
static void races_between_blocks_are_caught(void **) {
#if !defined(EMULATOR_WATCHES)
    print_message("skipped: nobody watches: sanitizers, or another compiler than gcc\n");
    skip();
#endif
    for (int kind = READ_NEXT; kind <= COPY_NEXT; kind++)
        assert_caught("race between blocks: ", [=] {
            int *to = (int *)device_memory(3 * WARP_LANES * sizeof *to);
            LAUNCH(NULL, neighbours_kernel, dim3(3), WARP_LANES, to, (neighbour)kind);
        });
}

static void wrong_masks_are_caught(void **) {
    assert_broken(MASK_WITHOUT_SELF, "wrong mask: a shuffle");
    assert_broken(MASKS_DISAGREE, "no lane can go on");
    assert_broken(MASK_NAMES_THE_GONE, "no lane can go on");
}

static void divergent_barriers_are_caught(void **) {
    assert_broken(DIVERGENT_BARRIER, "divergent barrier: ");
    assert_broken(BARRIER_IN_A_BRANCH, "every lane must reach every barrier");
}

static void misaligned_vectors_are_caught(void **) {
    assert_broken(MISALIGNED_LOAD, "misaligned: a load of 16 bytes");
    assert_broken(MISALIGNED_SHARED, "misaligned: an asynchronous copy of 16 bytes at half_tile[4]");
}

static void impossible_launches_are_caught(void **) {
    assert_caught("a block of 48 lanes",
                  [] { LAUNCH(NULL, broken_kernel, dim3(1), 48, (int *)NULL, DIVERGENT_BARRIER); });
    assert_caught("a grid of (1, 70000, 1)",
                  [] { LAUNCH(NULL, broken_kernel, dim3(1, 70000), 32, (int *)NULL, DIVERGENT_BARRIER); });
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_right_in_every_order),
        cmocka_unit_test(warp_operations_follow_their_masks),
        cmocka_unit_test(matrices_lie_as_documented),
        cmocka_unit_test(missing_barriers_are_caught),
        cmocka_unit_test(reads_of_what_is_not_there_are_caught),
        cmocka_unit_test(indices_out_of_bounds_are_caught),
        cmocka_unit_test(races_between_blocks_are_caught),
        cmocka_unit_test(wrong_masks_are_caught),
        cmocka_unit_test(divergent_barriers_are_caught),
        cmocka_unit_test(misaligned_vectors_are_caught),
        cmocka_unit_test(impossible_launches_are_caught),
    };
    return cmocka_run_group_tests_name("emulator", tests, NULL, NULL);
}
