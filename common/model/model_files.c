/* Weights between a Hugging Face directory and the flat buffer (parameters.h). */
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/bf16.h"
#include "common/model/parameters.h"
#include "common/model/safetensors.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"
#define INDEX_BYTES_MAX (16u << 20)
#define CHUNK_ELEMENTS (INT64_C(1) << 20)

/* ---- loading ---- */

struct loading {
    struct model *model;
    bool *seen;  /* [layout->count] */
    void *chunk; /* [CHUNK_ELEMENTS] of the storage type */
};

static int32_t find_entry(const struct parameter_layout *layout, const char *name) {
    for (int32_t e = 0; e < layout->count; e++) {
        if (strcmp(layout->entries[e].name, name) == 0)
            return e;
    }
    return -1;
}

/* Tensors that some files carry and no computation reads: the copy of a tied embedding, old rotary tables. */
static bool is_ignorable(const struct model_config *config, const char *name) {
    return (config->tied && strcmp(name, "lm_head.weight") == 0) || strstr(name, ".rotary_emb.inv_freq");
}

static enum status check_tensor(const char *path, const struct st_tensor *tensor, const struct tensor_entry *entry) {
    if (tensor->rank != entry->rank || tensor->shape[0] != entry->rows ||
        (entry->rank == 2 && tensor->shape[1] != entry->cols))
        return fail(STATUS_MISMATCH, "%s: %s has rank %d, shape [%lld, %lld ..]; config.json makes [%d, %d]", path,
                    entry->name, tensor->rank, tensor->rank > 0 ? (long long)tensor->shape[0] : 0,
                    tensor->rank > 1 ? (long long)tensor->shape[1] : 1, entry->rows, entry->cols);
    if (tensor->dtype != ST_BF16 && tensor->dtype != ST_F32)
        return fail(STATUS_UNSUPPORTED, "%s: %s has dtype %s; BF16 and F32 are read", path, entry->name,
                    tensor->dtype_name);
    return STATUS_OK;
}

static void convert(void *to, const char *from, enum st_dtype dtype, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (dtype == ST_F32) {
            uint32_t bits;
            memcpy(&bits, from + 4 * i, 4);
            ((uint16_t *)to)[i] = bf16_round(bits);
        } else {
            uint16_t half;
            memcpy(&half, from + 2 * i, 2);
            ((uint32_t *)to)[i] = bf16_expand(half);
        }
    }
}

static void upload_tensor(struct loading *loading, const struct st_tensor *tensor, const struct tensor_entry *entry) {
    struct model *model = loading->model;
    const struct ops *ops = model->device->ops;
    size_t to_size = dtype_bytes(model->type), from_size = tensor->dtype == ST_BF16 ? 2 : 4;
    char *to = (char *)model->data + (size_t)entry->offset * to_size;
    if (to_size == from_size) {
        ops->upload(model->device, to, tensor->data, tensor->bytes);
        return;
    }
    int64_t total = (int64_t)entry->rows * entry->cols;
    for (int64_t first = 0; first < total; first += CHUNK_ELEMENTS) {
        int64_t count = total - first < CHUNK_ELEMENTS ? total - first : CHUNK_ELEMENTS;
        convert(loading->chunk, (const char *)tensor->data + (size_t)first * from_size, tensor->dtype, count);
        ops->upload(model->device, to + (size_t)first * to_size, loading->chunk, (size_t)count * to_size);
    }
}

static enum status load_file(struct loading *loading, const char *path) {
    struct safetensors *file = NULL;
    TRY(safetensors_open(path, &file));
    const struct parameter_layout *layout = loading->model->layout;
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < file->count && status == STATUS_OK; i++) {
        const struct st_tensor *tensor = &file->tensors[i];
        int32_t e = find_entry(layout, tensor->name);
        if (e < 0 && is_ignorable(&loading->model->config, tensor->name))
            continue;
        if (e < 0)
            status = fail(STATUS_MISMATCH, "%s: %.200s: no such tensor in the model that config.json describes", path,
                          tensor->name);
        else if (loading->seen[e])
            status = fail(STATUS_FORMAT, "%s: %s is in another file already", path, tensor->name);
        else
            status = check_tensor(path, tensor, &layout->entries[e]);
        if (status == STATUS_OK) {
            loading->seen[e] = true;
            upload_tensor(loading, tensor, &layout->entries[e]);
        }
    }
    if (status == STATUS_OK) /* before the mapping goes */
        status = loading->model->device->ops->synchronize(loading->model->device);
    safetensors_close(&file);
    return status;
}

static bool is_plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

