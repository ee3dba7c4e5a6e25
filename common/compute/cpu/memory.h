/* Memory operations of the CPU device: device memory is ordinary memory. */
#ifndef CANDOR_COMPUTE_CPU_MEMORY_H
#define CANDOR_COMPUTE_CPU_MEMORY_H

#include "common/compute/device.h"

enum status cpu_allocate(struct device *device, size_t bytes, void **out_memory);
void cpu_release(struct device *device, void *memory);
enum status cpu_read_aside(struct device *device, void *host_to, const void *from, size_t bytes);
void cpu_copy(struct device *device, void *to, const void *from, size_t bytes);
void cpu_zero(struct device *device, void *memory, size_t bytes);
enum status cpu_synchronize(struct device *device);
int64_t cpu_free_bytes(struct device *device);

#endif
