#include "common/compute/cpu/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT 64
/* From here on huge pages are asked for: weights are read end to end every step. */
#define HUGE_BYTES ((size_t)2 << 20)

enum status cpu_allocate(struct device *device, size_t bytes, void **out_memory) {
    (void)device;
    size_t alignment = bytes >= HUGE_BYTES ? HUGE_BYTES : ALIGNMENT;
    void *memory = NULL;
    if (bytes > SIZE_MAX - alignment || posix_memalign(&memory, alignment, bytes > 0 ? bytes : 1) != 0)
        return fail(STATUS_NO_MEMORY, "cpu: no memory for %zu bytes", bytes);
    if (bytes >= HUGE_BYTES)
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    *out_memory = memory;
    return STATUS_OK;
}

void cpu_release(struct device *device, void *memory) {
    (void)device;
    free(memory);
}

void cpu_copy(struct device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes > 0)
        memmove(to, from, bytes);
}

enum status cpu_read_aside(struct device *device, void *host_to, const void *from, size_t bytes) {
    cpu_copy(device, host_to, from, bytes);
    return STATUS_OK;
}

void cpu_zero(struct device *device, void *memory, size_t bytes) {
    (void)device;
    if (bytes > 0)
        memset(memory, 0, bytes);
}

enum status cpu_synchronize(struct device *device) {
    (void)device;
    return STATUS_OK;
}

/* The kernel's own estimate counts file pages that it would give back; free pages alone are few on a machine that has read
 * a model. */
int64_t cpu_free_bytes(struct device *device) {
    (void)device;
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    long long kilobytes = -1;
    while (file && kilobytes < 0 && fgets(line, sizeof line, file))
        (void)sscanf(line, "MemAvailable: %lld kB", &kilobytes);
    if (file)
        fclose(file);
    return kilobytes >= 0 ? (int64_t)kilobytes * 1024
                          : (int64_t)sysconf(_SC_AVPHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
}
