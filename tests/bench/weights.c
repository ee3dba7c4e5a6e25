/* candor-bench-weights [--steps N] [--tokens N] [--threads N]: what a weight update costs (DESIGN sections 8 and 15).
 *
 * A model of 119M parameters with weights N(0, 0.02) is trained for some AdamW steps at lr 1e-6, each on the gradient of its own
 * forward and backward pass over fresh random tokens. For each step it prints how much changed, the delta's size against the
 * snapshot's, and the speed of encoding and applying it against memcpy of the snapshot by one thread (one thread: CPU time;
 * all threads: wall time), and checks that the delta gives the bits of both versions. Then the pause of generation: a
 * generator with answers under way
 * is parked, patched in place, and computes the canary, as an actor does. The first Adam step moves every weight by lr and so
 * is the largest that there is. Figures are the best of several. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actor/generator.h"
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/compute/ops.h"
#include "common/model/train.h"
#include "common/weights/content.h"
#include "common/weights/delta.h"
#include "learner/optimiser.h"

#define REPEATS 5
#define ANSWER_TOKENS 64

static const struct model_config shape = {.layers = 12,
                                          .hidden = 768,
                                          .heads = 12,
                                          .kv_heads = 12,
                                          .head_dim = 64,
                                          .ffn = 3072,
                                          .vocab = 8192,
                                          .max_positions = 512,
                                          .rope_theta = 10000,
                                          .rms_eps = 1e-6f,
                                          .tied = true,
                                          .bos = -1,
                                          .eos = -1};

static struct bench {
    int32_t steps, tokens, threads;
    struct device *device;
    struct model *model;
    struct optimiser *optimiser;
    struct train *train;
    struct train_batch *batch;
    uint64_t elements, bytes;
    uint16_t *before, *work; /* [elements]; after is the model's own buffer */
} bench = {.steps = 6, .tokens = 128, .threads = 0};

static void must(enum status status) {
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "candor-bench-weights: %s\n", status_message());
    exit(1);
}

/* ---- a step ---- */

static void random_ids(int32_t *ids, int32_t count, uint32_t step) {
    struct rng_key key = {.seed = 7, .stream = RNG_TEST, .step = step};
    for (int32_t i = 0; i < count; i++)
        ids[i] = (int32_t)rng_below(&key, (uint32_t)i, (uint32_t)shape.vocab);
}

/* One AdamW step on the cross entropy of random answers. */
static void step(uint32_t number) {
    int32_t ids[4096], count = bench.tokens - 1;
    float lp[4096], dlp[4096];
    double loss = 0;
    random_ids(ids, bench.tokens, number);
    const int32_t *answer = ids + 1;
    train_batch_reset(bench.batch);
    must(train_batch_add_tree(bench.batch, ids, 1, &answer, &count, 1));
    optimiser_zero_gradient(bench.optimiser);
    must(train_forward(bench.train, bench.batch, 1, lp, NULL));
    for (int32_t i = 0; i < count; i++) {
        loss -= (double)lp[i] / count;
        dlp[i] = -1 / (float)count;
    }
    must(train_backward(bench.train, bench.batch, dlp, bench.optimiser->gradient));
    struct update update;
    must(optimiser_update(bench.optimiser, number, loss, &update));
    if (update.skipped)
        must(fail(STATUS_RUN_FAILED, "step %u was skipped", number));
}

/* ---- one delta ---- */

