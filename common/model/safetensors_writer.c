/* The writing half of safetensors.h: the header is known before the first byte of data, so tensors stream from the
 * device to the file and no copy of a model is ever held. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/base/json.h"
#include "common/model/safetensors.h"

struct st_writer {
    char *path;
    int fd;
    struct buf header;  /* grows with each declare; freed once written */
    XXH3_state_t *hash; /* over everything written */
    uint64_t declared;  /* bytes of data declared */
    uint64_t appended;
    int32_t count;
    bool header_written, failed;
};

static uint32_t element_bytes(enum st_dtype dtype) {
    static const uint32_t bytes[] = {
        [ST_BF16] = 2, [ST_F16] = 2, [ST_F32] = 4, [ST_I16] = 2, [ST_U16] = 2, [ST_I32] = 4, [ST_I64] = 8, [ST_U8] = 1};
    ASSERT(dtype < ST_OTHER);
    return bytes[dtype];
}

static const char *dtype_name(enum st_dtype dtype) {
    static const char *const names[] = {[ST_BF16] = "BF16", [ST_F16] = "F16", [ST_F32] = "F32", [ST_I16] = "I16",
                                        [ST_U16] = "U16",   [ST_I32] = "I32", [ST_I64] = "I64", [ST_U8] = "U8"};
    ASSERT(dtype < ST_OTHER);
    return names[dtype];
}

enum status st_writer_create(const char *path, struct st_writer **out_writer) {
    struct st_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return fail(STATUS_NO_MEMORY, "%s: no memory", path);
    writer->fd = -1;
    writer->path = strdup(path);
    writer->hash = XXH3_createState();
    enum status status = STATUS_OK;
    if (!writer->path || !writer->hash) {
        status = fail(STATUS_NO_MEMORY, "%s: no memory", path);
    } else {
        XXH3_128bits_reset(writer->hash);
        buf_puts(&writer->header, "{\"__metadata__\":{\"format\":\"pt\"}");
        writer->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (writer->fd < 0)
            status = fail_errno("%s: cannot create", path);
    }
    if (status != STATUS_OK) {
        st_writer_abort(&writer);
        return status;
    }
    *out_writer = writer;
    return STATUS_OK;
}

enum status st_writer_declare(struct st_writer *writer, const char *name, enum st_dtype dtype, int32_t rank,
                              const int64_t *shape) {
    ASSERT(!writer->header_written && rank >= 0 && rank <= ST_RANK_MAX);
    struct buf *header = &writer->header;
    uint64_t bytes = element_bytes(dtype);
    buf_puts(header, ",");
    json_put_string(header, name, strlen(name));
    buf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(dtype));
    for (int32_t i = 0; i < rank; i++) {
        ASSERT(shape[i] >= 0 && !__builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes));
        buf_printf(header, "%s%lld", i ? "," : "", (long long)shape[i]);
    }
    buf_printf(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)writer->declared,
               (unsigned long long)(writer->declared + bytes));
    writer->declared += bytes;
    writer->count++;
    return STATUS_OK;
}

static enum status write_bytes(struct st_writer *writer, const char *data, uint64_t bytes) {
    XXH3_128bits_update(writer->hash, data, bytes);
    while (bytes > 0) {
        ssize_t wrote = write(writer->fd, data, bytes < (1u << 30) ? bytes : 1u << 30);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            writer->failed = true;
            return fail_errno("%s: cannot write", writer->path);
        }
        data += wrote;
        bytes -= (uint64_t)wrote;
    }
    return STATUS_OK;
}

static enum status write_header(struct st_writer *writer) {
    struct buf *header = &writer->header;
    writer->header_written = true;
    buf_puts(header, "}");
    while (buf_ok(header) && header->bytes % 8 != 0) /* data begins at 8 + bytes */
        buf_puts(header, " ");
    writer->failed = !buf_ok(header) || header->bytes > ST_HEADER_BYTES_MAX;
    if (!buf_ok(header))
        return fail(STATUS_NO_MEMORY, "%s: no memory for a header of %d tensors", writer->path, writer->count);
    if (writer->failed)
        return fail(STATUS_LIMIT, "%s: a header of %zu bytes for %d tensors; right would be at most %u", writer->path,
                    header->bytes, writer->count, ST_HEADER_BYTES_MAX);
    char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (char)(header->bytes >> 8 * i & 0xff);
    TRY(write_bytes(writer, length, sizeof length));
    TRY(write_bytes(writer, header->data, header->bytes));
    buf_deinit(header);
    return STATUS_OK;
}

enum status st_writer_append(struct st_writer *writer, const void *data, uint64_t bytes) {
    ASSERT(!writer->failed && bytes <= writer->declared - writer->appended);
    if (!writer->header_written)
        TRY(write_header(writer));
    writer->appended += bytes;
    return write_bytes(writer, data, bytes);
}

/* A failed fsync is final for the file (transport.md section 10): it is removed, never retried. */
static enum status settle(struct st_writer *writer, struct digest *out_digest) {
    ASSERT(!writer->failed && writer->appended == writer->declared);
    if (!writer->header_written)
        TRY(write_header(writer));
    if (fsync(writer->fd) != 0)
        return fail_errno("%s: cannot write to disk", writer->path);
    int closed = close(writer->fd);
    writer->fd = -1;
    if (closed != 0) {
        unlink(writer->path);
        return fail_errno("%s: cannot close", writer->path);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(writer->hash);
    if (out_digest)
        *out_digest = (struct digest){.low = hash.low64, .high = hash.high64};
    return STATUS_OK;
}

enum status st_writer_finish(struct st_writer **writer, struct digest *out_digest) {
    enum status status = settle(*writer, out_digest);
    st_writer_abort(writer); /* a file that is closed by now stays */
    return status;
}

void st_writer_abort(struct st_writer **writer) {
    struct st_writer *w = *writer;
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->path);
    }
    buf_deinit(&w->header);
    XXH3_freeState(w->hash);
    free(w->path);
    free(w);
    *writer = NULL;
}
