#include "common/model/infer.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/model/carve.h"
#include "common/model/kv_pages.h"
#include "common/model/layer.h"

/* The canary's prompt crosses a page boundary, so that paging is part of what it checks. */
#define CANARY_TOKENS (KV_PAGE_TOKENS + 8)

/* Device memory of a pass and the cache. A page holds all layers: [page][layer][k, v][KV_PAGE_TOKENS][K*D] act. So one
 * list of key rows serves every layer, and copying a page is one copy. */
struct infer_memory {
    void *kv;
    void *x, *norm, *qkv, *attention, *gate_up, *swiglu; /* struct layer_memory */
    float *rstd;
    void *wanted;     /* [logit_rows_max,H] residual rows whose logits are wanted */
    float *logits;    /* [logit_rows_max, columns] */
    int32_t *draws;   /* [2 draws_max]: rows, then uniforms */
    int32_t *samples; /* [2 draws_max]: ids, then log-probabilities */
    int32_t *indices; /* what build_pass writes */
};

/* Where the parts of `indices` begin, in elements, for the pass that was built last. */
struct pass_plan {
    int32_t rows, wanted, sequences;
    int64_t ids, positions, slots, row_sequence, wanted_rows, key_offset, key_rows, end;
};

struct infer {
    struct model *model;
    struct infer_limits limits;
    struct kv_pages kv;
    int32_t canary; /* handle, with pages of its own */
    void *device_memory;
    struct infer_memory memory;
    struct pass_plan pass;
    int32_t *indices;    /* host image of memory.indices */
    int32_t *in_pass;    /* [sequences] handles by index in the view */
    int32_t *host_draws; /* [2 draws_max], either way */
    float *host_logits;  /* [columns] */
};

/* ---- sizes ---- */

static int32_t least(int64_t a, int64_t b) {
    return (int32_t)(a < b ? a : b);
}

static int32_t canary_tokens(const struct infer_limits *limits) {
    return least(CANARY_TOKENS, limits->positions_max);
}

static int64_t cache_pages(const struct infer_limits *limits) {
    return limits->kv_tokens / KV_PAGE_TOKENS + (limits->kv_tokens % KV_PAGE_TOKENS != 0) +
           kv_pages_for(canary_tokens(limits));
}

/* Rows of K*D elements between one page and the next. */
static int64_t page_stride(const struct model_config *c) {
    return (int64_t)c->layers * 2 * KV_PAGE_TOKENS;
}

static int64_t indices_max(const struct infer_limits *limits) {
    int64_t sequences = least(limits->rows_max, (int64_t)limits->sequences_max + 1);
    int64_t keys = sequences * kv_pages_for(limits->positions_max) * KV_PAGE_TOKENS;
    return 4 * (int64_t)limits->rows_max + limits->logit_rows_max + sequences + 1 + keys;
}

static int64_t draws_max(const struct infer_limits *limits) {
    return limits->rows_max > limits->sequences_max ? limits->rows_max : limits->sequences_max;
}

static void carve_memory(struct infer_memory *m, struct carve *carve, const struct model_config *c, int32_t columns,
                         const struct infer_limits *limits, enum dtype activation) {
    const size_t act = dtype_bytes(activation);
    const int64_t R = limits->rows_max, W = limits->logit_rows_max, H = c->hidden, F = c->ffn;
    const int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    m->kv = carve_part(carve, cache_pages(limits) * page_stride(c) * kv, act);
    m->x = carve_part(carve, R * H, act);
    m->norm = carve_part(carve, R * H, act);
    m->qkv = carve_part(carve, R * (q + 2 * kv), act);
    m->attention = carve_part(carve, R * q, act);
    m->gate_up = carve_part(carve, R * 2 * F, act);
    m->swiglu = carve_part(carve, R * F, act);
    m->rstd = carve_part(carve, R, sizeof(float));
    m->wanted = carve_part(carve, W * H, act);
    m->logits = carve_part(carve, W * columns, sizeof(float));
    m->draws = carve_part(carve, 2 * draws_max(limits), sizeof(int32_t));
    m->samples = carve_part(carve, 2 * draws_max(limits), sizeof(int32_t));
    m->indices = carve_part(carve, indices_max(limits), sizeof(int32_t));
}

static struct infer_limits settle_limits(const struct infer_limits *limits, int32_t positions) {
    struct infer_limits settled = *limits;
    if (settled.positions_max == 0 || settled.positions_max > positions)
        settled.positions_max = positions;
    settled.logit_rows_max = least(settled.logit_rows_max, settled.rows_max);
    return settled;
}

