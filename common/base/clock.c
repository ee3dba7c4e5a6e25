#include "common/base/clock.h"

#include <time.h>

static struct timespec now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time;
}

int64_t clock_boot_ms(void) {
    struct timespec time = now(CLOCK_BOOTTIME);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

double clock_seconds(void) {
    struct timespec time = now(CLOCK_MONOTONIC);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int64_t clock_unix_ms(void) {
    struct timespec time = now(CLOCK_REALTIME);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}
