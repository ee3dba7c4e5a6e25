/* A tree becomes rows, key lists and targets as train_batch.h says. */
#include "tests/support/test.h"

#include "common/model/train_batch.h"

static const int32_t prompt[] = {10, 11, 12};
static const int32_t long_answer[] = {20, 21, 22}, middle[] = {30, 31}, single[] = {40};

#define ASSERT_ROW_IS(got, ...)                                                                                        \
    do {                                                                                                               \
        const int32_t expected_[] = {__VA_ARGS__};                                                                     \
        assert_memory_equal((got), expected_, sizeof expected_);                                                       \
    } while (0)

static void a_tree_holds_its_prompt_once(void **state) {
    (void)state;
    struct train_batch *b = NULL;
    ASSERT_OK(train_batch_create(32, 32, &b));
    const int32_t *const answers[] = {single, long_answer, NULL, middle};
    const int32_t counts[] = {1, 3, 0, 2};
    assert_int_equal(train_tree_rows(3, counts, 4), 6);
    ASSERT_OK(train_batch_add_tree(b, prompt, 3, answers, counts, 4));
    assert_int_equal(train_batch_rows(b), 6);
    assert_int_equal(train_batch_targets(b), 6);
    ASSERT_ROW_IS(b->ids, 10, 11, 12, 20, 21, 30);
    ASSERT_ROW_IS(b->positions, 0, 1, 2, 3, 4, 3);
    ASSERT_ROW_IS(b->row_sequence, 0, 0, 0, 1, 1, 2);
    ASSERT_ROW_IS(b->key_offset, 0, 3, 8, 12);
    ASSERT_ROW_IS(b->key_rows, 0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5);
    ASSERT_ROW_IS(b->target_rows, 2, 2, 2, 3, 4, 5);
    ASSERT_ROW_IS(b->target_ids, 40, 20, 30, 21, 22, 31);
    ASSERT_ROW_IS(b->target_places, 0, 1, 4, 2, 3, 5);
    assert_int_equal(b->longest, 5);

    const int32_t *const one[] = {middle}; /* a supervised example: one sequence */
    ASSERT_OK(train_batch_add_tree(b, prompt, 1, one, (const int32_t[]){2}, 1));
    ASSERT_ROW_IS(b->tree_row, 0, 6, 8);
    ASSERT_ROW_IS(b->key_offset + 3, 12, 14);
    ASSERT_ROW_IS(b->key_rows + 12, 6, 7);
    ASSERT_ROW_IS(b->target_rows + 6, 6, 7);
    ASSERT_ROW_IS(b->target_places + 6, 6, 7);
    train_batch_reset(b);
    assert_int_equal(train_batch_rows(b), 0);
    ASSERT_OK(train_batch_add_tree(b, prompt, 2, one, (const int32_t[]){1}, 1));
    ASSERT_ROW_IS(b->key_offset, 0, 2);
    ASSERT_ROW_IS(b->target_places, 0);
    train_batch_destroy(&b);
    assert_null(b);
}

static void a_full_batch_takes_nothing_more(void **state) {
    (void)state;
    struct train_batch *b = NULL;
    const int32_t *const answers[] = {long_answer, middle};
    const int32_t counts[] = {3, 2};
    ASSERT_OK(train_batch_create(11, 10, &b));
    ASSERT_OK(train_batch_add_tree(b, prompt, 3, answers, counts, 2));
    ASSERT_FAILS(STATUS_LIMIT, train_batch_add_tree(b, prompt, 3, answers, counts, 2));
    assert_int_equal(train_batch_rows(b), 6);
    assert_int_equal(train_batch_targets(b), 5);
    assert_int_equal(b->sequences, 2);
    ASSERT_OK(train_batch_add_tree(b, prompt, 2, answers, counts, 2));
    assert_int_equal(train_batch_rows(b), 11);
    train_batch_destroy(&b);
    ASSERT_OK(train_batch_create(100, 4, &b));
    ASSERT_FAILS(STATUS_LIMIT, train_batch_add_tree(b, prompt, 3, answers, counts, 2));
    assert_int_equal(train_batch_rows(b), 0);
    train_batch_destroy(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_holds_its_prompt_once),
        cmocka_unit_test(a_full_batch_takes_nothing_more),
    };
    return cmocka_run_group_tests_name("train_batch", tests, NULL, NULL);
}
