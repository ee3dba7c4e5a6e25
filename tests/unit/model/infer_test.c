/* Inference: a row's bits depend on its own sequence alone; pages, forks and limits. */
#include "tests/support/test.h"

#include <math.h>

#include "common/model/infer.h"
#include "tests/support/model/golden.h"

#define VALID 91 /* golden_small_model */
#define ROWS_MAX 512
#define STEPS 3 /* tokens decoded behind a prompt */

static const int32_t lengths[] = {31, 32, 33, 63, 64, 65};
#define LENGTHS (sizeof lengths / sizeof *lengths)

struct engine {
    struct device *device;
    struct model *model;
    struct infer *infer;
};

static void open_engine(struct engine *e, int threads, int64_t kv_tokens) {
    const struct infer_limits limits = {.rows_max = ROWS_MAX,
                                        .sequences_max = 70,
                                        .kv_tokens = kv_tokens,
                                        .logit_rows_max = ROWS_MAX,
                                        .positions_max = 128};
    ASSERT_OK(device_open("cpu", threads, &e->device));
    e->model = golden_small_model(e->device, DTYPE_BF16, 256);
    ASSERT_OK(infer_create(e->model, &limits, &e->infer));
}

static void close_engine(struct engine *e) {
    infer_destroy(&e->infer);
    model_destroy(&e->model);
    device_close(&e->device);
}

/* Token p of the sequence that `seed` names. */
static int32_t token_at(uint32_t seed, int32_t p) {
    return (int32_t)(golden_hash((uint32_t)p, seed) % VALID);
}

/* Append positions [from, to) of sequence `seed`; only the last row's logits are wanted. */
static void append(struct infer *infer, int32_t sequence, uint32_t seed, int32_t from, int32_t to) {
    struct infer_row rows[ROWS_MAX];
    for (int32_t p = from; p < to; p++)
        rows[p - from] =
            (struct infer_row){.sequence = sequence, .token = token_at(seed, p), .want_logits = p == to - 1};
    ASSERT_OK(infer_forward(infer, rows, to - from));
}

static void read_logits(struct infer *infer, int32_t row, float out[VALID]) {
    ASSERT_OK(infer_logits(infer, row, out));
}

static void same_bits(const float *a, const float *b, const char *what, int x, int y) {
    if (memcmp(a, b, VALID * sizeof *a) == 0)
        return;
    for (int32_t i = 0; i < VALID; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s (%d, %d): logit %d is %a, not %a", what, x, y, i, (double)a[i], (double)b[i]);
    }
}

/* What every other way must equal: one sequence alone, its prompt in one pass, then token by token, one thread. */
static float reference[LENGTHS][STEPS + 1][VALID];

static void make_reference(void) {
    struct engine e;
    open_engine(&e, 1, 1024);
    for (uint32_t l = 0; l < LENGTHS; l++) {
        int32_t sequence;
        ASSERT_OK(infer_sequence_open(e.infer, &sequence));
        append(e.infer, sequence, l, 0, lengths[l]);
        read_logits(e.infer, 0, reference[l][0]);
        for (int32_t s = 0; s < STEPS; s++) {
            append(e.infer, sequence, l, lengths[l] + s, lengths[l] + s + 1);
            read_logits(e.infer, 0, reference[l][s + 1]);
        }
        infer_sequence_close(e.infer, sequence);
    }
    close_engine(&e);
}

static int make_reference_once(void **state) {
    (void)state;
    make_reference();
    return 0;
}

/* ---- who else is there ---- */

/* `batch` sequences of which number `place` is the one looked at: prefilled together (the others have other lengths), then
 * decoded together. */
