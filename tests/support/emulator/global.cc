/* Device memory's accesses: blocks of one launch have no order, so what one of them writes no other may read or write, but by
 * atomics. The compiler calls in here before each access of a kernel: the kernels are compiled with -fsanitize=thread, and
 * these are the thread sanitizer's hooks, whose own library is not linked. Where sanitizers are in use (EMULATOR_WATCHES is not
 * defined then) accesses go unwatched. */
#include "tests/support/emulator/emulator.h"

#include <sys/mman.h>

namespace emulator {

extern uint64_t block_number;
extern bool in_a_block;
uint64_t launch_began; /* block_number before its first block */

/* Which blocks touched two bytes last; numbers up to launch_began are of earlier launches. */
struct touch {
    uint64_t writer, reader, other_reader; /* other_reader: one that is not reader, if there was */
};

namespace {
constexpr unsigned CACHED = 512;
struct cached {
    uintptr_t page;
    const watched *memory; /* nullptr: the page is not the device's */
} cache[CACHED];

const watched *find(uintptr_t address) {
    uintptr_t page = address >> 12;
    cached *entry = &cache[page % CACHED];
    if (entry->page != page)
        *entry = {page, memory_find(address)};
    return entry->memory;
}

/* Did a block of this launch other than the running one touch it? */
bool by_another(uint64_t block) {
    return block > launch_began && block != block_number;
}

void check(bool writes, touch *at, const watched *memory, size_t offset) {
    bool written = by_another(at->writer);
    if (written || (writes && (by_another(at->reader) || by_another(at->other_reader))))
        report("race between blocks: %s byte %zu of an allocation of %zu bytes, which another block of this launch %s",
               writes ? "writes" : "reads", offset, memory->bytes, written ? "wrote" : "reads");
    if (writes) {
        at->writer = block_number;
    } else if (at->reader != block_number) {
        at->other_reader = at->reader;
        at->reader = block_number;
    }
}
} // namespace

void global_forget() {
    memset(cache, 0, sizeof cache);
}

touch *global_watch(size_t bytes) {
    void *memory = mmap(nullptr, (bytes / 2 + 1) * sizeof(touch), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : (touch *)memory;
}

void global_unwatch(touch *touches, size_t bytes) {
    if (touches)
        munmap(touches, (bytes / 2 + 1) * sizeof(touch));
}

void global_access(bool writes, const void *address, size_t bytes) {
    if (!in_a_block)
        return;
    const watched *memory = find((uintptr_t)address);
    if (!memory || !memory->touches)
        return;
    size_t first = (size_t)((uintptr_t)address - (uintptr_t)memory->memory);
    for (size_t at = first; at < first + bytes && at < memory->bytes; at += 2 - at % 2)
        check(writes, &memory->touches[at / 2], memory, at);
}

} // namespace emulator

#if defined(EMULATOR_WATCHES)
#define HOOK_READ(name, bytes)                                                                                         \
    void __tsan_##name(void *address) {                                                                                \
        emulator::global_access(false, address, bytes);                                                                \
    }
#define HOOK_WRITE(name, bytes)                                                                                        \
    void __tsan_##name(void *address) {                                                                                \
        emulator::global_access(true, address, bytes);                                                                 \
    }
extern "C" {
void __tsan_init();
void __tsan_init() {
}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *) {
}
void __tsan_func_exit(void *);
void __tsan_func_exit(void *) {
}
#define HOOKS(bytes)                                                                                                   \
    void __tsan_read##bytes(void *);                                                                                   \
    void __tsan_write##bytes(void *);                                                                                  \
    void __tsan_unaligned_read##bytes(void *);                                                                         \
    void __tsan_unaligned_write##bytes(void *);                                                                        \
    HOOK_READ(read##bytes, bytes)                                                                                      \
    HOOK_WRITE(write##bytes, bytes)                                                                                    \
    HOOK_READ(unaligned_read##bytes, bytes)                                                                            \
    HOOK_WRITE(unaligned_write##bytes, bytes)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *, size_t);
void __tsan_read_range(void *address, size_t bytes) {
    emulator::global_access(false, address, bytes);
}
void __tsan_write_range(void *, size_t);
void __tsan_write_range(void *address, size_t bytes) {
    emulator::global_access(true, address, bytes);
}
}
#endif