int64_t infer_bytes(const struct model_config *config, const struct infer_limits *limits, enum dtype activation) {
    struct infer_limits settled = settle_limits(limits, config->max_positions);
    struct infer_memory memory;
    struct carve carve = {0};
    carve_memory(&memory, &carve, config, config->vocab, &settled, activation);
    return (int64_t)carve.bytes;
}

/* ---- create, destroy ---- */

static enum status allocate_device(struct infer *infer) {
    struct device *device = infer->model->device;
    struct carve carve = {0};
    int32_t columns = head_columns(infer->model);
    carve_memory(&infer->memory, &carve, &infer->model->config, columns, &infer->limits, device->activation);
    TRY(device->ops->allocate(device, carve.bytes, &infer->device_memory));
    carve = (struct carve){.base = infer->device_memory};
    carve_memory(&infer->memory, &carve, &infer->model->config, columns, &infer->limits, device->activation);
    return STATUS_OK;
}

static enum status allocate_host(struct infer *infer) {
    const struct infer_limits *limits = &infer->limits;
    TRY(kv_pages_init(&infer->kv, (int32_t)cache_pages(limits), limits->sequences_max + 1,
                      kv_pages_for(limits->positions_max)));
    infer->indices = malloc((size_t)indices_max(limits) * sizeof *infer->indices);
    infer->in_pass = malloc((size_t)(limits->sequences_max + 1) * sizeof *infer->in_pass);
    infer->host_draws = malloc((size_t)draws_max(limits) * 2 * sizeof *infer->host_draws);
    infer->host_logits = malloc((size_t)head_columns(infer->model) * sizeof *infer->host_logits);
    if (!infer->indices || !infer->in_pass || !infer->host_draws || !infer->host_logits)
        return fail(STATUS_NO_MEMORY, "no memory for the lists of %d rows", limits->rows_max);
    return STATUS_OK;
}

/* The canary's sequence takes its pages now and keeps them. */
static enum status reserve_canary(struct infer *infer) {
    TRY(kv_pages_open(&infer->kv, &infer->canary));
    kv_pages_grow(&infer->kv, &infer->kv.sequences[infer->canary], canary_tokens(&infer->limits));
    return STATUS_OK;
}

static enum status check_limits(const struct infer_limits *limits, const struct model_config *c) {
    if (limits->rows_max < 1 || limits->sequences_max < 1 || limits->logit_rows_max < 1 || limits->kv_tokens < 1 ||
        limits->positions_max < 1 || limits->sequences_max == INT32_MAX)
        return fail(STATUS_LIMIT, "%d rows, %d sequences, %d rows of logits, %lld cached tokens: at least 1 each",
                    limits->rows_max, limits->sequences_max, limits->logit_rows_max, (long long)limits->kv_tokens);
    if (cache_pages(limits) > INT32_MAX / page_stride(c)) /* key rows are 32-bit */
        return fail(STATUS_LIMIT, "a cache of %lld tokens: at most %lld for %d layers", (long long)limits->kv_tokens,
                    (long long)(INT32_MAX / page_stride(c) * KV_PAGE_TOKENS), c->layers);
    return STATUS_OK;
}

enum status infer_create(struct model *model, const struct infer_limits *limits, struct infer **out_infer) {
    struct infer_limits settled = settle_limits(limits, model->rope_positions);
    TRY(check_limits(&settled, &model->config));
    struct infer *infer = calloc(1, sizeof *infer);
    if (!infer)
        return fail(STATUS_NO_MEMORY, "no memory for an engine");
    infer->model = model;
    infer->limits = settled;
    enum status status;
    TRY_GOTO(allocate_host(infer), failed);
    TRY_GOTO(allocate_device(infer), failed);
    TRY_GOTO(reserve_canary(infer), failed);
    *out_infer = infer;
    return STATUS_OK;
failed:
    infer_destroy(&infer);
    return status;
}

void infer_destroy(struct infer **infer) {
    struct infer *e = *infer;
    if (!e)
        return;
    if (e->device_memory)
        e->model->device->ops->release(e->model->device, e->device_memory);
    kv_pages_deinit(&e->kv);
    free(e->indices);
    free(e->in_pass);
    free(e->host_draws);
    free(e->host_logits);
    free(e);
    *infer = NULL;
}

/* ---- sequences ---- */

