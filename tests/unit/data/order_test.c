/* The order of questions: a pure function, each question once an epoch. */
#include "tests/support/test.h"

#include "common/data/order.h"

static void each_question_comes_once_an_epoch(void **state) {
    (void)state;
    enum { COUNT = 7, SLOTS = 3, EPOCHS = 9 };
    struct order order;
    uint32_t seen[EPOCHS][COUNT] = {0};
    ASSERT_OK(order_init(&order, 5, COUNT, SLOTS));
    for (uint32_t place = 0; place < EPOCHS * COUNT; place++) {
        uint32_t question = order_question(&order, place / SLOTS, place % SLOTS);
        assert_true(question < COUNT);
        assert_int_equal(order_epoch(&order, place / SLOTS, place % SLOTS), place / COUNT);
        seen[place / COUNT][question]++;
    }
    for (int epoch = 0; epoch < EPOCHS; epoch++)
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(seen[epoch][i], 1);
    order_deinit(&order);
}

static void asking_in_any_sequence_gives_the_same(void **state) {
    (void)state;
    enum { COUNT = 50, SLOTS = 8, STEPS = 40 };
    struct order forward, backward;
    uint32_t asked[STEPS][SLOTS];
    ASSERT_OK(order_init(&forward, 1u << 30, COUNT, SLOTS));
    ASSERT_OK(order_init(&backward, 1u << 30, COUNT, SLOTS));
    for (uint32_t step = 0; step < STEPS; step++)
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            asked[step][slot] = order_question(&forward, step, slot);
    for (uint32_t step = STEPS; step-- > 0;)
        for (uint32_t slot = SLOTS; slot-- > 0;)
            assert_int_equal(order_question(&backward, step, slot), asked[step][slot]);
    order_deinit(&forward);
    order_deinit(&backward);
}

static void seeds_and_epochs_differ(void **state) {
    (void)state;
    enum { COUNT = 100 };
    struct order one, other;
    ASSERT_OK(order_init(&one, 1, COUNT, COUNT));
    ASSERT_OK(order_init(&other, 2, COUNT, COUNT));
    int same_seed = 0, same_epoch = 0;
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        uint32_t question = order_question(&one, 0, slot);
        same_seed += question == order_question(&other, 0, slot);
        same_epoch += question == order_question(&one, 1, slot);
    }
    assert_true(same_seed < 20 && same_epoch < 20);
    order_deinit(&one);
    order_deinit(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_question_comes_once_an_epoch),
        cmocka_unit_test(asking_in_any_sequence_gives_the_same),
        cmocka_unit_test(seeds_and_epochs_differ),
    };
    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
