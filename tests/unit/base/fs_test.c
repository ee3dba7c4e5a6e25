/* Files. */
#include "tests/support/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fs.h"

static char root[] = "/tmp/candor-fs-XXXXXX";

static const char *at(const char *name) {
    static _Thread_local char paths[4][PATH_BYTES];
    static _Thread_local int next;
    char *path = paths[next++ % 4];
    ASSERT_OK(fs_join(path, root, name));
    return path;
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return fs_remove_tree(root) == STATUS_OK && !fs_exists(root) ? 0 : -1;
}

static void joined_paths_are_bounded(void **state) {
    (void)state;
    char path[PATH_BYTES], name[PATH_BYTES];
    ASSERT_OK(fs_join(path, "a/", "b"));
    assert_string_equal(path, "a/b");
    ASSERT_OK(fs_join(path, path, "c")); /* in place */
    assert_string_equal(path, "a/b/c");
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ASSERT_FAILS(STATUS_LIMIT, fs_join(path, "a", name));
    assert_string_equal(path, "a/b/c");
}

static void directories_are_made_and_removed_with_their_content(void **state) {
    (void)state;
    ASSERT_OK(fs_make_directories(at("x/y/z")));
    ASSERT_OK(fs_make_directories(at("x/y/z")));
    assert_true(fs_directory_is_empty(at("x/y/z")));
    assert_true(fs_directory_is_empty(at("absent")));
    ASSERT_OK(fs_write_atomic(at("x/y/file"), "1", 1));
    assert_false(fs_directory_is_empty(at("x/y")));
    ASSERT_FAILS(STATUS_EXISTS, fs_make_directories(at("x/y/file")));
    ASSERT_OK(fs_write_atomic(at("kept"), "1", 1));
    assert_int_equal(symlink(at("kept"), at("x/link")), 0);
    assert_int_equal(symlink(root, at("x/up")), 0);
    ASSERT_OK(fs_remove_tree(at("x")));
    assert_false(fs_exists(at("x")));
    assert_true(fs_exists(at("kept"))); /* links are not followed */
    ASSERT_OK(fs_remove_tree(at("x")));
}

static void a_file_is_read_whole_or_refused(void **state) {
    (void)state;
    struct buf text = {0};
    buf_puts(&text, "before ");
    ASSERT_OK(fs_write_atomic(at("f"), "12345", 5));
    ASSERT_OK(fs_read(at("f"), 5, &text));
    assert_string_equal(text.data, "before 12345");
    ASSERT_FAILS(STATUS_LIMIT, fs_read(at("f"), 4, &text));
    assert_string_equal(text.data, "before 12345");
    ASSERT_FAILS(STATUS_NOT_FOUND, fs_read(at("none"), 4, &text));
    assert_non_null(strstr(status_message(), "none: no such file"));
    ASSERT_FAILS(STATUS_FORMAT, fs_read(root, 4, &text));
    buf_reset(&text);
    ASSERT_OK(fs_read("/proc/self/status", 65536, &text)); /* a file whose stated size is 0 */
    assert_true(text.bytes > 100);
    ASSERT_OK(fs_write_atomic(at("empty"), "", 0));
    buf_reset(&text);
    ASSERT_OK(fs_read(at("empty"), 0, &text));
    assert_string_equal(text.data, "");
    uint64_t bytes = 1;
    ASSERT_OK(fs_size(at("f"), &bytes));
    assert_int_equal(bytes, 5);
    buf_deinit(&text);
}

static atomic_bool stop_reading;

static void *read_again_and_again(void *torn) {
    struct buf text = {0};
    while (!atomic_load(&stop_reading)) {
        buf_reset(&text);
        if (fs_read(at("swapped"), 1 << 20, &text) != STATUS_OK || text.bytes != 200000 ||
            memcmp(text.data, text.data + 1, text.bytes - 1) != 0)
            atomic_store((atomic_bool *)torn, true);
    }
    buf_deinit(&text);
    return NULL;
}

static void a_reader_never_sees_half_a_replacement(void **state) {
    (void)state;
    char *data = malloc(200000);
    assert_non_null(data);
    memset(data, 'a', 200000);
    ASSERT_OK(fs_write_atomic(at("swapped"), data, 200000));
    pthread_t thread;
    atomic_bool torn = false;
    pthread_create(&thread, NULL, read_again_and_again, &torn);
    for (int i = 0; i < 50; i++) {
        memset(data, 'a' + i % 26, 200000);
        ASSERT_OK(fs_write_atomic(at("swapped"), data, 200000));
    }
    atomic_store(&stop_reading, true);
    pthread_join(thread, NULL);
    assert_false(atomic_load(&torn));
    free(data);
}

static void a_failed_write_leaves_the_old_file_and_nothing_else(void **state) {
    (void)state;
    ASSERT_OK(fs_make_directories(at("full")));
    ASSERT_OK(fs_write_atomic(at("full/f"), "old", 3));
    struct rlimit kept, small;
    getrlimit(RLIMIT_FSIZE, &kept);
    small = kept;
    small.rlim_cur = 4096; /* the nearest thing to a full disk without root */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    char *data = calloc(1, 100000);
    assert_non_null(data);
    enum status status = fs_write_atomic(at("full/f"), data, 100000);
    setrlimit(RLIMIT_FSIZE, &kept);
    free(data);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(status_message(), "full/f: cannot write: File too large"));
    struct fs_list list = {0};
    ASSERT_OK(fs_list_directory(at("full"), &list));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.names[0], "f");
    fs_list_free(&list);
    struct buf text = {0};
    ASSERT_OK(fs_read(at("full/f"), 10, &text));
    assert_string_equal(text.data, "old");
    buf_deinit(&text);
    ASSERT_FAILS(STATUS_IO, fs_write_atomic(at("none/f"), "x", 1));
}