static void check_in_batch(struct engine *e, uint32_t l, int32_t batch, int32_t place) {
    static struct infer_row rows[ROWS_MAX];
    int32_t sequences[64], count = 0;
    float got[VALID];
    for (int32_t b = 0; b < batch; b++) {
        ASSERT_OK(infer_sequence_open(e->infer, &sequences[b]));
        int32_t length = b == place ? lengths[l] : 1 + b % 5; /* rows of 64 sequences fit one pass */
        uint32_t seed = b == place ? l : 1000 + (uint32_t)b;
        for (int32_t p = 0; p < length; p++)
            rows[count++] = (struct infer_row){
                .sequence = sequences[b], .token = token_at(seed, p), .want_logits = p == length - 1};
    }
    ASSERT_OK(infer_forward(e->infer, rows, count));
    read_logits(e->infer, place, got);
    same_bits(got, reference[l][0], "prefill: batch, place", batch, place);
    for (int32_t s = 0; s < STEPS; s++) {
        for (int32_t b = 0; b < batch; b++) {
            int32_t token = b == place ? token_at(l, lengths[l] + s) : token_at(1000 + (uint32_t)b, 1 + b % 5 + s);
            rows[b] = (struct infer_row){.sequence = sequences[b], .token = token, .want_logits = 1};
        }
        ASSERT_OK(infer_forward(e->infer, rows, batch));
        read_logits(e->infer, place, got);
        same_bits(got, reference[l][s + 1], "decode: batch, place", batch, place);
    }
    infer_reset(e->infer);
}

static void a_row_has_the_same_bits_in_every_batch(void **state) {
    (void)state;
    static const int32_t batches[] = {1, 2, 17, 64};
    for (int threads = 1; threads <= 2; threads++) {
        struct engine e;
        open_engine(&e, threads, 64 * 32 * 3);
        for (uint32_t l = 0; l < LENGTHS; l++) {
            for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
                check_in_batch(&e, l, batches[i], 0);
                check_in_batch(&e, l, batches[i], batches[i] - 1);
            }
        }
        close_engine(&e);
    }
}

static void a_prompt_has_the_same_bits_in_pieces(void **state) {
    (void)state;
    static const int32_t pieces[] = {1, 7, 32, 40};
    struct engine e;
    open_engine(&e, 2, 1024);
    for (uint32_t l = 0; l < LENGTHS; l++) {
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            int32_t sequence;
            float got[VALID];
            ASSERT_OK(infer_sequence_open(e.infer, &sequence));
            for (int32_t p = 0; p < lengths[l]; p += pieces[i])
                append(e.infer, sequence, l, p, p + pieces[i] < lengths[l] ? p + pieces[i] : lengths[l]);
            read_logits(e.infer, 0, got);
            same_bits(got, reference[l][0], "length, piece", lengths[l], pieces[i]);
            infer_sequence_close(e.infer, sequence);
        }
    }
    close_engine(&e);
}

/* ---- forks ---- */

static void decode_as_reference(struct engine *e, int32_t sequence, uint32_t l, int32_t from_step) {
    float got[VALID];
    for (int32_t s = from_step; s < STEPS; s++) {
        append(e->infer, sequence, l, lengths[l] + s, lengths[l] + s + 1);
        read_logits(e->infer, 0, got);
        same_bits(got, reference[l][s + 1], "fork: length, step", lengths[l], s);
    }
}

static void forked_prompts_have_the_bits_of_unshared_ones(void **state) {
    (void)state;
    struct engine e;
    open_engine(&e, 2, 1024);
    for (uint32_t l = 0; l < LENGTHS; l++) {
        int32_t parent, a, b, other;
        ASSERT_OK(infer_sequence_open(e.infer, &parent));
        append(e.infer, parent, l, 0, lengths[l]);
        ASSERT_OK(infer_sequence_fork(e.infer, parent, lengths[l], &a));
        append(e.infer, parent, 77, 0, 2); /* the parent goes its own way: a must not see it */
        decode_as_reference(&e, a, l, 0);
        ASSERT_OK(infer_sequence_fork(e.infer, parent, lengths[l], &b)); /* cut back to the prompt */
        ASSERT_OK(infer_sequence_fork(e.infer, b, lengths[l] / 2, &other));
        append(e.infer, other, 78, 0, 40); /* nor may b see a relative that writes behind half its prompt */
        infer_sequence_close(e.infer, parent);
        decode_as_reference(&e, b, l, 0);
        assert_int_equal(infer_sequence_length(e.infer, b), lengths[l] + STEPS);
        infer_reset(e.infer);
    }
    assert_int_equal(infer_pages_free(e.infer), infer_pages_for(1024));
    close_engine(&e);
}

