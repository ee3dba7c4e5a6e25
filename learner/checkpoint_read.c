/* Finding and loading checkpoints (checkpoint.h). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/safetensors.h"
#include "learner/checkpoint.h"
#include "learner/checkpoint_names.h"
#include "learner/checkpoint_older.h"

#define STATE_BYTES_MAX (1u << 20)

static enum status get_digest(const json_t *object, const char *name, const char *key, struct digest *out_digest) {
    const char *hex;
    TRY(json_get_string(object, name, key, &hex));
    if (!digest_parse(hex, out_digest))
        return fail(STATUS_FORMAT, "%s: %s = \"%.64s\"; right would be 32 hex digits", name, key, hex);
    return STATUS_OK;
}

static enum status get_word(const json_t *object, const char *name, const char *key, uint64_t *out_word) {
    const char *hex;
    TRY(json_get_string(object, name, key, &hex));
    char *end;
    uint64_t word = strtoull(hex, &end, 16);
    if (*hex == '\0' || *end != '\0')
        return fail(STATUS_FORMAT, "%s: %s = \"%.64s\"; right would be hex digits", name, key, hex);
    *out_word = word;
    return STATUS_OK;
}

static enum status get_count(const json_t *object, const char *name, const char *key, uint64_t *out_count) {
    int64_t value;
    TRY(json_get_int(object, name, key, 0, INT64_MAX, &value));
    *out_count = (uint64_t)value;
    return STATUS_OK;
}

static enum status read_state(const json_t *root, const char *name, struct checkpoint_state *out_state) {
    struct checkpoint_state state;
    uint64_t format, skips;
    TRY(get_count(root, name, "format", &format));
    if (format != CHECKPOINT_FORMAT)
        return fail(STATUS_UNSUPPORTED, "%s: format %" PRIu64 "; this build reads %d", name, format, CHECKPOINT_FORMAT);
    TRY(get_count(root, name, "step", &state.step));
    TRY(get_count(root, name, "updates", &state.updates));
    TRY(get_count(root, name, "skips_in_row", &skips));
    TRY(get_count(root, name, "metrics_bytes", &state.metrics_bytes));
    TRY(get_word(root, name, "run_id", &state.run_id));
    TRY(get_word(root, name, "questions", &state.questions));
    TRY(get_digest(root, name, "weights", &state.weights));
    TRY(get_digest(root, name, "config", &state.config));
    TRY(get_digest(root, name, "reference", &state.reference));
    if (state.updates > state.step || skips > state.step - state.updates)
        return fail(STATUS_FORMAT, "%s: %" PRIu64 " updates and %" PRIu64 " skips in %" PRIu64 " steps", name,
                    state.updates, skips, state.step);
    state.skips_in_row = (uint32_t)skips;
    *out_state = state;
    return STATUS_OK;
}

static enum status read_older(const json_t *root, const char *name, struct checkpoint *checkpoint) {
    const json_t *older = json_object_get(root, "older");
    if (!json_is_array(older) || json_array_size(older) > CHECKPOINT_OLDER_MAX)
        return fail(STATUS_FORMAT, "%s: older: right would be an array of at most %d versions", name,
                    CHECKPOINT_OLDER_MAX);
    for (size_t i = 0; i < json_array_size(older); i++) {
        int64_t number;
        TRY(json_get_int(json_array_get(older, i), name, "version", 0, UINT32_MAX, &number));
        TRY(get_digest(json_array_get(older, i), name, "weights", &checkpoint->older[i].digest));
        if ((uint64_t)number >= checkpoint->state.step || (i > 0 && number <= checkpoint->older[i - 1].number))
            return fail(STATUS_FORMAT,
                        "%s: older: version %" PRId64 "; right would be ascending and below step %" PRIu64, name,
                        number, checkpoint->state.step);
        checkpoint->older[i].number = (uint32_t)number;
    }
    checkpoint->older_count = (uint32_t)json_array_size(older);
    return STATUS_OK;
}

static enum status check_file(const char *directory, const char *file, const json_t *entry, const char *name) {
    uint64_t want_bytes, bytes;
    struct digest want, got;
    char path[PATH_BYTES];
    if (strchr(file, '/'))
        return fail(STATUS_FORMAT, "%s: files: \"%.64s\": right would be a plain name", name, file);
    TRY(get_count(entry, name, "bytes", &want_bytes));
    TRY(get_digest(entry, name, "digest", &want));
    TRY(fs_join(path, directory, file));
    TRY(hash_file(path, &got, &bytes));
    if (bytes != want_bytes)
        return fail(STATUS_FORMAT, "%s: %" PRIu64 " bytes; right would be %" PRIu64, path, bytes, want_bytes);
    if (!digest_equal(got, want))
        return fail(STATUS_FORMAT, "%s: the checksum differs from the one in state.json", path);
    return STATUS_OK;
}

static enum status check_files(const json_t *root, const char *directory, const char *name) {
    json_t *files = json_object_get(root, "files"), *entry;
    const char *file;
    if (!json_is_object(files) || json_object_size(files) == 0)
        return fail(STATUS_FORMAT, "%s: files: right would be an object of checksums", name);
    json_object_foreach(files, file, entry) TRY(check_file(directory, file, entry, name));
    return STATUS_OK;
}

/* A checkpoint that was copied under another name is not that one. */
static enum status check_step(const struct checkpoint *checkpoint, const char *path) {
    char name[CHECKPOINT_NAME_BYTES];
    checkpoint_name(checkpoint->state.step, name);
    if (strcmp(strrchr(checkpoint->directory, '/') + 1, name) == 0)
        return STATUS_OK;
    return fail(STATUS_FORMAT, "%s: of step %" PRIu64 "; right would be the step that the directory is named after",
                path, checkpoint->state.step);
}

