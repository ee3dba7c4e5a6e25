/* A CUDA device without a GPU: the kernels of common/compute/cuda, executed by the emulator. For tests alone. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_DEVICE_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_DEVICE_H

#if defined(__cplusplus)
extern "C" { /* the header below is C's */
#endif

#include "common/compute/device.h"

/* order: how lanes and blocks are run; 0 ascending, 1 descending, others random from that seed. The last one opened sets the
 * order for all. A broken kernel ends the process with a report. */
enum status emulator_open(unsigned order, struct device **out_device);
void emulator_close(struct device **device);

#if defined(__cplusplus)
}
#endif

#endif
