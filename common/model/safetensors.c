#include "common/model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"

static const struct {
    const char *name;
    enum st_dtype dtype;
    uint32_t bytes;
} dtypes[] = {
    {"BF16", ST_BF16, 2},  {"F16", ST_F16, 2},       {"F32", ST_F32, 4},       {"I16", ST_I16, 2},
    {"U16", ST_U16, 2},    {"I32", ST_I32, 4},       {"I64", ST_I64, 8},       {"U8", ST_U8, 1},
    {"F64", ST_OTHER, 8},  {"U64", ST_OTHER, 8},     {"U32", ST_OTHER, 4},     {"I8", ST_OTHER, 1},
    {"BOOL", ST_OTHER, 1}, {"F8_E4M3", ST_OTHER, 1}, {"F8_E5M2", ST_OTHER, 1},
};

/* A tensor of the header with the place that it claims, relative to the start of the data. */
struct claim {
    struct st_tensor tensor;
    uint64_t begin, end;
    int32_t order; /* in the header */
};

static enum status read_dtype(const char *path, const json_t *entry, struct claim *claim, uint32_t *out_bytes) {
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; text && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            claim->tensor.dtype = dtypes[i].dtype;
            memcpy(claim->tensor.dtype_name, dtypes[i].name, strlen(dtypes[i].name) + 1);
            *out_bytes = dtypes[i].bytes;
            return STATUS_OK;
        }
    }
    return fail(STATUS_FORMAT, "%s: %.200s: dtype is \"%.40s\"; BF16, F32 or another of the format's is wanted", path,
                claim->tensor.name, text ? text : "absent");
}

/* Shape, and the bytes that shape and dtype make, with overflow checks. */
static enum status read_shape(const char *path, const json_t *entry, uint32_t element_bytes, struct claim *claim) {
    struct st_tensor *tensor = &claim->tensor;
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > ST_RANK_MAX)
        return fail(STATUS_FORMAT, "%s: %.200s: shape: a list of at most %d sizes is wanted", path, tensor->name,
                    ST_RANK_MAX);
    tensor->rank = (int32_t)json_array_size(shape);
    uint64_t bytes = element_bytes;
    for (int32_t i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return fail(STATUS_FORMAT, "%s: %.200s: shape[%d]: a size of at least 0 is wanted", path, tensor->name, i);
        tensor->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(bytes, (uint64_t)tensor->shape[i], &bytes))
            return fail(STATUS_FORMAT, "%s: %.200s: the product of its shape overflows", path, tensor->name);
    }
    tensor->bytes = bytes;
    return STATUS_OK;
}

static enum status read_offsets(const char *path, const json_t *entry, uint64_t data_bytes, struct claim *claim) {
    const struct st_tensor *tensor = &claim->tensor;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return fail(STATUS_FORMAT, "%s: %.200s: data_offsets: two whole numbers are wanted", path, tensor->name);
    json_int_t first = json_integer_value(begin), last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > data_bytes)
        return fail(STATUS_FORMAT, "%s: %.200s: data_offsets [%lld, %lld]: 0 <= begin <= end <= %llu is right", path,
                    tensor->name, (long long)first, (long long)last, (unsigned long long)data_bytes);
    if ((uint64_t)(last - first) != tensor->bytes)
        return fail(STATUS_FORMAT, "%s: %.200s: data_offsets span %llu bytes; shape and dtype make %llu", path,
                    tensor->name, (unsigned long long)(last - first), (unsigned long long)tensor->bytes);
    claim->begin = (uint64_t)first;
    claim->end = (uint64_t)last;
    return STATUS_OK;
}

static enum status read_entry(const char *path, const json_t *entry, uint64_t data_bytes, struct claim *claim) {
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return fail(STATUS_FORMAT, "%s: %.200s: dtype, shape and data_offsets are wanted, and nothing else", path,
                    claim->tensor.name);
    uint32_t element_bytes = 0;
    TRY(read_dtype(path, entry, claim, &element_bytes));
    TRY(read_shape(path, entry, element_bytes, claim));
    return read_offsets(path, entry, data_bytes, claim);
}

static enum status check_metadata(const char *path, json_t *metadata) {
    if (!json_is_object(metadata))
        return fail(STATUS_FORMAT, "%s: __metadata__: an object is wanted", path);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return fail(STATUS_FORMAT, "%s: __metadata__: %.200s: a string is wanted", path, key);
    }
    return STATUS_OK;
}

