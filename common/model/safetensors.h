/* safetensors files: every hostile-input check of transport.md section 9, reading by mapping, streaming writer.
 * Source: huggingface/safetensors README (format) and its list of errors. One thread per object. */
#ifndef CANDOR_MODEL_SAFETENSORS_H
#define CANDOR_MODEL_SAFETENSORS_H

#include <stdint.h>

#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/status.h"

/* ST_OTHER: known to the format, and measured for the checks, but not used by Candor (F64, BOOL, F8_E4M3, ...). */
enum st_dtype { ST_BF16, ST_F16, ST_F32, ST_I16, ST_U16, ST_I32, ST_I64, ST_U8, ST_OTHER };

#define ST_RANK_MAX 8
/* The format allows 100 MB. A 32B model's header has about 100 KB; at 16 MiB the parsed tree stays below a gigabyte. */
#define ST_HEADER_BYTES_MAX (16u << 20)

struct st_tensor {
    char *name;
    enum st_dtype dtype;
    char dtype_name[12]; /* as in the file, for messages */
    int32_t rank;
    int64_t shape[ST_RANK_MAX];
    const void *data; /* into the mapping; may be unaligned */
    uint64_t bytes;
};

struct safetensors {
    struct fs_map map;         /* data NULL when the bytes are borrowed */
    struct st_tensor *tensors; /* in file order: their data tile the file without hole or overlap */
    int32_t count;
    char *path;
};

/* STATUS_FORMAT names the file, what was read and what would be right; nothing is trusted before it is checked. */
enum status safetensors_open(const char *path, struct safetensors **out_file);
/* The same over bytes in memory, borrowed until close; name is what errors call them. */
enum status safetensors_parse(const void *data, size_t bytes, const char *name, struct safetensors **out_file);
void safetensors_close(struct safetensors **file);
/* NULL when absent. */
const struct st_tensor *safetensors_find(const struct safetensors *file, const char *name);

/* Writer: declare all tensors, then append their bytes in that order, in pieces of any size; finish fsyncs and gives the
 * digest of the whole file. Data begins at a multiple of 8 bytes. A writer whose call failed can only be aborted, and every
 * failed finish or abort removes the file. */
struct st_writer;
enum status st_writer_create(const char *path, struct st_writer **out_writer);
enum status st_writer_declare(struct st_writer *writer, const char *name, enum st_dtype dtype, int32_t rank,
                              const int64_t *shape);
enum status st_writer_append(struct st_writer *writer, const void *data, uint64_t bytes);
/* out_digest may be NULL. The writer is gone afterwards, whatever is returned. */
enum status st_writer_finish(struct st_writer **writer, struct digest *out_digest);
void st_writer_abort(struct st_writer **writer);

#endif
