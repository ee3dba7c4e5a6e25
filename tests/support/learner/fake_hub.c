#include "tests/support/learner/fake_hub.h"

#include "common/base/rng.h"
#include "common/model/infer.h"
#include "tests/support/test.h"

#define VERSIONS_MAX 32
#define WORK_MAX 64

struct fake_hub fake;

struct work {
    struct hub_work work;
    struct message_lease *slots;
    bool taken;
};

struct hub_server {
    struct published versions[VERSIONS_MAX];
    uint32_t version_count;
    struct work works[WORK_MAX];
    uint32_t work_count;
    struct device *device;
    struct model *model;
    struct infer *infer;
};

void fake_hub_reset(void) {
    fake = (struct fake_hub){.stop_at = UINT32_MAX, .fail_at = UINT32_MAX};
}

enum status hub_server_start(const struct hub_server_settings *settings, struct hub_server **out_server) {
    struct hub_server *server = calloc(1, sizeof *server);
    struct model_config config;
    assert_non_null(server);
    ASSERT_OK(device_open("cpu", 1, &server->device));
    ASSERT_OK(model_config_read(settings->model_directory, &config));
    ASSERT_OK(model_create(server->device, &config, DTYPE_BF16, settings->hub.positions_max, settings->hub.valid_vocab,
                           &server->model));
    struct infer_limits limits = {.rows_max = 64, .sequences_max = 4, .kv_tokens = 256, .logit_rows_max = 4};
    ASSERT_OK(infer_create(server->model, &limits, &server->infer));
    *out_server = server;
    return STATUS_OK;
}

void hub_server_stop(struct hub_server **server, int drain_ms, const char *reason) {
    (void)drain_ms;
    (void)reason;
    struct hub_server *s = *server;
    ASSERT_OK(hub_server_retire_below(s, UINT32_MAX));
    for (uint32_t i = 0; i < s->work_count; i++)
        free(s->works[i].slots);
    infer_destroy(&s->infer);
    model_destroy(&s->model);
    device_close(&s->device);
    free(s);
    *server = NULL;
}

enum status hub_server_offer(struct hub_server *server, const struct hub_work *work) {
    assert_true(server->work_count < WORK_MAX && fake.offer_count < FAKE_OFFERS_MAX);
    uint32_t newest = server->versions[server->version_count - 1].version;
    fake.offers[fake.offer_count].stream = work->stream;
    fake.offers[fake.offer_count].step = work->step;
    fake.offers[fake.offer_count].version = work->version;
    fake.offers[fake.offer_count].priority = work->priority;
    fake.offers[fake.offer_count++].newest = newest;
    struct work *copy = &server->works[server->work_count++];
    *copy = (struct work){.work = *work, .slots = malloc(work->slot_count * sizeof *copy->slots)};
    memcpy(copy->slots, work->slots,
           work->slot_count * sizeof *copy->slots); /* what they point to outlives the server */
    return STATUS_OK;
}

/* A version's canary is the same in every life of a learner. */
static void check_canary(const struct published *published) {
    static struct {
        struct digest weights, canary;
    } known[256];
    static uint32_t count;
    assert_false(digest_is_zero(published->canary));
    for (uint32_t i = 0; i < count && i < 256; i++)
        if (digest_equal(known[i].weights, published->digest))
            assert_true(digest_equal(known[i].canary, published->canary));
    known[count % 256].weights = published->digest;
    known[count++ % 256].canary = published->canary;
}

enum status hub_server_publish(struct hub_server *server, const struct published *published) {
    assert_true(server->version_count < VERSIONS_MAX);
    assert_false(digest_is_zero(published->digest));
    check_canary(published);
    server->versions[server->version_count++] = *published;
    free(published->take_delta);
    fake.published++;
    fake.alive_most = server->version_count > fake.alive_most ? server->version_count : fake.alive_most;
    return STATUS_OK;
}

static enum status retire(struct hub_server *server, uint32_t first, uint32_t end) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < server->version_count; i++) {
        if (server->versions[i].version < first || server->versions[i].version >= end) {
            server->versions[kept++] = server->versions[i];
            continue;
        }
        server->versions[i].release(server->versions[i].context);
        fake.released++;
    }
    server->version_count = kept;
    return STATUS_OK;
}

enum status hub_server_retire_below(struct hub_server *server, uint32_t version) {
    return retire(server, 0, version);
}

enum status hub_server_retire(struct hub_server *server, uint32_t version) {
    return retire(server, version, version + 1);
}

/* ---- answers ---- */

static void load(struct hub_server *server, const struct digest *weights) {
    for (uint32_t i = 0; i < server->version_count; i++)
        if (digest_equal(server->versions[i].digest, *weights)) {
            memcpy(server->model->data, server->versions[i].data, server->versions[i].elements * 2);
            infer_reset(server->infer);
            return;
        }
    fail_msg("a lease names weights that are not published");
}

