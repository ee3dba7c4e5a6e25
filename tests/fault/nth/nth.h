/* The N-th call fails: an allocation, a write, an fsync, a rename, ... of Candor's own code, once or from then on.
 *
 * Programs that link nth.c with the options of NTH_WRAPS (CMakeLists.txt) call these functions through it: every call that Candor's
 * objects make, none of those inside the libraries beneath it. jansson's allocations are Candor's too (nth_init). One plan at a
 * time, for all threads. */
#ifndef CANDOR_TESTS_FAULT_NTH_H
#define CANDOR_TESTS_FAULT_NTH_H

#include <stdbool.h>
#include <stdint.h>

/* class, what it is: what one plan counts */
#define NTH_CLASSES(X)                                                                                                 \
    X(ALLOC, "allocation") /* malloc, calloc, realloc, aligned_alloc, posix_memalign, strdup, XXH3_createState */      \
    X(THREAD, "thread")    /* pthread_create */                                                                        \
    X(WRITE, "write")      /* write, fwrite, fflush, fclose, ftruncate; close of what was written */                   \
    X(SYNC, "fsync")                                                                                                   \
    X(RENAME, "rename")                                                                                                \
    X(OPEN, "open") /* open, fopen, opendir, mkdir */                                                                  \
    X(READ, "read") /* read, pread, mmap */                                                                            \
    X(SEND, "send") /* zmq_send */

enum nth_class {
#define X(name, text) NTH_##name,
    NTH_CLASSES(X)
#undef X
    NTH_CLASS_COUNT
};
extern const char *const nth_class_names[NTH_CLASS_COUNT];

#define NTH_SHORT (-1) /* as error: half of it is written or read, which is no error; fwrite: half, then EIO */

#define NTH_KILL (-2)  /* as error: the process ends there, as of SIGKILL, with exit code NTH_KILLED */
#define NTH_KILLED 77

struct nth_plan {
    enum nth_class class;
    int error;         /* errno of the call that fails, or NTH_SHORT */
    bool lasting;      /* every call from the N-th on */
    uint64_t at;       /* N, from 1; 0: count alone */
    const char *under; /* files: those whose path holds this text; NULL: all. Never standard error */
    const char *mark;  /* a file that the first failure makes: where it cannot, nothing fails; NULL: none */
};

/* json.c lets go of what jansson held when a parse ran out of memory: said to the leak sanitizer too. */
const char *__lsan_default_suppressions(void);

/* Once, before anything is allocated that is freed later. */
void nth_init(void);
/* Begin counting. */
void nth_arm(const struct nth_plan *plan);
/* Stop; returns how many calls were counted. */
uint64_t nth_disarm(void);
/* What was done to files since nth_arm with `at` 0, in order, a line each: "write PATH", "fsync PATH", "rename FROM TO". */
const char *nth_trace(void);
/* How often a call failed since nth_arm. */
uint64_t nth_hits(void);
/* Whether calls are failing now and go on to. */
bool nth_lasts(void);
/* Allocations of Candor's code that are not freed. */
int64_t nth_live(void);
/* For what a test plays itself: a call of this class happens here; true: it is the one that fails. */
bool nth_fails(enum nth_class class);
/* The calling thread counts and fails no more, or again: for what a test does in between. */
void nth_exempt(bool exempt);

#endif
