#include "learner/run_directory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/json.h"
#include "common/base/log.h"

#define CONFIG_BYTES_MAX (4u << 20)
#define RUN_JSON_BYTES_MAX 4096

/* ---- opening ---- */

static enum status each_folder(const char *path, enum status (*use)(const char *folder)) {
    static const char *const folders[] = {"", "rollouts", "eval", "checkpoints", "bad-batches"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char folder[PATH_BYTES];
        TRY(fs_join(folder, path, folders[i]));
        TRY(use(folder));
    }
    return STATUS_OK;
}

static enum status take_lock(struct run_directory *directory) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory->path, "lock"));
    enum status status = fs_lock(path, &directory->lock);
    if (status == STATUS_AGAIN)
        return fail(STATUS_AGAIN, "%s: another learner has this run; right would be one at a time", directory->path);
    return status;
}

/* run.json: {"run_id": "<16 hex digits>"} */
static enum status read_run_id(struct run_directory *directory) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory->path, "run.json"));
    directory->fresh = !fs_exists(path);
    if (directory->fresh) {
        if (getrandom(&directory->run_id, sizeof directory->run_id, 0) != sizeof directory->run_id)
            return fail_errno("no random number for the run");
        directory->run_id |= 1; /* never 0 */
        char text[64];
        int bytes = snprintf(text, sizeof text, "{\"run_id\": \"%016" PRIx64 "\"}\n", directory->run_id);
        return fs_write_atomic(path, text, (size_t)bytes);
    }
    json_t *root;
    const char *hex;
    TRY(json_read_file(path, RUN_JSON_BYTES_MAX, &root));
    enum status status = json_get_string(root, path, "run_id", &hex);
    if (status == STATUS_OK)
        directory->run_id = strtoull(hex, NULL, 16);
    json_decref(root);
    if (status == STATUS_OK && directory->run_id == 0)
        return fail(STATUS_FORMAT, "%s: run_id: right would be 16 hex digits", path);
    return status;
}

static enum status compare_config(const char *path, const struct run_config *config) {
    struct run_config *before = malloc(sizeof *before);
    if (!before)
        return fail(STATUS_NO_MEMORY, "%s: no memory", path);
    enum status status = config_defaults(&run_options, before);
    if (status == STATUS_OK)
        status = config_read_file(&run_options, before, path);
    struct digest was, is;
    if (status == STATUS_OK)
        status = run_config_digest(before, &was);
    if (status == STATUS_OK)
        status = run_config_digest(config, &is);
    if (status == STATUS_OK && !digest_equal(was, is)) {
        struct buf lines = {0}, keys = {0};
        run_config_diff(before, config, &lines);
        char *rest = lines.data, *line;
        while (rest && (line = strsep(&rest, "\n")))
            buf_printf(&keys, "%s%s", keys.bytes && *line ? "; " : "", line);
        status = fail(STATUS_CONFIG,
                      "%s: the run was started with other values; right would be the same ones, or another "
                      "directory: %s",
                      path, buf_ok(&keys) && keys.data ? keys.data : "");
        buf_deinit(&lines);
        buf_deinit(&keys);
    }
    free(before);
    return status;
}

static enum status config_path(const struct run_directory *directory, char out_path[PATH_BYTES]) {
    return fs_join(out_path, directory->path, "config.ini");
}

enum status run_directory_keep_config(const struct run_directory *directory, const struct run_config *config) {
    char path[PATH_BYTES];
    struct buf text = {0};
    TRY(config_path(directory, path));
    struct run_config *absolute = malloc(sizeof *absolute);
    if (!absolute)
        return fail(STATUS_NO_MEMORY, "%s: no memory", path);
    memcpy(absolute, config, sizeof *absolute);
    enum status status = run_config_make_absolute(absolute);
    if (status == STATUS_OK)
        config_print(&run_options, absolute, false, &text);
    if (status == STATUS_OK)
        status = buf_ok(&text) ? fs_write_atomic(path, text.data, text.bytes)
                               : fail(STATUS_NO_MEMORY, "%s: no memory", path);
    buf_deinit(&text);
    free(absolute);
    return status;
}

