/* The small files of the run's model at a process that lacks them: fetched by hash into a cache directory, each written atomically,
 * then opened like any model directory. Pure but for the files themselves.
 *
 * A set of files lies in <cache>/<hash over names and digests>/; a file that is there with the right hash is not fetched. */
#ifndef CANDOR_WEIGHTS_FILES_H
#define CANDOR_WEIGHTS_FILES_H

#include "common/base/fs.h"
#include "common/weights/fetch.h"

/* A tokenizer.json is 7 to 11 MB. */
#define FILE_BYTES_MAX (256u << 20)

struct files;

/* list [count] of WELCOME, copied. STATUS_FORMAT for a name that is not on the list of store_file_allowed, a repeated one or one too
 * large. */
enum status files_create(const char *cache, const struct model_file *list, uint32_t count, int64_t now_ms,
                         fetch_send send, void *context, struct files **out_files);
void files_destroy(struct files **files);

enum status files_chunk(struct files *files, const struct message_chunk *chunk, int64_t now_ms);
/* A file that the hub offered and does not give: STATUS_AGAIN, final for this process. */
enum status files_gone(struct files *files, const struct message_gone *gone);
void files_tick(struct files *files, int64_t now_ms);

bool files_done(const struct files *files);
const char *files_directory(const struct files *files);
/* True when the list is the one these files were made for. */
bool files_same(const struct files *files, const struct model_file *list, uint32_t count);

#endif