static void answer(struct hub_server *server, const struct message_lease *lease, uint32_t index,
                   struct answer_sample *out_sample, struct sample_score *out_score) {
    int32_t sequence, *ids = calloc(lease->max_new_tokens, sizeof *ids);
    float *lp = calloc(lease->max_new_tokens, sizeof *lp);
    ASSERT_OK(infer_sequence_open(server->infer, &sequence));
    struct infer_row rows[64];
    int32_t count = (int32_t)lease->prompt_count;
    for (int32_t i = 0; i < count; i++)
        rows[i] = (struct infer_row){sequence, lease->prompt[i], i == count - 1};
    struct rng_key key = {.seed = lease->seed,
                          .step = lease->key.step,
                          .slot = lease->key.slot,
                          .sample = (uint16_t)index,
                          .stream = lease->key.stream};
    struct sampling sampling = {.temperature = lease->temperature, .top_p = 1};
    uint32_t made = 0;
    bool stopped = false;
    while (made < lease->max_new_tokens && !stopped) {
        ASSERT_OK(infer_forward(server->infer, rows, count));
        float uniform = rng_uniform(&key, lease->prompt_count + made);
        ASSERT_OK(infer_sample(server->infer, &sampling, NULL, &uniform, 1, &ids[made], &lp[made]));
        for (uint32_t i = 0; i < lease->stop_count; i++)
            stopped = stopped || ids[made] == lease->stops[i];
        rows[0] = (struct infer_row){sequence, ids[made++], 1};
        count = 1;
    }
    infer_sequence_close(server->infer, sequence);
    *out_sample = (struct answer_sample){.ids = ids,
                                         .logprobs = lp,
                                         .count = made,
                                         .finish = stopped ? FINISH_STOP : FINISH_LENGTH,
                                         .text = {"words", 5}};
    bool right = hash64(ids, made * sizeof *ids) % 2 == 0;
    *out_score = (struct sample_score){.verdict = right ? VERDICT_CORRECT : VERDICT_WRONG, .reward = right};
}

static struct message_scored *answer_slot(struct hub_server *server, const struct message_lease *lease) {
    struct message_scored *scored = calloc(1, sizeof *scored);
    scored->group.key = lease->key;
    scored->group.weights = lease->weights;
    scored->group.same_class = 1;
    scored->group.sample_count = scored->score_count = lease->samples;
    scored->group.samples = calloc(lease->samples, sizeof *scored->group.samples);
    scored->group.grading = lease->grading;
    scored->scores = calloc(lease->samples, sizeof *scored->scores);
    for (uint32_t i = 0; i < lease->samples; i++)
        answer(server, lease, i, &scored->group.samples[i], &scored->scores[i]);
    return scored;
}

static void poison(struct completed_work *work) {
    if (work->stream != WORK_TRAIN || !(fake.poison >> work->step & 1))
        return;
    struct message_scored *scored = work->groups[0];
    for (uint32_t i = 0; i < scored->group.sample_count; i++) {
        scored->scores[i].reward = i == 0;
        scored->group.samples[i].logprobs[0] = -300;
    }
}

enum status hub_server_take(struct hub_server *server, uint8_t stream, uint32_t step, int timeout_ms,
                            struct completed_work **out_work) {
    (void)timeout_ms;
    if (stream == WORK_TRAIN && step >= fake.evals_until)
        fake.evals_until = 0;
    if (stream == WORK_EVAL && fake.evals_until > 0)
        return STATUS_TIMEOUT;
    if (stream == WORK_TRAIN && step == fake.stop_at) {
        run_stop(fake.run);
        return STATUS_TIMEOUT;
    }
    if (stream == WORK_TRAIN && step == fake.fail_at)
        return fail(fake.fail_with, "the test ends it here");
    for (uint32_t w = 0; w < server->work_count; w++) {
        struct work *work = &server->works[w];
        if (work->work.stream != stream || work->work.step != step || work->taken)
            continue;
        load(server, &work->work.weights);
        struct completed_work *done = calloc(1, sizeof *done);
        done->stream = stream;
        done->step = step;
        done->group_count = work->work.slot_count;
        done->groups = calloc(done->group_count, sizeof(struct message_scored *));
        for (uint32_t s = 0; s < done->group_count; s++)
            done->groups[s] = answer_slot(server, &work->slots[s]);
        poison(done);
        work->taken = true;
        *out_work = done;
        return STATUS_OK;
    }
    fail_msg("stream %u step %u is taken and was not offered", stream, step);
    return STATUS_RUN_FAILED;
}

void completed_work_free(struct completed_work **work) {
    for (uint32_t s = 0; s < (*work)->group_count; s++) {
        struct message_scored *scored = (*work)->groups[s];
        for (uint32_t i = 0; i < scored->group.sample_count; i++) {
            free(scored->group.samples[i].ids);
            free(scored->group.samples[i].logprobs);
        }
        free(scored->group.samples);
        free(scored->scores);
        free(scored);
    }
    free((*work)->groups);
    free(*work);
    *work = NULL;
}

enum status hub_server_counters(struct hub_server *server, struct hub_counts *out_counts, struct buf *out_json) {
    *out_counts = (struct hub_counts){0};
    (void)server;
    buf_puts(out_json, "{\"actors\":1}");
    return STATUS_OK;
}

void hub_server_status_line(struct hub_server *server, struct buf *out) {
    (void)server;
    buf_puts(out, "waiting for nobody");
}

void hub_server_telemetry(struct hub_server *server, const char *const *names, const double *values, uint32_t count) {
    (void)server;
    (void)names;
    (void)values;
    (void)count;
}
