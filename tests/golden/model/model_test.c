/* The engine against transformers' numbers (make.py): logits, log-probabilities, every gradient, ten AdamW steps.
 *
 * With an argument, `model_test DIR` writes each model as a checkpoint with Candor's own numbers for check_hf.py
 * instead. */
#include "tests/support/test.h"

#include <math.h>

#include "common/base/fs.h"
#include "common/model/infer.h"
#include "common/model/safetensors.h"
#include "common/model/train.h"
#include "tests/support/model/golden.h"

#define FOLDER SOURCE_DIR "/tests/golden/model"
#define TREES 3
#define STEPS 10
#define FULL 64
#define SAMPLES 32

/* Both sides sum in fp32 but in different orders. The bounds stand a few times above the largest difference seen (given
 * with each) and far below any error in a formula. */
#define LOGIT_TOLERANCE 5e-5    /* absolute; logits reach 6; seen 1.1e-5 */
#define GRADIENT_TOLERANCE 2e-5 /* of the tensor's norm; seen 5.4e-6 */
#define FP32_TOLERANCE 1e-4     /* of the norm of a tensor's change in ten steps; seen 2.8e-5 */
/* A master within rounding error of a tie between two bf16 values may fall to either side: half a percent of a weight.
 */
#define SPLIT_TOLERANCE 2e-3 /* seen 5.9e-4 */
#define FP32_LOSS_TOLERANCE 5e-5
#define SPLIT_LOSS_TOLERANCE 1e-3

struct golden {
    struct device *device;
    struct model_config config;
    struct safetensors *file;
    struct model *model;
    struct train *train;
    struct train_batch *batch;
    float *masters, *lp, *gradients_host;
    float *gradients; /* device */
    int32_t targets;
    float temperature;
};

static const char *const names[] = {"tied_g1_d64", "untied_g5_d64", "untied_g7_d64", "tied_g7_d128", "untied_g1_d128"};

