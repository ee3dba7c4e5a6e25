#include "common/compute/device.h"

#include <string.h>

#include "common/compute/cpu/cpu.h"

enum status device_open(const char *spec, int threads, struct device **out_device) {
    if (strcmp(spec, "cpu") == 0 || strcmp(spec, "auto") == 0)
        return cpu_open(NULL, threads, out_device);
    if (strncmp(spec, "cuda", 4) == 0)
        return fail(STATUS_UNSUPPORTED, "device %s: CUDA is not in this build; this host has cpu", spec);
    return fail(STATUS_UNSUPPORTED, "device %s: no such kind of device; auto or cpu", spec);
}

void device_close(struct device **device) {
    if (*device == NULL)
        return;
    cpu_close(*device);
    *device = NULL;
}
