/* safetensors files: every hostile-input check of transport.md section 9, reading by mapping, streaming writer. */
#ifndef CANDOR_MODEL_SAFETENSORS_H
#define CANDOR_MODEL_SAFETENSORS_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/status.h"

enum st_dtype { ST_BF16, ST_F16, ST_F32, ST_I16, ST_U16, ST_I32, ST_I64, ST_U8, ST_OTHER };

#define ST_RANK_MAX 8

struct st_tensor {
    char *name;
    enum st_dtype dtype;
    int32_t rank;
    int64_t shape[ST_RANK_MAX];
    const void *data; /* into the mapping; may be unaligned */
    uint64_t bytes;
};

struct safetensors {
    struct fs_map map;
    struct st_tensor *tensors; /* in file order */
    int32_t count;
    char *path;
};

enum status safetensors_open(const char *path, struct safetensors **out_file);
void safetensors_close(struct safetensors **file);
const struct st_tensor *safetensors_find(const struct safetensors *file, const char *name);

/* Writer: declare all tensors, then append their bytes in that order; finish fsyncs. Any failure removes the file. */
struct st_writer;
enum status st_writer_create(const char *path, struct st_writer **out_writer);
enum status st_writer_declare(struct st_writer *writer, const char *name, enum st_dtype dtype, int32_t rank,
                              const int64_t *shape);
enum status st_writer_append(struct st_writer *writer, const void *data, uint64_t bytes);
enum status st_writer_finish(struct st_writer **writer, struct digest *out_digest);
void st_writer_abort(struct st_writer **writer);

#endif