/* A run without a checkpoint begins anew and loses nothing: it may have failed on what is mended now. Of one with checkpoints
 * it is not known yet whether they are of the same questions and models; until then config.ini names those that are. */
static enum status take_config(const struct run_directory *directory, const struct run_config *config) {
    char path[PATH_BYTES], checkpoints[PATH_BYTES];
    TRY(config_path(directory, path));
    TRY(fs_join(checkpoints, directory->path, "checkpoints"));
    bool begun = fs_exists(path) && !fs_directory_is_empty(checkpoints);
    return begun ? compare_config(path, config) : run_directory_keep_config(directory, config);
}

/* Left there by steps and versions; what others put beside it (a knowledge map, an evaluation of the base model) stays. */
static bool is_of_a_step(const char *name) {
    return strncmp(name, "step-", strlen("step-")) == 0;
}

enum status run_directory_begin_anew(struct run_directory *directory) {
    char folder[PATH_BYTES];
    TRY(fs_join(folder, directory->path, "eval"));
    TRY(fs_remove_matching(folder, is_of_a_step));
    TRY(fs_join(folder, directory->path, "rollouts"));
    TRY(fs_remove_matching(folder, is_of_a_step));
    directory->rollout_bytes = 0;
    return STATUS_OK;
}

static enum status count_rollouts(struct run_directory *directory) {
    char folder[PATH_BYTES], path[PATH_BYTES];
    TRY(fs_join(folder, directory->path, "rollouts"));
    struct fs_list list;
    TRY(fs_list_directory(folder, &list));
    for (size_t i = 0; i < list.count; i++) {
        uint64_t bytes = 0;
        if (fs_join(path, folder, list.names[i]) == STATUS_OK && fs_size(path, &bytes) == STATUS_OK)
            directory->rollout_bytes += bytes;
    }
    fs_list_free(&list);
    return STATUS_OK;
}

enum status run_directory_open(const struct run_config *config, struct run_directory *out_directory) {
    if (config->run_directory[0] == '\0')
        return fail(STATUS_CONFIG, "run.directory: empty; right would be the run's directory (--run DIR)");
    struct run_directory directory = {.lock = -1, .rollout_bytes_max = (uint64_t)config->hub_rollout_bytes};
    if (strlen(config->run_directory) >= sizeof directory.path)
        return fail(STATUS_LIMIT, "run.directory: the path is too long");
    memcpy(directory.path, config->run_directory, strlen(config->run_directory) + 1);
    enum status status = each_folder(directory.path, fs_make_directories);
    if (status == STATUS_OK)
        status = take_lock(&directory);
    if (status == STATUS_OK)
        status = each_folder(directory.path, fs_remove_temporaries);
    if (status == STATUS_OK)
        status = take_config(&directory, config);
    if (status == STATUS_OK)
        status = read_run_id(&directory);
    if (status == STATUS_OK)
        status = count_rollouts(&directory);
    if (status != STATUS_OK) {
        run_directory_close(&directory);
        return status;
    }
    *out_directory = directory;
    return STATUS_OK;
}

void run_directory_close(struct run_directory *directory) {
    if (directory->metrics)
        fclose(directory->metrics);
    directory->metrics = NULL;
    if (directory->lock >= 0)
        fs_unlock(directory->lock);
    directory->lock = -1;
}

/* ---- metrics ---- */

