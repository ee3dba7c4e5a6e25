/* Opening a device, and its team of threads. */
#include "tests/support/compute/fixture.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

static void the_cpu_opens_and_says_what_it_is(void **state) {
    (void)state;
    static const char *const specs[] = {"cpu", "auto"};
    for (int i = 0; i < 2; i++) {
        struct device *device = NULL;
        assert_int_equal(device_open(specs[i], 2, &device), STATUS_OK);
        assert_int_equal(device->kind, DEVICE_CPU);
        assert_int_equal(device->activation, DTYPE_F32);
        assert_int_equal(device->threads, 2);
        assert_true(strncmp(device->name, "cpu: ", 5) == 0 && strlen(device->arithmetic) > 0);
        device_close(&device);
        assert_null(device);
        device_close(&device);
    }
}

static void unknown_devices_and_paths_are_refused_by_name(void **state) {
    (void)state;
    struct device *device = NULL;
    assert_int_equal(device_open("cuda:0", 0, &device), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "cuda:0"));
    assert_int_equal(device_open("tpu", 0, &device), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "tpu"));
    assert_int_equal(device_open("cpu", -1, &device), STATUS_CONFIG);
    assert_int_equal(device_open("cpu", 1000000, &device), STATUS_CONFIG);
    assert_int_equal(cpu_open("sse9", 1, &device), STATUS_UNSUPPORTED);
    assert_null(device);
}

/* The fingerprint must not tell apart what gives the same bits. */
static void paths_and_threads_share_one_arithmetic(void **state) {
    (void)state;
    for (int d = 1; d < device_count; d++)
        assert_string_equal(devices[d]->arithmetic, devices[0]->arithmetic);
}

struct loop {
    _Atomic int visits[1000];
    _Atomic int threads_seen;
    int threads;
};

static void visit(void *context, int64_t begin, int64_t end, int thread) {
    struct loop *loop = context;
    if (thread < 0 || thread >= loop->threads)
        return; /* the missing visits tell */
    atomic_fetch_or(&loop->threads_seen, 1 << thread);
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&loop->visits[i], 1);
}

static void every_element_is_visited_once(void **state) {
    (void)state;
    static struct loop loop;
    for (int threads = 1; threads <= 5; threads++) {
        struct team *team;
        assert_int_equal(team_create(threads, &team), STATUS_OK);
        assert_int_equal(team_threads(team), threads);
        for (int round = 0; round < 2000; round++) {
            memset(&loop, 0, sizeof loop);
            loop.threads = threads;
            int64_t count = random_below(round % 100 == 0 ? 1001 : 20), grain = 1 + random_below(7);
            team_for(team, count, grain, visit, &loop);
            for (int64_t i = 0; i < 1000; i++)
                if (loop.visits[i] != (i < count))
                    fail_msg("round %d: element %d of %d was visited %d times", round, (int)i, (int)count,
                             loop.visits[i]);
        }
        team_destroy(&team);
        assert_null(team);
    }
}

/* The team sleeps between two loops that are far apart, and wakes again. */
static void a_sleeping_team_wakes(void **state) {
    (void)state;
    static struct loop loop;
    struct team *team;
    struct timespec pause = {0, 3000000};
    assert_int_equal(team_create(3, &team), STATUS_OK);
    for (int round = 0; round < 20; round++) {
        nanosleep(&pause, NULL);
        memset(&loop, 0, sizeof loop);
        loop.threads = 3;
        team_for(team, 100, 1, visit, &loop);
        for (int i = 0; i < 100; i++)
            assert_int_equal(loop.visits[i], 1);
    }
    team_destroy(&team);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(the_cpu_opens_and_says_what_it_is),
        TEST(unknown_devices_and_paths_are_refused_by_name),
        TEST(paths_and_threads_share_one_arithmetic),
        TEST(every_element_is_visited_once),
        TEST(a_sleeping_team_wakes),
    };
    return cmocka_run_group_tests_name("device", tests, devices_open, devices_close);
}
