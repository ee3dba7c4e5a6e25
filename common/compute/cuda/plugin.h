/* The way into the CUDA device. It is a library of its own, loaded at run time, so that one installation serves hosts with a
 * driver and without. What it needs of Candor (status messages) it takes from the program that loads it. */
#ifndef CANDOR_COMPUTE_CUDA_PLUGIN_H
#define CANDOR_COMPUTE_CUDA_PLUGIN_H

#include "common/compute/device.h"

#define CUDA_PLUGIN_FILE "libcandor-cuda.so"
#define CUDA_PLUGIN_SYMBOL "candor_cuda_plugin" /* a struct cuda_plugin */

struct cuda_plugin {
    const char *build; /* build_name() of the sources: struct ops must be the program's */
    /* STATUS_UNSUPPORTED, with the reason in words, when there is no usable driver. */
    enum status (*count)(int *out_devices);
    enum status (*open)(int ordinal, struct device **out_device);
    void (*close)(struct device *device);
};

#endif
