/* candor-bench-weights [--steps N] [--tokens N] [--threads N]: what a weight update costs (DESIGN sections 8 and 15).
 *
 * A model of 119M parameters with weights N(0, 0.02) is trained for some AdamW steps at lr 1e-6, each on the gradient of its own
 * forward and backward pass over fresh random tokens. For each step it prints how much changed, the delta's size against the
 * snapshot's, and the speed of encoding and applying it against memcpy, and checks that the delta gives the bits of both
 * versions. The first Adam step moves every weight by lr and so is the largest that there is.
 *
 * memcpy copies the snapshot's bytes between two buffers whose pages are all touched, shared out among the same number of
 * threads, started the same way. Encoding reads two snapshots and writes into fresh memory; applying works in place. Rounds
 * of memcpy, encode, apply and back follow one another; a figure is the median over them of memcpy's time by the other's
 * time in the same round. One thread: CPU time, so that other programs count less; several: wall time.
 *
 * Then the pause of generation, as an actor makes it: deltas are staged beside the passes, then the answers under way are
 * parked and the weights are patched (the pause), then passes go on with the canary in them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actor/generator.h"
#include "actor/stage.h"
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/compute/ops.h"
#include "common/model/train.h"
#include "common/weights/chain.h"
#include "common/weights/content.h"
#include "common/weights/delta.h"
#include "common/weights/share.h"
#include "learner/optimiser.h"

#define ROUNDS 9
#define PAUSES 5
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

struct copied {
    char *to;
    const char *from;
    size_t bytes;
};

static void *copy(void *argument) {
    struct copied *part = argument;
    memcpy(part->to, part->from, part->bytes);
    return NULL;
}

static void copy_all(void *to, const void *from, int threads) {
    struct copied parts[SHARE_PARTS_MAX];
    uint32_t count = share_parts(bench.elements, threads);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t first = share_begin(bench.bytes, count, i);
        parts[i] = (struct copied){(char *)to + first, (const char *)from + first,
                                   share_begin(bench.bytes, count, i + 1) - first};
    }
    share_run(parts, sizeof *parts, count, copy);
}

enum { COPY, ENCODE, APPLY, BACK, MEASURED };

struct rounds {
    double seconds[MEASURED][ROUNDS];
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

/* Median over the rounds of memcpy's time by another's. */
static double against_copy(const struct rounds *rounds, int what) {
    double ratios[ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        ratios[r] = rounds->seconds[COPY][r] / rounds->seconds[what][r];
    return median(ratios, ROUNDS);
}

static void must_equal(const void *weights, const void *version) {
    if (memcmp(weights, version, bench.bytes) != 0)
        must(fail(STATUS_RUN_FAILED, "a delta that does not give the bits of the version"));
}

/* One round after the other; the delta of the last one is the caller's. */
static void measure_rounds(int threads, struct digest base, struct digest result, struct rounds *out, uint8_t **data,
                           uint64_t *bytes, uint64_t *changed) {
    for (int r = 0; r < ROUNDS; r++) {
        double at[MEASURED + 1];
        free(*data);
        at[COPY] = seconds_of(threads);
        copy_all(bench.work, bench.before, threads);
        at[ENCODE] = seconds_of(threads);
        must(
            delta_encode(bench.before, bench.model->data, bench.elements, base, result, threads, data, bytes, changed));
        out->seconds[ENCODE][r] = seconds_of(threads) - at[ENCODE];
        out->seconds[COPY][r] = at[ENCODE] - at[COPY];
        struct chain chain = {.to = result, .hop_count = 1, .hops = {{*data, *bytes, DELTA_FORWARD}}};
        at[APPLY] = seconds_of(threads);
        must(chain_apply(&chain, base, bench.elements, threads, bench.work));
        out->seconds[APPLY][r] = seconds_of(threads) - at[APPLY];
        must_equal(bench.work, bench.model->data);
        chain.to = base;
        chain.hops[0].direction = DELTA_BACK;
        at[BACK] = seconds_of(threads);
        must(chain_apply(&chain, result, bench.elements, threads, bench.work));
        out->seconds[BACK][r] = seconds_of(threads) - at[BACK];
        must_equal(bench.work, bench.before);
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
    struct rounds one, all;
    measure_rounds(1, base, result, &one, &data, out_bytes, &changed);
    measure_rounds(bench.threads, base, result, &all, &data, out_bytes, &changed);
    printf("%4u %8.2f%% %7.1f%% %10.2f %9.1f %7.1f   %5.2f %5.2f %5.2f %9.1f   %5.2f %5.2f %5.2f %9.1f\n", number,
           100.0 * (double)changed / (double)bench.elements, 100 * more_than_one_step(changed),
           (double)*out_bytes / 1e6, (double)bench.bytes / (double)*out_bytes,
           changed ? 8.0 * (double)*out_bytes / (double)changed : 0, against_copy(&one, ENCODE),
           against_copy(&one, APPLY), against_copy(&one, BACK),
           (double)bench.bytes / median(one.seconds[COPY], ROUNDS) / 1e9, against_copy(&all, ENCODE),
           against_copy(&all, APPLY), against_copy(&all, BACK),
           (double)bench.bytes / median(all.seconds[COPY], ROUNDS) / 1e9);
    fflush(stdout);
    return data;
}

/* ---- the pause of generation ---- */

static void pass(struct generator *generator) {
    bool busy;
    must(generator_step(generator, &busy));
}

static struct generator *idle_generator(void) {
    struct generator_limits limits = {.in_flight = 64, .rows_max = 320, .kv_tokens = 16384, .groups_max = 4};
    struct generator *generator;
    must(generator_create(bench.model, &limits, &generator));
    return generator;
}

static struct generator *busy_generator(void) {
    struct generator *generator = idle_generator();
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
    for (int i = 0; i < 6; i++)
        pass(generator);
    return generator;
}

struct pause {
    double staged, pass, park, patch, canary, copy; /* ms */
    int beside, canary_passes;
};

/* Stage beside passes, park, patch, and passes until the canary is there. */
static void pause_once(const struct chain *chain, struct digest held, struct pause *out, struct digest *out_canary) {
    struct generator *generator = busy_generator();
    struct chain *copied = malloc(sizeof *copied);
    struct stage *stage;
    const struct patch *patch;
    if (!copied)
        must(fail(STATUS_NO_MEMORY, "a chain"));
    *copied = *chain;
    copied->hops[0].data = malloc(chain->hops[0].bytes);
    memcpy(copied->hops[0].data, chain->hops[0].data, chain->hops[0].bytes);
    double begin = clock_seconds(), end;
    pass(generator);
    out->pass = clock_seconds() - begin;
    begin = clock_seconds();
    must(stage_start(copied, held, bench.elements, bench.model->data, 1, &stage));
    for (out->beside = 0; !stage_done(stage); out->beside++)
        pass(generator);
    must(stage_wait(stage, &patch));
    end = clock_seconds();
    out->staged = end - begin;
    generator_park_all(generator);
    begin = clock_seconds();
    out->park = begin - end;
    must(patch_apply_on(patch, bench.device, bench.model->data));
    end = clock_seconds();
    out->patch = end - begin;
    generator_canary_begin(generator);
    for (out->canary_passes = 0; generator_canary(generator, out_canary) != GENERATOR_CANARY_DONE; out->canary_passes++)
        pass(generator);
    out->canary = clock_seconds() - end;
    stage_destroy(&stage);
    generator_destroy(&generator);
}

/* What it costs with nothing beside it. */
static double canary_alone(void) {
    struct generator *generator = idle_generator();
    struct digest canary;
    double begin = clock_seconds();
    generator_canary_begin(generator);
    while (generator_canary(generator, &canary) != GENERATOR_CANARY_DONE)
        pass(generator);
    double took = clock_seconds() - begin;
    generator_destroy(&generator);
    return took;
}

static void measure_pause(uint8_t *data, uint64_t bytes) {
    struct delta delta;
    must(delta_open(data, bytes, &delta));
    struct chain chain = {.version = 1, .from = delta.base, .to = delta.result, .hop_count = 1};
    chain.hops[0] = (struct chain_hop){data, bytes, DELTA_FORWARD};
    memcpy(bench.work, bench.model->data, bench.bytes);
    double park[PAUSES], patch[PAUSES], canary[PAUSES], staged[PAUSES], both[PAUSES], copy_ms[PAUSES], alone[PAUSES];
    struct digest digest, first = {0, 0};
    struct pause pause;
    for (int i = 0; i < PAUSES; i++) {
        memcpy(bench.model->data, bench.before, bench.bytes);
        pause_once(&chain, delta.base, &pause, &digest);
        must_equal(bench.model->data, bench.work);
        if (i && !digest_equal(digest, first))
            must(fail(STATUS_RUN_FAILED, "another canary under the same weights"));
        first = digest;
        park[i] = pause.park, patch[i] = pause.patch, canary[i] = pause.canary, staged[i] = pause.staged;
        both[i] = pause.park + pause.patch;
        double begin = clock_seconds();
        copy_all(bench.model->data, bench.work, bench.threads);
        copy_ms[i] = clock_seconds() - begin;
        alone[i] = canary_alone();
    }
    printf("\npause of generation, 60 answers under way, median of %d: %.1f ms = park %.2f ms + patch %.1f ms "
           "(memcpy of a snapshot, %d threads: %.1f ms)\n"
           "  before it, beside passes of %.0f ms: delta decoded and verified in %.0f ms by one thread\n"
           "  after it, beside passes that read the prompts again: canary known after %d passes, %.0f ms; alone it "
           "takes %.0f ms\n",
           PAUSES, 1e3 * median(both, PAUSES), 1e3 * median(park, PAUSES), 1e3 * median(patch, PAUSES), bench.threads,
           1e3 * median(copy_ms, PAUSES), 1e3 * pause.pass, 1e3 * median(staged, PAUSES), pause.canary_passes,
           1e3 * median(canary, PAUSES), 1e3 * median(alone, PAUSES));
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
        "memcpy's time / time: medians of %d rounds of memcpy, encode, apply, back; memcpy copies the snapshot's "
        "bytes\n"
        "between touched pages with as many threads\n"
        "                                                           1 thread, CPU time           %2d threads, wall "
        "time\n"
        "step  changed  >1 step   delta MB    1 / of bits/ch   encode apply  back      GB/s  encode apply  back      "
        "GB/s\n",
        ROUNDS, bench.threads);
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
