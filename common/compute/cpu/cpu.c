#include "common/compute/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/compute/ops.h"

extern const struct ops cpu_ops_portable;
#ifdef CPU_PATHS_X86
extern const struct ops cpu_ops_avx2, cpu_ops_avx512;
#endif

struct path {
    const char *name;
    const struct ops *ops;
    bool here; /* this machine can run it */
};

#define PATHS_MAX 3

/* Best first. */
static int list_paths(struct path paths[PATHS_MAX]) {
    int count = 0;
#ifdef CPU_PATHS_X86
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    paths[count++] = (struct path){"avx512", &cpu_ops_avx512, avx512};
    paths[count++] = (struct path){"avx2", &cpu_ops_avx2, avx2};
#endif
    paths[count++] = (struct path){"portable", &cpu_ops_portable, true};
    return count;
}

static enum status choose_path(const char *name, struct path *out_path) {
    struct path paths[PATHS_MAX];
    int count = list_paths(paths);
    for (int i = 0; i < count; i++)
        if (paths[i].here && (name == NULL || strcmp(name, paths[i].name) == 0)) {
            *out_path = paths[i];
            return STATUS_OK;
        }
    return fail(STATUS_UNSUPPORTED, "cpu: path %s: this machine or build lacks it", name);
}

/* "AMD EPYC 9B45" from /proc/cpuinfo, or the architecture's name. */
static void processor_name(char *out, size_t bytes) {
    snprintf(out, bytes, "processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL)
        return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, bytes, "%s", value[1] == ' ' ? value + 2 : value + 1);
            break;
        }
    }
    fclose(file);
}

static int usable_cores(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < TEAM_THREADS_MAX ? count : TEAM_THREADS_MAX;
}

enum status cpu_open(const char *path_name, int threads, struct device **out_device) {
    struct path path = {0};
    TRY(choose_path(path_name, &path));
    if (threads < 0 || threads > TEAM_THREADS_MAX)
        return fail(STATUS_CONFIG, "cpu: %d threads: 0 (all cores) to %d", threads, TEAM_THREADS_MAX);
    if (threads == 0)
        threads = usable_cores();
    enum status status = STATUS_OK;
    struct device *device = calloc(1, sizeof *device);
    struct cpu_state *state = calloc(1, sizeof *state);
    if (device == NULL || state == NULL) {
        free(device);
        free(state);
        return fail(STATUS_NO_MEMORY, "cpu: out of memory");
    }
    *device = (struct device){
        .kind = DEVICE_CPU, .ops = path.ops, .activation = DTYPE_F32, .threads = threads, .state = state};
    char processor[64];
    processor_name(processor, sizeof processor);
    snprintf(device->name, sizeof device->name, "cpu: %s, %s, %d thread%s", processor, path.name, threads,
             threads == 1 ? "" : "s");
    /* All paths give the same bits, so the path is not part of this. */
    snprintf(device->arithmetic, sizeof device->arithmetic, "cpu fp32 fma, 16 lanes, kernels %d", CPU_KERNELS_VERSION);
    void *scratch = NULL;
    if (posix_memalign(&scratch, 4096, (size_t)threads * CPU_SCRATCH_BYTES) != 0) {
        status = fail(STATUS_NO_MEMORY, "cpu: out of memory for the scratch of %d threads", threads);
        goto failed;
    }
    state->scratch = scratch;
    TRY_GOTO(team_create(threads, &state->team), failed);
    *out_device = device;
    return STATUS_OK;
failed:
    cpu_close(device);
    return status;
}

void cpu_close(struct device *device) {
    struct cpu_state *state = device->state;
    team_destroy(&state->team);
    free(state->scratch);
    free(state);
    free(device);
}
