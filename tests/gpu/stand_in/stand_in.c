/* The runner behind stand_in/cmocka.h, a device in the place of the emulator, and a hash in the place of xxHash's. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/hash.h"
#include "tests/support/emulator/device.h"

/* ---- tests ---- */

static jmp_buf leave;

static void __attribute__((noreturn)) failed(const char *file, int line) {
    fprintf(stderr, "%s:%d: failed\n", file, line);
    longjmp(leave, 1);
}

void (*stand_in_failed)(const char *file, int line) __attribute__((noreturn)) = failed;

int stand_in_run(const char *group, const struct CMUnitTest *tests, size_t count, int (*set_up)(void **),
                 int (*tear_down)(void **)) {
    static void *state;
    static volatile int bad;
    if (set_up != NULL && set_up(&state) != 0) {
        fprintf(stderr, "%s: set-up failed: %s\n", group, status_message());
        return 1;
    }
    for (volatile size_t i = 0; i < count; i++) {
        if (setjmp(leave) == 0) {
            tests[i].test(&state);
            printf("passed  %s: %s\n", group, tests[i].name);
        } else {
            printf("FAILED  %s: %s\n", group, tests[i].name);
            bad = 1;
        }
        fflush(stdout);
        if (tests[i].teardown != NULL)
            tests[i].teardown(&state);
    }
    if (tear_down != NULL)
        tear_down(&state);
    return bad;
}

/* ---- the device ---- */

#if !defined(EMULATED)
enum status emulator_open(unsigned order, struct device **out_device) {
    (void)order; /* a device has its own */
    return device_open("cuda:0", 0, out_device);
}

void emulator_close(struct device **device) {
    device_close(device);
}
#endif

/* ---- hashes: FNV-1a, where the seeds of weights and the canary want xxHash ---- */

uint64_t hash64(const void *data, size_t bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return hash;
}

struct digest hash128(const void *data, size_t bytes) {
    uint64_t hash = hash64(data, bytes);
    return (struct digest){hash, ~hash};
}

bool digest_equal(struct digest a, struct digest b) {
    return a.low == b.low && a.high == b.high;
}

void digest_format(struct digest digest, char out[DIGEST_HEX_BYTES]) {
    snprintf(out, DIGEST_HEX_BYTES, "%016llx%016llx", (unsigned long long)digest.high, (unsigned long long)digest.low);
}
