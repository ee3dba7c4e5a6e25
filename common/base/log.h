/* One line an event on stderr: UTC time, level, program, event, key=value. Thread-safe.
 *
 * Never log prompts, answers or keys. Where an event can repeat without end, use LOG_EVERY. */
#ifndef CANDOR_BASE_LOG_H
#define CANDOR_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* program: shown on each line; kept by pointer. run: the run's name or NULL. */
void log_init(const char *program, const char *run, enum log_level least);

/* log_event(LOG_INFO, "lease_granted", "step=%u slot=%u", step, slot) */
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The event at most once in interval_ms at this place; the count of the ones left out is added as suppressed=N. */
#define LOG_EVERY(interval_ms, level, event, ...)                                                                      \
    do {                                                                                                               \
        static struct log_limit limit_;                                                                                \
        if (log_limit_pass(&limit_, (interval_ms)))                                                                    \
            log_event((level), (event), __VA_ARGS__);                                                                  \
    } while (0)

struct log_limit {
    int64_t next_ms;
    uint32_t suppressed;
};
int log_limit_pass(struct log_limit *limit, int64_t interval_ms);

#endif
