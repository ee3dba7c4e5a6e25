/* Device memory whose borders are watched: [page that cannot be touched][data, 64-byte aligned][fill][such a page]. The
 * data ends as near the second page as its alignment lets it; the fill between, below 64 bytes, is checked. */
#include "tests/support/emulator/emulator.h"

#include <map>
#include <sys/mman.h>

namespace emulator {

namespace {
constexpr size_t PAGE = 4096, ALIGN = 64;
constexpr unsigned char FILL = 0xff; /* NaN as bf16 and as fp32, -1 as an index */

struct block {
    unsigned char *pages;
    size_t page_bytes;
    watched data;
    size_t bytes() const {
        return data.bytes;
    }
};
std::map<void *, block> blocks;
} // namespace

void *memory_allocate(size_t bytes) {
    size_t data = (bytes + ALIGN - 1) / ALIGN * ALIGN, inner = (data + PAGE - 1) / PAGE * PAGE + (data == 0 ? PAGE : 0);
    void *pages = mmap(nullptr, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return nullptr;
    unsigned char *first = (unsigned char *)pages + PAGE, *memory = first + inner - data;
    mprotect(first, inner, PROT_READ | PROT_WRITE);
    memset(memory + bytes, FILL, data - bytes);
    blocks[memory] = block{(unsigned char *)pages, inner + 2 * PAGE, {memory, bytes, global_watch(bytes)}};
    global_forget();
    return memory;
}

static void check_fill(const unsigned char *memory, const block &block) {
    const unsigned char *end = block.pages + block.page_bytes - PAGE;
    for (const unsigned char *at = memory + block.bytes(); at < end; at++)
        if (*at != FILL)
            report("out of bounds: byte %td of an allocation of %zu bytes was written", at - memory, block.bytes());
}

void memory_release(void *memory) {
    auto at = blocks.find(memory);
    if (at == blocks.end())
        report("releases %p, which is no device memory", memory);
    check_fill((unsigned char *)memory, at->second);
    global_unwatch(at->second.data.touches, at->second.bytes());
    global_forget();
    munmap(at->second.pages, at->second.page_bytes);
    blocks.erase(at);
}

size_t memory_used() {
    size_t bytes = 0;
    for (const auto &entry : blocks)
        bytes += entry.second.bytes();
    return bytes;
}

const watched *memory_find(uintptr_t address) {
    auto after = blocks.upper_bound((void *)address);
    for (int i = 0; i < 2;
         i++) { /* the last that begins at or before it, or the next, in whose first page it may lie */
        auto at = i == 0 ? (after == blocks.begin() ? blocks.end() : std::prev(after)) : after;
        if (at == blocks.end())
            continue;
        uintptr_t first = (uintptr_t)at->second.pages, end = first + at->second.page_bytes;
        if (address >= first && address < end)
            return &at->second.data;
    }
    return nullptr;
}

void memory_check() {
    for (const auto &entry : blocks)
        check_fill((const unsigned char *)entry.first, entry.second);
}

} // namespace emulator
