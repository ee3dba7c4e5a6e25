#include "tests/fault/nth/nth.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <zmq.h>

#include "common/base/fs.h"

const char *const nth_class_names[NTH_CLASS_COUNT] = {
#define X(name, text) text,
    NTH_CLASSES(X)
#undef X
};

static struct nth_plan plan;
static atomic_bool armed;
static atomic_uint_fast64_t calls, hits;
static atomic_int_fast64_t live;
static _Thread_local bool exempted;
static char trace[1u << 18];
static size_t trace_bytes;

void nth_arm(const struct nth_plan *wanted) {
    plan = *wanted;
    atomic_store(&calls, 0);
    atomic_store(&hits, 0);
    trace_bytes = 0;
    trace[0] = '\0';
    atomic_store(&armed, true);
}

uint64_t nth_disarm(void) {
    atomic_store(&armed, false);
    return atomic_load(&calls);
}

uint64_t nth_hits(void) {
    return atomic_load(&hits);
}

const char *nth_trace(void) {
    return trace;
}

bool nth_lasts(void) {
    return atomic_load(&armed) && plan.lasting && atomic_load(&hits) > 0;
}

int64_t nth_live(void) {
    return atomic_load(&live);
}

void nth_exempt(bool exempt) {
    exempted = exempt;
}

/* ---- whether this call is the one ---- */

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);

static bool make_mark(void) {
    static atomic_bool made;
    if (!plan.mark || atomic_load(&made))
        return true;
    int fd = __real_open(plan.mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        __real_close(fd);
    atomic_store(&made, fd >= 0);
    return fd >= 0;
}

bool nth_fails(enum nth_class class) {
    if (exempted || !atomic_load(&armed) || plan.class != class)
        return false;
    uint64_t call = atomic_fetch_add(&calls, 1) + 1;
    if (plan.at == 0 || call < plan.at || (call > plan.at && !plan.lasting) || !make_mark())
        return false;
    atomic_fetch_add(&hits, 1);
    if (plan.error == NTH_KILL)
        _exit(NTH_KILLED);
    if (plan.error != NTH_SHORT)
        errno = plan.error;
    return true;
}

static bool path_fails(enum nth_class class, const char *path) {
    return (!plan.under || strstr(path, plan.under)) && nth_fails(class);
}

/* Reading needs no space on the disk. */
static bool open_fails(const char *path, bool creates) {
    return (creates || plan.error != ENOSPC) && path_fails(NTH_OPEN, path);
}

/* False: a pipe, a socket, an eventfd. */
static bool path_of(int fd, char out_path[PATH_BYTES]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, out_path, PATH_BYTES - 1);
    if (bytes <= 0 || out_path[0] != '/')
        return false;
    out_path[bytes] = '\0';
    return true;
}

static bool fd_fails(enum nth_class class, int fd) {
    char path[PATH_BYTES];
    return atomic_load(&armed) && plan.class == class && fd != STDERR_FILENO && path_of(fd, path) &&
           path_fails(class, path);
}

static void note(const char *what, const char *path, const char *to) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    if (!atomic_load(&armed) || plan.at > 0)
        return;
    pthread_mutex_lock(&mutex);
    int bytes =
        snprintf(trace + trace_bytes, sizeof trace - trace_bytes, "%s %s%s%s\n", what, path, *to ? " " : "", to);
    if (bytes > 0 && (size_t)bytes < sizeof trace - trace_bytes)
        trace_bytes += (size_t)bytes;
    pthread_mutex_unlock(&mutex);
}

static void note_fd(const char *what, int fd) {
    char path[PATH_BYTES];
    if (atomic_load(&armed) && plan.at == 0 && path_of(fd, path))
        note(what, path, "");
}