/* The files that an index names, each once, in order of first mention. */
static enum status load_sharded(struct loading *loading, const char *directory, const char *index_path) {
    json_t *root = NULL, *files = NULL;
    TRY(json_read_file(index_path, INDEX_BYTES_MAX, &root));
    enum status status = STATUS_OK;
    json_t *map = json_object_get(root, "weight_map"), *value;
    const char *tensor, *name;
    files = json_object();
    if (!json_is_object(map) || !files)
        status = fail(STATUS_FORMAT, "%s: weight_map: an object of tensor names and files is wanted", index_path);
    json_object_foreach(map, tensor, value) {
        if (status != STATUS_OK)
            break;
        if (!json_is_string(value) || !is_plain_name(json_string_value(value)))
            status = fail(STATUS_FORMAT, "%s: weight_map: %.200s: the plain name of a file beside it is wanted",
                          index_path, tensor);
        else
            json_object_set(files, json_string_value(value), json_true());
    }
    json_object_foreach(files, name, value) {
        char path[PATH_BYTES];
        if (status == STATUS_OK)
            status = fs_join(path, directory, name);
        if (status == STATUS_OK)
            status = load_file(loading, path);
    }
    json_decref(files);
    json_decref(root);
    return status;
}

static enum status load_weights(struct loading *loading, const char *directory) {
    char single[PATH_BYTES], index[PATH_BYTES];
    TRY(fs_join(single, directory, SINGLE_FILE));
    TRY(fs_join(index, directory, INDEX_FILE));
    if (fs_exists(single))
        TRY(load_file(loading, single));
    else if (fs_exists(index))
        TRY(load_sharded(loading, directory, index));
    else
        return fail(STATUS_NOT_FOUND, "%s: neither " SINGLE_FILE " nor " INDEX_FILE, directory);
    const struct parameter_layout *layout = loading->model->layout;
    for (int32_t e = 0; e < layout->count; e++) {
        if (!loading->seen[e])
            return fail(STATUS_MISMATCH, "%s: no tensor %s in its safetensors files", directory,
                        layout->entries[e].name);
    }
    return STATUS_OK;
}

enum status model_load(struct device *device, const char *directory, enum dtype type, int32_t positions,
                       int32_t valid_vocab, struct model **out_model) {
    struct model_config config;
    struct model *model = NULL;
    TRY(model_config_read(directory, &config));
    enum status status = model_create(device, &config, type, positions, valid_vocab, &model);
    if (status != STATUS_OK)
        return fail_context(status, "%s", directory);
    struct loading loading = {.model = model,
                              .seen = calloc((size_t)model->layout->count, sizeof(bool)),
                              .chunk = malloc((size_t)CHUNK_ELEMENTS * dtype_bytes(type))};
    if (loading.seen && loading.chunk)
        status = load_weights(&loading, directory);
    else
        status = fail(STATUS_NO_MEMORY, "%s: no memory to load it", directory);
    free(loading.seen);
    free(loading.chunk);
    if (status != STATUS_OK) {
        model_destroy(&model);
        return status;
    }
    *out_model = model;
    return STATUS_OK;
}

/* ---- saving ---- */

/* The entries tile the flat buffer in their order, so the file's data is the buffer itself, in pieces. */
static enum status write_data(const struct model *model, const void *host_data, struct st_writer *writer) {
    size_t size = dtype_bytes(model->type);
    uint64_t total = (uint64_t)model->layout->total * size;
    if (host_data)
        return st_writer_append(writer, host_data, total);
    size_t chunk_bytes = (size_t)CHUNK_ELEMENTS * size;
    char *chunk = malloc(chunk_bytes);
    if (!chunk)
        return fail(STATUS_NO_MEMORY, "no memory to save weights");
    enum status status = STATUS_OK;
    for (uint64_t first = 0; first < total && status == STATUS_OK; first += chunk_bytes) {
        size_t bytes = total - first < chunk_bytes ? (size_t)(total - first) : chunk_bytes;
        model->device->ops->download(model->device, chunk, (const char *)model->data + first, bytes);
        status = st_writer_append(writer, chunk, bytes);
    }
    free(chunk);
    return status == STATUS_OK ? model->device->ops->synchronize(model->device) : status;
}

enum status model_save_host(const struct model *model, const void *host_data, const char *directory) {
    char path[PATH_BYTES];
    struct st_writer *writer = NULL;
    TRY(model_config_write(&model->config, directory));
    TRY(fs_join(path, directory, SINGLE_FILE));
    TRY(st_writer_create(path, &writer));
    enum status status = STATUS_OK;
    for (int32_t e = 0; e < model->layout->count && status == STATUS_OK; e++) {
        const struct tensor_entry *entry = &model->layout->entries[e];
        int64_t shape[2] = {entry->rows, entry->cols};
        status =
            st_writer_declare(writer, entry->name, model->type == DTYPE_BF16 ? ST_BF16 : ST_F32, entry->rank, shape);
    }
    if (status == STATUS_OK)
        status = write_data(model, host_data, writer);
    if (status == STATUS_OK)
        return st_writer_finish(&writer, NULL);
    st_writer_abort(&writer);
    return status;
}

enum status model_save(const struct model *model, const char *directory) {
    return model_save_host(model, NULL, directory);
}
