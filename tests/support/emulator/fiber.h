/* Switching between stacks: about 10 ns in assembly on x86-64; ucontext, which makes two system calls a switch, elsewhere. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_FIBER_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_FIBER_H

#include <cstddef>

#if defined(__x86_64__)
struct fiber {
    void *stack_pointer;
};
#else
#include <ucontext.h>
struct fiber {
    ucontext_t context;
};
#endif

/* A fiber that begins with entry, which must not return. */
void fiber_prepare(struct fiber *fiber, void *stack, size_t stack_bytes, void (*entry)());
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