/* ---- limits ---- */

static void shortage_and_bad_rows_change_nothing(void **state) {
    (void)state;
    struct engine e;
    open_engine(&e, 1, 96);
    int32_t sequence, second;
    float got[VALID];
    struct infer_row rows[ROWS_MAX + 1] = {0};
    ASSERT_OK(infer_sequence_open(e.infer, &sequence));
    ASSERT_OK(infer_sequence_open(e.infer, &second));
    append(e.infer, sequence, 1, 0, 30);
    int32_t free_pages = infer_pages_free(e.infer);
    assert_int_equal(free_pages, 2);
    for (int32_t r = 0; r <= ROWS_MAX; r++)
        rows[r] = (struct infer_row){.sequence = second, .token = token_at(1, r), .want_logits = 1};
    ASSERT_FAILS(STATUS_AGAIN, infer_forward(e.infer, rows, 65));
    ASSERT_FAILS(STATUS_LIMIT, infer_forward(e.infer, rows, ROWS_MAX + 1));
    ASSERT_FAILS(STATUS_LIMIT, infer_forward(e.infer, rows, 129)); /* positions_max */
    rows[3].token = VALID;
    ASSERT_FAILS(STATUS_FORMAT, infer_forward(e.infer, rows, 5));
    rows[3].token = -1;
    ASSERT_FAILS(STATUS_FORMAT, infer_forward(e.infer, rows, 5));
    assert_int_equal(infer_pages_free(e.infer), free_pages);
    assert_int_equal(infer_sequence_length(e.infer, second), 0);
    append(e.infer, sequence, 1, 30, 32);
    read_logits(e.infer, 0, got);
    same_bits(got, reference[1][0], "after refusals", 0, 0);
    close_engine(&e);
}

static void handles_are_limited(void **state) {
    (void)state;
    struct engine e;
    int32_t sequence;
    open_engine(&e, 1, 96);
    for (int i = 0; i < 70; i++)
        ASSERT_OK(infer_sequence_open(e.infer, &sequence));
    ASSERT_FAILS(STATUS_AGAIN, infer_sequence_open(e.infer, &sequence));
    infer_sequence_close(e.infer, 12);
    ASSERT_OK(infer_sequence_open(e.infer, &sequence));
    assert_int_equal(sequence, 12);
    infer_reset(e.infer);
    ASSERT_OK(infer_sequence_open(e.infer, &sequence));
    close_engine(&e);
}

static void create_refuses_limits_of_nothing(void **state) {
    (void)state;
    struct device *device = NULL;
    struct infer *infer = NULL;
    ASSERT_OK(device_open("cpu", 1, &device));
    struct model *model = golden_small_model(device, DTYPE_BF16, 64);
    struct infer_limits limits = {.rows_max = 8, .sequences_max = 0, .kv_tokens = 64, .logit_rows_max = 8};
    ASSERT_FAILS(STATUS_LIMIT, infer_create(model, &limits, &infer));
    limits.sequences_max = 2;
    limits.kv_tokens = INT64_MAX;
    ASSERT_FAILS(STATUS_LIMIT, infer_create(model, &limits, &infer));
    limits.kv_tokens = 64;
    assert_true(infer_bytes(&model->config, &limits, DTYPE_BF16) < infer_bytes(&model->config, &limits, DTYPE_F32));
    model_destroy(&model);
    device_close(&device);
}

/* ---- sampling ---- */

