/* Training: the same bits as sampling, whatever the packing; gradients that do not depend on memory plan or threads and agree
 * with finite differences. */
#include "tests/support/test.h"

#include <math.h>

#include "common/base/rng.h"
#include "common/model/infer.h"
#include "common/model/train.h"
#include "tests/support/model/golden.h"

#define VALID 91 /* golden_small_model */
#define GROUP 5
#define ANSWER_MAX 12
#define TEMPERATURE 0.8f

/* A group as an actor makes it: one prompt, GROUP sampled answers and their log-probabilities. */
struct group {
    int32_t prompt[80], prompt_count;
    int32_t tokens[GROUP][ANSWER_MAX], counts[GROUP];
    float lp[GROUP][ANSWER_MAX];
};

static const int32_t lengths[] = {31, 32, 33, 63, 64, 65, 1, 20};
#define GROUPS (sizeof lengths / sizeof *lengths)
static struct group groups[GROUPS];

static struct device *device;
static struct model *model;

static int32_t answer_length(uint32_t g, uint32_t a) {
    return 1 + (int32_t)(golden_hash(a, g) % ANSWER_MAX);
}

/* Prompt once, then all answers side by side from forks, as long as each is. */
static void sample_group(struct infer *infer, struct group *group, uint32_t g) {
    struct infer_row rows[80];
    int32_t parent, sequences[GROUP], zeros[GROUP] = {0};
    group->prompt_count = lengths[g];
    golden_tokens(group->prompt, lengths[g], 500 + g, VALID);
    ASSERT_OK(infer_sequence_open(infer, &parent));
    for (int32_t p = 0; p < lengths[g]; p++)
        rows[p] = (struct infer_row){.sequence = parent, .token = group->prompt[p], .want_logits = p == lengths[g] - 1};
    ASSERT_OK(infer_forward(infer, rows, lengths[g]));
    for (uint32_t a = 0; a < GROUP; a++) {
        ASSERT_OK(infer_sequence_fork(infer, parent, lengths[g], &sequences[a]));
        group->counts[a] = answer_length(g, a);
    }
    for (int32_t t = 0; t < ANSWER_MAX; t++) {
        const struct sampling sampling = {.temperature = TEMPERATURE, .top_p = 1.0f};
        int32_t count = 0, who[GROUP], ids[GROUP];
        float uniforms[GROUP], lp[GROUP];
        for (int32_t a = 0; a < GROUP; a++) {
            if (t >= group->counts[a])
                continue;
            const struct rng_key key = {.seed = 3, .stream = RNG_TEST, .slot = g, .sample = (uint16_t)a};
            uniforms[count] = rng_uniform(&key, (uint32_t)t);
            rows[count] = (struct infer_row){
                .sequence = sequences[a], .token = t ? group->tokens[a][t - 1] : 0, .want_logits = 1};
            who[count++] = a;
        }
        if (count == 0)
            break;
        if (t > 0)
            ASSERT_OK(infer_forward(infer, rows, count));
        ASSERT_OK(infer_sample(infer, &sampling, t ? NULL : zeros, uniforms, count, ids, lp));
        for (int32_t i = 0; i < count; i++) {
            group->tokens[who[i]][t] = ids[i];
            group->lp[who[i]][t] = lp[i];
        }
    }
    infer_reset(infer);
}

static int open_all(void **state) {
    (void)state;
    ASSERT_OK(device_open("cpu", 2, &device));
    model = golden_small_model(device, DTYPE_BF16, 128);
    const struct infer_limits limits = {.rows_max = 80, .sequences_max = 8, .kv_tokens = 1024, .logit_rows_max = 8};
    struct infer *infer = NULL;
    ASSERT_OK(infer_create(model, &limits, &infer));
    for (uint32_t g = 0; g < GROUPS; g++)
        sample_group(infer, &groups[g], g);
    infer_destroy(&infer);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    model_destroy(&model);
    device_close(&device);
    return 0;
}

/* ---- packing ---- */

#define ROWS_MAX 4096
#define TARGETS_MAX (GROUPS * GROUP * ANSWER_MAX)

struct trainer {
    struct model *model;
    struct train *train;
    struct train_batch *batch;
    float *gradients, *host; /* [total] device, host */
    float lp[TARGETS_MAX], dlp[TARGETS_MAX];
};