static size_t page_bytes(const struct infer *infer) {
    const struct model_config *c = &infer->model->config;
    return (size_t)page_stride(c) * (size_t)(c->kv_heads * c->head_dim) * dtype_bytes(infer->model->device->activation);
}

enum status infer_sequence_open(struct infer *infer, int32_t *out_sequence) {
    return kv_pages_open(&infer->kv, out_sequence);
}

enum status infer_sequence_fork(struct infer *infer, int32_t from, int32_t length, int32_t *out_sequence) {
    int32_t copy_from = -1, copy_to = -1;
    ASSERT(from >= 0 && from < infer->kv.sequence_count && from != infer->canary);
    TRY(kv_pages_fork(&infer->kv, from, length, out_sequence, &copy_from, &copy_to));
    if (copy_to >= 0) {
        struct device *device = infer->model->device;
        size_t bytes = page_bytes(infer);
        char *kv = infer->memory.kv;
        device->ops->copy(device, kv + (size_t)copy_to * bytes, kv + (size_t)copy_from * bytes, bytes);
    }
    return STATUS_OK;
}

void infer_sequence_close(struct infer *infer, int32_t sequence) {
    ASSERT(sequence != infer->canary);
    kv_pages_close(&infer->kv, sequence);
}

int32_t infer_sequence_length(const struct infer *infer, int32_t sequence) {
    ASSERT(sequence >= 0 && sequence < infer->kv.sequence_count && infer->kv.sequences[sequence].open);
    return infer->kv.sequences[sequence].length;
}

int32_t infer_pages_free(const struct infer *infer) {
    return infer->kv.free_count;
}

int32_t infer_pages_for(int32_t tokens) {
    return kv_pages_for(tokens);
}

void infer_reset(struct infer *infer) {
    for (int32_t s = 0; s < infer->kv.sequence_count; s++) {
        if (infer->kv.sequences[s].open && s != infer->canary)
            kv_pages_close(&infer->kv, s);
    }
    infer->pass.wanted = 0;
}

/* ---- a forward pass ---- */

/* Lists the sequences of the rows in infer->in_pass and counts their rows; changes nothing else. */
static enum status count_rows(struct infer *infer, const struct infer_row *rows, int32_t count,
                              struct pass_plan *pass) {
    for (int32_t r = 0; r < count; r++) {
        ASSERT(rows[r].sequence >= 0 && rows[r].sequence < infer->kv.sequence_count);
        struct kv_sequence *sequence = &infer->kv.sequences[rows[r].sequence];
        ASSERT(sequence->open);
        if (sequence->pending++ == 0) {
            sequence->view = pass->sequences;
            infer->in_pass[pass->sequences++] = rows[r].sequence;
        }
        pass->wanted += rows[r].want_logits != 0;
        if (rows[r].token < 0 || rows[r].token >= infer->model->valid_vocab)
            return fail(STATUS_FORMAT, "token %d: this model's ids are 0 to %d", rows[r].token,
                        infer->model->valid_vocab - 1);
        if (sequence->length + sequence->pending > infer->limits.positions_max)
            return fail(STATUS_LIMIT, "a sequence longer than %d tokens", infer->limits.positions_max);
    }
    if (pass->wanted > infer->limits.logit_rows_max)
        return fail(STATUS_LIMIT, "%d rows of logits wanted at once: the limit is %d", pass->wanted,
                    infer->limits.logit_rows_max);
    return STATUS_OK;
}

static void forget_rows(struct infer *infer, const struct pass_plan *pass) {
    for (int32_t i = 0; i < pass->sequences; i++)
        infer->kv.sequences[infer->in_pass[i]].pending = 0;
}

static enum status take_pages(struct infer *infer, const struct pass_plan *pass) {
    int64_t missing = 0;
    for (int32_t i = 0; i < pass->sequences; i++) {
        const struct kv_sequence *sequence = &infer->kv.sequences[infer->in_pass[i]];
        missing += kv_pages_missing(sequence, sequence->pending);
    }
    if (missing > infer->kv.free_count)
        return fail(STATUS_AGAIN, "%lld pages wanted, %d of %d are free", (long long)missing, infer->kv.free_count,
                    infer->kv.page_count);
    for (int32_t i = 0; i < pass->sequences; i++) {
        struct kv_sequence *sequence = &infer->kv.sequences[infer->in_pass[i]];
        kv_pages_grow(&infer->kv, sequence, sequence->pending);
    }
    return STATUS_OK;
}

