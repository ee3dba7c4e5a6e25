#include "common/weights/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/weights/store.h"
#include "proto/limits.h"

struct cached_file {
    char name[64];
    uint64_t bytes;
    struct digest digest;
};

struct files {
    char directory[PATH_BYTES];
    struct cached_file list[FILES_MAX];
    uint32_t count, at; /* list[at] is under way */
    struct fetch fetch;
    fetch_send send;
    void *context;
};

static enum status check_list(const struct model_file *list, uint32_t count) {
    if (count > FILES_MAX)
        return fail(STATUS_FORMAT, "model files: %u of them; at most %d", count, FILES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (!store_file_allowed(list[i].name.data))
            return fail(STATUS_FORMAT, "model files: a name that no model directory has");
        if (list[i].bytes > FILE_BYTES_MAX)
            return fail(STATUS_FORMAT, "model files: %s of %llu bytes; at most %u", list[i].name.data,
                        (unsigned long long)list[i].bytes, FILE_BYTES_MAX);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(list[i].name.data, list[j].name.data) == 0)
                return fail(STATUS_FORMAT, "model files: %s is there twice", list[i].name.data);
    }
    return STATUS_OK;
}

static enum status list_digest(const struct model_file *list, uint32_t count, struct digest *out_digest) {
    struct buf text = {0};
    for (uint32_t i = 0; i < count; i++) {
        char hex[DIGEST_HEX_BYTES];
        digest_format(list[i].digest, hex);
        buf_printf(&text, "%s %s\n", hex, list[i].name.data);
    }
    if (!buf_ok(&text))
        return fail(STATUS_NO_MEMORY, "no memory: model files");
    *out_digest = hash128(text.data, text.bytes);
    buf_deinit(&text);
    return STATUS_OK;
}

/* Whether list[at] is on disk as it should be. */
static enum status present(const struct files *files, const struct cached_file *file, bool *out_present) {
    char path[PATH_BYTES];
    TRY(fs_join(path, files->directory, file->name));
    *out_present = false;
    if (!fs_exists(path))
        return STATUS_OK;
    struct digest digest;
    uint64_t bytes;
    TRY(hash_file(path, &digest, &bytes));
    *out_present = bytes == file->bytes && digest_equal(digest, file->digest);
    return STATUS_OK;
}

/* Go to the next file that is not on disk and ask for it. */
static enum status next(struct files *files, int64_t now_ms) {
    for (; files->at < files->count; files->at++) {
        const struct cached_file *file = &files->list[files->at];
        bool here;
        TRY(present(files, file, &here));
        if (here)
            continue;
        struct fetch_target target = {
            .kind = FETCH_FILE, .object = file->digest, .bytes = file->bytes, .chunk_bytes = CHUNK_BYTES_MAX};
        return fetch_begin(&files->fetch, &target, now_ms, files->send, files->context);
    }
    return STATUS_OK;
}

enum status files_create(const char *cache, const struct model_file *list, uint32_t count, int64_t now_ms,
                         fetch_send send, void *context, struct files **out_files) {
    TRY(check_list(list, count));
    struct files *files = calloc(1, sizeof *files);
    if (!files)
        return fail(STATUS_NO_MEMORY, "no memory: model files");
    files->send = send;
    files->context = context;
    files->count = count;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(files->list[i].name, sizeof files->list[i].name, "%s", list[i].name.data);
        files->list[i].bytes = list[i].bytes;
        files->list[i].digest = list[i].digest;
    }
    char hex[DIGEST_HEX_BYTES];
    struct digest digest;
    enum status status;
    TRY_GOTO(list_digest(list, count, &digest), failed);
    digest_format(digest, hex);
    TRY_GOTO(fs_join(files->directory, cache, hex), failed);
    TRY_GOTO(fs_make_directories(files->directory), failed);
    TRY_GOTO(next(files, now_ms), failed);
    *out_files = files;
    return STATUS_OK;
failed:
    files_destroy(&files);
    return status;
}

void files_destroy(struct files **files) {
    if (*files)
        fetch_deinit(&(*files)->fetch);
    free(*files);
    *files = NULL;
}

static enum status keep(struct files *files, int64_t now_ms) {
    const struct cached_file *file = &files->list[files->at];
    uint64_t bytes = files->fetch.target.bytes;
    uint8_t *data = fetch_take(&files->fetch);
    char path[PATH_BYTES];
    enum status status = fs_join(path, files->directory, file->name);
    if (status == STATUS_OK && !digest_equal(hash128(data, bytes), file->digest))
        status = fail(STATUS_AGAIN, "%s: what arrived has another hash than the learner announced", file->name);
    if (status == STATUS_OK)
        status = fs_write_atomic(path, data, bytes);
    free(data);
    TRY(status);
    files->at++;
    return next(files, now_ms);
}

enum status files_chunk(struct files *files, const struct message_chunk *chunk, int64_t now_ms) {
    if (fetch_chunk(&files->fetch, chunk, now_ms, files->send, files->context) && fetch_done(&files->fetch))
        return keep(files, now_ms);
    return STATUS_OK;
}

enum status files_gone(struct files *files, const struct message_gone *gone) {
    if (files_done(files) || gone->kind != FETCH_FILE || !digest_equal(gone->object, files->list[files->at].digest))
        return STATUS_OK;
    return fail(STATUS_AGAIN, "%s: the learner offered it and does not give it: %s", files->list[files->at].name,
                gone->reason.data);
}

void files_tick(struct files *files, int64_t now_ms) {
    fetch_tick(&files->fetch, now_ms, files->send, files->context);
}

bool files_done(const struct files *files) {
    return files->at == files->count;
}

const char *files_directory(const struct files *files) {
    return files->directory;
}

bool files_same(const struct files *files, const struct model_file *list, uint32_t count) {
    if (count != files->count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i].name.data, files->list[i].name) != 0 || list[i].bytes != files->list[i].bytes ||
            !digest_equal(list[i].digest, files->list[i].digest))
            return false;
    return true;
}
