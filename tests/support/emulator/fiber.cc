#include "tests/support/emulator/fiber.h"

#if defined(__x86_64__)

/* The registers that the System V ABI lets a function keep; the rest is dead across a call. */
asm(".text\n"
    ".type emulator_switch, @function\n"
    "emulator_switch:\n" /* rdi: where to keep the stack pointer; rsi: the stack pointer to go on with */
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emulator_switch, . - emulator_switch\n");
extern "C" void emulator_switch(void **keep, void *next);

void fiber_prepare(fiber *fiber, void *stack, size_t stack_bytes, void (*entry)()) {
    void **top = (void **)((char *)stack + stack_bytes);
    *--top = nullptr; /* entry's return address; leaves the stack as after a call */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    fiber->stack_pointer = top;
}

void fiber_switch(fiber *from, fiber *to) {
    emulator_switch(&from->stack_pointer, to->stack_pointer);
}

#else

void fiber_prepare(fiber *fiber, void *stack, size_t stack_bytes, void (*entry)()) {
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stack;
    fiber->context.uc_stack.ss_size = stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
}

void fiber_switch(fiber *from, fiber *to) {
    swapcontext(&from->context, &to->context);
}

#endif
