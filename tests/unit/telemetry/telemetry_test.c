/* Telemetry against a real redis-server on a socket of its own: started, killed, stopped, filled and restarted. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/telemetry/redis.h"
#include "common/telemetry/telemetry.h"

static char directory[] = "/tmp/candor-redis-XXXXXX";
static char socket_path[PATH_BYTES];
static pid_t server;

/* false when there is no redis-server on this machine */
static bool start_server(void) {
    fflush(NULL);
    server = fork();
    if (server == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--save", "", "--dir",
               directory, (char *)NULL);
        _exit(127);
    }
    for (double end = clock_seconds() + 20; clock_seconds() < end; usleep(10000)) {
        int status;
        redisContext *context = redisConnectUnix(socket_path);
        bool up = context && context->err == 0;
        if (context)
            redisFree(context);
        if (up)
            return true;
        if (waitpid(server, &status, WNOHANG) == server) {
            server = 0;
            return false;
        }
    }
    return false;
}

static void kill_server(void) {
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    server = 0;
    unlink(socket_path);
}

#define NEED_SERVER()                                                                                                  \
    do {                                                                                                               \
        if (!start_server())                                                                                           \
            SKIP("no redis-server on this machine");                                                                   \
    } while (0)

/* The answer to one command as text: the string, the number, or for arrays the elements joined by spaces. */
static const char *ask(const char *command) {
    static char text[4096];
    redisContext *context = redisConnectUnix(socket_path);
    assert_true(context && context->err == 0);
    redisReply *reply = redisCommand(context, command);
    assert_non_null(reply);
    text[0] = '\0';
    if (reply->type == REDIS_REPLY_INTEGER)
        snprintf(text, sizeof text, "%lld", reply->integer);
    else if (reply->str)
        snprintf(text, sizeof text, "%s", reply->str);
    for (size_t i = 0; i < reply->elements; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? " " : "",
                 reply->element[i]->str ? reply->element[i]->str : "?");
    }
    freeReplyObject(reply);
    redisFree(context);
    return text;
}

static void wait_written(const struct telemetry *telemetry, uint64_t count) {
    for (double end = clock_seconds() + 30; clock_seconds() < end; usleep(5000)) {
        if (telemetry_written(telemetry) >= count)
            return;
    }
    fail_msg("%llu records written after 30 s where %llu were expected",
             (unsigned long long)telemetry_written(telemetry), (unsigned long long)count);
}

static void push_sample(struct telemetry *telemetry, double step) {
    const char *names[] = {"step", "loss", "nothing"};
    double values[] = {step, -0.125, (double)NAN};
    telemetry_sample(telemetry, names, values, 3);
}

static void push_process(struct telemetry *telemetry, const char *name, double tokens) {
    const struct telemetry_process process = {.name = name, .role = "actor", .host = "h", .state = "a\nb"};
    const struct telemetry_pair pairs[] = {{"tokens!", 6, tokens}, {"load", 4, 0.5}};
    telemetry_process(telemetry, &process, pairs, 2);
}

static int set_up(void **state) {
    (void)state;
    log_init("telemetry_test", NULL, LOG_ERROR);
    return mkdtemp(directory) && fs_join(socket_path, directory, "s") == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return fs_remove_tree(directory) == STATUS_OK ? 0 : -1;
}

static int end_server(void **state) {
    (void)state;
    kill_server();
    return 0;
}

static void only_addresses_are_taken(void **state) {
    (void)state;
    static const char *const bad[] = {"localhost", ":6379", "host:", "host:0", "host:65536", "host:63x", "redis"};
    struct redis_target target = {.port = 7};
    struct telemetry *telemetry = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ASSERT_FAILS(STATUS_CONFIG, redis_target_parse(bad[i], &target));
    assert_string_equal(status_message(), "telemetry.redis = redis: right would be host:port or the /path of a socket");
    assert_int_equal(target.port, 7);
    ASSERT_FAILS(STATUS_CONFIG, telemetry_start("localhost", "run", &telemetry));
    assert_null(telemetry);
    ASSERT_OK(redis_target_parse("localhost:6379", &target));
    assert_string_equal(target.host, "localhost");
    assert_int_equal(target.port, 6379);
    ASSERT_OK(redis_target_parse("/run/redis.sock", &target));
    assert_string_equal(target.host, "");
}

static void without_redis_configured_everything_is_a_no_op(void **state) {
    (void)state;
    struct telemetry *telemetry = (void *)directory;
    ASSERT_OK(telemetry_start("", "run", &telemetry));
    assert_null(telemetry);
    push_sample(telemetry, 1);
    push_process(telemetry, "a", 1);
    assert_int_equal(telemetry_dropped(telemetry), 0);
    telemetry_stop(&telemetry);
}

static void without_a_server_records_are_dropped_and_counted(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    ASSERT_OK(telemetry_start(socket_path, "run", &telemetry));
    for (int i = 0; i < 3 * TELEMETRY_RING_RECORDS; i++)
        push_sample(telemetry, i);
    assert_in_range(telemetry_dropped(telemetry), 2 * TELEMETRY_RING_RECORDS - REDIS_BATCH_RECORDS,
                    2 * TELEMETRY_RING_RECORDS);
    assert_int_equal(telemetry_written(telemetry), 0);
    telemetry_stop(&telemetry);
    assert_null(telemetry);
}