static void open_trainer(struct trainer *t, struct model *of, int32_t logit_chunk, int32_t keep_layers) {
    const struct train_limits limits = {
        .rows_max = ROWS_MAX, .targets_max = TARGETS_MAX, .logit_chunk = logit_chunk, .keep_layers = keep_layers};
    void *memory = NULL;
    memset(t, 0, sizeof *t);
    t->model = of;
    ASSERT_OK(train_create(of, &limits, &t->train));
    ASSERT_OK(train_batch_create(ROWS_MAX, TARGETS_MAX, &t->batch));
    ASSERT_OK(of->device->ops->allocate(of->device, (size_t)of->layout->total * sizeof(float), &memory));
    t->gradients = memory;
    t->host = malloc((size_t)of->layout->total * sizeof(float));
}

static void close_trainer(struct trainer *t) {
    t->model->device->ops->release(t->model->device, t->gradients);
    train_batch_destroy(&t->batch);
    train_destroy(&t->train);
    free(t->host);
}

static void add_group(struct train_batch *batch, const struct group *group, bool shared) {
    const int32_t *answers[GROUP];
    for (int32_t a = 0; a < GROUP; a++)
        answers[a] = group->tokens[a];
    if (shared)
        ASSERT_OK(train_batch_add_tree(batch, group->prompt, group->prompt_count, answers, group->counts, GROUP));
    for (int32_t a = 0; !shared && a < GROUP; a++)
        ASSERT_OK(train_batch_add_tree(batch, group->prompt, group->prompt_count, &answers[a], &group->counts[a], 1));
}

static void add_all(struct train_batch *batch, bool shared) {
    train_batch_reset(batch);
    for (uint32_t g = 0; g < GROUPS; g++)
        add_group(batch, &groups[g], shared);
}

/* dL/dlp by place; about an eighth exactly 0 */
static void make_dlp(struct trainer *t) {
    for (int32_t i = 0; i < train_batch_targets(t->batch); i++)
        t->dlp[i] = (float)((int32_t)(golden_hash((uint32_t)i, 9) % 17) - 8) / 64.0f;
}

static void forward(struct trainer *t) {
    ASSERT_OK(train_forward(t->train, t->batch, TEMPERATURE, t->lp, NULL));
}

/* Forward and backward from zero gradients; t->host holds them. */
static void gradients(struct trainer *t) {
    const struct ops *ops = t->model->device->ops;
    size_t bytes = (size_t)t->model->layout->total * sizeof(float);
    ops->zero(t->model->device, t->gradients, bytes);
    forward(t);
    ASSERT_OK(train_backward(t->train, t->batch, t->dlp, t->gradients));
    ops->download(t->model->device, t->host, t->gradients, bytes);
}

/* ---- sampled against trained ---- */

/* Number of answer tokens whose trained log-probability has other bits than the sampled one. */
static int32_t count_different(const struct trainer *t) {
    int32_t different = 0, place = 0;
    for (uint32_t g = 0; g < GROUPS; g++) {
        for (int32_t a = 0; a < GROUP; a++) {
            for (int32_t i = 0; i < groups[g].counts[a]; i++, place++)
                different += memcmp(&groups[g].lp[a][i], &t->lp[place], sizeof(float)) != 0;
        }
    }
    assert_int_equal(place, train_batch_targets(t->batch));
    return different;
}

static void trained_log_probabilities_are_the_sampled_ones(void **state) {
    (void)state;
    static const int32_t chunks[] = {7, 64, 100000};
    for (int shared = 0; shared < 2; shared++) {
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            struct trainer t;
            open_trainer(&t, model, chunks[c], 0);
            add_all(t.batch, shared);
            forward(&t);
            assert_int_equal(count_different(&t), 0);
            close_trainer(&t);
        }
    }
}

static void forward_only_gives_the_same_bits_in_less_memory(void **state) {
    (void)state;
    struct trainer t;
    struct train_limits limits = {.rows_max = ROWS_MAX, .targets_max = TARGETS_MAX, .logit_chunk = 64};
    int64_t bytes = train_bytes(&model->config, &limits, DTYPE_F32);
    limits.forward_only = true;
    assert_true(train_bytes(&model->config, &limits, DTYPE_F32) < bytes);
    open_trainer(&t, model, 64, -1);
    train_destroy(&t.train);
    ASSERT_OK(train_create(model, &limits, &t.train));
    add_all(t.batch, true);
    forward(&t);
    assert_int_equal(count_different(&t), 0);
    close_trainer(&t);
}