enum status run_directory_open_metrics(struct run_directory *directory, uint64_t bytes) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory->path, "metrics.jsonl"));
    uint64_t present = 0;
    FILE *file = fopen(path, "ae");
    if (!file)
        return fail_errno("%s: cannot open", path);
    enum status status = fs_size(path, &present);
    if (status == STATUS_OK && present < bytes)
        status =
            fail(STATUS_FORMAT, "%s: %" PRIu64 " bytes; right would be at least %" PRIu64 ", as the checkpoint says",
                 path, present, bytes);
    if (status == STATUS_OK && ftruncate(fileno(file), (off_t)bytes) != 0)
        status = fail_errno("%s: cannot cut to %" PRIu64 " bytes", path, bytes);
    if (status != STATUS_OK) {
        fclose(file);
        return status;
    }
    directory->metrics = file;
    directory->metrics_bytes = bytes;
    return STATUS_OK;
}

enum status run_directory_add_metrics(struct run_directory *directory, const struct buf *line) {
    if (!buf_ok(line))
        return fail(STATUS_NO_MEMORY, "metrics.jsonl: no memory for a line");
    if (fwrite(line->data, 1, line->bytes, directory->metrics) != line->bytes || fflush(directory->metrics) != 0)
        return fail_errno("%s/metrics.jsonl: cannot write", directory->path);
    directory->metrics_bytes += line->bytes;
    return STATUS_OK;
}

/* ---- answers ---- */

static void put_ids(struct buf *out, const char *name, const int32_t *ids, uint32_t count) {
    buf_printf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++)
        buf_printf(out, "%s%d", i ? "," : "", ids[i]);
    buf_puts(out, "]");
}

static void put_sample(struct buf *out, const struct answer_sample *sample, const struct sample_score *score,
                       float advantage, bool tokens) {
    buf_puts(out, "{\"text\":");
    json_put_string(out, sample->text.data, sample->text.bytes);
    buf_printf(out, ",\"verdict\":\"%s\",\"reward\":", verdict_name((enum verdict)score->verdict));
    json_put_float(out, score->reward);
    buf_puts(out, ",\"advantage\":");
    json_put_float(out, advantage);
    buf_printf(out, ",\"tokens\":%u,\"finish\":\"%s\"", sample->count,
               sample->finish == FINISH_STOP ? "stop" : "length");
    if (tokens) {
        put_ids(out, "ids", sample->ids, sample->count);
        buf_puts(out, ",\"logprobs\":[");
        for (uint32_t i = 0; i < sample->count; i++) {
            buf_puts(out, i ? "," : "");
            json_put_float(out, sample->logprobs[i]);
        }
        buf_puts(out, "]");
    }
    buf_puts(out, "}");
}

static void put_text(struct buf *out, const char *name, struct text text) {
    buf_printf(out, ",\"%s\":", name);
    json_put_string(out, text.data ? text.data : "", text.bytes);
}

static void put_group(struct buf *out, uint32_t slot, const struct trainer_group *group, const float *advantages,
                      bool tokens) {
    const struct message_group *answered = &group->scored->group;
    buf_printf(out, "{\"slot\":%u", slot);
    put_text(out, "id", answered->grading.question_id);
    put_text(out, "set", answered->grading.set);
    put_text(out, "class", answered->grading.class_label);
    put_text(out, "question", answered->grading.question);
    buf_puts(out, ",\"aliases\":[");
    for (uint32_t i = 0; i < answered->grading.alias_count; i++) {
        buf_puts(out, i ? "," : "");
        json_put_string(out, answered->grading.aliases[i].data, answered->grading.aliases[i].bytes);
    }
    buf_puts(out, "]");
    if (tokens)
        put_ids(out, "prompt", group->prompt, group->prompt_count);
    buf_puts(out, ",\"samples\":[");
    for (uint32_t i = 0; i < answered->sample_count; i++) {
        buf_puts(out, i ? "," : "");
        put_sample(out, &answered->samples[i], &group->scored->scores[i], advantages[i], tokens);
    }
    buf_puts(out, "]}\n");
}

