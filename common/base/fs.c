#include "common/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEMPORARY ".tmp-" /* and the process */
#define TREE_FDS 16       /* directories that fs_remove_tree holds open at once */

/* ---- paths and directories ---- */

bool fs_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool fs_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum status fs_join(char *out_path, const char *directory, const char *name) {
    char path[PATH_BYTES];
    size_t length = strlen(directory);
    const char *slash = length > 0 && directory[length - 1] == '/' ? "" : "/";
    int written = snprintf(path, sizeof path, "%s%s%s", directory, slash, name);
    if (written < 0 || (size_t)written >= sizeof path)
        return fail(STATUS_LIMIT, "%.100s.../%.100s: path longer than %d bytes", directory, name, PATH_BYTES - 1);
    memcpy(out_path, path, (size_t)written + 1);
    return STATUS_OK;
}

enum status fs_make_directories(const char *path) {
    char partial[PATH_BYTES];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial)
        return fail(STATUS_LIMIT, "'%.100s': a path of 1 to %d bytes is wanted", path, PATH_BYTES - 1);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        char held = partial[i];
        partial[i] = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST)
            return fail_errno("%s: cannot make the directory", partial);
        partial[i] = held;
    }
    if (!fs_is_directory(path))
        return fail(STATUS_EXISTS, "%s: is a file; a directory is wanted", path);
    return STATUS_OK;
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *position) {
    (void)info;
    (void)flag;
    (void)position;
    return remove(path);
}