static void one_flipped_weight_bit_is_seen(void **state) {
    (void)state;
    struct trainer t;
    uint16_t *weights = model->data; /* the CPU's memory is the host's */
    const int64_t places[] = {model->layout->layers[0].qkv + 5, model->layout->layers[1].down + 17,
                              model->layout->final_norm + 3, model->layout->embed + 48 * 3 + 1};
    open_trainer(&t, model, 64, -1);
    add_all(t.batch, true);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        weights[places[i]] ^= 1;
        forward(&t);
        if (count_different(&t) == 0)
            fail_msg("weight %lld: the lowest bit makes no difference", (long long)places[i]);
        weights[places[i]] ^= 1;
    }
    forward(&t);
    assert_int_equal(count_different(&t), 0);
    close_trainer(&t);
}

static void a_tree_has_the_same_bits_alone(void **state) {
    (void)state;
    struct trainer t;
    open_trainer(&t, model, 64, -1);
    for (uint32_t g = 0; g < GROUPS; g++) {
        train_batch_reset(t.batch);
        add_group(t.batch, &groups[g], true);
        forward(&t);
        for (int32_t a = 0, place = 0; a < GROUP; place += groups[g].counts[a++])
            assert_memory_equal(t.lp + place, groups[g].lp[a], (size_t)groups[g].counts[a] * sizeof(float));
    }
    close_trainer(&t);
}

/* ---- gradients ---- */

static void same_gradients(const struct trainer *a, const struct trainer *b, const char *what) {
    for (int64_t i = 0; i < a->model->layout->total; i++) {
        if (memcmp(&a->host[i], &b->host[i], sizeof(float)) != 0)
            fail_msg("%s: gradient %lld: %a, not %a", what, (long long)i, (double)b->host[i], (double)a->host[i]);
    }
}

static void kept_recomputed_and_chunked_gradients_have_the_same_bits(void **state) {
    (void)state;
    static const struct {
        int32_t chunk, keep;
        const char *what;
    } plans[] = {{100000, 0, "all recomputed"},
                 {100000, 1, "one layer kept"},
                 {100000, 9, "more than there are kept"},
                 {33, -1, "logits in chunks"}};
    struct trainer all, other;
    open_trainer(&all, model, 100000, -1);
    add_all(all.batch, true);
    make_dlp(&all);
    gradients(&all);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        open_trainer(&other, model, plans[i].chunk, plans[i].keep);
        add_all(other.batch, true);
        make_dlp(&other);
        gradients(&other);
        same_gradients(&all, &other, plans[i].what);
        close_trainer(&other);
    }
    close_trainer(&all);
}

static void threads_change_no_bit_of_a_gradient(void **state) {
    (void)state;
    struct device *single = NULL;
    struct trainer one, two;
    ASSERT_OK(device_open("cpu", 1, &single));
    struct model *copy = golden_small_model(single, DTYPE_BF16, 128);
    open_trainer(&one, copy, 64, 1);
    open_trainer(&two, model, 64, 1);
    add_all(one.batch, true);
    add_all(two.batch, true);
    make_dlp(&one);
    make_dlp(&two);
    gradients(&one);
    gradients(&two);
    same_gradients(&one, &two, "2 threads");
    close_trainer(&one);
    close_trainer(&two);
    model_destroy(&copy);
    device_close(&single);
}

/* Largest difference of a tensor's gradients as a share of its norm. */
static double worst_difference(const struct model *of, const float *a, const float *b) {
    double worst = 0;
    for (int32_t e = 0; e < of->layout->count; e++) {
        const struct tensor_entry *entry = &of->layout->entries[e];
        double norm = 0, most = 0;
        for (int64_t i = entry->offset; i < entry->offset + (int64_t)entry->rows * entry->cols; i++) {
            double off = fabs((double)a[i] - (double)b[i]);
            most = off > most ? off : most;
            norm += (double)a[i] * (double)a[i];
        }
        assert_true(norm > 0);
        worst = most / sqrt(norm) > worst ? most / sqrt(norm) : worst;
    }
    return worst;
}

