#include "common/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[STATUS_MESSAGE_BYTES];

const char *status_name(enum status status) {
    static const char *const names[] = {
#define X(name, code) #name,
        STATUS_CODES(X)
#undef X
    };
    return (unsigned)status < STATUS_COUNT ? names[status] : "?";
}

int status_exit_code(enum status status) {
    static const int codes[] = {
#define X(name, code) code,
        STATUS_CODES(X)
#undef X
    };
    return (unsigned)status < STATUS_COUNT ? codes[status] : 1;
}

const char *status_message(void) {
    return message;
}

enum status fail(enum status status, const char *format, ...) {
    /* Arguments may point into the kept message: format beside it first. */
    char text[STATUS_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof text);
    return status;
}

enum status fail_errno(const char *format, ...) {
    int error = errno;
    char text[STATUS_MESSAGE_BYTES - 128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(STATUS_IO, "%s: %s", text, strerror(error));
}

enum status fail_context(enum status status, const char *format, ...) {
    char text[STATUS_MESSAGE_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(status, "%s: %s", text, message);
}

void assert_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "assertion failed: %s at %s:%d\n", condition, file, line);
    abort();
}