static void processes_and_samples_arrive(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    NEED_SERVER();
    ASSERT_OK(telemetry_start(socket_path, "my run", &telemetry));
    push_process(telemetry, "actor-1", 123456789);
    push_process(telemetry, "actor-2", 1);
    push_sample(telemetry, 1);
    push_sample(telemetry, 2);
    wait_written(telemetry, 4);
    assert_string_equal(ask("KEYS candor:*:process:actor-1"), "candor:my run:process:actor-1");
    assert_string_equal(
        ask("EVAL return(redis.call('HGET','candor:my'..string.char(32)..'run:process:actor-1','tokens')) 0"),
        "123456789");
    telemetry_stop(&telemetry);
    ASSERT_OK(telemetry_start(socket_path, "r", &telemetry));
    push_process(telemetry, "actor-1", 7);
    push_sample(telemetry, 3);
    telemetry_stop(&telemetry); /* writes what waits */
    assert_string_equal(ask("HMGET candor:r:process:actor-1 role host state tokens load"), "actor h a?b 7 0.5");
    assert_string_equal(ask("ZRANGE candor:r:processes 0 -1"), "actor-1");
    assert_in_range(atoi(ask("TTL candor:r:process:actor-1")), 1, TELEMETRY_PROCESS_TTL_S);
    assert_true(atoi(ask("TTL candor:r:samples")) > 0);
    assert_string_equal(ask("EVAL return(redis.call('XRANGE','candor:r:samples','-','+')[1][2]) 0"),
                        "telemetry_dropped 0 step 3 loss -0.125");
}

static void a_killed_server_costs_a_gap_and_no_more(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    NEED_SERVER();
    ASSERT_OK(telemetry_start(socket_path, "r", &telemetry));
    push_sample(telemetry, 1);
    wait_written(telemetry, 1);
    kill_server();
    for (int step = 2; step <= 100; step++)
        push_sample(telemetry, step);
    assert_true(start_server());
    wait_written(telemetry, 100);
    assert_string_equal(ask("XLEN candor:r:samples"), "99"); /* the first died with the server */
    assert_int_equal(telemetry_dropped(telemetry), 0);
    telemetry_stop(&telemetry);
}

static void a_server_that_hangs_holds_nobody_up(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    NEED_SERVER();
    ASSERT_OK(telemetry_start(socket_path, "r", &telemetry));
    push_sample(telemetry, 1);
    wait_written(telemetry, 1);
    kill(server, SIGSTOP);
    for (int step = 2; step <= 40; step++)
        push_sample(telemetry, step);
    usleep(300000); /* long enough for an attempt to time out with its commands already sent */
    kill(server, SIGCONT);
    wait_written(telemetry, 40);
    assert_string_equal(ask("XLEN candor:r:samples"), "40"); /* none twice */
    telemetry_stop(&telemetry);
}

static void stopping_does_not_wait_for_a_server_that_hangs(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    NEED_SERVER();
    ASSERT_OK(telemetry_start(socket_path, "r", &telemetry));
    push_sample(telemetry, 1);
    wait_written(telemetry, 1);
    kill(server, SIGSTOP);
    push_sample(telemetry, 2);
    telemetry_stop(&telemetry); /* returns while the server is still stopped */
    assert_null(telemetry);
    kill(server, SIGCONT);
}

static void a_full_server_refuses_and_it_is_counted(void **state) {
    (void)state;
    struct telemetry *telemetry = NULL;
    NEED_SERVER();
    assert_string_equal(ask("CONFIG SET maxmemory 1"), "OK"); /* noeviction is the default policy */
    ASSERT_OK(telemetry_start(socket_path, "r", &telemetry));
    for (int step = 0; step < 5; step++)
        push_sample(telemetry, step);
    for (double end = clock_seconds() + 30; telemetry_dropped(telemetry) < 5 && clock_seconds() < end;)
        usleep(5000);
    assert_int_equal(telemetry_dropped(telemetry), 5);
    assert_int_equal(telemetry_written(telemetry), 0);
    assert_string_equal(ask("CONFIG SET maxmemory 0"), "OK");
    push_sample(telemetry, 6);
    wait_written(telemetry, 1);
    assert_string_equal(ask("EVAL return(redis.call('XRANGE','candor:r:samples','-','+')[1][2]) 0"),
                        "telemetry_dropped 5 step 6 loss -0.125");
    telemetry_stop(&telemetry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_addresses_are_taken),
        cmocka_unit_test(without_redis_configured_everything_is_a_no_op),
        cmocka_unit_test(without_a_server_records_are_dropped_and_counted),
        cmocka_unit_test_teardown(processes_and_samples_arrive, end_server),
        cmocka_unit_test_teardown(a_killed_server_costs_a_gap_and_no_more, end_server),
        cmocka_unit_test_teardown(a_server_that_hangs_holds_nobody_up, end_server),
        cmocka_unit_test_teardown(stopping_does_not_wait_for_a_server_that_hangs, end_server),
        cmocka_unit_test_teardown(a_full_server_refuses_and_it_is_counted, end_server),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
