/* The emulated device as the plug-in that programs load (common/compute/cuda/plugin.h), so that whole programs run on it. What the
 * host is said to have: EMULATED_CUDA = none (no driver), old (a driver too old), empty (a driver and no device); one device
 * without it. */
#include <cstdlib>
#include <cstring>

extern "C" {
#include "common/base/build.h"
}
#include "common/compute/cuda/cuda.h"
#include "common/compute/cuda/plugin.h"
#include "tests/support/emulator/device.h"

static enum status count(int *out_devices) {
    const char *host = getenv("EMULATED_CUDA");
    if (host && strcmp(host, "none") == 0)
        return fail(STATUS_UNSUPPORTED, "cuda: this host has no NVIDIA driver");
    if (host && strcmp(host, "old") == 0)
        return fail(STATUS_UNSUPPORTED, "cuda: the driver is too old: it serves CUDA 11.4, and this build needs 13.0");
    *out_devices = host && strcmp(host, "empty") == 0 ? 0 : 1;
    return STATUS_OK;
}

static enum status open_device(int ordinal, struct device **out_device) {
    int devices;
    TRY(count(&devices));
    if (ordinal >= devices)
        return devices == 0
                   ? fail(STATUS_UNSUPPORTED, "cuda:%d: no such device (this host has none)", ordinal)
                   : fail(STATUS_UNSUPPORTED, "cuda:%d: no such device (this host has cuda:0..%d)", ordinal, devices - 1);
    return emulator_open(0, out_device);
}

static void close_device(struct device *device) {
    emulator_close(&device);
}

extern "C" {
extern struct cuda_plugin candor_cuda_plugin;
struct cuda_plugin candor_cuda_plugin = {nullptr, count, open_device, close_device};
}

/* Of the same build as the program that loads it, whichever that is. */
__attribute__((constructor)) static void name_build() {
    candor_cuda_plugin.build = build_name();
}
