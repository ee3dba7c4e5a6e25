#include "learner/support.h"

#include <stdio.h>
#include <string.h>

#include "common/base/fs.h"
#include "learner/optimiser.h"

static const char *const tokenizer_files[] = {
    "tokenizer.json",    "tokenizer_config.json",   "vocab.json",          "merges.txt",
    "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "generation_config.json",
};

enum status support_copy_tokenizer(const char *from_directory, const char *to_directory) {
    for (size_t i = 0; i < sizeof tokenizer_files / sizeof tokenizer_files[0]; i++) {
        char from[PATH_BYTES], to[PATH_BYTES];
        TRY(fs_join(from, from_directory, tokenizer_files[i]));
        TRY(fs_join(to, to_directory, tokenizer_files[i]));
        if (!fs_exists(from))
            continue;
        struct buf text = {0};
        enum status status = fs_read(from, TOKENIZER_FILE_BYTES_MAX, &text);
        if (status == STATUS_OK)
            status = fs_write_atomic(to, text.data, text.bytes);
        buf_deinit(&text);
        TRY(status);
    }
    return STATUS_OK;
}

/* Of the CPU's memory others want a part; of a GPU's an eighth is left for what operations need for their own time. */
int32_t support_keep_layers(struct device *device, const struct model_config *config, struct train_limits limits,
                            int64_t others_bytes) {
    int64_t free_bytes = device->ops->free_bytes(device);
    int64_t room = device->kind == DEVICE_CPU ? free_bytes / 2 : free_bytes / 8 * 7;
    for (limits.keep_layers = config->layers; limits.keep_layers > 0; limits.keep_layers--)
        if (train_bytes(config, &limits, device->activation) + others_bytes <= room)
            break;
    return limits.keep_layers;
}

enum status support_check_memory(struct device *device, const char *directory, const struct model_config *config,
                                 enum dtype type, enum moment_storage moments, int models, int versions) {
    int64_t parameters = model_parameter_count(config);
    double weights = (double)parameters * (double)dtype_bytes(type),
           optimiser = (double)optimiser_bytes(parameters, type, moments);
    double served = device->kind == DEVICE_CPU ? weights * versions : 0, needed = weights * models + optimiser + served;
    double have = (double)device->ops->free_bytes(device);
    if (needed <= have)
        return STATUS_OK;
    return fail(
        STATUS_CONFIG,
        "%s: training its %.2f billion parameters takes %.1f GB at least (weights %.1f, gradient and optimiser %.1f, "
        "versions on their way %.1f); %s has %.1f GB free%s",
        directory, (double)parameters / 1e9, needed / 1e9, weights * models / 1e9, optimiser / 1e9, served / 1e9,
        device->name, have / 1e9,
        moments == MOMENTS_FP32 ? "; optim.moments = int8 takes 6 bytes a parameter less" : "");
}

enum status support_each_path(const char *list, enum status (*use)(void *context, const char *path), void *context) {
    for (const char *start = list; *start != '\0';) {
        size_t bytes = strcspn(start, ":");
        char path[PATH_BYTES];
        if (bytes >= sizeof path)
            return fail(STATUS_LIMIT, "a path of %zu bytes; right would be below %zu", bytes, sizeof path);
        memcpy(path, start, bytes);
        path[bytes] = '\0';
        if (bytes > 0)
            TRY(use(context, path));
        start += bytes + (start[bytes] == ':');
    }
    return STATUS_OK;
}
