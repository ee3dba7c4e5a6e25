#include "common/compute/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/build.h"
#include "common/compute/cpu/cpu.h"
#include "common/compute/cuda/plugin.h"

/* ---- the CUDA part ---- */

/* Beside the program, then where an installation puts libraries of its own. */
static const char *const plugin_places[] = {"", "../lib/candor/"};

/* <directory of this program>/<place><file>; false when it does not fit. */
static bool plugin_path(const char *place, char *out_path, size_t bytes) {
    char program[512];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return false;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash != NULL)
        slash[1] = '\0';
    int written = snprintf(out_path, bytes, "%s%s%s", program, place, CUDA_PLUGIN_FILE);
    return written > 0 && (size_t)written < bytes;
}

/* STATUS_NOT_FOUND: this installation has none. Once loaded it stays, as CUDA cannot be unloaded cleanly. */
static enum status plugin_load(const struct cuda_plugin **out_plugin) {
    char path[1024] = "";
    size_t places = sizeof plugin_places / sizeof plugin_places[0], i = 0;
    for (; i < places; i++)
        if (plugin_path(plugin_places[i], path, sizeof path) && access(path, R_OK) == 0)
            break;
    if (i == places)
        return fail(STATUS_NOT_FOUND, "this installation has no CUDA part (%s beside the program or in ../lib/candor)",
                    CUDA_PLUGIN_FILE);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct cuda_plugin *plugin = library != NULL ? dlsym(library, CUDA_PLUGIN_SYMBOL) : NULL;
    if (plugin == NULL)
        return fail(STATUS_UNSUPPORTED, "%s cannot be loaded: %s", path, dlerror());
    if (strcmp(plugin->build, build_name()) != 0)
        return fail(STATUS_UNSUPPORTED, "%s is of build %s, this program of build %s; right would be one build", path,
                    plugin->build, build_name());
    *out_plugin = plugin;
    return STATUS_OK;
}

/* Beside a GPU the host's threads do what is left to it: weights that come and go. */
static enum status plugin_open(const struct cuda_plugin *plugin, int ordinal, int threads, struct device **out_device) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    TRY(plugin->open(ordinal, out_device));
    (*out_device)->threads = threads > 0 ? threads : cores > 0 ? (int)cores : 1;
    return STATUS_OK;
}

static enum status open_cuda(const char *spec, int threads, struct device **out_device) {
    const struct cuda_plugin *plugin = NULL;
    char *end = NULL;
    long ordinal = spec[4] == ':' ? strtol(spec + 5, &end, 10) : -1;
    if (ordinal < 0 || ordinal > 1023 || end == spec + 5 || *end != '\0')
        return fail(STATUS_UNSUPPORTED, "%s: right would be cuda:N, as in cuda:0", spec);
    enum status status = plugin_load(&plugin);
    if (status == STATUS_OK)
        status = plugin_open(plugin, (int)ordinal, threads, out_device);
    return status == STATUS_NOT_FOUND ? fail(STATUS_UNSUPPORTED, "%s: %s", spec, status_message()) : status;
}

/* The first GPU if this installation has the CUDA part and the driver sees one, else the CPU. A GPU that is there and cannot be
 * used is an error: a run that was meant for it would take weeks on the CPU. */
static enum status open_auto(int threads, struct device **out_device) {
    const struct cuda_plugin *plugin = NULL;
    int count = 0;
    if (plugin_load(&plugin) == STATUS_OK && plugin->count(&count) == STATUS_OK && count > 0)
        return plugin_open(plugin, 0, threads, out_device);
    return cpu_open(NULL, threads, out_device);
}

/* ---- a device ---- */

enum status device_open(const char *spec, int threads, struct device **out_device) {
    if (strcmp(spec, "cpu") == 0)
        return cpu_open(NULL, threads, out_device);
    if (strcmp(spec, "auto") == 0)
        return open_auto(threads, out_device);
    if (strncmp(spec, "cuda", 4) == 0)
        return open_cuda(spec, threads, out_device);
    return fail(STATUS_UNSUPPORTED, "%s: no such kind of device; right would be auto, cpu or cuda:N", spec);
}

enum status device_open_for(const char *option, const char *spec, int threads, struct device **out_device) {
    enum status status = device_open(spec, threads, out_device);
    if (status != STATUS_UNSUPPORTED)
        return status;
    size_t bytes = strlen(spec);
    const char *reason = status_message();
    if (bytes > 0 && strncmp(reason, spec, bytes) == 0 && strncmp(reason + bytes, ": ", 2) == 0)
        reason += bytes + 2; /* it is named once */
    return fail(STATUS_CONFIG, "%s = %s: %s", option, spec, reason);
}

void device_close(struct device **device) {
    const struct cuda_plugin *plugin = NULL;
    if (*device == NULL)
        return;
    if ((*device)->kind == DEVICE_CPU)
        cpu_close(*device);
    else if (plugin_load(&plugin) == STATUS_OK)
        plugin->close(*device);
    *device = NULL;
}
