#include "learner/checkpoint.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/model/safetensors.h"
#include "learner/checkpoint_names.h"
#include "learner/checkpoint_older.h"
#include "learner/support.h"

#define COPY_BYTES (4u << 20)
#define DELTA_SHARE 8 /* an older version is taken to need 1/8 of the weights; 1/50 and less at lr 1e-6 */
#define SMALL_FILES_BYTES (16u << 20) /* tokenizer and configuration, generously */

struct checkpointer {
    struct checkpointer_settings settings;
    char parent[PATH_BYTES];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool closing, busy, reading;
    /* the job; touched by the thread while busy */
    struct checkpoint_state state;
    struct version *current, *older[CHECKPOINT_OLDER_MAX];
    uint32_t older_count;
    enum status last;
    char last_message[STATUS_MESSAGE_BYTES];
    uint32_t failures;
    char *chunk; /* [COPY_BYTES] */
};

/* ---- one checkpoint ---- */

static enum status append_from_device(struct checkpointer *c, struct st_writer *writer, const void *from,
                                      uint64_t bytes) {
    struct device *device = c->settings.model->device;
    for (uint64_t at = 0; at < bytes; at += COPY_BYTES) {
        uint64_t count = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
        TRY(device->ops->read_aside(device, c->chunk, (const char *)from + at, count));
        TRY(st_writer_append(writer, c->chunk, count));
    }
    return STATUS_OK;
}

static enum status put_optimiser(struct checkpointer *c, struct st_writer *writer) {
    const struct optimiser *o = c->settings.optimiser;
    for (uint32_t i = 0; i < o->part_count; i++)
        TRY(st_writer_declare(writer, o->parts[i].name, o->parts[i].type, 1, &o->parts[i].elements));
    for (uint32_t i = 0; i < o->part_count; i++)
        TRY(append_from_device(c, writer, o->parts[i].data, o->parts[i].bytes));
    return STATUS_OK;
}

static enum status write_optimiser(struct checkpointer *c, const char *directory) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory, CHECKPOINT_OPTIMISER));
    struct st_writer *writer;
    TRY(st_writer_create(path, &writer));
    enum status status = put_optimiser(c, writer);
    if (status != STATUS_OK) {
        st_writer_abort(&writer);
        return status;
    }
    return st_writer_finish(&writer, NULL);
}

static void put_digest(struct buf *out, const char *key, struct digest digest) {
    char hex[DIGEST_HEX_BYTES];
    digest_format(digest, hex);
    buf_printf(out, ",\n \"%s\": \"%s\"", key, hex);
}

static void put_state(const struct checkpointer *c, struct buf *out) {
    const struct checkpoint_state *state = &c->state;
    buf_printf(out,
               "{\n \"format\": %d,\n \"step\": %" PRIu64 ",\n \"updates\": %" PRIu64
               ",\n \"skips_in_row\": %u,\n \"metrics_bytes\": %" PRIu64 ",\n \"run_id\": \"%016" PRIx64
               "\",\n \"questions\": \"%016" PRIx64 "\"",
               CHECKPOINT_FORMAT, state->step, state->updates, state->skips_in_row, state->metrics_bytes, state->run_id,
               state->questions);
    put_digest(out, "weights", state->weights);
    put_digest(out, "config", state->config);
    put_digest(out, "reference", state->reference);
    buf_puts(out, ",\n \"older\": [");
    for (uint32_t i = 0; i < c->older_count; i++) {
        char hex[DIGEST_HEX_BYTES];
        digest_format(c->older[i]->digest, hex);
        buf_printf(out, "%s\n  {\"version\": %u, \"weights\": \"%s\"}", i ? "," : "", c->older[i]->number, hex);
    }
    buf_puts(out, "]");
}

static enum status put_files(const char *directory, struct buf *out) {
    struct fs_list list;
    TRY(fs_list_directory(directory, &list));
    enum status status = STATUS_OK;
    buf_puts(out, ",\n \"files\": {");
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        char path[PATH_BYTES], hex[DIGEST_HEX_BYTES];
        struct digest digest;
        uint64_t bytes;
        status = fs_join(path, directory, list.names[i]);
        if (status == STATUS_OK)
            status = hash_file(path, &digest, &bytes);
        if (status != STATUS_OK)
            break;
        digest_format(digest, hex);
        buf_puts(out, i ? ",\n  " : "\n  ");
        json_put_string(out, list.names[i], strlen(list.names[i]));
        buf_printf(out, ": {\"bytes\": %" PRIu64 ", \"digest\": \"%s\"}", bytes, hex);
    }
    buf_puts(out, "}");
    fs_list_free(&list);
    return status;
}

