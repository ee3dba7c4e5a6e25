#include "learner/checkpoint_older.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/model/safetensors.h"
#include "common/weights/chain.h"
#include "common/weights/content.h"

#define TENSOR "weights"

static enum status path_of(const char *directory, const char *format, uint32_t number, char out_path[PATH_BYTES]) {
    char name[64];
    snprintf(name, sizeof name, "%s-%08u%s", format, number, strcmp(format, TENSOR) == 0 ? ".safetensors" : "");
    return fs_join(out_path, directory, name);
}

/* ---- writing ---- */

/* On one thread: training goes on beside it. */
static enum status write_delta(const char *directory, const struct version *version, const struct version *next) {
    char path[PATH_BYTES];
    uint8_t *data;
    uint64_t bytes;
    TRY(path_of(directory, "delta", version->number, path));
    TRY(delta_encode(version->data, next->data, version->elements, version->digest, next->digest, 1, &data, &bytes,
                     NULL));
    enum status status = fs_write_atomic(path, data, bytes);
    free(data);
    return status;
}

static enum status write_whole(const char *directory, const struct version *version) {
    char path[PATH_BYTES];
    TRY(path_of(directory, TENSOR, version->number, path));
    struct st_writer *writer;
    TRY(st_writer_create(path, &writer));
    int64_t elements = (int64_t)version->elements;
    enum status status = st_writer_declare(writer, TENSOR, ST_F32, 1, &elements);
    if (status == STATUS_OK)
        status = st_writer_append(writer, version->data, version->elements * dtype_bytes(version->type));
    if (status != STATUS_OK) {
        st_writer_abort(&writer);
        return status;
    }
    return st_writer_finish(&writer, NULL);
}

enum status checkpoint_older_write(const char *directory, struct version *const *older, uint32_t count,
                                   const struct version *current) {
    for (uint32_t i = 0; i < count; i++) {
        const struct version *version = older[i], *next = i + 1 < count ? older[i + 1] : current;
        if (digest_equal(version->digest, next->digest))
            continue;
        TRY(version->type == DTYPE_BF16 ? write_delta(directory, version, next) : write_whole(directory, version));
    }
    return STATUS_OK;
}

/* ---- reading ---- */

/* version holds next's content. */
static enum status go_back(const char *path, const struct version *next, struct digest wanted, int threads,
                           struct version *version) {
    struct buf file = {0};
    enum status status = fs_read(path, delta_bytes_max(version->elements), &file);
    const struct chain chain = {.version = version->number,
                                .to = wanted,
                                .hop_count = 1,
                                .hops = {{(uint8_t *)file.data, file.bytes, DELTA_BACK}}};
    if (status == STATUS_OK)
        status = chain_apply(&chain, next->digest, version->elements, threads, version->data);
    buf_deinit(&file);
    return status == STATUS_OK ? STATUS_OK : fail_context(status, "%s", path);
}

static enum status read_whole(const char *path, struct digest wanted, struct version *version) {
    struct safetensors *file;
    TRY(safetensors_open(path, &file));
    const struct st_tensor *tensor = safetensors_find(file, TENSOR);
    uint64_t bytes = version->elements * dtype_bytes(version->type);
    enum status status = STATUS_OK;
    if (!tensor || tensor->dtype != ST_F32 || tensor->bytes != bytes)
        status =
            fail(STATUS_MISMATCH, "%s: right would be %llu fp32 " TENSOR, path, (unsigned long long)version->elements);
    else if (!digest_equal(content_digest(tensor->data, 0, bytes), wanted))
        status = fail(STATUS_MISMATCH, "%s: not the weights of state.json", path);
    else
        memcpy(version->data, tensor->data, bytes);
    safetensors_close(&file);
    return status;
}

static enum status fill(const char *directory, const struct version *next, int threads, struct version *version) {
    char path[PATH_BYTES];
    struct digest digest = version->digest;
    if (version->type == DTYPE_BF16 || digest_equal(digest, next->digest))
        memcpy(version->data, next->data, version->elements * dtype_bytes(version->type));
    if (digest_equal(digest, next->digest))
        return STATUS_OK;
    if (version->type == DTYPE_BF16) {
        TRY(path_of(directory, "delta", version->number, path));
        return go_back(path, next, digest, threads, version);
    }
    TRY(path_of(directory, TENSOR, version->number, path));
    return read_whole(path, digest, version);
}

enum status checkpoint_older_read(const char *directory, uint32_t number, struct digest digest,
                                  const struct version *next, int threads, struct version **out_version) {
    struct version *version;
    TRY(version_create(number, next->type, next->elements, &version));
    version->digest = digest;
    enum status status = fill(directory, next, threads, version);
    if (status != STATUS_OK) {
        version_release(version);
        return status;
    }
    *out_version = version;
    return STATUS_OK;
}