enum status fs_remove_tree(const char *path) {
    if (nftw(path, remove_entry, TREE_FDS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return fail_errno("%s: cannot remove", path);
    return STATUS_OK;
}

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

bool fs_directory_is_empty(const char *path) {
    DIR *directory = opendir(path);
    if (!directory)
        return errno == ENOENT;
    const struct dirent *entry;
    bool empty = true;
    while (empty && (entry = readdir(directory)))
        empty = is_dot(entry->d_name);
    closedir(directory);
    return empty;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum status fs_list_directory(const char *path, struct fs_list *out_list) {
    DIR *directory = opendir(path);
    if (!directory)
        return errno == ENOENT ? fail(STATUS_NOT_FOUND, "%s: no such directory", path) : fail_errno("%s", path);
    struct fs_list list = {0};
    size_t capacity = 0;
    const struct dirent *entry;
    enum status status = STATUS_OK;
    while (errno = 0, (entry = readdir(directory))) {
        if (is_dot(entry->d_name))
            continue;
        if (list.count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            char **names = realloc(list.names, capacity * sizeof *names);
            if (!names)
                goto no_memory;
            list.names = names;
        }
        list.names[list.count] = strdup(entry->d_name);
        if (!list.names[list.count])
            goto no_memory;
        list.count++;
    }
    if (errno != 0) {
        status = fail_errno("%s", path);
        goto failed;
    }
    closedir(directory);
    if (list.count > 0)
        qsort(list.names, list.count, sizeof *list.names, compare_names);
    *out_list = list;
    return STATUS_OK;
no_memory:
    status = fail(STATUS_NO_MEMORY, "%s: no memory to list it", path);
failed:
    closedir(directory);
    fs_list_free(&list);
    return status;
}

void fs_list_free(struct fs_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (struct fs_list){0};
}

enum status fs_free_bytes(const char *path, uint64_t *out_bytes) {
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return fail_errno("%s: cannot ask for free space", path);
    *out_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return STATUS_OK;
}

enum status fs_size(const char *path, uint64_t *out_bytes) {
    struct stat info;
    if (stat(path, &info) != 0)
        return errno == ENOENT ? fail(STATUS_NOT_FOUND, "%s: no such file", path) : fail_errno("%s", path);
    *out_bytes = (uint64_t)info.st_size;
    return STATUS_OK;
}

/* ---- contents ---- */

static enum status open_file(const char *path, int *out_fd, struct stat *out_info) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? fail(STATUS_NOT_FOUND, "%s: no such file", path) : fail_errno("%s", path);
    if (fstat(fd, out_info) != 0) {
        enum status status = fail_errno("%s", path);
        close(fd);
        return status;
    }
    if (S_ISDIR(out_info->st_mode)) {
        close(fd);
        return fail(STATUS_FORMAT, "%s: is a directory; a file is wanted", path);
    }
    *out_fd = fd;
    return STATUS_OK;
}

/* Reads to the end of the file, not to its stated size: pipes and /proc have none. */
static enum status read_all(int fd, const char *path, size_t bytes_max, size_t expected, struct buf *out) {
    size_t total = 0;
    for (;;) {
        size_t room = total < expected ? expected - total : 65536;
        if (room > bytes_max - total)
            room = bytes_max - total + 1; /* one more than allowed, to notice a longer file */
        char *end = buf_reserve(out, room);
        if (!end)
            return fail(STATUS_NO_MEMORY, "%s: no memory to read it", path);
        ssize_t got = read(fd, end, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("%s", path);
        if (got == 0)
            return STATUS_OK;
        if ((size_t)got > bytes_max - total)
            return fail(STATUS_LIMIT, "%s: longer than %zu bytes", path, bytes_max);
        out->bytes += (size_t)got;
        total += (size_t)got;
    }
}

enum status fs_read(const char *path, size_t bytes_max, struct buf *out) {
    struct stat info;
    int fd = -1;
    TRY(open_file(path, &fd, &info));
    size_t before = out->bytes;
    size_t expected = info.st_size > 0 && (uint64_t)info.st_size <= bytes_max ? (size_t)info.st_size : 0;
    enum status status = read_all(fd, path, bytes_max, expected, out);
    close(fd);
    if (status != STATUS_OK && buf_ok(out))
        out->bytes = before;
    if (buf_reserve(out, 0))
        out->data[out->bytes] = '\0';
    return status;
}

static enum status write_all(int fd, const char *path, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t wrote = write(fd, data, bytes);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return fail_errno("%s: cannot write", path);
        data += wrote;
        bytes -= (size_t)wrote;
    }
    return STATUS_OK;
}

/* ".NAME.tmp-PID-N" beside path: in the same directory, so that the rename stays within one file system. */
static enum status temporary_name(char *out_path, const char *path) {
    static atomic_uint serial;
    const char *slash = strrchr(path, '/');
    int directory_bytes = slash ? (int)(slash - path) + 1 : 0;
    int written = snprintf(out_path, PATH_BYTES, "%.*s.%s" TEMPORARY "%d-%u", directory_bytes, path,
                           path + directory_bytes, (int)getpid(), atomic_fetch_add(&serial, 1));
    if (written < 0 || written >= PATH_BYTES)
        return fail(STATUS_LIMIT, "%.200s...: path too long", path);
    return STATUS_OK;
}

static enum status parent_of(char out_parent[PATH_BYTES], const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= PATH_BYTES)
        return fail(STATUS_LIMIT, "%.200s...: path too long", path);
    memcpy(out_parent, path, length);
    out_parent[length] = '\0';
    if (length == 0)
        strcpy(out_parent, slash ? "/" : ".");
    return STATUS_OK;
}

static enum status sync_parent(const char *path) {
    char parent[PATH_BYTES];
    TRY(parent_of(parent, path));
    return fs_sync_directory(parent);
}

enum status fs_check_output(const char *path) {
    char parent[PATH_BYTES];
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return fail(STATUS_EXISTS, "%s: is a %s; a file is wanted", path,
                    S_ISDIR(info.st_mode) ? "directory" : "device or pipe, which a file would replace");
    TRY(parent_of(parent, path));
    if (access(parent, W_OK | X_OK) != 0)
        return fail_errno("%s: cannot write there", path);
    return STATUS_OK;
}

enum status fs_write_atomic(const char *path, const void *data, size_t bytes) {
    enum status status;
    char temporary[PATH_BYTES];
    TRY(fs_check_output(path));
    TRY(temporary_name(temporary, path));
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_errno("%s: cannot create", path);
    TRY_GOTO(write_all(fd, path, data, bytes), failed);
    /* A failed fsync is final for this file (transport.md section 10): never retried, never renamed. */
    if (fsync(fd) != 0) {
        status = fail_errno("%s: cannot write to disk", path);
        goto failed;
    }
    int closed = close(fd);
    fd = -1;
    if (closed != 0 || rename(temporary, path) != 0) {
        status = fail_errno("%s: cannot replace", path);
        goto failed;
    }
    return sync_parent(path);
failed:
    if (fd >= 0)
        close(fd);
    unlink(temporary);
    return status;
}

enum status fs_sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("%s: cannot open the directory", path);
    enum status status = fsync(fd) == 0 ? STATUS_OK : fail_errno("%s: cannot write the directory to disk", path);
    close(fd);
    return status;
}

