/* What kernels are written in: CUDA's own words, and behind functions whatever has no such word (tensor cores, matrix loads,
 * asynchronous copies). Here and nowhere else stands inline PTX. Under nvcc the words are the device's; for a host
 * compiler HOST_PRIMITIVES names the header of their twins (tests/support/emulator), so that the same kernels run without
 * a GPU.
 *
 * Two rules make a kernel run in both:
 *   - shared memory is declared with SHARED and passed on as shared_pointer;
 *   - kernels are started by LAUNCH (cuda.h), never by <<< >>>. */
#ifndef CANDOR_COMPUTE_CUDA_PRIMITIVES_CUH
#define CANDOR_COMPUTE_CUDA_PRIMITIVES_CUH

#include <stdint.h>

#define WARP_LANES 32
#define FULL_MASK 0xffffffffu

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define KERNEL static __global__
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define UNROLL _Pragma("unroll") /* a loop over an array that must stay in registers */

template <typename T> using shared_pointer = T *;

/* shared_pointer<type> name to count elements of the block's memory, 16-byte aligned */
#define SHARED(type, name, count)                                                                                      \
    __shared__ __align__(16) type name##_memory[count];                                                                \
    shared_pointer<type> name = name##_memory

/* Sixteen bytes at once; the pointer is 16-byte aligned. */
DEVICE uint4 load16(const void *from) {
    return *(const uint4 *)from;
}

DEVICE void store16(void *to, uint4 value) {
    *(uint4 *)to = value;
}

/* d += a b: a 16x16 and b 16x8 bf16, d 16x8 fp32. With g = lane / 4 and q = lane % 4 a lane holds
 *   a[0] (g, 2q..2q+1)  a[1] (g+8, 2q..)  a[2] (g, 2q+8..)  a[3] (g+8, 2q+8..)     two neighbours in k, the lower first
 *   b[0] (2q..2q+1, g)  b[1] (2q+8.., g)
 *   d[0..1] (g, 2q..2q+1)  d[2..3] (g+8, 2q..2q+1)
 * Source: PTX ISA, matrix fragments for mma.m16n8k16. A row of d depends on that row of a alone. */
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. r[m] is elements
 * (lane / 4, 2 (lane % 4) ..) of matrix m, or of its transpose. */
DEVICE void load_matrices(uint32_t (&r)[4], shared_pointer<uint16_t> row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

DEVICE void load_matrices_transposed(uint32_t (&r)[4], shared_pointer<uint16_t> row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* Sixteen bytes to shared memory, of which `bytes` come from global memory and the rest is 0; both 16-byte aligned. They
 * are there once the lane has waited for their group, and for other lanes after a barrier behind that. */
DEVICE void copy_async16(shared_pointer<uint16_t> to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}

DEVICE void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most GROUPS of this lane's groups are under way. */
template <int GROUPS> DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

/* Adds to shared memory; integers alone, whose sums are free of order. */
DEVICE void shared_add(shared_pointer<unsigned long long> to, unsigned long long value) {
    atomicAdd(to, value);
}

#elif defined(HOST_PRIMITIVES)
#include HOST_PRIMITIVES
#else
#error "kernels are compiled by nvcc, or with HOST_PRIMITIVES naming the header of the host twins"
#endif

#endif
