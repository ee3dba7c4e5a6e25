#include "learner/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"

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

const char *support_device_spec(const struct run_config *config) {
    static const char *const names[] = {"auto", "cpu"}; /* model.device in run_options.def */
    return names[config->model_device];
}

int32_t support_keep_layers(const struct device *device, const struct model_config *config,
                            struct train_limits limits) {
    if (device->kind != DEVICE_CPU)
        return -1;
    int64_t room = (int64_t)sysconf(_SC_AVPHYS_PAGES) / 2 * (int64_t)sysconf(_SC_PAGESIZE);
    for (limits.keep_layers = config->layers; limits.keep_layers > 0; limits.keep_layers--)
        if (train_bytes(config, &limits, device->activation) <= room)
            break;
    return limits.keep_layers;
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
