#include "common/weights/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/weights/files.h"
#include "proto/limits.h"

/* What a Hugging Face directory holds beside weights. Nothing else leaves the host (transport.md section 9). */
static const char *const file_names[] = {
    "config.json", "generation_config.json", "tokenizer.json",          "tokenizer_config.json", "vocab.json",
    "merges.txt",  "added_tokens.json",      "special_tokens_map.json", "chat_template.jinja"};
#define REASON_BYTES 128
#define FILE_NAMES (sizeof file_names / sizeof *file_names)

struct version {
    struct message_manifest manifest;
    const uint8_t *data;
};

struct stored_delta {
    struct message_manifest manifest;
    uint8_t *data; /* owned */
};

struct store {
    struct version versions[STORE_VERSIONS_MAX];
    uint32_t version_count;
    struct stored_delta deltas[STORE_DELTAS_MAX];
    uint32_t delta_count;
    struct model_file files[FILE_NAMES];
    int fds[FILE_NAMES];
    uint32_t file_count;
    uint8_t chunk[CHUNK_BYTES_MAX];
};

enum status store_create(struct store **out_store) {
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return fail(STATUS_NO_MEMORY, "no memory: weights store");
    *out_store = store;
    return STATUS_OK;
}

static void close_files(struct store *store) {
    while (store->file_count)
        close(store->fds[--store->file_count]);
}

void store_destroy(struct store **store) {
    if (*store) {
        store_retire_deltas(*store, UINT32_MAX);
        close_files(*store);
    }
    free(*store);
    *store = NULL;
}

bool store_file_allowed(const char *name) {
    for (size_t i = 0; i < FILE_NAMES; i++)
        if (strcmp(name, file_names[i]) == 0)
            return true;
    return false;
}

static enum status open_file(struct store *store, const char *directory, const char *name) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory, name));
    if (!fs_exists(path))
        return STATUS_OK;
    struct model_file file = {.name = {name, (uint32_t)strlen(name)}};
    TRY(hash_file(path, &file.digest, &file.bytes));
    if (file.bytes > FILE_BYTES_MAX)
        return fail(STATUS_LIMIT, "%s: %llu bytes; a model's small file has at most %u", path,
                    (unsigned long long)file.bytes, FILE_BYTES_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("%s", path);
    store->fds[store->file_count] = fd;
    store->files[store->file_count++] = file;
    return STATUS_OK;
}

enum status store_open_files(struct store *store, const char *directory) {
    close_files(store);
    for (size_t i = 0; i < FILE_NAMES; i++)
        TRY(open_file(store, directory, file_names[i]));
    if (store->file_count == 0 || strcmp(store->files[0].name.data, file_names[0]) != 0)
        return fail(STATUS_NOT_FOUND, "%s: no config.json; must be a Hugging Face model directory", directory);
    return STATUS_OK;
}

const struct model_file *store_files(const struct store *store, uint32_t *out_count) {
    *out_count = store->file_count;
    return store->files;
}

/* ---- versions ---- */

static struct version *find_version(struct store *store, struct digest weights) {
    for (uint32_t i = 0; i < store->version_count; i++)
        if (digest_equal(store->versions[i].manifest.weights, weights))
            return &store->versions[i];
    return NULL;
}

enum status store_publish(struct store *store, const struct message_manifest *manifest, const void *data) {
    ASSERT(manifest->form == FORM_SNAPSHOT);
    TRY(content_check(manifest, manifest->elements));
    struct version *version = find_version(store, manifest->weights);
    if (!version) {
        if (store->version_count == STORE_VERSIONS_MAX)
            return fail(STATUS_LIMIT, "version %u: %d versions are served already", manifest->version,
                        STORE_VERSIONS_MAX);
        version = &store->versions[store->version_count++];
    }
    *version = (struct version){.manifest = *manifest, .data = data};
    return STATUS_OK;
}

void store_retire(struct store *store, struct digest weights) {
    struct version *version = find_version(store, weights);
    if (version)
        *version = store->versions[--store->version_count];
}

/* ---- deltas ---- */

static struct stored_delta *find_delta(struct store *store, struct digest base, struct digest weights) {
    for (uint32_t i = 0; i < store->delta_count; i++)
        if (digest_equal(store->deltas[i].manifest.weights, weights) &&
            digest_equal(store->deltas[i].manifest.base, base))
            return &store->deltas[i];
    return NULL;
}

static void drop_delta(struct store *store, struct stored_delta *delta) {
    free(delta->data);
    *delta = store->deltas[--store->delta_count];
}

static struct stored_delta *lowest_delta(struct store *store) {
    struct stored_delta *lowest = &store->deltas[0];
    for (uint32_t i = 1; i < store->delta_count; i++)
        if (store->deltas[i].manifest.version < lowest->manifest.version)
            lowest = &store->deltas[i];
    return lowest;
}