static const struct st_tensor *member(const struct golden *g, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const struct st_tensor *member(const struct golden *g, const char *format, ...) {
    char name[200];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct st_tensor *tensor = safetensors_find(g->file, name);
    if (!tensor)
        fail_msg("no %s in %s", name, g->file->path);
    return tensor;
}

/* Data of the files is 8-byte aligned and every tensor a multiple of 4 bytes. */
static const float *floats(const struct st_tensor *tensor) {
    assert_int_equal(tensor->dtype, ST_F32);
    return tensor->data;
}

static const int32_t *ints(const struct st_tensor *tensor) {
    assert_int_equal(tensor->dtype, ST_I32);
    return tensor->data;
}

static void add_tree(struct golden *g, int32_t t) {
    const struct st_tensor *prompt = member(g, "tree%d.prompt", t), *counts = member(g, "tree%d.counts", t);
    const int32_t *at = ints(member(g, "tree%d.answers", t));
    const int32_t *answers[8];
    for (int32_t a = 0; a < counts->shape[0]; at += ints(counts)[a++])
        answers[a] = at;
    ASSERT_OK(train_batch_add_tree(g->batch, ints(prompt), (int32_t)prompt->shape[0], answers, ints(counts),
                                   (int32_t)counts->shape[0]));
}

static void open_golden(struct golden *g, const char *name, enum dtype type) {
    char directory[PATH_BYTES], path[PATH_BYTES];
    *g = (struct golden){0};
    ASSERT_OK(device_open("cpu", 2, &g->device));
    ASSERT_OK(fs_join(directory, FOLDER, name));
    ASSERT_OK(fs_join(path, directory, "golden.safetensors"));
    ASSERT_OK(model_config_read(directory, &g->config));
    ASSERT_OK(safetensors_open(path, &g->file));
    ASSERT_OK(model_create(g->device, &g->config, type, 128, ints(member(g, "valid"))[0], &g->model));
    size_t total = (size_t)g->model->layout->total;
    g->masters = malloc(total * sizeof(float));
    g->gradients_host = malloc(total * sizeof(float));
    golden_fill(g->model->layout, g->masters);
    golden_upload(g->model, g->masters, NULL);
    void *memory = NULL;
    ASSERT_OK(g->device->ops->allocate(g->device, total * sizeof(float), &memory));
    g->gradients = memory;
    ASSERT_OK(train_batch_create(256, 256, &g->batch));
    for (int32_t t = 0; t < TREES; t++)
        add_tree(g, t);
    g->targets = train_batch_targets(g->batch);
    g->lp = malloc((size_t)g->targets * sizeof(float));
    g->temperature = floats(member(g, "temperature"))[0];
    const struct train_limits limits = {.rows_max = 256, .targets_max = 256, .logit_chunk = 24, .keep_layers = 1};
    ASSERT_OK(train_create(g->model, &limits, &g->train));
}

static void close_golden(struct golden *g) {
    train_destroy(&g->train);
    train_batch_destroy(&g->batch);
    g->device->ops->release(g->device, g->gradients);
    model_destroy(&g->model);
    safetensors_close(&g->file);
    device_close(&g->device);
    free(g->masters);
    free(g->gradients_host);
    free(g->lp);
}

/* ---- comparing ---- */

static double worst; /* largest difference of the current test, as a share of its tolerance's unit */

static void compare(const char *what, const float *got, const float *wanted, int64_t count, double unit,
                    double tolerance) {
    for (int64_t i = 0; i < count; i++) {
        double off = fabs((double)got[i] - (double)wanted[i]) / unit;
        worst = off > worst ? off : worst;
        if (!(off <= tolerance))
            fail_msg("%s[%lld]: %.9g, golden %.9g: off by %.3g, tolerance %.3g", what, (long long)i, (double)got[i],
                     (double)wanted[i], off, tolerance);
    }
}

/* Kept values, norm and signed sums of one tensor, as make.py's summary(). */
static void compare_summary(const struct golden *g, const char *kind, const struct tensor_entry *entry,
                            const float *got, double tolerance) {
    const struct st_tensor *values = member(g, "%s.%s.values", kind, entry->name);
    const float *sums = floats(member(g, "%s.%s.sums", kind, entry->name));
    int64_t count = (int64_t)entry->rows * entry->cols, stride = count <= FULL ? 1 : count / SAMPLES;
    double mine[5] = {0};
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        mine[0] += (double)got[i] * (double)got[i];
        for (uint32_t j = 0; j < 4; j++)
            mine[1 + j] += golden_hash((uint32_t)i, j) & 1 ? (double)got[i] : -(double)got[i];
        if (i % stride == 0)
            compare(entry->name, &got[i], &floats(values)[kept++], 1, (double)sums[0] + 1e-12, tolerance);
    }
    assert_int_equal(kept, values->shape[0]);
    mine[0] = sqrt(mine[0]);
    for (int32_t j = 0; j < 5; j++) { /* in a signed sum the errors of all elements add up */
        float sum = (float)mine[j];
        compare(entry->name, &sum, &sums[j], 1, (double)sums[0] + 1e-12, 4 * tolerance);
    }
}

static void compare_all(const struct golden *g, const char *kind, const float *got, double tolerance) {
    const struct parameter_layout *layout = g->model->layout;
    for (int32_t e = 0; e < layout->count; e++)
        compare_summary(g, kind, &layout->entries[e], got + layout->entries[e].offset, tolerance);
}

static void report(const char *name, const char *what) {
    printf("%s: %s: largest difference %.2g\n", name, what, worst);
    worst = 0;
}

/* ---- logits, log-probabilities, gradients ---- */