/* By place; an empty tensor comes before the one that begins where it stands. */
static int compare_claims(const void *left, const void *right) {
    const struct claim *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The data must be tiled: no hole, no overlap, nothing behind the last tensor. */
static enum status check_tiling(const char *path, const struct claim *claims, int32_t count, uint64_t data_bytes) {
    uint64_t covered = 0;
    for (int32_t i = 0; i < count; i++) {
        if (claims[i].begin != covered)
            return fail(STATUS_FORMAT, "%s: %.200s begins at %llu; without %s it would begin at %llu", path,
                        claims[i].tensor.name, (unsigned long long)claims[i].begin,
                        claims[i].begin < covered ? "overlap" : "a hole", (unsigned long long)covered);
        covered = claims[i].end;
    }
    if (covered != data_bytes)
        return fail(STATUS_FORMAT, "%s: tensors end at byte %llu of %llu: truncated or with bytes behind them", path,
                    (unsigned long long)covered, (unsigned long long)data_bytes);
    return STATUS_OK;
}

static enum status read_claims(const char *path, json_t *header, uint64_t data_bytes, struct claim *claims,
                               int32_t *count) {
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            TRY(check_metadata(path, entry));
            continue;
        }
        struct claim *claim = &claims[*count];
        claim->order = *count;
        claim->tensor.name = strdup(name);
        if (!claim->tensor.name)
            return fail(STATUS_NO_MEMORY, "%s: no memory for its list of tensors", path);
        ++*count; /* from here on the name is freed with the file */
        TRY(read_entry(path, entry, data_bytes, claim));
    }
    qsort(claims, (size_t)*count, sizeof *claims, compare_claims);
    return check_tiling(path, claims, *count, data_bytes);
}

/* The header's length is checked against the file, then its JSON is parsed: depth and duplicate names are refused
 * there. */
static enum status read_header(const char *path, const uint8_t *bytes, size_t file_bytes, uint64_t *out_header_bytes,
                               json_t **out_header) {
    uint64_t length = 0;
    if (file_bytes < 8)
        return fail(STATUS_FORMAT, "%s: %zu bytes; a safetensors file has at least 10", path, file_bytes);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length < 2 || length > ST_HEADER_BYTES_MAX || length > file_bytes - 8)
        return fail(STATUS_FORMAT, "%s: header of %llu bytes in a file of %zu; 2 to %u that fit the file are right",
                    path, (unsigned long long)length, file_bytes, ST_HEADER_BYTES_MAX);
    if (bytes[8] != '{')
        return fail(STATUS_FORMAT, "%s: the header begins with byte 0x%02x; '{' is right", path, bytes[8]);
    TRY(json_parse((const char *)bytes + 8, (size_t)length, path, out_header));
    *out_header_bytes = length;
    return STATUS_OK;
}

static enum status fill(struct safetensors *file, const uint8_t *bytes, size_t file_bytes) {
    uint64_t header_bytes = 0;
    json_t *header = NULL;
    TRY(read_header(file->path, bytes, file_bytes, &header_bytes, &header));
    size_t capacity = json_object_size(header) + 1;
    struct claim *claims = calloc(capacity, sizeof *claims);
    file->tensors = calloc(capacity, sizeof *file->tensors);
    enum status status = STATUS_OK;
    if (!claims || !file->tensors)
        status = fail(STATUS_NO_MEMORY, "%s: no memory for its list of tensors", file->path);
    else
        status = read_claims(file->path, header, file_bytes - 8 - header_bytes, claims, &file->count);
    for (int32_t i = 0; i < file->count; i++) {
        file->tensors[i] = claims[i].tensor;
        file->tensors[i].data = bytes + 8 + header_bytes + claims[i].begin;
    }
    free(claims);
    json_decref(header);
    return status;
}

enum status safetensors_parse(const void *data, size_t bytes, const char *name, struct safetensors **out_file) {
    struct safetensors *file = calloc(1, sizeof *file);
    if (file)
        file->path = strdup(name);
    if (!file || !file->path) {
        free(file);
        return fail(STATUS_NO_MEMORY, "%s: no memory", name);
    }
    enum status status = fill(file, data, bytes);
    if (status != STATUS_OK) {
        safetensors_close(&file);
        return status;
    }
    *out_file = file;
    return STATUS_OK;
}

enum status safetensors_open(const char *path, struct safetensors **out_file) {
    struct fs_map map = {0};
    struct safetensors *file = NULL;
    TRY(fs_map_open(path, &map));
    enum status status = safetensors_parse(map.data, map.bytes, path, &file);
    if (status != STATUS_OK) {
        fs_map_close(&map);
        return status;
    }
    file->map = map;
    *out_file = file;
    return STATUS_OK;
}

void safetensors_close(struct safetensors **file) {
    if (!*file)
        return;
    for (int32_t i = 0; i < (*file)->count; i++)
        free((*file)->tensors[i].name);
    free((*file)->tensors);
    free((*file)->path);
    if ((*file)->map.data)
        fs_map_close(&(*file)->map);
    free(*file);
    *file = NULL;
}

const struct st_tensor *safetensors_find(const struct safetensors *file, const char *name) {
    for (int32_t i = 0; i < file->count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    }
    return NULL;
}