static void sharing_a_prompt_changes_gradients_by_rounding_only(void **state) {
    (void)state;
    struct trainer shared, unshared;
    open_trainer(&shared, model, 64, -1);
    open_trainer(&unshared, model, 64, -1);
    add_all(shared.batch, true);
    add_all(unshared.batch, false);
    assert_true(train_batch_rows(shared.batch) < train_batch_rows(unshared.batch) / 2);
    make_dlp(&shared);
    make_dlp(&unshared);
    gradients(&shared);
    gradients(&unshared);
    assert_memory_equal(shared.lp, unshared.lp, (size_t)train_batch_targets(shared.batch) * sizeof(float));
    double worst = worst_difference(model, shared.host, unshared.host);
    if (!(worst < 1e-5)) /* fp32 sums of a few hundred terms in another order */
        fail_msg("gradients differ by %g of a tensor's norm", worst);
    close_trainer(&shared);
    close_trainer(&unshared);
}

static void targets_without_a_gradient_contribute_nothing(void **state) {
    (void)state;
    struct trainer with, without;
    open_trainer(&with, model, 16, -1);
    open_trainer(&without, model, 16, -1);
    add_group(without.batch, &groups[0], true);
    make_dlp(&without);
    gradients(&without);
    add_group(with.batch, &groups[0], true);
    memcpy(with.dlp, without.dlp, sizeof with.dlp);
    memset(with.dlp + train_batch_targets(with.batch), 0, sizeof(float) * 100);
    for (uint32_t g = 1; g < GROUPS; g++)
        add_group(with.batch, &groups[g], true);
    gradients(&with);
    for (int64_t i = 0; i < model->layout->total; i++)
        assert_true(with.host[i] == without.host[i]);
    memset(with.dlp, 0, sizeof with.dlp);
    gradients(&with);
    for (int64_t i = 0; i < model->layout->total; i++)
        assert_true(with.host[i] == 0.0f);
    close_trainer(&with);
    close_trainer(&without);
}

/* The loss along the gradient of one tensor rises as its norm says; fp32 storage, so that small steps are not rounded.
 */
static void finite_differences_agree_through_the_whole_model(void **state) {
    (void)state;
    struct model *wide = golden_small_model(device, DTYPE_F32, 128);
    struct trainer t;
    open_trainer(&t, wide, 64, 0);
    add_group(t.batch, &groups[2], true);
    add_group(t.batch, &groups[7], true);
    make_dlp(&t);
    gradients(&t);
    float *weights = wide->data, *kept = malloc((size_t)wide->layout->total * sizeof *kept);
    for (int32_t e = 0; e < wide->layout->count; e++) {
        const struct tensor_entry *entry = &wide->layout->entries[e];
        int64_t first = entry->offset, count = (int64_t)entry->rows * entry->cols;
        double norm = 0, loss[2] = {0};
        memcpy(kept, weights + first, (size_t)count * sizeof *kept);
        for (int64_t i = 0; i < count; i++)
            norm += (double)t.host[first + i] * (double)t.host[first + i];
        norm = sqrt(norm);
        /* A step of 1/512: the loss's rounding error (1e-6) stays below 1e-3 of the change, its curvature too. */
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < count; i++)
                weights[first + i] = kept[i] + (float)((side ? 1 : -1) * 0x1p-9 * (double)t.host[first + i] / norm);
            forward(&t);
            for (int32_t i = 0; i < train_batch_targets(t.batch); i++)
                loss[side] += (double)t.dlp[i] * (double)t.lp[i];
        }
        memcpy(weights + first, kept, (size_t)count * sizeof *kept);
        double slope = (loss[1] - loss[0]) / 0x1p-8;
        if (!(fabs(slope - norm) < 0.005 * norm + 2e-4))
            fail_msg("%s: slope %g, gradient's norm %g", entry->name, slope, norm);
    }
    free(kept);
    close_trainer(&t);
    model_destroy(&wide);
}

/* ---- masked places ---- */