/* The longest path of the trees, one sequence through the cache. */
static void check_logits(struct golden *g) {
    const struct st_tensor *logits = member(g, "logits"), *prompt = member(g, "tree0.prompt");
    const int32_t *answer = ints(member(g, "tree0.answers")) + 4;
    const int32_t rows = (int32_t)logits->shape[0], valid = (int32_t)logits->shape[1];
    const struct infer_limits limits = {
        .rows_max = rows, .sequences_max = 1, .kv_tokens = rows, .logit_rows_max = rows};
    struct infer *infer = NULL;
    int32_t sequence;
    struct infer_row *list = calloc((size_t)rows, sizeof *list);
    float *got = malloc((size_t)valid * sizeof *got);
    ASSERT_OK(infer_create(g->model, &limits, &infer));
    ASSERT_OK(infer_sequence_open(infer, &sequence));
    for (int32_t r = 0; r < rows; r++) {
        int32_t from_prompt = (int32_t)prompt->shape[0];
        int32_t token = r < from_prompt ? ints(prompt)[r] : answer[r - from_prompt];
        list[r] = (struct infer_row){.sequence = sequence, .token = token, .want_logits = 1};
    }
    ASSERT_OK(infer_forward(infer, list, rows));
    for (int32_t r = 0; r < rows; r++) {
        ASSERT_OK(infer_logits(infer, r, got));
        compare("logits", got, floats(logits) + (int64_t)r * valid, valid, 1.0, LOGIT_TOLERANCE);
    }
    infer_destroy(&infer);
    free(list);
    free(got);
}

static void download_gradients(struct golden *g) {
    g->device->ops->download(g->device, g->gradients_host, g->gradients,
                             (size_t)g->model->layout->total * sizeof(float));
}

static void logits_and_every_gradient_agree(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct golden g;
        open_golden(&g, names[i], DTYPE_F32);
        check_logits(&g);
        report(names[i], "logits");
        float *entropy = malloc((size_t)g.targets * sizeof *entropy);
        ASSERT_OK(train_forward(g.train, g.batch, g.temperature, g.lp, entropy));
        compare("lp", g.lp, floats(member(&g, "lp")), g.targets, 1.0, LOGIT_TOLERANCE);
        compare("entropy", entropy, floats(member(&g, "entropy")), g.targets, 1.0, LOGIT_TOLERANCE);
        report(names[i], "log-probabilities and entropies");
        ASSERT_OK(train_backward(g.train, g.batch, floats(member(&g, "dlp")), g.gradients));
        download_gradients(&g);
        compare_all(&g, "gradient", g.gradients_host, GRADIENT_TOLERANCE);
        report(names[i], "gradients");
        free(entropy);
        close_golden(&g);
    }
}

/* ---- ten steps ---- */

struct moments {
    uint16_t *remainders; /* device; NULL with fp32 storage */
    float *m, *v;
};

static void *device_memory(struct device *device, size_t bytes) {
    void *memory = NULL;
    ASSERT_OK(device->ops->allocate(device, bytes, &memory));
    return memory;
}

/* One step as the learner makes it, with torch's clip_grad_norm_. Returns the loss before it. */
static float adamw_step(struct golden *g, struct moments *moments, int step) {
    const struct ops *ops = g->device->ops;
    const int64_t total = g->model->layout->total;
    const float *dlp = floats(member(g, "dlp"));
    double loss = 0, squares = 0;
    ops->zero(g->device, g->gradients, (size_t)total * sizeof(float));
    ASSERT_OK(train_forward(g->train, g->batch, g->temperature, g->lp, NULL));
    ASSERT_OK(train_backward(g->train, g->batch, dlp, g->gradients));
    for (int32_t t = 0; t < g->targets; t++)
        loss += (double)dlp[t] * (double)g->lp[t];
    ops->sum_squares(g->device, &squares, g->gradients, total);
    double clip = 1.0 / (sqrt(squares) + 1e-6);
    const struct adamw_step s = {.lr = 1e-3f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.999f,
                                 .eps = 1e-4f,
                                 .bias1 = (float)(1.0 - pow(0.9, step)),
                                 .bias2 = (float)(1.0 - pow(0.999, step)),
                                 .grad_scale = clip < 1.0 ? (float)clip : 1.0f};
    ops->decay(g->device, g->model->data, g->model->type, moments->remainders, total, 1.0f - s.lr * 0.1f);
    ops->adamw(g->device, g->model->data, g->model->type, moments->remainders, moments->m, moments->v, g->gradients,
               total, &s);
    return (float)loss;
}