/* Seconds; of one thread: CPU time, so that other programs on the machine count less. */
static double seconds_of(int threads) {
    struct timespec time;
    if (threads > 1)
        return clock_seconds();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Best of REPEATS, in seconds. */
#define BEST(seconds, threads, ...)                                                                                    \
    do {                                                                                                               \
        seconds = 1e9;                                                                                                 \
        for (int repeat_ = 0; repeat_ < REPEATS; repeat_++) {                                                          \
            double begin_ = seconds_of(threads);                                                                       \
            __VA_ARGS__;                                                                                               \
            double took_ = seconds_of(threads) - begin_;                                                               \
            seconds = took_ < seconds ? took_ : seconds;                                                               \
        }                                                                                                              \
    } while (0)

static double measure_memcpy(int threads) {
    double seconds;
    BEST(seconds, threads, memcpy(bench.work, bench.before, bench.bytes));
    return seconds;
}

static void encode(int threads, struct digest base, struct digest result, uint8_t **data, uint64_t *bytes,
                   uint64_t *changed) {
    free(*data);
    must(delta_encode(bench.before, bench.model->data, bench.elements, base, result, threads, data, bytes, changed));
}

/* Forward and back in turn; out[0], out[1]: seconds of each. */
static void measure_apply(const struct delta *delta, int threads, double out[2]) {
    out[0] = out[1] = 1e9;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (int back = 0; back < 2; back++) {
            double begin = seconds_of(threads);
            must(delta_apply(delta, back ? DELTA_BACK : DELTA_FORWARD, back ? delta->result : delta->base,
                             bench.elements, threads, bench.work));
            double took = seconds_of(threads) - begin;
            out[back] = took < out[back] ? took : out[back];
            if (memcmp(bench.work, back ? bench.before : bench.model->data, bench.bytes) != 0)
                must(fail(STATUS_RUN_FAILED, "a delta that does not give the bits of the version"));
        }
    }
}

static double more_than_one_step(uint64_t changed) {
    const uint16_t *after = bench.model->data;
    uint64_t more = 0;
    for (uint64_t i = 0; i < bench.elements; i++) {
        uint16_t moved = (uint16_t)(after[i] - bench.before[i]);
        more += moved > 1 && moved < UINT16_MAX;
    }
    return changed ? (double)more / (double)changed : 0;
}

/* Prints a row; the delta is the caller's. */
static uint8_t *measure_delta(uint32_t number, uint64_t *out_bytes) {
    struct digest base = content_digest(bench.before, 0, bench.bytes), result;
    must(model_digest(bench.model, &result));
    uint8_t *data = NULL;
    uint64_t changed = 0;
    double copy = measure_memcpy(1), copy_wall = measure_memcpy(2), one, all, apply_one[2], apply_all[2];
    BEST(one, 1, encode(1, base, result, &data, out_bytes, &changed));
    BEST(all, 2, encode(bench.threads, base, result, &data, out_bytes, &changed));
    struct delta delta;
    must(delta_open(data, *out_bytes, &delta));
    measure_apply(&delta, 1, apply_one);
    measure_apply(&delta, bench.threads, apply_all);
    printf("%4u %8.2f%% %7.1f%% %10.2f %9.1f %7.1f   %5.2f %5.2f %5.2f   %5.2f %5.2f %5.2f %9.1f\n", number,
           100.0 * (double)changed / (double)bench.elements, 100 * more_than_one_step(changed),
           (double)*out_bytes / 1e6, (double)bench.bytes / (double)*out_bytes,
           changed ? 8.0 * (double)*out_bytes / (double)changed : 0, copy / one, copy / apply_one[0],
           copy / apply_one[1], copy_wall / all, copy_wall / apply_all[0], copy_wall / apply_all[1],
           (double)bench.bytes / copy / 1e9);
    fflush(stdout);
    return data;
}

/* ---- the pause of generation ---- */

static struct generator *busy_generator(void) {
    struct generator_limits limits = {.in_flight = 64, .rows_max = 320, .kv_tokens = 16384, .groups_max = 4};
    struct generator *generator;
    must(generator_create(bench.model, &limits, &generator));
    int32_t prompt[32];
    for (uint32_t g = 0; g < 3; g++) {
        random_ids(prompt, 32, 1000 + g);
        struct generation_request request = {.id = g,
                                             .prompt = prompt,
                                             .prompt_count = 32,
                                             .samples = 20,
                                             .temperature = 1,
                                             .top_p = 1,
                                             .max_new_tokens = ANSWER_TOKENS,
                                             .key = {.seed = 3, .step = 1, .slot = g}};
        must(generator_submit(generator, &request));
    }
    for (int i = 0; i < 6; i++) {
        bool busy;
        must(generator_step(generator, &busy));
    }
    return generator;
}

