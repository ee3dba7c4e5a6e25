/* Fibers, their order, and the places where lanes wait for one another. */
#include "tests/support/emulator/emulator.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "tests/support/emulator/fiber.h"

namespace emulator {

place here;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 256 << 10;
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif
constexpr size_t GUARD_BYTES = 4096;

/* What a lane waits for; nullptr kind: it runs or is done. */
struct lane {
    fiber context;
    const char *waits_for;
    site at;
    uint32_t mask;
    bool done;
};

/* Lanes of a warp that meet at one operation. */
struct meeting {
    const char *kind;
    uint32_t mask, arrived;
    site at;
    const void *in[WARP];
    void *out[WARP];
};

struct warp {
    meeting meetings[WARP];
    unsigned meeting_count;
};

struct {
    unsigned seed;
    uint64_t random;
    const char *kernel;
    const std::function<void()> *body;
    unsigned lanes, done, at_barrier;
    site barrier;
    lane lane_of[BLOCK_LANES_MAX];
    warp warps[BLOCK_LANES_MAX / WARP];
    unsigned ready[BLOCK_LANES_MAX], ready_first, ready_count; /* ring of lanes that can run */
    fiber scheduler;
    unsigned char *stacks;
} machine;

unsigned running;

} // namespace

/* Barriers passed; shared.cc compares them. */
uint64_t block_number;
bool in_a_block; /* a lane is running */
extern uint64_t launch_began;
uint32_t block_epoch, warp_epoch[BLOCK_LANES_MAX / WARP];

unsigned running_lane() {
    return running;
}

void report(const char *format, ...) {
    fprintf(stderr, "emulator: %s: block (%u, %u, %u) lane %u: ", machine.kernel ? machine.kernel : "no kernel",
            here.block.x, here.block.y, here.block.z, running);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* ---- order ---- */

static uint64_t next_random() { /* xorshift64* */
    machine.random ^= machine.random >> 12;
    machine.random ^= machine.random << 25;
    machine.random ^= machine.random >> 27;
    return machine.random * 0x2545F4914F6CDD1Du;
}

void set_order(unsigned seed) {
    machine.seed = seed;
    machine.random = seed + 0x9E3779B97F4A7C15u;
}

template <typename T> static void put_in_order(T *items, size_t count) {
    if (machine.seed == 1)
        for (size_t i = 0; i < count / 2; i++)
            std::swap(items[i], items[count - 1 - i]);
    else if (machine.seed > 1)
        for (size_t i = count; i > 1; i--)
            std::swap(items[i - 1], items[next_random() % i]);
}

static void push_ready(unsigned index) {
    machine.ready[(machine.ready_first + machine.ready_count++) % BLOCK_LANES_MAX] = index;
}

/* ---- switching ---- */

static void describe_waiting() {
    unsigned shown = 0;
    for (unsigned i = 0; i < machine.lanes && shown < 4; i++)
        if (machine.lane_of[i].waits_for && (i == 0 || machine.lane_of[i].at.line != machine.lane_of[i - 1].at.line ||
                                             machine.lane_of[i].waits_for != machine.lane_of[i - 1].waits_for)) {
            fprintf(stderr, "emulator: lane %u waits in %s at %s:%d, mask %08x\n", i, machine.lane_of[i].waits_for,
                    machine.lane_of[i].at.file, machine.lane_of[i].at.line, machine.lane_of[i].mask);
            shown++;
        }
}

/* From the running lane, or the scheduler, to the next lane that can run. */
static void run_next(fiber *from) {
    if (machine.ready_count == 0) {
        if (machine.done == machine.lanes) {
            fiber_switch(from, &machine.scheduler);
            return;
        }
        describe_waiting();
        report("no lane can go on: %u of %u have left the kernel and the others wait for lanes that do not come",
               machine.done, machine.lanes);
    }
    unsigned next = machine.ready[machine.ready_first];
    machine.ready_first = (machine.ready_first + 1) % BLOCK_LANES_MAX;
    machine.ready_count--;
    running = next;
    here.thread.x = next;
    fiber_switch(from, &machine.lane_of[next].context);
}

static void wait_for(const char *what, uint32_t mask, site at) {
    unsigned self = running;
    lane *waiting = &machine.lane_of[self];
    waiting->waits_for = what;
    waiting->mask = mask;
    waiting->at = at;
    run_next(&waiting->context);
}

static void wake(const unsigned *lanes, unsigned count) {
    unsigned order[BLOCK_LANES_MAX];
    memcpy(order, lanes, count * sizeof *lanes);
    put_in_order(order, count);
    for (unsigned i = 0; i < count; i++) {
        machine.lane_of[order[i]].waits_for = nullptr;
        push_ready(order[i]);
    }
}

static void lane_main() {
    (*machine.body)();
    if (machine.at_barrier > 0)
        report(
            "leaves the kernel while %u lanes wait at the block barrier of %s:%d: every lane must reach every barrier",
            machine.at_barrier, machine.barrier.file, machine.barrier.line);
    copy_async_wait(0);
    machine.lane_of[running].done = true;
    machine.done++;
    run_next(&machine.lane_of[running].context);
    abort(); /* a lane that is done is never switched to */
}

/* ---- waiting ---- */

void block_barrier(site at) {
    if (machine.done > 0)
        report("block barrier at %s:%d after %u lanes have left the kernel: every lane must reach every barrier",
               at.file, at.line, machine.done);
    if (machine.at_barrier > 0 && (machine.barrier.line != at.line || strcmp(machine.barrier.file, at.file) != 0))
        report("divergent barrier: at %s:%d while others wait at %s:%d", at.file, at.line, machine.barrier.file,
               machine.barrier.line);
    machine.barrier = at;
    if (++machine.at_barrier < machine.lanes) {
        wait_for("a block barrier", 0xffffffffu, at);
        return;
    }
    machine.at_barrier = 0;
    block_epoch++;
    unsigned others[BLOCK_LANES_MAX], count = 0;
    for (unsigned i = 0; i < machine.lanes; i++)
        if (i != running)
            others[count++] = i;
    wake(others, count);
}

static meeting *find_meeting(warp *of, const char *kind, uint32_t mask, site at) {
    for (unsigned i = 0; i < of->meeting_count; i++) {
        meeting *other = &of->meetings[i];
        if (other->mask == mask) {
            if (strcmp(other->kind, kind) != 0 || other->at.line != at.line)
                report("%s at %s:%d meets %s at %s:%d under one mask %08x", kind, at.file, at.line, other->kind,
                       other->at.file, other->at.line, mask);
            return other;
        }
    }
    meeting *fresh = &of->meetings[of->meeting_count++];
    fresh->kind = kind;
    fresh->mask = mask;
    fresh->arrived = 0;
    fresh->at = at;
    return fresh;
}

void collective(const char *kind, uint32_t mask, const void *in, void *out, combine_function combine, site at) {
    unsigned self = running % WARP, first = running - self;
    if (!(mask >> self & 1))
        report("wrong mask: %s at %s:%d with mask %08x, which does not name this lane", kind, at.file, at.line, mask);
    warp *own = &machine.warps[first / WARP];
    meeting *here_met = find_meeting(own, kind, mask, at);
    here_met->arrived |= 1u << self;
    here_met->in[self] = in;
    here_met->out[self] = out;
    if (here_met->arrived != mask) {
        wait_for(kind, mask, at);
        return;
    }
    if (combine)
        combine(mask, here_met->in, here_met->out);
    *here_met = own->meetings[--own->meeting_count];
    unsigned others[WARP], count = 0;
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1 && i != self)
            others[count++] = first + i;
    wake(others, count);
}

