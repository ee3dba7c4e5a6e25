/* Runs the kernels of common/compute/cuda on the host. A block's lanes are fibers on one thread: a lane runs until it
 * waits for others, at a block barrier or at a warp operation for the lanes that its mask names. Blocks run one after the
 * other. The order of blocks and lanes follows from a seed. README.md says what is caught and what is not.
 *
 * Kernels do not include this; common/compute/cuda/primitives.cuh does where nvcc is not the compiler. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_EMULATOR_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_EMULATOR_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

namespace emulator {

constexpr unsigned WARP = 32, BLOCK_LANES_MAX = 1024;

/* Where a barrier or warp operation stands in the source. */
struct site {
    const char *file;
    int line;
};

/* ---- launching ---- */

/* Orders that lanes and blocks are run in: 0 ascending, 1 descending, others random from that seed. */
void set_order(unsigned seed);

/* Runs body once for each lane of each block. block is one-dimensional, a multiple of 32 up to 1024. */
void launch(const char *kernel, dim3 grid, unsigned block, const std::function<void()> &body);

/* ---- what a lane sees of itself ---- */

struct place {
    dim3 thread, block, block_size, grid_size;
};
extern place here; /* of the running lane */

/* ---- waiting for others ---- */

void block_barrier(site at);

/* The lanes of mask meet; the last one runs combine, which sees each lane's operands and results. Kind tells warp
 * operations apart: lanes that meet under one mask at different ones are an error; lanes whose masks do not agree wait
 * for ever, which is reported when no lane can go on. */
using combine_function = void (*)(uint32_t mask, const void *const in[WARP], void *const out[WARP]);
void collective(const char *kind, uint32_t mask, const void *in, void *out, combine_function combine, site at);

/* A collective after which the lanes of a full warp see each other's writes to shared memory. */
void warp_barrier(uint32_t mask, site at);

/* ---- shared memory ---- */

/* Who touched an element last, to find accesses without a barrier between them. */
struct shadow {
    uint64_t block;                          /* number of the block that wrote it */
    uint32_t write_epoch, write_warp_epoch;  /* block barriers and warp barriers before the last write */
    uint32_t read_epoch, read_warp_epoch;    /* the same of the last reads */
    uint16_t writer, reader;                 /* lanes; reader may be MANY_LANES or MANY_WARPS */
    uint16_t reader_warp;
};

/* One __shared__ array. */
struct shared_array {
    const char *name;
    size_t count, element_bytes;
    unsigned char *bytes;
    shadow *shadows;
};

void check_read(const shared_array *array, ptrdiff_t index);
void check_write(const shared_array *array, ptrdiff_t index);
void check_atomic(const shared_array *array, ptrdiff_t index);
void check_aligned(const void *pointer, size_t bytes, const char *what);
void check_aligned(const shared_array *array, ptrdiff_t index, size_t bytes, const char *what);

template <typename T, size_t COUNT> struct shared_storage {
    alignas(128) unsigned char bytes[COUNT * sizeof(T)];
    shadow shadows[COUNT];
    shared_array array;
    explicit shared_storage(const char *name) : bytes(), shadows(), array{name, COUNT, sizeof(T), bytes, shadows} {
    }
};

template <typename T> struct shared_reference {
    const shared_array *array;
    ptrdiff_t index;
    operator T() const {
        check_read(array, index);
        T value;
        memcpy(&value, array->bytes + (size_t)index * sizeof(T), sizeof value);
        return value;
    }
    T operator=(T value) const {
        check_write(array, index);
        memcpy(array->bytes + (size_t)index * sizeof(T), &value, sizeof value);
        return value;
    }
    T operator=(const shared_reference &other) const {
        return *this = (T)other;
    }
    T operator+=(T value) const {
        return *this = (T)(*this + value);
    }
};

template <typename T> struct shared_pointer {
    const shared_array *array;
    ptrdiff_t offset;
    shared_reference<T> operator[](ptrdiff_t i) const {
        return {array, offset + i};
    }
    shared_pointer operator+(ptrdiff_t i) const {
        return {array, offset + i};
    }
};

/* ---- asynchronous copies: nothing arrives before the lane waits for its group ---- */

void copy_async(const shared_array *array, ptrdiff_t index, const void *from, size_t from_bytes, size_t to_bytes);
void copy_async_commit();
void copy_async_wait(int groups_left);

/* ---- device memory ---- */

/* Between pages that cannot be touched; what is left of the last page is filled and checked. nullptr: none left. */
void *memory_allocate(size_t bytes);
void memory_release(void *memory);
/* Bytes in use. */
size_t memory_used();

struct touch;
struct watched {
    void *memory;
    size_t bytes;
    touch *touches; /* one for each two bytes; nullptr: unwatched */
};
/* The allocation in whose pages this address lies; nullptr: none. It stays where it is until it is released. */
const watched *memory_find(uintptr_t address);

/* A kernel's plain access; between the blocks of a launch two of them that touch, and of which one writes, are a race. */
void global_access(bool writes, const void *address, size_t bytes);
touch *global_watch(size_t bytes);
void global_unwatch(touch *touches, size_t bytes);
void global_forget(); /* allocations came or went */
/* Reports a write behind an allocation. */
void memory_check();

/* ---- reports ---- */

/* Prints kernel, block, lane and what is wrong, and aborts: a broken kernel's results mean nothing. */
[[noreturn]] void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace emulator

#endif
