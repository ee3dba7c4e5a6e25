/* The machine under common/compute/cuda (cuda.h): device memory is host memory with watched borders, and nothing is
 * asynchronous. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/support/emulator/device.h"
#include "common/compute/cuda/cuda.h"
#include "tests/support/emulator/emulator.h"

extern "C" {

enum status emulator_open(unsigned order, struct device **out_device) {
    struct device *device = (struct device *)calloc(1, sizeof *device);
    struct cuda_state *state = (struct cuda_state *)calloc(1, sizeof *state);
    if (!device || !state) {
        free(device);
        free(state);
        return fail(STATUS_NO_MEMORY, "emulator: out of memory");
    }
    emulator::set_order(order);
    device->kind = DEVICE_CUDA;
    device->ops = &cuda_ops;
    device->activation = DTYPE_BF16;
    device->threads = 1;
    device->state = state;
    snprintf(device->name, sizeof device->name, "cuda: emulated on this host, order %u", order);
    snprintf(device->chip, sizeof device->chip, "emulated");
    snprintf(device->arithmetic, sizeof device->arithmetic, "cuda kernels %d", CUDA_KERNELS_VERSION);
    *out_device = device;
    return STATUS_OK;
}

void emulator_close(struct device **device) {
    if (*device == NULL)
        return;
    struct cuda_state *state = cuda_state_of(*device);
    if (state->scratch)
        emulator::memory_release(state->scratch);
    free(state);
    free(*device);
    *device = NULL;
}

/* A device of EMULATED_CUDA_BYTES; 1 GiB without that. */
static size_t memory_total() {
    const char *text = getenv("EMULATED_CUDA_BYTES");
    return text ? strtoull(text, nullptr, 10) : (size_t)1 << 30;
}

static size_t memory_available() {
    size_t used = emulator::memory_used(), total = memory_total();
    return used < total ? total - used : 0;
}

enum status cuda_allocate(struct device *device, size_t bytes, void **out_memory) {
    void *memory = bytes <= memory_available() ? emulator::memory_allocate(bytes) : nullptr;
    if (!memory)
        return cuda_out_of_memory(device, bytes, memory_available(), memory_total());
    *out_memory = memory;
    return STATUS_OK;
}

void cuda_release(struct device *, void *memory) {
    if (memory)
        emulator::memory_release(memory);
}

void cuda_upload(struct device *, void *to, const void *host_from, size_t bytes) {
    memcpy(to, host_from, bytes);
}

void cuda_download(struct device *, void *host_to, const void *from, size_t bytes) {
    memcpy(host_to, from, bytes);
}

enum status cuda_read_aside(struct device *, void *host_to, const void *from, size_t bytes) {
    memcpy(host_to, from, bytes);
    return STATUS_OK;
}

void cuda_copy(struct device *, void *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
}

void cuda_zero(struct device *, void *memory, size_t bytes) {
    memset(memory, 0, bytes);
}

enum status cuda_synchronize(struct device *device) {
    emulator::memory_check();
    struct cuda_state *state = cuda_state_of(device);
    return state->fault == STATUS_OK ? STATUS_OK : fail(state->fault, "%s", state->fault_text);
}

int64_t cuda_free_bytes(struct device *) {
    return (int64_t)memory_available();
}

bool cuda_ready(struct device *device) {
    return cuda_state_of(device)->fault == STATUS_OK;
}

/* A fresh block each time, filled with NaN: what an earlier operation left there must not matter. */
void *cuda_scratch(struct device *device, size_t bytes) {
    struct cuda_state *state = cuda_state_of(device);
    if (state->scratch)
        emulator::memory_release(state->scratch);
    state->scratch = bytes <= memory_available() ? emulator::memory_allocate(bytes) : nullptr;
    if (!state->scratch) {
        cuda_set_fault(device, cuda_out_of_memory(device, bytes, memory_available(), memory_total()), "%s",
                       status_message());
        return NULL;
    }
    memset(state->scratch, 0xff, bytes);
    return state->scratch;
}

void cuda_set_fault(struct device *device, enum status status, const char *format, ...) {
    struct cuda_state *state = cuda_state_of(device);
    if (state->fault != STATUS_OK)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(state->fault_text, sizeof state->fault_text, format, arguments);
    va_end(arguments);
    state->fault = status;
}
}