static void draws_come_from_the_rows_they_name(void **state) {
    (void)state;
    struct engine e;
    open_engine(&e, 2, 512);
    int32_t a, b, ids[6], alone_id;
    float lp[6], alone_lp, logits[VALID];
    const int32_t draw_rows[6] = {1, 0, 1, 1, 0, 0};
    const float uniforms[6] = {0.1f, 0.3f, 0.5f, 0.999f, 0.7f, 0.3f};
    const struct sampling sampling = {.temperature = 0.7f, .top_p = 1.0f}, greedy = {.top_p = 1.0f};
    ASSERT_OK(infer_sequence_open(e.infer, &a));
    ASSERT_OK(infer_sequence_open(e.infer, &b));
    const struct infer_row rows[3] = {{a, 5, 1}, {b, 7, 0}, {b, 9, 1}};
    ASSERT_OK(infer_forward(e.infer, rows, 3));
    ASSERT_OK(infer_sample(e.infer, &sampling, draw_rows, uniforms, 6, ids, lp));
    assert_int_equal(ids[1], ids[5]);
    for (int32_t i = 0; i < 6; i++) {
        ASSERT_OK(infer_sample(e.infer, &sampling, &draw_rows[i], &uniforms[i], 1, &alone_id, &alone_lp));
        assert_int_equal(alone_id, ids[i]);
        assert_memory_equal(&alone_lp, &lp[i], sizeof alone_lp);
    }
    ASSERT_OK(infer_sample(e.infer, &greedy, NULL, uniforms, 2, ids, lp));
    for (int32_t r = 0; r < 2; r++) {
        ASSERT_OK(infer_logits(e.infer, r, logits));
        double sum = 0;
        for (int32_t i = 0; i < VALID; i++) {
            assert_true(logits[ids[r]] >= logits[i]);
            sum += exp((double)logits[i]);
        }
        assert_true(fabs((double)logits[ids[r]] - log(sum) - (double)lp[r]) < 1e-5);
    }
    close_engine(&e);
}

/* ---- canary ---- */

static void the_canary_tells_changed_weights_and_drops_nothing(void **state) {
    (void)state;
    struct engine e;
    struct digest first, again, flipped;
    float got[VALID];
    int32_t sequence;
    open_engine(&e, 2, 1024);
    ASSERT_OK(infer_canary(e.infer, &first));
    ASSERT_OK(infer_sequence_open(e.infer, &sequence));
    append(e.infer, sequence, 2, 0, 33);
    int32_t free_pages = infer_pages_free(e.infer);
    ASSERT_OK(infer_canary(e.infer, &again));
    assert_true(digest_equal(first, again));
    assert_int_equal(infer_pages_free(e.infer), free_pages);
    decode_as_reference(&e, sequence, 2, 0);
    uint16_t *weights = e.model->data; /* the CPU's memory is the host's */
    weights[e.model->layout->layers[0].down + 100] ^= 1;
    ASSERT_OK(infer_canary(e.infer, &flipped));
    assert_false(digest_equal(first, flipped));
    weights[e.model->layout->layers[0].down + 100] ^= 1;
    infer_reset(e.infer);
    ASSERT_OK(infer_canary(e.infer, &again));
    assert_true(digest_equal(first, again));
    append(e.infer, (infer_sequence_open(e.infer, &sequence), sequence), 2, 0, 33);
    read_logits(e.infer, 0, got);
    same_bits(got, reference[2][0], "after reset", 0, 0);
    close_engine(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_has_the_same_bits_in_every_batch),
        cmocka_unit_test(a_prompt_has_the_same_bits_in_pieces),
        cmocka_unit_test(forked_prompts_have_the_bits_of_unshared_ones),
        cmocka_unit_test(shortage_and_bad_rows_change_nothing),
        cmocka_unit_test(handles_are_limited),
        cmocka_unit_test(create_refuses_limits_of_nothing),
        cmocka_unit_test(draws_come_from_the_rows_they_name),
        cmocka_unit_test(the_canary_tells_changed_weights_and_drops_nothing),
    };
    return cmocka_run_group_tests_name("infer", tests, make_reference_once, NULL);
}