enum status store_publish_delta(struct store *store, const struct message_manifest *manifest, void *take_data) {
    ASSERT(manifest->form == FORM_DELTA);
    enum status status = content_check(manifest, manifest->elements);
    if (status != STATUS_OK) {
        free(take_data);
        return status;
    }
    struct stored_delta *same = find_delta(store, manifest->base, manifest->weights);
    if (same)
        drop_delta(store, same);
    else if (store->delta_count == STORE_DELTAS_MAX)
        drop_delta(store, lowest_delta(store));
    store->deltas[store->delta_count++] = (struct stored_delta){*manifest, take_data};
    return STATUS_OK;
}

void store_retire_deltas(struct store *store, uint32_t version) {
    for (uint32_t i = store->delta_count; i-- > 0;)
        if (store->deltas[i].manifest.version < version)
            drop_delta(store, &store->deltas[i]);
}

/* ---- fetches ---- */

struct object {
    const uint8_t *data; /* NULL: a file */
    int fd;
    uint64_t bytes;
    uint32_t chunk_bytes;
};

static bool find_object(struct store *store, const struct message_fetch *fetch, struct object *out_object) {
    if (fetch->kind == FETCH_SNAPSHOT) {
        const struct version *version = find_version(store, fetch->object);
        if (version)
            *out_object =
                (struct object){version->data, -1, version->manifest.payload_bytes, version->manifest.chunk_bytes};
        return version;
    }
    if (fetch->kind == FETCH_DELTA) {
        const struct stored_delta *delta = find_delta(store, fetch->base, fetch->object);
        if (delta)
            *out_object = (struct object){delta->data, -1, delta->manifest.payload_bytes, delta->manifest.chunk_bytes};
        return delta;
    }
    for (uint32_t i = 0; fetch->kind == FETCH_FILE && i < store->file_count; i++)
        if (digest_equal(store->files[i].digest, fetch->object)) {
            *out_object = (struct object){NULL, store->fds[i], store->files[i].bytes, CHUNK_BYTES_MAX};
            return true;
        }
    return false;
}

static void reply_gone(const struct message_fetch *fetch, const char *reason, store_reply reply, void *context) {
    struct message message = {.type = MESSAGE_GONE};
    message.gone = (struct message_gone){fetch->kind, fetch->object, {reason, (uint32_t)strlen(reason)}};
    reply(context, &message);
}

/* "": read; else what is wrong. */
static void read_file(int fd, void *data, uint32_t bytes, uint64_t at, char out_reason[REASON_BYTES]) {
    out_reason[0] = '\0';
    for (uint32_t done = 0; done < bytes;) {
        ssize_t got = pread(fd, (uint8_t *)data + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            snprintf(out_reason, REASON_BYTES, "the learner cannot read it: %s", strerror(errno));
        else if (got == 0)
            snprintf(out_reason, REASON_BYTES, "the file was cut on the learner's disk");
        if (got <= 0)
            return;
        done += (uint32_t)got;
    }
}

void store_fetch(struct store *store, const struct message_fetch *fetch, store_reply reply, void *context) {
    static const char *const absent[] = {[FETCH_SNAPSHOT] = "this version is retired or was never published",
                                         [FETCH_DELTA] = "this delta is retired or was never published",
                                         [FETCH_FILE] = "no such file of the model"};
    struct object object;
    if (!find_object(store, fetch, &object)) {
        reply_gone(fetch, absent[fetch->kind], reply, context);
        return;
    }
    uint64_t chunks = (object.bytes + object.chunk_bytes - 1) / object.chunk_bytes;
    if (chunks == 0)
        chunks = 1; /* an empty file is one empty chunk */
    uint64_t end = (uint64_t)fetch->first + (fetch->count < FETCH_COUNT_MAX ? fetch->count : FETCH_COUNT_MAX);
    for (uint64_t index = fetch->first; index < end && index < chunks; index++) {
        uint64_t first = index * object.chunk_bytes, left = object.bytes - first;
        uint32_t bytes = left < object.chunk_bytes ? (uint32_t)left : object.chunk_bytes;
        const uint8_t *data = object.data ? object.data + first : store->chunk;
        char reason[REASON_BYTES] = "";
        if (!object.data)
            read_file(object.fd, store->chunk, bytes, first, reason);
        if (reason[0]) {
            reply_gone(fetch, reason, reply, context);
            return;
        }
        struct message message = {.type = MESSAGE_CHUNK};
        message.chunk = (struct message_chunk){.kind = fetch->kind,
                                               .object = fetch->object,
                                               .index = (uint32_t)index,
                                               .total_bytes = object.bytes,
                                               .hash = hash64(data, bytes),
                                               .data = data,
                                               .bytes = bytes};
        if (!reply(context, &message))
            return;
    }
}