/* Written beside and renamed, without waiting for the disk: a resumed run writes the same file again. */
static enum status write_file(const char *path, const struct buf *text) {
    char beside[PATH_BYTES];
    int length = snprintf(beside, sizeof beside, "%s.part", path);
    if (length < 0 || (size_t)length >= sizeof beside)
        return fail(STATUS_LIMIT, "%s: the path is too long", path);
    FILE *file = fopen(beside, "we");
    if (!file)
        return fail_errno("%s: cannot create", beside);
    bool wrote = fwrite(text->data, 1, text->bytes, file) == text->bytes;
    bool closed = fclose(file) == 0;
    if (wrote && closed && rename(beside, path) == 0)
        return STATUS_OK;
    enum status status = fail_errno("%s: cannot write", path);
    unlink(beside);
    return status;
}

static enum status write_groups(const struct run_directory *directory, const char *folder, uint32_t step, bool tokens,
                                const struct trainer_group *groups, uint32_t group_count, const float *advantages,
                                uint64_t *out_bytes) {
    char name[64], path[PATH_BYTES];
    snprintf(name, sizeof name, "%s/step-%06u.jsonl", folder, step);
    TRY(fs_join(path, directory->path, name));
    struct buf text = {0};
    for (uint32_t g = 0; g < group_count; g++) {
        if (!groups[g].scored)
            continue;
        put_group(&text, g, &groups[g], advantages, tokens);
        advantages += groups[g].scored->group.sample_count;
    }
    enum status status = buf_ok(&text) ? STATUS_OK : fail(STATUS_NO_MEMORY, "%s: no memory", path);
    if (status == STATUS_OK)
        status = write_file(path, &text);
    *out_bytes = text.bytes;
    buf_deinit(&text);
    return status;
}

/* Remove the first files of a folder until at most keep files and bytes_max bytes are left; the newest always stays. */
static enum status thin_out(const struct run_directory *directory, const char *folder, size_t keep, uint64_t bytes_max,
                            uint64_t *bytes) {
    char parent[PATH_BYTES];
    TRY(fs_join(parent, directory->path, folder));
    struct fs_list list;
    TRY(fs_list_directory(parent, &list));
    for (size_t i = 0; i + 1 < list.count && (list.count - i > keep || *bytes > bytes_max); i++) {
        char path[PATH_BYTES];
        uint64_t size = 0;
        if (fs_join(path, parent, list.names[i]) != STATUS_OK || fs_size(path, &size) != STATUS_OK || unlink(path) != 0)
            continue;
        *bytes = size < *bytes ? *bytes - size : 0;
    }
    fs_list_free(&list);
    return STATUS_OK;
}

enum status run_directory_write_rollouts(struct run_directory *directory, uint32_t step,
                                         const struct trainer_group *groups, uint32_t group_count,
                                         const float *advantages) {
    char name[64], path[PATH_BYTES];
    uint64_t bytes, replaced = 0;
    snprintf(name, sizeof name, "rollouts/step-%06u.jsonl", step);
    TRY(fs_join(path, directory->path, name));
    if (fs_exists(path))
        TRY(fs_size(path, &replaced)); /* by an incarnation that died after its last checkpoint */
    TRY(write_groups(directory, "rollouts", step, false, groups, group_count, advantages, &bytes));
    directory->rollout_bytes += bytes - replaced;
    if (directory->rollout_bytes <= directory->rollout_bytes_max)
        return STATUS_OK;
    return thin_out(directory, "rollouts", SIZE_MAX, directory->rollout_bytes_max, &directory->rollout_bytes);
}

enum status run_directory_write_bad_batch(struct run_directory *directory, uint32_t step,
                                          const struct trainer_group *groups, uint32_t group_count,
                                          const float *advantages) {
    uint64_t bytes;
    TRY(write_groups(directory, "bad-batches", step, true, groups, group_count, advantages, &bytes));
    return thin_out(directory, "bad-batches", BAD_BATCHES_KEPT, UINT64_MAX, &bytes);
}

enum status run_directory_eval_path(const struct run_directory *directory, uint32_t version,
                                    char out_path[PATH_BYTES]) {
    char name[64];
    snprintf(name, sizeof name, "eval/step-%06u.jsonl", version);
    return fs_join(out_path, directory->path, name);
}
