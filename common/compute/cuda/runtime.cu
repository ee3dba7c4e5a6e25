/* The machine under cuda.h on a device: the driver, memory, faults; and the plug-in's way in. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime.h>

#include "common/compute/cuda/cuda.h"
#include "common/compute/cuda/lt.h"
#include "common/compute/cuda/plugin.h"

#define GB(bytes) ((double)(bytes) / 1e9)
#define SCRATCH_LEAST ((size_t)16 << 20)
#define STAGE_BYTES ((size_t)1 << 20)
#define STAGES 16

/* ---- faults ---- */

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

/* A call that must not fail: an error is the device's fault. True: it went well. */
static bool succeeded(struct device *device, cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return true;
    cuda_set_fault(device, STATUS_DEVICE, "cuda:%d: %s: %s (%s, %d)", cuda_state_of(device)->ordinal, what,
                   cudaGetErrorString(error), cudaGetErrorName(error), (int)error);
    return false;
}

/* CUDA's current device is a thread's own, and begins as device 0. */
static cudaError_t make_current(int ordinal) {
    static thread_local int current = -1;
    cudaError_t error = current == ordinal ? cudaSuccess : cudaSetDevice(ordinal);
    if (error == cudaSuccess)
        current = ordinal;
    return error;
}

bool cuda_ready(struct device *device) {
    const struct cuda_state *state = cuda_state_of(device);
    return state->fault == STATUS_OK && succeeded(device, make_current(state->ordinal), "making it current");
}

static cudaStream_t stream_of(struct device *device) {
    return (cudaStream_t)cuda_state_of(device)->stream;
}

/* ---- memory ---- */

static enum status out_of_memory(const struct device *device, size_t bytes) {
    size_t available = 0, total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&available, &total);
    return cuda_out_of_memory(device, bytes, available, total);
}

enum status cuda_allocate(struct device *device, size_t bytes, void **out_memory) {
    struct cuda_state *state = cuda_state_of(device);
    void *memory = NULL;
    if (!cuda_ready(device))
        return fail(state->fault, "%s", state->fault_text);
    cudaError_t error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation)
        return out_of_memory(device, bytes);
    if (!succeeded(device, error, "allocating") ||
        !succeeded(device, cudaMemsetAsync(memory, 0, bytes > 0 ? bytes : 1, stream_of(device)), "clearing memory"))
        return fail(state->fault, "%s", state->fault_text);
    *out_memory = memory;
    return STATUS_OK;
}

void cuda_release(struct device *device, void *memory) {
    if (memory != NULL && cuda_ready(device))
        succeeded(device, cudaFree(memory), "freeing");
}

/* Through page-locked memory of our own: with any other the driver does not promise to have taken the bytes when the call returns,
 * or waits for all that the device has to do. A stage is used again when its copy is done. */
struct staging {
    char *memory; /* STAGES * STAGE_BYTES */
    cudaEvent_t copied[STAGES];
    unsigned next;
};

static bool upload_stage(struct device *device, char *to, const char *host_from, size_t bytes) {
    struct staging *staging = cuda_state_of(device)->staging;
    unsigned stage = staging->next++ % STAGES;
    char *memory = staging->memory + stage * STAGE_BYTES;
    if (!succeeded(device, cudaEventSynchronize(staging->copied[stage]), "uploading"))
        return false;
    memcpy(memory, host_from, bytes);
    return succeeded(device, cudaMemcpyAsync(to, memory, bytes, cudaMemcpyHostToDevice, stream_of(device)),
                     "uploading") &&
           succeeded(device, cudaEventRecord(staging->copied[stage], stream_of(device)), "uploading");
}

void cuda_upload(struct device *device, void *to, const void *host_from, size_t bytes) {
    size_t here = 0;
    bool good = bytes > 0 && cuda_ready(device);
    for (size_t at = 0; good && at < bytes; at += here) {
        here = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        good = upload_stage(device, (char *)to + at, (const char *)host_from + at, here);
    }
}

static void staging_close(struct staging *staging) {
    for (int i = 0; staging != NULL && i < STAGES; i++)
        if (staging->copied[i] != NULL)
            (void)cudaEventDestroy(staging->copied[i]);
    if (staging != NULL)
        (void)cudaFreeHost(staging->memory);
    free(staging);
}