static void a_device_or_directory_is_never_replaced(void **state) {
    (void)state;
    ASSERT_OK(fs_make_directories(at("outputs")));
    assert_int_equal(mkfifo(at("outputs/pipe"), 0600), 0);
    ASSERT_FAILS(STATUS_EXISTS, fs_write_atomic(at("outputs/pipe"), "x", 1));
    assert_non_null(strstr(status_message(), "device or pipe"));
    ASSERT_FAILS(STATUS_EXISTS, fs_write_atomic(at("outputs"), "x", 1));
    ASSERT_FAILS(STATUS_EXISTS, fs_check_output("/dev/null"));
    ASSERT_FAILS(STATUS_IO, fs_check_output(at("none/f")));
    ASSERT_OK(fs_check_output(at("outputs/f")));
}

static void names_are_listed_in_order(void **state) {
    (void)state;
    ASSERT_OK(fs_make_directories(at("list/b")));
    ASSERT_OK(fs_write_atomic(at("list/a"), "", 0));
    ASSERT_OK(fs_write_atomic(at("list/B"), "", 0));
    struct fs_list list = {0};
    ASSERT_OK(fs_list_directory(at("list"), &list));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.names[0], "B");
    assert_string_equal(list.names[1], "a");
    assert_string_equal(list.names[2], "b");
    fs_list_free(&list);
    ASSERT_FAILS(STATUS_NOT_FOUND, fs_list_directory(at("no-list"), &list));
}

/* Process 1 lives; this one had the number of a dead one. */
static void temporaries_of_the_dead_are_removed_and_nothing_else(void **state) {
    (void)state;
    char dead[64];
    ASSERT_OK(fs_make_directories(at("left")));
    snprintf(dead, sizeof dead, "left/.b.tmp-%d-3", (int)getpid());
    ASSERT_OK(fs_write_atomic(at(dead), "x", 1));
    ASSERT_OK(fs_write_atomic(at("left/.a.tmp-1-0"), "x", 1));
    ASSERT_OK(fs_write_atomic(at("left/a.tmp-9999999-0"), "x", 1));
    ASSERT_OK(fs_write_atomic(at("left/.tmp-x"), "x", 1));
    ASSERT_OK(fs_write_atomic(at("left/.c.tmp-9999999-12"), "x", 1));
    ASSERT_OK(fs_remove_temporaries(at("left")));
    assert_false(fs_exists(at(dead)));
    assert_false(fs_exists(at("left/.c.tmp-9999999-12")));
    struct fs_list list;
    ASSERT_OK(fs_list_directory(at("left"), &list));
    assert_int_equal(list.count, 3);
    fs_list_free(&list);
}

static void a_mapping_shows_the_bytes(void **state) {
    (void)state;
    struct fs_map map = {0};
    ASSERT_OK(fs_write_atomic(at("map"), "abc", 3));
    ASSERT_OK(fs_map_open(at("map"), &map));
    assert_int_equal(map.bytes, 3);
    assert_memory_equal(map.data, "abc", 3);
    fs_map_close(&map);
    ASSERT_OK(fs_write_atomic(at("map"), "", 0));
    ASSERT_OK(fs_map_open(at("map"), &map));
    assert_int_equal(map.bytes, 0);
    fs_map_close(&map);
    ASSERT_FAILS(STATUS_NOT_FOUND, fs_map_open(at("no-map"), &map));
}

static void a_lock_has_one_holder_and_dies_with_it(void **state) {
    (void)state;
    int fd = -1, second = -1;
    pid_t child = fork();
    if (child == 0) {
        _exit(fs_lock(at("lock"), &fd) == STATUS_OK ? 0 : 1); /* exits without unlocking */
    }
    int result = -1;
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
    ASSERT_OK(fs_lock(at("lock"), &fd));
    ASSERT_FAILS(STATUS_AGAIN, fs_lock(at("lock"), &second));
    fs_unlock(fd);
    ASSERT_OK(fs_lock(at("lock"), &second));
    fs_unlock(second);
}

static void free_space_is_known(void **state) {
    (void)state;
    uint64_t bytes = 0;
    ASSERT_OK(fs_free_bytes(root, &bytes));
    assert_true(bytes > 0);
    ASSERT_FAILS(STATUS_IO, fs_free_bytes(at("none"), &bytes));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined_paths_are_bounded),
        cmocka_unit_test(directories_are_made_and_removed_with_their_content),
        cmocka_unit_test(a_file_is_read_whole_or_refused),
        cmocka_unit_test(a_reader_never_sees_half_a_replacement),
        cmocka_unit_test(a_failed_write_leaves_the_old_file_and_nothing_else),
        cmocka_unit_test(a_device_or_directory_is_never_replaced),
        cmocka_unit_test(names_are_listed_in_order),
        cmocka_unit_test(temporaries_of_the_dead_are_removed_and_nothing_else),
        cmocka_unit_test(a_mapping_shows_the_bytes),
        cmocka_unit_test(a_lock_has_one_holder_and_dies_with_it),
        cmocka_unit_test(free_space_is_known),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
