/* A device: where tensors live and which operations work on them. One implementation of struct ops per kind of device; above
 * common/compute nothing knows which. A device belongs to one thread. */
#ifndef CANDOR_COMPUTE_DEVICE_H
#define CANDOR_COMPUTE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

enum dtype { DTYPE_BF16, DTYPE_F32 };

static inline size_t dtype_bytes(enum dtype type) {
    return type == DTYPE_BF16 ? 2 : 4;
}

enum device_kind { DEVICE_CPU, DEVICE_CUDA };

struct ops;

struct device {
    enum device_kind kind;
    const struct ops *ops;
    enum dtype activation; /* type of activations and of keys and values: F32 on the CPU, BF16 on CUDA */
    int threads;           /* CPU threads; results do not depend on it */
    char name[96];         /* "cpu: AMD EPYC ..., avx2" */
    char chip[32];         /* "sm_90, 132 SMs"; empty on the CPU, whose models agree. Part of the fingerprint */
    char arithmetic[96];   /* what decides bits: kernels and libraries with their versions. Part of the fingerprint */
    char products[96];     /* who makes matrix products and by which algorithms; empty: Candor. Follows from the two above */
    void *state;
};

/* spec: "cpu", "auto", "cuda:0". threads 0: all cores the process may use. STATUS_UNSUPPORTED when the device is not
 * there or not built, saying which there are. */
enum status device_open(const char *spec, int threads, struct device **out_device);
/* The same for who has the name from an option ("model.device", "--device"): a device that this host or build lacks is STATUS_CONFIG,
 * "OPTION = SPEC: the reason". */
enum status device_open_for(const char *option, const char *spec, int threads, struct device **out_device);
void device_close(struct device **device);

#endif
