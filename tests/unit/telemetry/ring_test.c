/* The lock-free ring of telemetry records. */
#include "tests/support/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/telemetry/ring.h"

#define PRODUCERS 3
#define PUSHES 4000

static struct ring *ring;
static atomic_uint lost, producers_left;

static void set(struct record *record, double producer, double number) {
    memset(record, 0, offsetof(struct record, pairs));
    record->pair_count = 2;
    record->pairs[0].value = producer;
    record->pairs[1].value = number;
    strcpy(record->pairs[0].name, "producer");
    strcpy(record->pairs[1].name, "number");
}

static void a_full_ring_drops_the_oldest(void **state) {
    (void)state;
    struct record record;
    ASSERT_OK(ring_create(4, &ring));
    assert_false(ring_try_pop(ring, &record));
    for (int i = 0; i < 4; i++) {
        set(&record, 0, i);
        assert_int_equal(ring_push(ring, &record), 0);
    }
    for (int i = 4; i < 7; i++) {
        set(&record, 0, i);
        assert_int_equal(ring_push(ring, &record), 1);
    }
    for (int i = 3; i < 7; i++) {
        assert_true(ring_try_pop(ring, &record));
        assert_true(record.pairs[1].value == i);
        assert_string_equal(record.pairs[1].name, "number");
    }
    assert_false(ring_try_pop(ring, &record));
    ring_destroy(&ring);
}

static void *produce(void *number) {
    struct record record;
    for (int i = 0; i < PUSHES; i++) {
        set(&record, *(const int *)number, i);
        atomic_fetch_add(&lost, ring_push(ring, &record));
    }
    atomic_fetch_sub(&producers_left, 1);
    return NULL;
}

static void many_threads_lose_nothing_uncounted(void **state) {
    (void)state;
    pthread_t threads[PRODUCERS];
    int numbers[PRODUCERS];
    double last[PRODUCERS];
    ASSERT_OK(ring_create(64, &ring));
    atomic_store(&producers_left, PRODUCERS);
    for (int i = 0; i < PRODUCERS; i++) {
        numbers[i] = i;
        last[i] = -1;
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &numbers[i]), 0);
    }
    unsigned taken = 0;
    for (bool more = true; more;) {
        struct record record;
        bool finished = atomic_load(&producers_left) == 0;
        if (ring_try_pop(ring, &record)) {
            int producer = (int)record.pairs[0].value;
            assert_in_range(producer, 0, PRODUCERS - 1);
            assert_true(record.pairs[1].value > last[producer]); /* in order, none twice */
            last[producer] = record.pairs[1].value;
            taken++;
        } else if (finished) {
            more = false;
        } else {
            sched_yield();
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(taken + atomic_load(&lost), PRODUCERS * PUSHES);
    assert_true(taken > 0);
    ring_destroy(&ring);
    assert_null(ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_ring_drops_the_oldest),
        cmocka_unit_test(many_threads_lose_nothing_uncounted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