static bool staging_open(struct device *device) {
    struct staging *staging = (struct staging *)calloc(1, sizeof *staging);
    cuda_state_of(device)->staging = staging;
    if (staging == NULL)
        return false;
    bool good = succeeded(device, cudaMallocHost((void **)&staging->memory, STAGES * STAGE_BYTES),
                          "page-locking memory for uploads");
    for (int i = 0; good && i < STAGES; i++)
        good = succeeded(device, cudaEventCreateWithFlags(&staging->copied[i], cudaEventDisableTiming),
                         "creating an event");
    return good;
}

void cuda_download(struct device *device, void *host_to, const void *from, size_t bytes) {
    if (bytes > 0 && cuda_ready(device) &&
        succeeded(device, cudaMemcpyAsync(host_to, from, bytes, cudaMemcpyDeviceToHost, stream_of(device)),
                  "downloading"))
        succeeded(device, cudaStreamSynchronize(stream_of(device)), "downloading");
}

/* Touches nothing of the device's that its own thread changes. */
enum status cuda_read_aside(struct device *device, void *host_to, const void *from, size_t bytes) {
    const struct cuda_state *state = cuda_state_of(device);
    cudaStream_t aside = (cudaStream_t)state->aside;
    cudaError_t error = make_current(state->ordinal);
    if (error == cudaSuccess && bytes > 0)
        error = cudaMemcpyAsync(host_to, from, bytes, cudaMemcpyDeviceToHost, aside);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(aside);
    if (error != cudaSuccess)
        return fail(STATUS_DEVICE, "cuda:%d: reading %zu bytes: %s (%s)", state->ordinal, bytes,
                    cudaGetErrorString(error), cudaGetErrorName(error));
    return STATUS_OK;
}

void cuda_copy(struct device *device, void *to, const void *from, size_t bytes) {
    if (bytes > 0 && cuda_ready(device))
        succeeded(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(device)), "copying");
}

void cuda_zero(struct device *device, void *memory, size_t bytes) {
    if (bytes > 0 && cuda_ready(device))
        succeeded(device, cudaMemsetAsync(memory, 0, bytes, stream_of(device)), "clearing memory");
}

enum status cuda_synchronize(struct device *device) {
    struct cuda_state *state = cuda_state_of(device);
    if (cuda_ready(device))
        succeeded(device, cudaStreamSynchronize(stream_of(device)), "a kernel");
    return state->fault == STATUS_OK ? STATUS_OK : fail(state->fault, "%s", state->fault_text);
}

int64_t cuda_free_bytes(struct device *device) {
    size_t available = 0, total = 0;
    if (!cuda_ready(device) || !succeeded(device, cudaMemGetInfo(&available, &total), "asking for its free memory"))
        return 0;
    return (int64_t)available;
}

void *cuda_scratch(struct device *device, size_t bytes) {
    struct cuda_state *state = cuda_state_of(device);
    if (!cuda_ready(device))
        return NULL;
    if (bytes <= state->scratch_bytes)
        return state->scratch;
    size_t capacity = bytes > 2 * state->scratch_bytes ? bytes : 2 * state->scratch_bytes;
    capacity = capacity > SCRATCH_LEAST ? capacity : SCRATCH_LEAST;
    cuda_release(device, state->scratch); /* waits for what still uses it */
    state->scratch = NULL;
    state->scratch_bytes = 0;
    cudaError_t error = cudaMalloc(&state->scratch, capacity);
    if (error == cudaErrorMemoryAllocation)
        cuda_set_fault(device, out_of_memory(device, capacity), "%s", status_message());
    else
        (void)succeeded(device, error, "allocating scratch");
    state->scratch_bytes = state->scratch != NULL ? capacity : 0;
    return state->scratch;
}

/* ---- opening ---- */

static enum status driver_missing(cudaError_t error) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (driver == 0)
        return fail(STATUS_UNSUPPORTED, "cuda: this host has no NVIDIA driver");
    if (error == cudaErrorInsufficientDriver)
        return fail(STATUS_UNSUPPORTED, "cuda: the driver is too old: it serves CUDA %d.%d, and this build needs %d.%d",
                    driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return fail(STATUS_UNSUPPORTED, "cuda: the driver finds no device: %s (%s)", cudaGetErrorString(error),
                cudaGetErrorName(error));
}

