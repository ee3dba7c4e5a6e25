/* Status codes and error messages.
 *
 * What can fail returns enum status (0 is success). The place that notices the error calls fail(), which keeps one line of
 * text in a thread-local buffer; callers may put context in front with fail_context(). Libraries never print and never
 * exit: main.c logs status_message() and maps the code with status_exit_code().
 *
 * A message names place, what was read and what would be right ("x.ini:14: actor.device = cuda:9: no such device ...");
 * the program's name is put in front by main.c. */
#ifndef CANDOR_BASE_STATUS_H
#define CANDOR_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

/* name, exit code (DESIGN section 12: 0 done, 1 run failed, 64 usage, 65 bad data, 75 try again, 78 bad configuration). */
#define STATUS_CODES(X)                                                                                                \
    X(OK, 0)                                                                                                           \
    X(NO_MEMORY, 1)                                                                                                    \
    X(IO, 1)          /* a system call failed; errno text is in the message */                                         \
    X(NOT_FOUND, 65)  /* file, key or entry is absent */                                                               \
    X(EXISTS, 65)     /* would overwrite */                                                                            \
    X(FORMAT, 65)     /* malformed input */                                                                            \
    X(UTF8, 65)       /* malformed UTF-8 */                                                                            \
    X(LIMIT, 65)      /* a stated limit is exceeded */                                                                 \
    X(MISMATCH, 65)   /* two things that must agree do not: hash, shape, version */                                    \
    X(UNSUPPORTED, 65)/* recognised, but not built or not meant to be */                                               \
    X(CONFIG, 78)                                                                                                      \
    X(USAGE, 64)                                                                                                       \
    X(AGAIN, 75)      /* would block, or worth trying later */                                                         \
    X(CLOSED, 1)      /* the other side is gone, or the queue was closed */                                            \
    X(TIMEOUT, 75)                                                                                                     \
    X(INTERRUPTED, 1) /* a stop was asked for */                                                                       \
    X(NONFINITE, 1)   /* a NaN or infinity where none may be */                                                        \
    X(DEVICE, 75)     /* device fault, final for the process */                                                        \
    X(RUN_FAILED, 1)

enum status {
#define X(name, code) STATUS_##name,
    STATUS_CODES(X)
#undef X
    STATUS_COUNT
};

#define STATUS_MESSAGE_BYTES 1024

const char *status_name(enum status status);
int status_exit_code(enum status status);

/* The last message of this thread; "" if none. Valid until the next fail() of this thread. */
const char *status_message(void);

/* Keep a message and return status, so that `return fail(STATUS_X, "...")` is one statement. */
enum status fail(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* As fail(STATUS_IO, ...) with ": <strerror(errno)>" behind. */
enum status fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

/* Put "context: " in front of the kept message; returns status unchanged. */
enum status fail_context(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        enum status try_status_ = (expression);                                                                        \
        if (try_status_ != STATUS_OK)                                                                                  \
            return try_status_;                                                                                        \
    } while (0)

/* Needs a local `enum status status`; jumps to the function's one clean-up block. */
#define TRY_GOTO(expression, label)                                                                                    \
    do {                                                                                                               \
        status = (expression);                                                                                         \
        if (status != STATUS_OK)                                                                                       \
            goto label;                                                                                                \
    } while (0)

/* For programmers' errors only, never for input; stays on in release builds. */
#define ASSERT(condition)                                                                                              \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            assert_failed(#condition, __FILE__, __LINE__);                                                             \
    } while (0)

void assert_failed(const char *condition, const char *file, int line) __attribute__((noreturn, cold));

#endif
