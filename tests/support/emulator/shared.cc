/* Shared memory's accesses: inside the array, aligned, written before they are read, and with a barrier between two lanes
 * of which at least one writes. A block barrier orders all lanes; a warp barrier with a full mask orders its warp's. */
#include "tests/support/emulator/emulator.h"

#include <vector>

namespace emulator {

extern uint64_t block_number;
extern uint32_t block_epoch, warp_epoch[];
unsigned running_lane();

static constexpr uint16_t MANY_LANES = 0xfffe, MANY_WARPS = 0xffff, NOBODY = 0xfffd;

static void check_index(const shared_array *array, ptrdiff_t index) {
    if (index < 0 || (size_t)index >= array->count)
        report("out of bounds: %s[%td]; it has %zu elements", array->name, index, array->count);
}

/* Did an access by a lane of this warp, at these epochs, happen before what runs now? */
static bool ordered(unsigned warp, uint32_t epoch, uint32_t its_warp_epoch) {
    unsigned own = running_lane() / WARP;
    return epoch < block_epoch || (warp == own && its_warp_epoch < warp_epoch[own]);
}

void check_read(const shared_array *array, ptrdiff_t index) {
    check_index(array, index);
    shadow *s = &array->shadows[index];
    unsigned self = running_lane(), warp = self / WARP;
    if (s->block != block_number)
        report("missing barrier or nothing there: reads %s[%td], which no lane of this block has written", array->name,
               index);
    if (s->writer != self && !ordered(s->writer / WARP, s->write_epoch, s->write_warp_epoch))
        report("missing barrier: reads %s[%td], which lane %u wrote", array->name, index, s->writer);
    bool fresh = s->reader == NOBODY || s->read_epoch < block_epoch;
    if (!fresh && s->reader == MANY_WARPS)
        return;
    if (!fresh && s->reader_warp != warp) {
        s->reader = MANY_WARPS;
        return;
    }
    if (fresh || s->read_warp_epoch < warp_epoch[warp])
        s->reader = (uint16_t)self;
    else if (s->reader != self)
        s->reader = MANY_LANES;
    s->reader_warp = (uint16_t)warp;
    s->read_epoch = block_epoch;
    s->read_warp_epoch = warp_epoch[warp];
}

void check_write(const shared_array *array, ptrdiff_t index) {
    check_index(array, index);
    shadow *s = &array->shadows[index];
    unsigned self = running_lane(), warp = self / WARP;
    if (s->block == block_number) {
        if (s->writer != self && !ordered(s->writer / WARP, s->write_epoch, s->write_warp_epoch))
            report("missing barrier: writes %s[%td], which lane %u wrote", array->name, index, s->writer);
        if (s->reader != NOBODY && s->read_epoch == block_epoch && s->reader != self &&
            (s->reader == MANY_WARPS || !ordered(s->reader_warp, s->read_epoch, s->read_warp_epoch)))
            report("missing barrier: writes %s[%td], which another lane (warp %u) reads", array->name, index,
                   s->reader_warp);
    }
    *s = shadow{block_number, block_epoch, warp_epoch[warp], 0, 0, (uint16_t)self, NOBODY, 0};
}

/* Leaves the shadow as it is: a plain access still needs its barrier from the plain write before the atomics. */
void check_atomic(const shared_array *array, ptrdiff_t index) {
    check_index(array, index);
    if (array->shadows[index].block != block_number)
        report("adds to %s[%td], which no lane of this block has written", array->name, index);
}

void check_aligned(const void *pointer, size_t bytes, const char *what) {
    if ((uintptr_t)pointer % bytes != 0)
        report("misaligned: %s of %zu bytes at %p", what, bytes, pointer);
}

void check_aligned(const shared_array *array, ptrdiff_t index, size_t bytes, const char *what) {
    if ((size_t)index * array->element_bytes % bytes != 0)
        report("misaligned: %s of %zu bytes at %s[%td]", what, bytes, array->name, index);
}

/* ---- asynchronous copies ---- */

namespace {
struct copy {
    const shared_array *array;
    ptrdiff_t index;
    const void *from;
    size_t from_bytes, to_bytes;
};
std::vector<std::vector<copy>> groups[BLOCK_LANES_MAX]; /* committed, of each lane */
std::vector<copy> open_group[BLOCK_LANES_MAX];
} // namespace

void copy_async(const shared_array *array, ptrdiff_t index, const void *from, size_t from_bytes, size_t to_bytes) {
    check_aligned(array, index, to_bytes, "an asynchronous copy");
    if (from_bytes > 0)
        check_aligned(from, to_bytes, "an asynchronous copy");
    global_access(false, from, from_bytes);
    open_group[running_lane()].push_back({array, index, from, from_bytes, to_bytes});
}

void copy_async_commit() {
    unsigned self = running_lane();
    groups[self].push_back(open_group[self]);
    open_group[self].clear();
}

static void arrive(const copy &copy) {
    for (size_t i = 0; i < copy.to_bytes / copy.array->element_bytes; i++)
        check_write(copy.array, copy.index + (ptrdiff_t)i);
    unsigned char *to = copy.array->bytes + (size_t)copy.index * copy.array->element_bytes;
    if (copy.from_bytes > 0)
        memcpy(to, copy.from, copy.from_bytes);
    memset(to + copy.from_bytes, 0, copy.to_bytes - copy.from_bytes);
}

void copy_async_wait(int groups_left) {
    auto &mine = groups[running_lane()];
    size_t arrived = mine.size() > (size_t)groups_left ? mine.size() - (size_t)groups_left : 0;
    for (size_t g = 0; g < arrived; g++)
        for (const copy &copy : mine[g])
            arrive(copy);
    mine.erase(mine.begin(), mine.begin() + (ptrdiff_t)arrived);
}

} // namespace emulator