/* state.json: the last file, since it holds the checksums of the others; the last line is its own, of all before it. */
static enum status write_state(struct checkpointer *c, const char *directory) {
    char path[PATH_BYTES];
    struct buf text = {0};
    TRY(fs_join(path, directory, CHECKPOINT_STATE));
    put_state(c, &text);
    enum status status = put_files(directory, &text);
    if (buf_ok(&text))
        put_digest(&text, CHECKPOINT_DIGEST, hash128(text.data, text.bytes));
    buf_puts(&text, CHECKPOINT_STATE_END);
    if (status == STATUS_OK && !buf_ok(&text))
        status = fail(STATUS_NO_MEMORY, "%s: no memory", path);
    if (status == STATUS_OK)
        status = fs_write_atomic(path, text.data, text.bytes);
    buf_deinit(&text);
    return status;
}

static void mark_read(struct checkpointer *c) {
    pthread_mutex_lock(&c->mutex);
    c->reading = false;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

/* A checkpoint counts on the lines of the steps that it holds. */
static enum status sync_metrics(const struct checkpointer *c) {
    char path[PATH_BYTES];
    TRY(fs_join(path, c->settings.run_directory, CHECKPOINT_METRICS));
    return c->state.metrics_bytes > 0 ? fs_sync_file(path) : STATUS_OK;
}

static enum status write_files(struct checkpointer *c, const char *directory) {
    enum status status = write_optimiser(c, directory);
    mark_read(c);
    TRY(status);
    TRY(sync_metrics(c));
    TRY(support_copy_tokenizer(c->settings.model_directory, directory));
    TRY(model_save_host(c->settings.model, c->current->data, directory));
    TRY(checkpoint_older_write(directory, c->older, c->older_count, c->current));
    return write_state(c, directory);
}

/* The oldest beyond `keep`; what cannot be removed stays, and says so. One of a later step than the one just written is
 * damaged, as the run went on from before it: it does not count, and is replaced when its step comes again. */
static void remove_old(struct checkpointer *c) {
    char newest[CHECKPOINT_NAME_BYTES];
    struct fs_list list;
    if (fs_list_directory(c->parent, &list) != STATUS_OK)
        return;
    checkpoint_name(c->state.step, newest);
    uint32_t kept = 0;
    for (size_t i = list.count; i > 0; i--) {
        char path[PATH_BYTES];
        const char *name = list.names[i - 1];
        if (!checkpoint_is_name(name) || strcmp(name, newest) > 0 || ++kept <= c->settings.keep)
            continue;
        if (fs_join(path, c->parent, name) != STATUS_OK || fs_remove_tree(path) != STATUS_OK)
            log_event(LOG_WARNING, "checkpoint_not_removed", "%s", status_message());
    }
    fs_list_free(&list);
}

static enum status write_checkpoint(struct checkpointer *c) {
    char name[CHECKPOINT_NAME_BYTES], part[PATH_BYTES], path[PATH_BYTES], latest[PATH_BYTES];
    checkpoint_name(c->state.step, name);
    TRY(fs_join(path, c->parent, name));
    TRY(fs_join(latest, c->parent, CHECKPOINT_LATEST));
    size_t bytes = strlen(path);
    if (bytes + sizeof CHECKPOINT_PART > sizeof part)
        return fail(STATUS_LIMIT, "%s: the path is too long", path);
    memcpy(part, path, bytes);
    memcpy(part + bytes, CHECKPOINT_PART, sizeof CHECKPOINT_PART);
    TRY(fs_remove_tree(part));
    TRY(fs_make_directories(part));
    enum status status = write_files(c, part);
    if (status == STATUS_OK)
        status = fs_remove_tree(path); /* a damaged one of the same step, from before a resume */
    if (status == STATUS_OK)
        status = fs_move_directory(part, path);
    if (status != STATUS_OK) {
        (void)fs_remove_tree(part);
        return status;
    }
    strcat(name, "\n");
    TRY(fs_write_atomic(latest, name, strlen(name)));
    remove_old(c);
    return STATUS_OK;
}

/* ---- the thread ---- */

static void run_job(struct checkpointer *c) {
    double start = clock_seconds();
    enum status status = write_checkpoint(c);
    mark_read(c);
    if (status == STATUS_OK)
        log_event(LOG_INFO, "checkpoint_written", "step=%" PRIu64 " seconds=%.3f", c->state.step,
                  clock_seconds() - start);
    else
        log_event(LOG_ERROR, "checkpoint_failed", "step=%" PRIu64 " reason=\"%s\" training goes on", c->state.step,
                  status_message());
    version_release(c->current);
    for (uint32_t i = 0; i < c->older_count; i++)
        version_release(c->older[i]);
    pthread_mutex_lock(&c->mutex);
    c->last = status;
    snprintf(c->last_message, sizeof c->last_message, "%s", status == STATUS_OK ? "" : status_message());
    c->failures += status != STATUS_OK;
    c->busy = false;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

static void *thread_main(void *argument) {
    struct checkpointer *c = argument;
    for (;;) {
        pthread_mutex_lock(&c->mutex);
        while (!c->busy && !c->closing)
            pthread_cond_wait(&c->changed, &c->mutex);
        bool work = c->busy;
        pthread_mutex_unlock(&c->mutex);
        if (!work)
            return NULL;
        run_job(c);
    }
}

static bool is_part(const char *name) {
    size_t bytes = strlen(name), tail = strlen(CHECKPOINT_PART);
    return bytes > tail && strcmp(name + bytes - tail, CHECKPOINT_PART) == 0;
}

enum status checkpointer_open(const struct checkpointer_settings *settings, struct checkpointer **out_checkpointer) {
    struct checkpointer *c = calloc(1, sizeof *c);
    if (c)
        c->chunk = malloc(COPY_BYTES);
    if (!c || !c->chunk) {
        free(c);
        return fail(STATUS_NO_MEMORY, "checkpoints: no memory");
    }
    c->settings = *settings;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    enum status status = fs_join(c->parent, settings->run_directory, CHECKPOINT_FOLDER);
    if (status == STATUS_OK)
        status = fs_make_directories(c->parent);
    if (status == STATUS_OK)
        status = fs_remove_temporaries(c->parent);
    if (status == STATUS_OK)
        status = fs_remove_matching(c->parent, is_part);
    if (status == STATUS_OK && pthread_create(&c->thread, NULL, thread_main, c) != 0)
        status = fail(STATUS_NO_MEMORY, "checkpoints: no memory for a thread");
    if (status != STATUS_OK) {
        free(c->chunk);
        free(c);
        return status;
    }
    *out_checkpointer = c;
    return STATUS_OK;
}

void checkpointer_begin(struct checkpointer *c, const struct checkpoint_state *state, struct version *current,
                        struct version *const *older, uint32_t older_count) {
    ASSERT(older_count <= CHECKPOINT_OLDER_MAX && current->number == state->step);
    pthread_mutex_lock(&c->mutex);
    while (c->busy)
        pthread_cond_wait(&c->changed, &c->mutex);
    c->state = *state;
    c->current = version_retain(current);
    for (uint32_t i = 0; i < older_count; i++)
        c->older[i] = version_retain(older[i]);
    c->older_count = older_count;
    c->busy = c->reading = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

void checkpointer_wait_read(struct checkpointer *c) {
    pthread_mutex_lock(&c->mutex);
    while (c->reading)
        pthread_cond_wait(&c->changed, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

enum status checkpointer_finish(struct checkpointer *c) {
    pthread_mutex_lock(&c->mutex);
    while (c->busy)
        pthread_cond_wait(&c->changed, &c->mutex);
    enum status status = c->last;
    if (status != STATUS_OK)
        fail(status, "%s", c->last_message);
    pthread_mutex_unlock(&c->mutex);
    return status;
}

uint32_t checkpointer_failures(struct checkpointer *c) {
    pthread_mutex_lock(&c->mutex);
    uint32_t failures = c->failures;
    pthread_mutex_unlock(&c->mutex);
    return failures;
}

void checkpointer_close(struct checkpointer **checkpointer) {
    struct checkpointer *c = *checkpointer;
    if (!c)
        return;
    pthread_mutex_lock(&c->mutex);
    c->closing = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->mutex);
    pthread_cond_destroy(&c->changed);
    free(c->chunk);
    free(c);
    *checkpointer = NULL;
}

/* ---- room ---- */

uint64_t checkpoint_bytes(const struct optimiser *optimiser, uint32_t older_count) {
    const struct model *model = optimiser->model;
    uint64_t total = (uint64_t)model->layout->total, weights = total * dtype_bytes(model->type);
    uint64_t older = model->type == DTYPE_BF16 ? weights / DELTA_SHARE : weights;
    uint64_t state = (uint64_t)optimiser_state_bytes((int64_t)total, model->type, optimiser->settings.moments);
    return weights + state + older * older_count + SMALL_FILES_BYTES;
}

static uint32_t count_checkpoints(const char *run_directory) {
    char parent[PATH_BYTES];
    struct fs_list list;
    if (fs_join(parent, run_directory, CHECKPOINT_FOLDER) != STATUS_OK || !fs_is_directory(parent) ||
        fs_list_directory(parent, &list) != STATUS_OK)
        return 0;
    uint32_t count = 0;
    for (size_t i = 0; i < list.count; i++)
        count += checkpoint_is_name(list.names[i]);
    fs_list_free(&list);
    return count;
}

enum status checkpoint_check_room(const char *run_directory, uint64_t bytes, uint32_t keep) {
    uint32_t present = count_checkpoints(run_directory), more = present < keep ? keep + 1 - present : 1;
    uint64_t available, wanted = bytes * more;
    TRY(fs_free_bytes(run_directory, &available));
    if (available < wanted)
        return fail(
            STATUS_IO,
            "%s: %.2f GB free; right would be %.2f GB: %u checkpoints of %.2f GB (checkpoint.keep + 1, less those "
            "that are there)",
            run_directory, (double)available / 1e9, (double)wanted / 1e9, more, (double)bytes / 1e9);
    return STATUS_OK;
}
