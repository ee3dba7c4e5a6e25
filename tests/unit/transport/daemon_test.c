#include "tests/support/test.h"

#include "common/transport/daemon.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fs.h"

static char directory[] = "/tmp/candor-daemon-test-XXXXXX";

static enum status run_nothing(struct daemon *daemon, const struct run_config *config) {
    (void)daemon;
    return strcmp(config->net_learner, "broken") == 0 ? fail(STATUS_DEVICE, "device 3: code 48") : STATUS_OK;
}

static enum status check_learner(const struct run_config *config) {
    return config->net_learner[0] ? STATUS_OK
                                  : fail(STATUS_CONFIG, "net.learner = (empty): the learner's control endpoint");
}

static enum status run_until_stopped(struct daemon *daemon, const struct run_config *config) {
    (void)config;
    assert_false(daemon_stopping(daemon));
    raise(SIGTERM);
    assert_true(daemon_stopping(daemon));
    assert_true(daemon_stopping(daemon));
    return STATUS_OK;
}

static enum status run_stopped_twice(struct daemon *daemon, const struct run_config *config) {
    (void)config;
    raise(SIGTERM);
    assert_true(daemon_stopping(daemon));
    raise(SIGTERM); /* no patience for the drain */
    return STATUS_OK;
}

static enum status run_watched(struct daemon *daemon, const struct run_config *config) {
    (void)config;
    int first = daemon_thread(daemon, "first"), second = daemon_thread(daemon, "second");
    daemon_ready(daemon);
    daemon_status(daemon, "waiting for %s", "the learner");
    daemon_status(daemon, "waiting for %s", "the learner");
    daemon_beat(daemon, first);
    daemon_tick(daemon); /* second stands still: no WATCHDOG */
    daemon_status(daemon, "half");
    daemon_beat(daemon, second);
    daemon_tick(daemon);
    return STATUS_OK;
}

/* A period of 20 ms: a tick after 10 ms feeds again. */
static enum status run_loading(struct daemon *daemon, const struct run_config *config) {
    (void)config;
    int thread = daemon_thread(daemon, "generation");
    daemon_beat(daemon, thread);
    daemon_tick(daemon);
    usleep(11000);
    daemon_allow(daemon, thread, 3600000);
    daemon_tick(daemon); /* fed, though it does not move */
    daemon_status(daemon, "loaded");
    usleep(11000);
    daemon_beat(daemon, thread);
    daemon_tick(daemon);
    usleep(11000);
    daemon_tick(daemon); /* its allowance ended with the beat */
    return STATUS_OK;
}

/* Run in a child, so that signal masks and standard streams of the test stay as they are. */
static int run_daemon(const struct daemon_about *about, const char *const *arguments, char *out_text,
                      size_t text_bytes) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        char *argv[16] = {strdup(about->program)};
        int argc = 1;
        while (arguments[argc - 1]) {
            argv[argc] = strdup(arguments[argc - 1]);
            argc++;
        }
        int code = daemon_main(about, argc, argv);
        fflush(stdout);
        _exit(code);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], out_text + used, text_bytes - 1 - used)) > 0)
        used += (size_t)got;
    out_text[used] = 0;
    close(ends[0]);
    int state;
    assert_int_equal(waitpid(child, &state, 0), child);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

static const char *const no_arguments[] = {NULL};
static char text[65536];

static void exit_codes_are_those_of_the_status(void **state) {
    (void)state;
    struct daemon_about about = {.program = "candor-x", .purpose = "tests", .check = check_learner, .run = run_nothing};
    const char *good[] = {"--set", "net.learner=ipc:///tmp/x", NULL};
    assert_int_equal(run_daemon(&about, good, text, sizeof text), 0);
    const char *device[] = {"--set", "net.learner=broken", NULL};
    assert_int_equal(run_daemon(&about, device, text, sizeof text), 75);
    assert_string_equal(text, "candor-x: device 3: code 48\n");
    assert_int_equal(run_daemon(&about, no_arguments, text, sizeof text), 78);
    assert_string_equal(text, "candor-x: net.learner = (empty): the learner's control endpoint\n");
}

static void a_wrong_command_line_is_named(void **state) {
    (void)state;
    struct daemon_about about = {.program = "candor-x", .purpose = "tests", .run = run_nothing};
    const char *unknown[] = {"--set", "run.seed=3", "--frobnicate", NULL};
    assert_int_equal(run_daemon(&about, unknown, text, sizeof text), 64);
    assert_string_equal(text, "candor-x: --frobnicate: no such option; --help lists them\n");
    const char *missing[] = {"--config", NULL};
    assert_int_equal(run_daemon(&about, missing, text, sizeof text), 64);
    const char *extra[] = {"now", NULL};
    assert_int_equal(run_daemon(&about, extra, text, sizeof text), 64);
    const char *value[] = {"--set", "run.seed=many", NULL};
    assert_int_equal(run_daemon(&about, value, text, sizeof text), 78);
}

static void check_and_print_do_not_run(void **state) {
    (void)state;
    static const char *const sections[] = {"net", "log", NULL};
    struct daemon_about about = {.program = "candor-x", .purpose = "tests", .sections = sections, .run = run_nothing};
    const char *check[] = {"--set", "net.learner=broken", "--check-config", NULL};
    assert_int_equal(run_daemon(&about, check, text, sizeof text), 0);
    const char *print[] = {"--set", "net.learner=broken", "--print-config", NULL};
    assert_int_equal(run_daemon(&about, print, text, sizeof text), 0);
    assert_non_null(strstr(text, "learner = broken"));
    assert_non_null(strstr(text, "[log]"));
    assert_null(strstr(text, "[optim]"));
}

