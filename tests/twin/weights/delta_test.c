/* Deltas where weights lie in a CUDA device's memory, against those of host memory: the same bytes, the same weights. */
#include "tests/support/test.h"

#include "common/base/rng.h"
#include "common/weights/content.h"
#include "common/weights/record.h"
#include "tests/support/emulator/device.h"

enum { ELEMENTS = 2 * CHANGE_BLOCK + 777, THREADS = 2 };

static struct rng_key key = {.seed = 3, .stream = RNG_TEST};

static uint32_t draw(uint32_t bound) {
    static uint32_t position;
    return (uint32_t)rng_below(&key, position++, bound);
}

struct fixture {
    struct device *cuda;
    uint16_t *on_cuda;
    uint16_t before[ELEMENTS], after[ELEMENTS];
    struct digest from, to;
    struct record *record;
};

/* after: what an update of one in `rarity` elements leaves, by a step or two, now and then by anything. */
static void begin(struct fixture *f, unsigned order, uint32_t rarity) {
    void *memory;
    for (int i = 0; i < ELEMENTS; i++) {
        f->before[i] = (uint16_t)draw(65536);
        uint32_t step = draw(50) == 0 ? draw(65536) : draw(2) == 0 ? 1 : 0xFFFF;
        f->after[i] = draw(rarity) == 0 ? (uint16_t)(f->before[i] + step) : f->before[i];
    }
    f->from = content_digest(f->before, 0, sizeof f->before);
    f->to = content_digest(f->after, 0, sizeof f->after);
    ASSERT_OK(emulator_open(order, &f->cuda));
    ASSERT_OK(f->cuda->ops->allocate(f->cuda, sizeof f->before, &memory));
    f->on_cuda = memory;
    f->cuda->ops->upload(f->cuda, f->on_cuda, f->before, sizeof f->before);
    ASSERT_OK(record_create(f->cuda, ELEMENTS, &f->record));
}

static void end(struct fixture *f) {
    record_destroy(&f->record);
    f->cuda->ops->release(f->cuda, f->on_cuda);
    emulator_close(&f->cuda);
}

static const struct patch *update(struct fixture *f) {
    record_begin(f->record);
    record_before(f->record, f->on_cuda, 0, ELEMENTS);
    f->cuda->ops->upload(f->cuda, f->on_cuda, f->after, sizeof f->after);
    record_after(f->record, f->on_cuda, 0, ELEMENTS);
    ASSERT_OK(f->cuda->ops->synchronize(f->cuda));
    const struct patch *patch = record_patch(f->record, f->from, f->to);
    assert_non_null(patch);
    return patch;
}

static void check(unsigned order, uint32_t rarity) {
    struct fixture *f = malloc(sizeof *f);
    uint16_t *copy = malloc(sizeof f->after);
    uint8_t *want, *got;
    uint64_t want_bytes, got_bytes, changed;
    begin(f, order, rarity);
    const struct patch *patch = update(f);
    ASSERT_OK(patch_verify(patch, THREADS, f->before));
    patch_copy(patch, THREADS, f->before, copy);
    assert_memory_equal(copy, f->after, sizeof f->after);
    ASSERT_OK(delta_encode(f->before, f->after, ELEMENTS, f->from, f->to, 1, &want, &want_bytes, &changed));
    assert_true(changed == patch->changes);
    for (int threads = 1; threads <= 40; threads += 39) {
        ASSERT_OK(delta_encode_patch(patch, threads, &got, &got_bytes));
        assert_int_equal(got_bytes, want_bytes);
        assert_memory_equal(got, want, want_bytes);
        free(got);
    }
    free(want);
    free(copy);
    end(f);
    free(f);
}

/* Rarely, mostly, and everything: sparse blocks and dense ones. */
static void a_delta_has_the_same_bytes_wherever_it_was_made(void **state) {
    (void)state;
    for (unsigned order = 0; order < 3; order++) {
        check(order, 70);
        check(order, 2);
        check(order, 1);
        check(order, 1000000000);
    }
}

/* What was not found, or found and not there, shows in the digest. */
static void changes_that_lead_elsewhere_are_refused(void **state) {
    (void)state;
    struct fixture *f = malloc(sizeof *f);
    begin(f, 0, 50);
    const struct patch *patch = update(f);
    patch->step[patch->changes / 2] ^= 1;
    ASSERT_FAILS(STATUS_MISMATCH, patch_verify(patch, THREADS, f->before));
    end(f);
    free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delta_has_the_same_bytes_wherever_it_was_made),
        cmocka_unit_test(changes_that_lead_elsewhere_are_refused),
    };
    return cmocka_run_group_tests_name("delta", tests, NULL, NULL);
}