static enum status count_devices(int *out_devices) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return driver_missing(error);
    *out_devices = count;
    return STATUS_OK;
}

static enum status check_device(int ordinal, cudaDeviceProp *out_properties) {
    int count = 0;
    TRY(count_devices(&count));
    if (ordinal < 0 || ordinal >= count)
        return count == 0
                   ? fail(STATUS_UNSUPPORTED, "cuda:%d: no such device (this host has none)", ordinal)
                   : fail(STATUS_UNSUPPORTED, "cuda:%d: no such device (this host has cuda:0..%d)", ordinal, count - 1);
    cudaError_t error = cudaGetDeviceProperties(out_properties, ordinal);
    if (error == cudaSuccess)
        error = make_current(ordinal);
    if (error != cudaSuccess)
        return fail(STATUS_DEVICE, "cuda:%d: %s (%s)", ordinal, cudaGetErrorString(error), cudaGetErrorName(error));
    if (out_properties->major < 8)
        return fail(STATUS_UNSUPPORTED,
                    "cuda:%d: %s has compute capability %d.%d; 8.0 or later is needed (bf16 on the tensor cores)",
                    ordinal, out_properties->name, out_properties->major, out_properties->minor);
    return STATUS_OK;
}

/* Uploads may still read the stages, and who opens the device again must find in memory what was written. */
static void close_device(struct device *device) {
    struct cuda_state *state = cuda_state_of(device);
    if (state->stream != NULL && cuda_ready(device))
        (void)cudaStreamSynchronize((cudaStream_t)state->stream);
#if defined(CANDOR_CUBLASLT)
    lt_destroy(&state->lt);
#endif
    cuda_release(device, state->scratch);
    staging_close(state->staging);
    void *streams[] = {state->stream, state->aside};
    for (void *stream : streams)
        if (stream != NULL)
            (void)cudaStreamDestroy((cudaStream_t)stream);
    free(state);
    free(device);
}

static bool open_streams(struct device *device) {
    struct cuda_state *state = cuda_state_of(device);
    cudaStream_t stream = NULL, aside = NULL;
    if (!succeeded(device, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream"))
        return false;
    state->stream = stream;
    if (!succeeded(device, cudaStreamCreateWithFlags(&aside, cudaStreamNonBlocking), "creating a stream"))
        return false;
    state->aside = aside;
    return staging_open(device);
}

static enum status open_device(int ordinal, struct device **out_device) {
    cudaDeviceProp properties;
    TRY(check_device(ordinal, &properties));
    enum status status = STATUS_OK;
    struct device *device = (struct device *)calloc(1, sizeof *device);
    struct cuda_state *state = (struct cuda_state *)calloc(1, sizeof *state);
    if (device == NULL || state == NULL) {
        free(device);
        free(state);
        return fail(STATUS_NO_MEMORY, "cuda:%d: out of host memory", ordinal);
    }
    device->kind = DEVICE_CUDA;
    device->ops = &cuda_ops;
    device->activation = DTYPE_BF16;
    device->threads = 1;
    device->state = state;
    state->ordinal = ordinal;
    snprintf(device->name, sizeof device->name, "cuda:%d: %.60s, %.0f GB", ordinal, properties.name,
             GB(properties.totalGlobalMem));
    snprintf(device->chip, sizeof device->chip, "sm_%d%d, %d SMs", properties.major, properties.minor,
             properties.multiProcessorCount);
    snprintf(device->arithmetic, sizeof device->arithmetic, "cuda kernels %d", CUDA_KERNELS_VERSION);
    if (!open_streams(device)) {
        status = state->fault == STATUS_OK ? fail(STATUS_NO_MEMORY, "cuda:%d: out of host memory", ordinal)
                                           : fail(state->fault, "%s", state->fault_text);
        goto failed;
    }
#if defined(CANDOR_CUBLASLT)
    TRY_GOTO(lt_create(device, &state->lt), failed);
#endif
    *out_device = device;
    return STATUS_OK;
failed:
    close_device(device);
    return status;
}

extern "C" __attribute__((visibility("default")))
const struct cuda_plugin candor_cuda_plugin = {CANDOR_BUILD, count_devices, open_device, close_device};