static void a_signal_is_a_request_to_stop_and_a_second_one_the_end(void **state) {
    (void)state;
    struct daemon_about about = {.program = "candor-x", .purpose = "tests", .run = run_until_stopped};
    assert_int_equal(run_daemon(&about, no_arguments, text, sizeof text), 0);
    about.run = run_stopped_twice;
    assert_int_equal(run_daemon(&about, no_arguments, text, sizeof text), -SIGTERM);
}

/* What systemd is told by a daemon whose watchdog has this period: exactly these. */
static void expect_notifications(enum status (*run)(struct daemon *, const struct run_config *), const char *period_us,
                                 const char *const *expected) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char datagram[256];
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", directory);
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", period_us, 1);
    struct daemon_about about = {.program = "candor-x", .purpose = "tests", .run = run};
    assert_int_equal(run_daemon(&about, no_arguments, text, sizeof text), 0);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    for (; *expected; expected++) {
        memset(datagram, 0, sizeof datagram);
        assert_true(recv(fd, datagram, sizeof datagram - 1, MSG_DONTWAIT) > 0);
        assert_string_equal(datagram, *expected);
    }
    assert_int_equal(recv(fd, datagram, sizeof datagram, MSG_DONTWAIT), -1);
    close(fd);
}

static void the_watchdog_is_fed_only_while_every_thread_moves(void **state) {
    (void)state;
    static const char *const expected[] = {"READY=1", "STATUS=waiting for the learner", "STATUS=half", "WATCHDOG=1",
                                           NULL};
    expect_notifications(run_watched, "1000000", expected);
}

static void the_watchdog_leaves_a_loading_thread_its_time(void **state) {
    (void)state;
    static const char *const expected[] = {"WATCHDOG=1", "WATCHDOG=1", "STATUS=loaded", "WATCHDOG=1", NULL};
    expect_notifications(run_loading, "20000", expected);
}

static void endpoints_of_a_run_are_the_same_for_all_its_processes(void **state) {
    (void)state;
    char a[ENDPOINT_BYTES], b[ENDPOINT_BYTES], relative[PATH_BYTES];
    ASSERT_OK(daemon_endpoint("tcp://10.0.0.1:7000", "", "control", true, a));
    assert_string_equal(a, "tcp://10.0.0.1:7000");
    ASSERT_OK(daemon_endpoint("", directory, "control", true, a));
    snprintf(relative, sizeof relative, "%s/../%s", directory, strrchr(directory, '/') + 1);
    ASSERT_OK(daemon_endpoint("", relative, "control", false, b));
    assert_string_equal(a, b);
    ASSERT_FAILS(STATUS_CONFIG, daemon_endpoint("", "", "control", false, a));
    assert_int_equal(daemon_endpoint("", "/tmp/candor-no-such-run", "control", false, a), STATUS_NOT_FOUND);
}

static void a_run_directory_too_long_for_a_socket_gets_a_short_one(void **state) {
    (void)state;
    char deep[PATH_BYTES], endpoint[ENDPOINT_BYTES];
    snprintf(deep, sizeof deep, "%s/%0100d", directory, 1);
    assert_int_equal(mkdir(deep, 0700), 0);
    setenv("TMPDIR", directory, 1);
    ASSERT_OK(daemon_endpoint("", deep, "control", true, endpoint));
    assert_true(strlen(endpoint) - strlen("ipc://") <= 107);
    assert_int_equal(strncmp(endpoint + strlen("ipc://"), directory, strlen(directory)), 0);
    unsetenv("TMPDIR");
}

static void a_socket_directory_of_someone_else_is_refused(void **state) {
    (void)state;
    char run[PATH_BYTES], sockets[PATH_BYTES], endpoint[ENDPOINT_BYTES];
    snprintf(run, sizeof run, "%s/linked", directory);
    assert_int_equal(mkdir(run, 0700), 0);
    snprintf(sockets, sizeof sockets, "%s/linked/sockets", directory);
    assert_int_equal(symlink("/tmp", sockets), 0);
    ASSERT_FAILS(STATUS_CONFIG, daemon_endpoint("", run, "control", true, endpoint));
}

static void names_and_incarnations(void **state) {
    (void)state;
    struct daemon_identity a, b;
    ASSERT_OK(daemon_identify("", &a));
    ASSERT_OK(daemon_identify("left", &b));
    assert_string_equal(b.name, "left");
    assert_true(strlen(a.name) > strlen(a.host));
    assert_true(a.incarnation && b.incarnation && a.incarnation != b.incarnation);
}

int main(void) {
    if (!mkdtemp(directory))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes_are_those_of_the_status),
        cmocka_unit_test(a_wrong_command_line_is_named),
        cmocka_unit_test(check_and_print_do_not_run),
        cmocka_unit_test(a_signal_is_a_request_to_stop_and_a_second_one_the_end),
        cmocka_unit_test(the_watchdog_is_fed_only_while_every_thread_moves),
        cmocka_unit_test(the_watchdog_leaves_a_loading_thread_its_time),
        cmocka_unit_test(endpoints_of_a_run_are_the_same_for_all_its_processes),
        cmocka_unit_test(a_run_directory_too_long_for_a_socket_gets_a_short_one),
        cmocka_unit_test(a_socket_directory_of_someone_else_is_refused),
        cmocka_unit_test(names_and_incarnations),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fs_remove_tree(directory);
    return failed;
}