/* Vocabulary rows that the tokenizer does not reach: whatever they hold, nothing changes. */
static void masked_vocabulary_rows_change_no_bit(void **state) {
    (void)state;
    static const float fillings[] = {0.0f, 200.0f, -200.0f, INFINITY, -INFINITY, NAN};
    struct trainer zeros = {0}, other;
    struct model *cut[2];
    for (size_t f = 0; f < sizeof fillings / sizeof *fillings; f++) {
        struct model *narrow = golden_small_model(device, DTYPE_F32, 128);
        narrow->valid_vocab = 88; /* a multiple of 8: rows beyond are never read */
        float *rows = (float *)narrow->data + narrow->layout->embed + 88 * 48;
        for (int32_t i = 0; i < 8 * 48; i++)
            rows[i] = fillings[f];
        cut[f > 0] = narrow;
        struct trainer *t = f ? &other : &zeros;
        open_trainer(t, narrow, 16, -1);
        int32_t prompt[40], answer[9];
        const int32_t *const answers[] = {answer};
        golden_tokens(prompt, 40, 1, 88);
        golden_tokens(answer, 9, 2, 88);
        ASSERT_OK(train_batch_add_tree(t->batch, prompt, 40, answers, (const int32_t[]){9}, 1));
        make_dlp(t);
        gradients(t);
        if (f > 0) {
            assert_memory_equal(zeros.lp, other.lp, 9 * sizeof(float));
            same_gradients(&zeros, &other, "masked rows");
            close_trainer(&other);
            model_destroy(&cut[1]);
        }
    }
    close_trainer(&zeros);
    model_destroy(&cut[0]);
}

/* ---- limits ---- */

static void bad_batches_are_refused(void **state) {
    (void)state;
    const struct train_limits limits = {.rows_max = 200, .targets_max = 20, .logit_chunk = 8, .keep_layers = -1};
    struct train *train = NULL;
    struct train_batch *batch = NULL;
    int32_t tokens[160] = {0};
    const int32_t *const answers[] = {tokens};
    const int32_t two[] = {2};
    float lp[160];
    ASSERT_OK(train_create(model, &limits, &train));
    ASSERT_OK(train_batch_create(1000, 1000, &batch));
    ASSERT_OK(train_batch_add_tree(batch, tokens, 129, answers, two, 1));
    ASSERT_FAILS(STATUS_LIMIT, train_forward(train, batch, 1.0f, lp, NULL)); /* positions */
    train_batch_reset(batch);
    for (int i = 0; i < 2; i++)
        ASSERT_OK(train_batch_add_tree(batch, tokens, 120, answers, two, 1));
    ASSERT_FAILS(STATUS_LIMIT, train_forward(train, batch, 1.0f, lp, NULL)); /* rows */
    train_batch_reset(batch);
    tokens[1] = VALID;
    ASSERT_OK(train_batch_add_tree(batch, tokens, 1, answers, two, 1));
    ASSERT_FAILS(STATUS_FORMAT, train_forward(train, batch, 1.0f, lp, NULL)); /* a target */
    tokens[1] = -1;
    train_batch_reset(batch);
    ASSERT_OK(train_batch_add_tree(batch, tokens, 2, answers, two, 1));
    ASSERT_FAILS(STATUS_FORMAT, train_forward(train, batch, 1.0f, lp, NULL)); /* a row */
    train_batch_destroy(&batch);
    train_destroy(&train);
    const struct train_limits nothing = {.rows_max = 0, .targets_max = 1, .logit_chunk = 1};
    ASSERT_FAILS(STATUS_LIMIT, train_create(model, &nothing, &train));
    struct train_limits recomputed = limits;
    recomputed.keep_layers = 0;
    assert_true(train_bytes(&model->config, &recomputed, DTYPE_F32) < train_bytes(&model->config, &limits, DTYPE_F32));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trained_log_probabilities_are_the_sampled_ones),
        cmocka_unit_test(forward_only_gives_the_same_bits_in_less_memory),
        cmocka_unit_test(one_flipped_weight_bit_is_seen),
        cmocka_unit_test(a_tree_has_the_same_bits_alone),
        cmocka_unit_test(kept_recomputed_and_chunked_gradients_have_the_same_bits),
        cmocka_unit_test(threads_change_no_bit_of_a_gradient),
        cmocka_unit_test(sharing_a_prompt_changes_gradients_by_rounding_only),
        cmocka_unit_test(targets_without_a_gradient_contribute_nothing),
        cmocka_unit_test(finite_differences_agree_through_the_whole_model),
        cmocka_unit_test(masked_vocabulary_rows_change_no_bit),
        cmocka_unit_test(bad_batches_are_refused),
    };
    return cmocka_run_group_tests_name("train", tests, open_all, close_all);
}