static void pass_epoch(uint32_t mask, const void *const[WARP], void *const[WARP]) {
    if (mask == 0xffffffffu)
        warp_epoch[running / WARP]++;
}

void warp_barrier(uint32_t mask, site at) {
    collective("a warp barrier", mask, nullptr, nullptr, pass_epoch, at);
}

/* ---- launching ---- */

/* An address between the pages that must not be touched: memory or a stack ran over. */
static void segmentation_fault(int, siginfo_t *info, void *) {
    auto *address = (unsigned char *)info->si_addr;
    size_t stacks = BLOCK_LANES_MAX * (STACK_BYTES + GUARD_BYTES);
    if (machine.stacks && address >= machine.stacks && address < machine.stacks + stacks)
        report("the lane's stack of %zu bytes ran over", STACK_BYTES);
    report("out of bounds: touches %p, which is no device memory", info->si_addr);
}

static void prepare_stacks() {
    if (machine.stacks)
        return;
    size_t each = STACK_BYTES + GUARD_BYTES;
    void *memory = mmap(nullptr, BLOCK_LANES_MAX * each, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        report("no memory for %u stacks", BLOCK_LANES_MAX);
    machine.stacks = (unsigned char *)memory;
    for (unsigned i = 0; i < BLOCK_LANES_MAX; i++)
        mprotect(machine.stacks + i * each, GUARD_BYTES, PROT_NONE);
}

/* For the time of a launch: a test's frame has handlers of its own. */
static void catch_faults(struct sigaction (&before)[2]) {
    static unsigned char signal_stack[64 << 10];
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = segmentation_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
}

static void run_block() {
    block_number++;
    block_epoch = 0;
    memset(warp_epoch, 0, sizeof warp_epoch);
    machine.done = machine.at_barrier = machine.ready_first = machine.ready_count = 0;
    for (warp &each : machine.warps)
        each.meeting_count = 0;
    unsigned order[BLOCK_LANES_MAX];
    for (unsigned i = 0; i < machine.lanes; i++) {
        order[i] = i;
        machine.lane_of[i].done = false;
        machine.lane_of[i].waits_for = nullptr;
        fiber_prepare(&machine.lane_of[i].context, machine.stacks + i * (STACK_BYTES + GUARD_BYTES) + GUARD_BYTES,
                      STACK_BYTES, lane_main);
    }
    put_in_order(order, machine.lanes);
    for (unsigned i = 0; i < machine.lanes; i++)
        push_ready(order[i]);
    run_next(&machine.scheduler);
}

void launch(const char *kernel, dim3 grid, unsigned block, const std::function<void()> &body) {
    prepare_stacks();
    machine.kernel = kernel;
    running = 0;
    if (block == 0 || block > BLOCK_LANES_MAX || block % WARP != 0)
        report("a block of %u lanes: whole warps, %u lanes at most", block, BLOCK_LANES_MAX);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        report("a grid of (%u, %u, %u): at least 1, and at most 65535 in y and z", grid.x, grid.y, grid.z);
    machine.body = &body;
    machine.lanes = block;
    here.grid_size = grid;
    here.block_size = dim3(block);
    std::vector<dim3> blocks;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++)
                blocks.push_back(dim3(x, y, z));
    put_in_order(blocks.data(), blocks.size());
    struct sigaction before[2];
    catch_faults(before);
    launch_began = block_number;
    for (const dim3 &at : blocks) {
        here.block = at;
        in_a_block = true;
        run_block();
        in_a_block = false;
    }
    memory_check();
    sigaction(SIGSEGV, &before[0], nullptr);
    sigaction(SIGBUS, &before[1], nullptr);
    machine.kernel = nullptr;
}

} // namespace emulator