static bool written(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

/* ---- allocations ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **block, size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
void __real_free(void *block);
XXH3_state_t *__real_XXH3_createState(void);
XXH_errorcode __real_XXH3_freeState(XXH3_state_t *state);

static void *count_block(void *block) {
    atomic_fetch_add(&live, block != NULL);
    return block;
}

void *__wrap_malloc(size_t bytes) {
    return nth_fails(NTH_ALLOC) ? NULL : count_block(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return nth_fails(NTH_ALLOC) ? NULL : count_block(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *block, size_t bytes) {
    if (nth_fails(NTH_ALLOC))
        return NULL;
    void *moved = __real_realloc(block, bytes);
    return block ? moved : count_block(moved);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return nth_fails(NTH_ALLOC) ? NULL : count_block(__real_aligned_alloc(alignment, bytes));
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t bytes) {
    if (nth_fails(NTH_ALLOC))
        return ENOMEM;
    int error = __real_posix_memalign(block, alignment, bytes);
    if (error == 0)
        count_block(*block);
    return error;
}

char *__wrap_strdup(const char *text) {
    return nth_fails(NTH_ALLOC) ? NULL : count_block(__real_strdup(text));
}

void __wrap_free(void *block) {
    atomic_fetch_sub(&live, block != NULL);
    __real_free(block);
}

XXH3_state_t *__wrap_XXH3_createState(void) {
    return nth_fails(NTH_ALLOC) ? NULL : count_block(__real_XXH3_createState());
}

XXH_errorcode __wrap_XXH3_freeState(XXH3_state_t *state) {
    atomic_fetch_sub(&live, state != NULL);
    return __real_XXH3_freeState(state);
}

/* What the C library and utf8proc allocate for Candor to free. */
char *__real_realpath(const char *path, char *resolved);
char *__real_getcwd(char *buffer, size_t bytes);
utf8proc_ssize_t __real_utf8proc_map(const utf8proc_uint8_t *text, utf8proc_ssize_t bytes, utf8proc_uint8_t **mapped,
                                     utf8proc_option_t options);

char *__wrap_realpath(const char *path, char *resolved) {
    return resolved ? __real_realpath(path, resolved) : count_block(__real_realpath(path, NULL));
}

char *__wrap_getcwd(char *buffer, size_t bytes) {
    return buffer ? __real_getcwd(buffer, bytes) : count_block(__real_getcwd(NULL, bytes));
}

utf8proc_ssize_t __wrap_utf8proc_map(const utf8proc_uint8_t *text, utf8proc_ssize_t bytes, utf8proc_uint8_t **mapped,
                                     utf8proc_option_t options) {
    if (nth_fails(NTH_ALLOC))
        return UTF8PROC_ERROR_NOMEM;
    utf8proc_ssize_t result = __real_utf8proc_map(text, bytes, mapped, options);
    if (result >= 0)
        count_block(*mapped);
    return result;
}

const char *__lsan_default_suppressions(void) {
    return "leak:^allocate$\n";
}

void nth_init(void) {
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
}

/* ---- threads ---- */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return nth_fails(NTH_THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

/* ---- files ---- */

ssize_t __real_write(int fd, const void *data, size_t bytes);
size_t __real_fwrite(const void *data, size_t size, size_t count, FILE *file);
int __real_fflush(FILE *file);
int __real_fclose(FILE *file);
int __real_ftruncate(int fd, off_t bytes);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
FILE *__real_fopen(const char *path, const char *mode);
DIR *__real_opendir(const char *path);
int __real_mkdir(const char *path, mode_t mode);
ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __real_pread(int fd, void *data, size_t bytes, off_t at);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);

static size_t half(size_t bytes) {
    return bytes > 1 ? bytes / 2 : bytes;
}

ssize_t __wrap_write(int fd, const void *data, size_t bytes) {
    note_fd("write", fd);
    if (!fd_fails(NTH_WRITE, fd))
        return __real_write(fd, data, bytes);
    return plan.error == NTH_SHORT ? __real_write(fd, data, half(bytes)) : -1;
}

/* stdio has no harmless short write: the rest is an error. */
size_t __wrap_fwrite(const void *data, size_t size, size_t count, FILE *file) {
    if (!fd_fails(NTH_WRITE, fileno(file)))
        return __real_fwrite(data, size, count, file);
    size_t wrote = plan.error == NTH_SHORT ? __real_fwrite(data, size, half(count), file) : 0;
    errno = plan.error == NTH_SHORT ? EIO : plan.error;
    return wrote;
}

int __wrap_fflush(FILE *file) {
    note_fd("write", file ? fileno(file) : STDERR_FILENO);
    if (!file || !fd_fails(NTH_WRITE, fileno(file)))
        return __real_fflush(file);
    errno = plan.error == NTH_SHORT ? EIO : plan.error;
    return EOF;
}

int __wrap_fclose(FILE *file) {
    bool failed = written(fileno(file)) && fd_fails(NTH_WRITE, fileno(file));
    int error = plan.error == NTH_SHORT ? EIO : plan.error;
    int closed = __real_fclose(file);
    if (failed)
        errno = error;
    return failed ? EOF : closed;
}

int __wrap_ftruncate(int fd, off_t bytes) {
    if (!fd_fails(NTH_WRITE, fd))
        return __real_ftruncate(fd, bytes);
    errno = plan.error == NTH_SHORT ? EIO : plan.error;
    return -1;
}

/* The descriptor is gone even where close fails. */
int __wrap_close(int fd) {
    bool failed = plan.error != NTH_SHORT && plan.error != EINTR && written(fd) && fd_fails(NTH_WRITE, fd);
    int error = errno, closed = __real_close(fd);
    if (failed)
        errno = error;
    return failed ? -1 : closed;
}

int __wrap_fsync(int fd) {
    note_fd("fsync", fd);
    return fd_fails(NTH_SYNC, fd) ? -1 : __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to) {
    note("rename", from, to);
    return path_fails(NTH_RENAME, to) ? -1 : __real_rename(from, to);
}

int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_fails(path, flags & O_CREAT) ? -1 : __real_open(path, flags, mode);
}