enum status fs_sync_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("%s: cannot open", path);
    enum status status = fsync(fd) == 0 ? STATUS_OK : fail_errno("%s: cannot write to disk", path);
    close(fd);
    return status == STATUS_OK ? sync_parent(path) : status;
}

/* Its process has ended. One of this process's number is an earlier one's: in a container each has the same. */
static bool is_left_over(const char *name) {
    const char *temporary = name[0] == '.' ? strstr(name, TEMPORARY) : NULL;
    int pid = temporary ? atoi(temporary + strlen(TEMPORARY)) : 0;
    return pid > 0 && (pid == (int)getpid() || (kill(pid, 0) != 0 && errno == ESRCH));
}

enum status fs_remove_temporaries(const char *directory) {
    return fs_remove_matching(directory, is_left_over);
}

enum status fs_remove_matching(const char *directory, bool (*matches)(const char *name)) {
    struct fs_list list;
    TRY(fs_list_directory(directory, &list));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        if (!matches(list.names[i]))
            continue;
        status = fs_join(path, directory, list.names[i]);
        if (status == STATUS_OK)
            status = fs_remove_tree(path);
    }
    fs_list_free(&list);
    return status;
}

enum status fs_part_directory(const char *path, char out_part[PATH_BYTES]) {
    char part[PATH_BYTES];
    int named = (int)strlen(path);
    while (named > 1 && path[named - 1] == '/')
        named--;
    if (named == 0 || snprintf(part, sizeof part, "%.*s.part", named, path) >= (int)sizeof part)
        return fail(STATUS_LIMIT, "'%.100s': a path of 1 to %d bytes is wanted", path, PATH_BYTES - 6);
    if (!fs_directory_is_empty(path))
        return fail(STATUS_EXISTS, "%s: %s; right would be a directory that does not exist", path,
                    fs_is_directory(path) ? "not empty" : "is no directory");
    TRY(fs_remove_tree(part));
    TRY(fs_make_directories(part));
    memcpy(out_part, part, sizeof part);
    return STATUS_OK;
}

enum status fs_move_directory(const char *from, const char *to) {
    TRY(fs_sync_directory(from));
    if (rename(from, to) != 0)
        return fail_errno("%s: cannot rename to %s", from, to);
    return sync_parent(to);
}

enum status fs_map_open(const char *path, struct fs_map *out_map) {
    struct stat info;
    int fd = -1;
    TRY(open_file(path, &fd, &info));
    enum status status = STATUS_OK;
    struct fs_map map = {.data = "", .bytes = (size_t)info.st_size};
    if (map.bytes > 0) { /* an empty file cannot be mapped */
        map.data = mmap(NULL, map.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map.data == MAP_FAILED)
            status = fail_errno("%s: cannot map", path);
    }
    close(fd);
    TRY(status);
    *out_map = map;
    return STATUS_OK;
}

void fs_map_close(struct fs_map *map) {
    if (map->bytes > 0)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (struct fs_map){0};
}

enum status fs_lock(const char *path, int *out_fd) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_errno("%s: cannot open the lock", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *out_fd = fd;
        return STATUS_OK;
    }
    enum status status =
        errno == EWOULDBLOCK ? fail(STATUS_AGAIN, "%s: held by another process", path) : fail_errno("%s", path);
    close(fd);
    return status;
}

void fs_unlock(int fd) {
    close(fd);
}
