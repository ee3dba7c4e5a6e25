/* Log lines, read back from a pipe in place of stderr. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "common/base/log.h"

static int pipe_fds[2], kept_stderr;
static char text[65536];

static void begin(void) {
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK), 0);
    kept_stderr = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
}

static const char *end(void) {
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(pipe_fds[1]);
    ssize_t got = read(pipe_fds[0], text, sizeof text - 1);
    close(pipe_fds[0]);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void an_event_is_one_line(void **state) {
    (void)state;
    begin();
    log_init("candor-test", "demo", LOG_INFO);
    log_event(LOG_WARNING, "lease_lost", "step=%d peer=%s", 3, "a\nb\x1b[2J");
    log_event(LOG_INFO, "ready", "%s", "");
    const char *line = end();
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    assert_non_null(strstr(line, "Z warning candor-test run=demo lease_lost step=3 peer=a?b?[2J\n"));
    assert_non_null(strstr(line, " info candor-test run=demo ready \n"));
}

static void less_than_the_least_level_is_silent(void **state) {
    (void)state;
    begin();
    log_init("candor-test", NULL, LOG_WARNING);
    log_event(LOG_INFO, "hidden", "x=1");
    log_event(LOG_ERROR, "shown", "x=1");
    const char *line = end();
    assert_null(strstr(line, "hidden"));
    assert_non_null(strstr(line, " error candor-test shown x=1\n"));
}

static void a_long_line_is_cut_and_says_so(void **state) {
    (void)state;
    char value[5000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    begin();
    log_init("candor-test", NULL, LOG_INFO);
    log_event(LOG_INFO, "long", "value=%s", value);
    const char *line = end();
    assert_int_equal(strlen(line), 2048);
    assert_string_equal(line + 2040, "vvvv...\n");
}

static void repeated_events_are_counted_instead_of_written(void **state) {
    (void)state;
    begin();
    log_init("candor-test", NULL, LOG_INFO);
    struct log_limit limit = {0};
    assert_true(log_limit_pass(&limit, 3600000));
    log_event(LOG_INFO, "again", "n=0");
    for (int i = 0; i < 5; i++)
        assert_false(log_limit_pass(&limit, 3600000));
    limit.next_ms = 0; /* as if the time had passed */
    assert_true(log_limit_pass(&limit, 3600000));
    log_event(LOG_INFO, "again", "n=6");
    for (int i = 0; i < 3; i++)
        LOG_EVERY(3600000, LOG_INFO, "every", "i=%d", i);
    const char *lines = end();
    assert_non_null(strstr(lines, "again n=0\n"));
    assert_non_null(strstr(lines, "again suppressed=5 n=6\n"));
    assert_non_null(strstr(lines, "every i=0\n"));
    assert_null(strstr(lines, "every i=1"));
}

static void *write_lines(void *letter) {
    char value[200];
    memset(value, *(char *)letter, sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < 50; i++)
        log_event(LOG_INFO, "thread", "value=%s", value);
    return NULL;
}

static void lines_of_two_threads_do_not_mix(void **state) {
    (void)state;
    begin();
    log_init("candor-test", NULL, LOG_INFO);
    pthread_t threads[2];
    char letters[2] = {'a', 'b'};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, write_lines, &letters[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    char *save = NULL;
    int count = 0;
    for (char *line = strtok_r((char *)(uintptr_t)end(), "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *value = strstr(line, "value=");
        assert_non_null(value);
        assert_int_equal(strspn(value + 6, (char[]){value[6], '\0'}), 199);
        count++;
    }
    assert_int_equal(count, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_one_line),
        cmocka_unit_test(less_than_the_least_level_is_silent),
        cmocka_unit_test(a_long_line_is_cut_and_says_so),
        cmocka_unit_test(repeated_events_are_counted_instead_of_written),
        cmocka_unit_test(lines_of_two_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