static void lay_out(struct pass_plan *pass) {
    pass->ids = 0;
    pass->positions = pass->ids + pass->rows;
    pass->slots = pass->positions + pass->rows;
    pass->row_sequence = pass->slots + pass->rows;
    pass->wanted_rows = pass->row_sequence + pass->rows;
    pass->key_offset = pass->wanted_rows + pass->wanted;
    pass->key_rows = pass->key_offset + pass->sequences + 1;
}

/* Appends the rows to their sequences. */
static void fill_rows(struct infer *infer, const struct infer_row *rows, const struct pass_plan *pass) {
    const int32_t stride = (int32_t)page_stride(&infer->model->config);
    int32_t *out = infer->indices;
    int64_t wanted = pass->wanted_rows;
    for (int32_t r = 0; r < pass->rows; r++) {
        struct kv_sequence *sequence = &infer->kv.sequences[rows[r].sequence];
        int32_t position = sequence->length++;
        out[pass->ids + r] = rows[r].token;
        out[pass->positions + r] = position;
        out[pass->slots + r] = sequence->pages[position / KV_PAGE_TOKENS] * stride + position % KV_PAGE_TOKENS;
        out[pass->row_sequence + r] = sequence->view;
        if (rows[r].want_logits)
            out[wanted++] = r;
    }
}

/* The key rows of each sequence of the pass, page by page. */
static void fill_keys(struct infer *infer, struct pass_plan *pass) {
    const int32_t stride = (int32_t)page_stride(&infer->model->config);
    int32_t *offsets = infer->indices + pass->key_offset, *keys = infer->indices + pass->key_rows;
    int32_t end = 0;
    for (int32_t i = 0; i < pass->sequences; i++) {
        const struct kv_sequence *sequence = &infer->kv.sequences[infer->in_pass[i]];
        offsets[i] = end;
        for (int32_t first = 0; first < sequence->length; first += KV_PAGE_TOKENS) {
            int32_t row = sequence->pages[first / KV_PAGE_TOKENS] * stride;
            int32_t count = least(sequence->length - first, KV_PAGE_TOKENS);
            for (int32_t p = 0; p < count; p++)
                keys[end++] = row + p;
        }
    }
    offsets[pass->sequences] = end;
    pass->end = pass->key_rows + end;
}

static enum status build_pass(struct infer *infer, const struct infer_row *rows, int32_t count) {
    struct pass_plan pass = {.rows = count};
    enum status status = count_rows(infer, rows, count, &pass);
    if (status == STATUS_OK)
        status = take_pages(infer, &pass);
    if (status == STATUS_OK) {
        lay_out(&pass);
        fill_rows(infer, rows, &pass);
        fill_keys(infer, &pass);
        infer->pass = pass;
    }
    forget_rows(infer, &pass);
    return status;
}

static void run_layers(struct infer *infer) {
    struct model *model = infer->model;
    const struct infer_memory *m = &infer->memory;
    const struct pass_plan *pass = &infer->pass;
    const struct model_config *c = &model->config;
    const int32_t *indices = m->indices;
    const struct layer_rows rows = {.count = pass->rows,
                                    .positions = indices + pass->positions,
                                    .slots = indices + pass->slots,
                                    .view = {.rows = pass->rows,
                                             .sequences = pass->sequences,
                                             .row_sequence = indices + pass->row_sequence,
                                             .row_position = indices + pass->positions,
                                             .key_offset = indices + pass->key_offset,
                                             .key_rows = indices + pass->key_rows}};
    const size_t block =
        (size_t)KV_PAGE_TOKENS * (size_t)(c->kv_heads * c->head_dim) * dtype_bytes(model->device->activation);
    struct layer_memory memory = {.x_in = m->x,
                                  .x_mid = m->x,
                                  .x_out = m->x,
                                  .norm = m->norm,
                                  .rstd = m->rstd,
                                  .qkv = m->qkv,
                                  .attention = m->attention,
                                  .gate_up = m->gate_up,
                                  .swiglu = m->swiglu};
    for (int32_t layer = 0; layer < c->layers; layer++) {
        memory.k = (char *)m->kv + (size_t)layer * 2 * block;
        memory.v = (char *)memory.k + block;
        layer_forward(model, layer, &memory, &rows);
    }
}