static void read_masters(const struct golden *g, const struct moments *moments, float *out) {
    const struct ops *ops = g->device->ops;
    const int64_t total = g->model->layout->total;
    if (!moments->remainders) {
        ops->download(g->device, out, g->model->data, (size_t)total * 4);
        return;
    }
    uint16_t *halves = malloc((size_t)total * 2), *remainders = malloc((size_t)total * 2);
    ops->download(g->device, halves, g->model->data, (size_t)total * 2);
    ops->download(g->device, remainders, moments->remainders, (size_t)total * 2);
    for (int64_t i = 0; i < total; i++) {
        uint32_t bits = ((uint32_t)halves[i] << 16) + (uint32_t)(int32_t)(int16_t)remainders[i];
        memcpy(&out[i], &bits, 4);
    }
    free(halves);
    free(remainders);
}

static void check_ten_steps(const char *name, enum dtype type, const char *kind, double tolerance,
                            double loss_tolerance) {
    struct golden g;
    open_golden(&g, name, type);
    const size_t total = (size_t)g.model->layout->total;
    struct moments moments = {.m = device_memory(g.device, total * 4), .v = device_memory(g.device, total * 4)};
    if (type == DTYPE_BF16) {
        uint16_t *host = malloc(total * 2);
        golden_upload(g.model, g.masters, host);
        moments.remainders = device_memory(g.device, total * 2);
        g.device->ops->upload(g.device, moments.remainders, host, total * 2);
        free(host);
    }
    const float *losses = floats(member(&g, "%s.losses", kind));
    for (int step = 1; step <= STEPS; step++) {
        float loss = adamw_step(&g, &moments, step);
        compare("loss", &loss, &losses[step - 1], 1, 1.0, loss_tolerance);
    }
    report(name, "losses");
    float *change = malloc(total * sizeof *change);
    read_masters(&g, &moments, change);
    for (size_t i = 0; i < total; i++)
        change[i] -= g.masters[i];
    compare_all(&g, kind, change, tolerance);
    report(name, kind);
    free(change);
    g.device->ops->release(g.device, moments.m);
    g.device->ops->release(g.device, moments.v);
    if (moments.remainders)
        g.device->ops->release(g.device, moments.remainders);
    close_golden(&g);
}

static void ten_adamw_steps_agree_in_fp32(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_ten_steps(names[i], DTYPE_F32, "fp32", FP32_TOLERANCE, FP32_LOSS_TOLERANCE);
}

static void ten_adamw_steps_agree_with_split_masters(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_ten_steps(names[i], DTYPE_BF16, "split", SPLIT_TOLERANCE, SPLIT_LOSS_TOLERANCE);
}

/* ---- checkpoints for check_hf.py ---- */

static void write_checkpoint(const char *folder, const char *name) {
    char directory[PATH_BYTES], path[PATH_BYTES];
    struct golden g;
    struct st_writer *writer = NULL;
    open_golden(&g, name, DTYPE_BF16);
    ASSERT_OK(fs_join(directory, folder, name));
    ASSERT_OK(fs_make_directories(directory));
    ASSERT_OK(model_save(g.model, directory));
    ASSERT_OK(train_forward(g.train, g.batch, g.temperature, g.lp, NULL));
    ASSERT_OK(fs_join(path, directory, "candor-lp.safetensors"));
    ASSERT_OK(st_writer_create(path, &writer));
    ASSERT_OK(st_writer_declare(writer, "lp", ST_F32, 1, (const int64_t[]){g.targets}));
    ASSERT_OK(st_writer_append(writer, g.lp, (uint64_t)g.targets * sizeof(float)));
    ASSERT_OK(st_writer_finish(&writer, NULL));
    close_golden(&g);
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof names / sizeof *names; i++)
        write_checkpoint(argv[1], names[i]);
    if (argc == 2)
        return 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_every_gradient_agree),
        cmocka_unit_test(ten_adamw_steps_agree_in_fp32),
        cmocka_unit_test(ten_adamw_steps_agree_with_split_masters),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