static void measure_pause(const uint8_t *data, uint64_t bytes) {
    struct delta delta;
    must(delta_open(data, bytes, &delta));
    double patch = 1e9, whole = 1e9, copy = 1e9;
    struct digest canary, first = {0, 0};
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        memcpy(bench.model->data, bench.before, bench.bytes);
        struct generator *generator = busy_generator();
        double begin = clock_seconds();
        generator_park_all(generator);
        must(delta_apply(&delta, DELTA_FORWARD, delta.base, bench.elements, bench.threads, bench.model->data));
        double patched = clock_seconds() - begin;
        must(generator_canary(generator, &canary));
        double all = clock_seconds() - begin;
        generator_destroy(&generator);
        memcpy(bench.work, bench.model->data, bench.bytes);
        begin = clock_seconds();
        memcpy(bench.model->data, bench.work, bench.bytes);
        double copied = clock_seconds() - begin;
        patch = patched < patch ? patched : patch;
        whole = all < whole ? all : whole;
        copy = copied < copy ? copied : copy;
        if (repeat && !digest_equal(canary, first))
            must(fail(STATUS_RUN_FAILED, "another canary under the same weights"));
        first = canary;
    }
    printf("\npause of generation, 60 answers under way: park and patch %.1f ms (a snapshot's copy alone %.1f ms), "
           "with the canary"
           " %.1f ms\n",
           1e3 * patch, 1e3 * copy, 1e3 * whole);
}

/* ---- all ---- */

static void set_up(void) {
    must(device_open("cpu", bench.threads, &bench.device));
    bench.threads = bench.device->threads;
    must(model_create(bench.device, &shape, DTYPE_BF16, shape.max_positions, 0, &bench.model));
    must(model_initialise(bench.model, 1, 0.02));
    struct optimiser_settings settings = {.lr = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1};
    must(optimiser_create(bench.model, &settings, &bench.optimiser));
    struct train_limits limits = {
        .rows_max = bench.tokens, .targets_max = bench.tokens, .logit_chunk = bench.tokens, .keep_layers = -1};
    must(train_create(bench.model, &limits, &bench.train));
    must(train_batch_create(bench.tokens, bench.tokens, &bench.batch));
    bench.elements = (uint64_t)bench.model->layout->total;
    bench.bytes = bench.elements * sizeof(uint16_t);
    bench.before = malloc(bench.bytes);
    bench.work = malloc(bench.bytes);
    if (!bench.before || !bench.work)
        must(fail(STATUS_NO_MEMORY, "no memory for three copies of the model"));
}

static void tear_down(void) {
    free(bench.before);
    free(bench.work);
    train_batch_destroy(&bench.batch);
    train_destroy(&bench.train);
    optimiser_destroy(&bench.optimiser);
    model_destroy(&bench.model);
    device_close(&bench.device);
}

static int32_t number_of(const char *text, int32_t most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 1 || value > most) {
        fprintf(stderr, "candor-bench-weights: %s: right would be a number from 1 to %d\n", text, most);
        exit(64);
    }
    return (int32_t)value;
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--steps") == 0)
            bench.steps = number_of(argv[i + 1], 1000);
        else if (strcmp(argv[i], "--tokens") == 0)
            bench.tokens = number_of(argv[i + 1], shape.max_positions);
        else if (strcmp(argv[i], "--threads") == 0)
            bench.threads = number_of(argv[i + 1], 64);
        else
            argc = 0;
    }
    if (argc % 2 == 0) {
        fprintf(stderr, "usage: candor-bench-weights [--steps N] [--tokens N] [--threads N]\n");
        return 64;
    }
    set_up();
    printf("%s, %d threads: %.1fM parameters N(0, 0.02), AdamW at lr 1e-6, %d tokens a step\n", bench.device->name,
           bench.threads, (double)bench.elements / 1e6, bench.tokens);
    printf(
        "                                                         memcpy time / time, 1 thread and all\n"
        "step  changed  >1 step   delta MB    1 / of  bits/ch  encode apply  back  encode apply  back  memcpy GB/s\n");
    uint8_t *data = NULL;
    uint64_t bytes = 0;
    for (int32_t i = 0; i < bench.steps; i++) {
        free(data);
        memcpy(bench.before, bench.model->data, bench.bytes);
        step((uint32_t)i);
        data = measure_delta((uint32_t)i + 1, &bytes);
    }
    measure_pause(data, bytes);
    free(data);
    tear_down();
    return 0;
}