/* state.json ends with the checksum of all that stands before that line. */
static enum status check_text(const struct buf *text, const char *path) {
    static const char begin[] = ",\n \"" CHECKPOINT_DIGEST "\": \"";
    char hex[DIGEST_HEX_BYTES];
    struct digest digest;
    size_t tail = strlen(begin) + sizeof hex - 1 + strlen("\"" CHECKPOINT_STATE_END);
    const char *at = text->data + text->bytes - tail;
    if (text->bytes < tail || memcmp(at, begin, strlen(begin)) != 0)
        return fail(STATUS_FORMAT, "%s: %zu bytes that do not end with a checksum", path, text->bytes);
    memcpy(hex, at + strlen(begin), sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    if (!digest_parse(hex, &digest) || !digest_equal(digest, hash128(text->data, text->bytes - tail)))
        return fail(STATUS_FORMAT, "%s: the checksum differs from the one at its end", path);
    return STATUS_OK;
}

static enum status read_text(const char *path, json_t **out_root) {
    struct buf text = {0};
    enum status status = fs_read(path, STATE_BYTES_MAX, &text);
    if (status == STATUS_OK)
        status = check_text(&text, path);
    if (status == STATUS_OK)
        status = json_parse(text.data, text.bytes, path, out_root);
    buf_deinit(&text);
    return status;
}

/* Reads and checks one checkpoint directory. */
static enum status open_checkpoint(const char *directory, struct checkpoint *out_checkpoint) {
    struct checkpoint checkpoint = {0};
    char path[PATH_BYTES];
    json_t *root;
    snprintf(checkpoint.directory, sizeof checkpoint.directory, "%s", directory);
    TRY(fs_join(path, directory, CHECKPOINT_STATE));
    TRY(read_text(path, &root));
    enum status status = read_state(root, path, &checkpoint.state);
    if (status == STATUS_OK)
        status = check_step(&checkpoint, path);
    if (status == STATUS_OK)
        status = read_older(root, path, &checkpoint);
    if (status == STATUS_OK)
        status = check_files(root, directory, path);
    json_decref(root);
    TRY(status);
    *out_checkpoint = checkpoint;
    return STATUS_OK;
}

enum status checkpoint_find(const char *run_directory, void (*damaged)(void *context, const char *text), void *context,
                            struct checkpoint *out_checkpoint) {
    char parent[PATH_BYTES];
    TRY(fs_join(parent, run_directory, CHECKPOINT_FOLDER));
    if (!fs_is_directory(parent))
        return fail(STATUS_NOT_FOUND, "%s: no checkpoints", parent);
    struct fs_list list;
    TRY(fs_list_directory(parent, &list));
    enum status status = fail(STATUS_NOT_FOUND, "%s: no checkpoints", parent);
    for (size_t i = list.count; i > 0; i--) { /* names sort by step: the newest first */
        char directory[PATH_BYTES];
        if (!checkpoint_is_name(list.names[i - 1]))
            continue;
        status = fs_join(directory, parent, list.names[i - 1]);
        if (status == STATUS_OK)
            status = open_checkpoint(directory, out_checkpoint);
        if (status == STATUS_OK || status == STATUS_NO_MEMORY)
            break;
        damaged(context, status_message());
        status = fail(STATUS_FORMAT, "%s: every checkpoint is damaged; right would be at least one whole", parent);
    }
    fs_list_free(&list);
    return status;
}

static const char *dtype_name(enum st_dtype type) {
    return type == ST_U8 ? "U8" : type == ST_U16 ? "U16" : "F32";
}

/* The greatest of blocks of coded moments: a number that is none, or below 0, would spread over 256 parameters. */
static enum status check_greatest(const struct safetensors *file, const struct st_tensor *tensor) {
    for (int64_t i = 0; i < tensor->shape[0]; i++) {
        float greatest;
        memcpy(&greatest, (const char *)tensor->data + (size_t)i * sizeof greatest, sizeof greatest);
        if (!isfinite(greatest) || greatest < 0)
            return fail(STATUS_FORMAT, "%s: %s[%" PRId64 "] = %g: right would be a finite number from 0", file->path,
                        tensor->name, i, (double)greatest);
    }
    return STATUS_OK;
}

static enum status load_part(const struct safetensors *file, const struct optimiser_part *part, bool coded,
                             struct device *device) {
    const struct st_tensor *tensor = safetensors_find(file, part->name);
    if (!tensor || tensor->dtype != part->type || tensor->rank != 1 || tensor->shape[0] != part->elements)
        return fail(STATUS_MISMATCH, "%s: %s: right would be a flat %s tensor of %" PRId64 " elements", file->path,
                    part->name, dtype_name(part->type), part->elements);
    if (coded && part->type == ST_F32)
        TRY(check_greatest(file, tensor));
    device->ops->upload(device, part->data, tensor->data, tensor->bytes);
    return STATUS_OK;
}

enum status checkpoint_load_optimiser(const struct checkpoint *checkpoint, struct optimiser *o) {
    char path[PATH_BYTES];
    TRY(fs_join(path, checkpoint->directory, CHECKPOINT_OPTIMISER));
    struct safetensors *file;
    TRY(safetensors_open(path, &file));
    struct device *device = o->model->device;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < o->part_count && status == STATUS_OK; i++)
        status = load_part(file, &o->parts[i], o->settings.moments == MOMENTS_INT8, device);
    if (status == STATUS_OK)
        status = device->ops->synchronize(device);
    safetensors_close(&file);
    TRY(status);
    o->updates = checkpoint->state.updates;
    o->beta1_power = o->beta2_power = 1;
    for (uint64_t i = 0; i < o->updates; i++) { /* the same products as when they were made */
        o->beta1_power *= o->settings.beta1;
        o->beta2_power *= o->settings.beta2;
    }
    return STATUS_OK;
}

enum status checkpoint_load_older(const struct checkpoint *checkpoint, const struct version *current, int threads,
                                  struct version **out_older) {
    const struct version *next = current;
    for (uint32_t i = checkpoint->older_count; i-- > 0; next = out_older[i]) {
        enum status status = checkpoint_older_read(checkpoint->directory, checkpoint->older[i].number,
                                                   checkpoint->older[i].digest, next, threads, &out_older[i]);
        if (status == STATUS_OK)
            continue;
        while (++i < checkpoint->older_count)
            version_release(out_older[i]);
        return status;
    }
    return STATUS_OK;
}