enum status infer_forward(struct infer *infer, const struct infer_row *rows, int32_t row_count) {
    ASSERT(row_count >= 1);
    if (row_count > infer->limits.rows_max)
        return fail(STATUS_LIMIT, "%d rows in one pass: the limit is %d", row_count, infer->limits.rows_max);
    TRY(build_pass(infer, rows, row_count));
    struct model *model = infer->model;
    struct device *device = model->device;
    const struct infer_memory *m = &infer->memory;
    const struct pass_plan *pass = &infer->pass;
    device->ops->upload(device, m->indices, infer->indices, (size_t)pass->end * sizeof *infer->indices);
    device->ops->embed_forward(device, m->x, model_weight(model, model->layout->embed), m->indices + pass->ids,
                               pass->rows, model->config.hidden);
    run_layers(infer);
    if (pass->wanted > 0) {
        device->ops->gather_rows(device, m->wanted, m->x, m->indices + pass->wanted_rows, pass->wanted,
                                 model->config.hidden);
        head_logits(model, m->norm, m->rstd, m->logits, m->wanted, pass->wanted);
    }
    return STATUS_OK;
}

/* ---- what comes out ---- */

/* Rows and uniforms go up in one piece, ids and log-probabilities come down in one. */
enum status infer_sample(struct infer *infer, const struct sampling *sampling, const int32_t *rows,
                         const float *uniforms, int32_t count, int32_t *out_ids, float *out_lp) {
    ASSERT(count >= 1 && (rows || count <= infer->pass.wanted));
    if (count > draws_max(&infer->limits))
        return fail(STATUS_LIMIT, "%d draws at once: the limit is %lld", count, (long long)draws_max(&infer->limits));
    struct model *model = infer->model;
    struct device *device = model->device;
    const struct infer_memory *m = &infer->memory;
    const size_t bytes = (size_t)count * sizeof(int32_t);
    for (int32_t i = 0; i < count; i++) {
        infer->host_draws[i] = rows ? rows[i] : i;
        ASSERT(infer->host_draws[i] >= 0 && infer->host_draws[i] < infer->pass.wanted);
    }
    memcpy(infer->host_draws + count, uniforms, bytes);
    device->ops->upload(device, m->draws, infer->host_draws, 2 * bytes);
    float inverse = sampling->temperature > 0.0f ? 1.0f / sampling->temperature : 0.0f;
    device->ops->sample(device, m->samples, (float *)(void *)(m->samples + count), m->logits, rows ? m->draws : NULL,
                        (const float *)(const void *)(m->draws + count), count, head_columns(model), model->valid_vocab,
                        inverse, sampling->top_k, sampling->top_p);
    device->ops->download(device, infer->host_draws, m->samples, 2 * bytes);
    TRY(device->ops->synchronize(device));
    memcpy(out_ids, infer->host_draws, bytes);
    memcpy(out_lp, infer->host_draws + count, bytes);
    return STATUS_OK;
}

enum status infer_logits(struct infer *infer, int32_t row, float *out_logits) {
    ASSERT(row >= 0 && row < infer->pass.wanted);
    struct model *model = infer->model;
    struct device *device = model->device;
    const float *logits = infer->memory.logits + (int64_t)row * head_columns(model);
    device->ops->download(device, out_logits, logits, (size_t)model->valid_vocab * sizeof *logits);
    return device->ops->synchronize(device);
}

void infer_canary_begin(struct infer *infer) {
    infer->kv.sequences[infer->canary].length = 0;
}

int32_t infer_canary_rows(const struct infer *infer, int32_t most, struct infer_row *out_rows) {
    int32_t tokens = canary_tokens(&infer->limits), done = infer->kv.sequences[infer->canary].length;
    int32_t count = least(tokens - done, most);
    for (int32_t r = 0; r < count; r++) {
        int64_t i = done + r;
        out_rows[r] = (struct infer_row){.sequence = infer->canary,
                                         .token = (int32_t)((i * 7919 + 1) % infer->model->valid_vocab),
                                         .want_logits = i == tokens - 1};
    }
    return count;
}

enum status infer_canary_end(struct infer *infer, int32_t row, struct digest *out_canary) {
    TRY(infer_logits(infer, row, infer->host_logits));
    *out_canary = hash128(infer->host_logits, (size_t)infer->model->valid_vocab * sizeof(float));
    return STATUS_OK;
}

enum status infer_canary(struct infer *infer, struct digest *out_canary) {
    struct infer_row rows[CANARY_TOKENS];
    int32_t count;
    infer_canary_begin(infer);
    while ((count = infer_canary_rows(infer, least(CANARY_TOKENS, infer->limits.rows_max), rows)) > 0)
        TRY(infer_forward(infer, rows, count));
    TRY(infer_canary_end(infer, 0, out_canary));
    infer->pass.wanted = 0;
    return STATUS_OK;
}
