/* The bounded queue between threads. */
#include "tests/support/test.h"

#include <poll.h>
#include <pthread.h>

#include "common/base/queue.h"

static bool readable(const struct queue *queue) {
    struct pollfd entry = {.fd = queue_fd(queue), .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

static int numbers[20000];

static void items_come_out_in_order_and_the_queue_never_grows(void **state) {
    (void)state;
    struct queue *queue = NULL;
    void *item = NULL;
    ASSERT_OK(queue_create(3, &queue));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            ASSERT_OK(queue_push(queue, &numbers[i], 0));
        assert_int_equal(queue_push(queue, &numbers[3], 0), STATUS_TIMEOUT);
        assert_int_equal(queue_push(queue, &numbers[3], 1), STATUS_TIMEOUT);
        assert_int_equal(queue_count(queue), 3);
        for (int i = 0; i < 3; i++) {
            ASSERT_OK(queue_pop(queue, &item, 0));
            assert_ptr_equal(item, &numbers[i]);
        }
        assert_int_equal(queue_pop(queue, &item, 0), STATUS_TIMEOUT);
        assert_int_equal(queue_pop(queue, &item, 1), STATUS_TIMEOUT);
    }
    queue_destroy(&queue);
    assert_null(queue);
    queue_destroy(&queue);
}

static void the_descriptor_is_readable_while_not_empty_or_closed(void **state) {
    (void)state;
    struct queue *queue = NULL;
    void *item;
    ASSERT_OK(queue_create(2, &queue));
    assert_false(readable(queue));
    ASSERT_OK(queue_push(queue, &numbers[0], 0));
    ASSERT_OK(queue_push(queue, &numbers[1], 0));
    assert_true(readable(queue));
    ASSERT_OK(queue_pop(queue, &item, 0));
    assert_true(readable(queue));
    ASSERT_OK(queue_pop(queue, &item, 0));
    assert_false(readable(queue));
    queue_close(queue);
    assert_true(readable(queue));
    queue_destroy(&queue);
}

static void a_closed_queue_gives_what_it_holds(void **state) {
    (void)state;
    struct queue *queue = NULL;
    void *item = NULL;
    ASSERT_OK(queue_create(2, &queue));
    ASSERT_OK(queue_push(queue, &numbers[5], 0));
    queue_close(queue);
    queue_close(queue);
    assert_int_equal(queue_push(queue, &numbers[6], -1), STATUS_CLOSED);
    ASSERT_OK(queue_pop(queue, &item, -1));
    assert_ptr_equal(item, &numbers[5]);
    assert_int_equal(queue_pop(queue, &item, -1), STATUS_CLOSED);
    assert_true(readable(queue));
    queue_destroy(&queue);
}

static void *produce(void *context) {
    struct queue *queue = context;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (queue_push(queue, &numbers[i], -1) != STATUS_OK)
            return NULL;
    }
    queue_close(queue);
    return NULL;
}

static void two_threads_hand_over_everything_in_order(void **state) {
    (void)state;
    struct queue *queue = NULL;
    void *item = NULL;
    pthread_t thread;
    ASSERT_OK(queue_create(7, &queue));
    assert_int_equal(pthread_create(&thread, NULL, produce, queue), 0);
    size_t count = 0;
    enum status status;
    while ((status = queue_pop(queue, &item, -1)) == STATUS_OK) {
        assert_ptr_equal(item, &numbers[count]);
        count++;
    }
    assert_int_equal(status, STATUS_CLOSED);
    assert_int_equal(count, sizeof numbers / sizeof numbers[0]);
    pthread_join(thread, NULL);
    queue_destroy(&queue);
}

static void *pop_for_ever(void *context) {
    void *item;
    return queue_pop(context, &item, -1) == STATUS_CLOSED ? context : NULL;
}

static void closing_wakes_a_waiting_thread(void **state) {
    (void)state;
    struct queue *queue = NULL;
    pthread_t thread;
    void *result = NULL;
    ASSERT_OK(queue_create(1, &queue));
    assert_int_equal(pthread_create(&thread, NULL, pop_for_ever, queue), 0);
    queue_close(queue);
    pthread_join(thread, &result);
    assert_ptr_equal(result, queue);
    queue_destroy(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_order_and_the_queue_never_grows),
        cmocka_unit_test(the_descriptor_is_readable_while_not_empty_or_closed),
        cmocka_unit_test(a_closed_queue_gives_what_it_holds),
        cmocka_unit_test(two_threads_hand_over_everything_in_order),
        cmocka_unit_test(closing_wakes_a_waiting_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
