#include "common/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"

/* The longest line; what is longer is cut, and ends in "...". At most PIPE_BUF, so that the one write of a line is never
 * mixed with another process's. */
#define LINE_BYTES 2048

static const char *program_name = "candor";
static const char *run_name;
static enum log_level least_level = LOG_INFO;
static pthread_mutex_t limit_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local uint32_t pending_suppressed; /* from log_limit_pass to the log_event behind it */

void log_init(const char *program, const char *run, enum log_level least) {
    program_name = program;
    run_name = run;
    least_level = least;
}

static const char *level_name(enum log_level level) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return (unsigned)level < sizeof names / sizeof names[0] ? names[level] : "?";
}

/* vsnprintf at *used of line, never past the end. */
__attribute__((format(printf, 3, 0))) static void append(char *line, size_t *used, const char *format, va_list args) {
    int length = vsnprintf(line + *used, LINE_BYTES - *used, format, args);
    if (length > 0)
        *used += (size_t)length < LINE_BYTES - *used ? (size_t)length : LINE_BYTES - *used - 1;
}

__attribute__((format(printf, 3, 4))) static void appendf(char *line, size_t *used, const char *format, ...) {
    va_list args;
    va_start(args, format);
    append(line, used, format, args);
    va_end(args);
}

void log_event(enum log_level level, const char *event, const char *format, ...) {
    uint32_t suppressed = pending_suppressed;
    pending_suppressed = 0;
    if (level < least_level)
        return;
    char line[LINE_BYTES];
    size_t used = 0;
    int64_t ms = clock_unix_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    appendf(line, &used, ".%03dZ %s %s ", (int)(ms % 1000), level_name(level), program_name);
    if (run_name && run_name[0])
        appendf(line, &used, "run=%s ", run_name);
    appendf(line, &used, "%s", event);
    if (suppressed > 0)
        appendf(line, &used, " suppressed=%u", suppressed);
    if (format && format[0]) {
        appendf(line, &used, " ");
        va_list args;
        va_start(args, format);
        append(line, &used, format, args);
        va_end(args);
    }
    for (size_t i = 0; i < used; i++) { /* one line whatever came in: texts of peers are data */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    if (used >= LINE_BYTES - 1) {
        line[LINE_BYTES - 2] = line[LINE_BYTES - 3] = line[LINE_BYTES - 4] = '.';
        used = LINE_BYTES - 1;
    }
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, used); /* nowhere to report a log that cannot be written */
    (void)ignored;
}

int log_limit_pass(struct log_limit *limit, int64_t interval_ms) {
    int64_t now_ms = clock_boot_ms();
    pthread_mutex_lock(&limit_mutex);
    int pass = now_ms >= limit->next_ms;
    if (pass) {
        limit->next_ms = now_ms + interval_ms;
        pending_suppressed = limit->suppressed;
        limit->suppressed = 0;
    } else {
        limit->suppressed++;
    }
    pthread_mutex_unlock(&limit_mutex);
    return pass;
}