FILE *__wrap_fopen(const char *path, const char *mode) {
    return open_fails(path, mode[0] != 'r') ? NULL : __real_fopen(path, mode);
}

DIR *__wrap_opendir(const char *path) {
    return open_fails(path, false) ? NULL : __real_opendir(path);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    return open_fails(path, true) ? -1 : __real_mkdir(path, mode);
}

ssize_t __wrap_read(int fd, void *data, size_t bytes) {
    if (!fd_fails(NTH_READ, fd))
        return __real_read(fd, data, bytes);
    return plan.error == NTH_SHORT ? __real_read(fd, data, half(bytes)) : -1;
}

ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t at) {
    if (!fd_fails(NTH_READ, fd))
        return __real_pread(fd, data, bytes, at);
    return plan.error == NTH_SHORT ? __real_pread(fd, data, half(bytes), at) : -1;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (plan.error == NTH_SHORT || plan.error == EINTR || !fd_fails(NTH_READ, fd))
        return __real_mmap(at, bytes, protection, flags, fd, offset);
    return MAP_FAILED;
}

/* What these functions are called where files of 64 bits were asked for (_FILE_OFFSET_BITS). */
#define ALIAS(result, name, ...) result __wrap_##name##64(__VA_ARGS__) __attribute__((alias("__wrap_" #name)))
ALIAS(int, ftruncate, int fd, off_t bytes);
ALIAS(int, open, const char *path, int flags, ...);
ALIAS(FILE *, fopen, const char *path, const char *mode);
ALIAS(ssize_t, pread, int fd, void *data, size_t bytes, off_t at);
ALIAS(void *, mmap, void *at, size_t bytes, int protection, int flags, int fd, off_t offset);

/* ---- sockets ---- */

int __real_zmq_send(void *socket, const void *data, size_t bytes, int flags);

int __wrap_zmq_send(void *socket, const void *data, size_t bytes, int flags) {
    return nth_fails(NTH_SEND) ? -1 : __real_zmq_send(socket, data, bytes, flags);
}
