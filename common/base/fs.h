/* Files, as a careful program wants them: whole reads with a limit, atomic replacement, locks, mappings. */
#ifndef CANDOR_BASE_FS_H
#define CANDOR_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define PATH_BYTES 4096

bool fs_exists(const char *path);
bool fs_is_directory(const char *path);
/* out_path[PATH_BYTES] = directory "/" name; STATUS_LIMIT when too long. */
enum status fs_join(char *out_path, const char *directory, const char *name);
/* mkdir -p */
enum status fs_make_directories(const char *path);
/* Removes a tree; absent is success. Never follows links. */
enum status fs_remove_tree(const char *path);
bool fs_directory_is_empty(const char *path); /* absent counts as empty */

/* The whole file, appended to out and NUL-terminated; STATUS_LIMIT above bytes_max, STATUS_NOT_FOUND when absent. */
enum status fs_read(const char *path, size_t bytes_max, struct buf *out);

/* STATUS_OK when a file may be put at path: its directory can be written, and nothing but an ordinary file would be replaced (a
 * device must never be). For what takes long, ask before. */
enum status fs_check_output(const char *path);

/* Replace path by these bytes so that after a crash either the old or the new content is there, whole: temporary file in
 * the same directory, write, fsync, rename, fsync of the directory. Nothing is left behind on failure. */
enum status fs_write_atomic(const char *path, const void *data, size_t bytes);

enum status fs_sync_directory(const char *path);
/* What anybody wrote to a file, and its name, reach the disk. */
enum status fs_sync_file(const char *path);
/* Remove from a directory the temporary files of fs_write_atomic whose process is gone. */
enum status fs_remove_temporaries(const char *directory);
/* What is in the directory, files and trees, by its name. */
enum status fs_remove_matching(const char *directory, bool (*matches)(const char *name));
/* Makes <path>.part, to be filled and then put into place by fs_move_directory, so that nobody sees half of it; what an earlier
 * process left there goes. Asked before long work, it also says whether path can be written. STATUS_EXISTS when path is there and
 * not an empty directory. */
enum status fs_part_directory(const char *path, char out_part[PATH_BYTES]);
/* Put a finished directory into place: fsync it, rename it to `to` (absent, or an empty directory), fsync the parent of `to`. The
 * files in it are the caller's to fsync. Both must lie in one file system. */
enum status fs_move_directory(const char *from, const char *to);
enum status fs_free_bytes(const char *path, uint64_t *out_bytes);
enum status fs_size(const char *path, uint64_t *out_bytes);

/* Names in a directory without "." and "..", sorted by bytes; free with fs_list_free. */
struct fs_list {
    char **names;
    size_t count;
};
enum status fs_list_directory(const char *path, struct fs_list *out_list);
void fs_list_free(struct fs_list *list);

/* A read-only mapping of a whole file. */
struct fs_map {
    const void *data;
    size_t bytes;
};
enum status fs_map_open(const char *path, struct fs_map *out_map);
void fs_map_close(struct fs_map *map);

/* An advisory lock that dies with the process. STATUS_AGAIN when somebody else holds it. */
enum status fs_lock(const char *path, int *out_fd);
void fs_unlock(int fd);

#endif
