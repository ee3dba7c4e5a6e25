#include "tests/support/model/golden.h"

#include "tests/support/test.h"

uint32_t golden_hash(uint32_t index, uint32_t seed) {
    uint32_t h = index * 0x9E3779B1u + seed;
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return h ^ h >> 16;
}

uint32_t golden_seed(const char *name) {
    uint32_t h = 0x811C9DC5u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x01000193u;
    return h;
}

void golden_fill(const struct parameter_layout *layout, float *values) {
    for (int32_t e = 0; e < layout->count; e++) {
        const struct tensor_entry *entry = &layout->entries[e];
        const char *tail = entry->name + strlen(entry->name) - strlen("norm.weight");
        const uint32_t seed = golden_seed(entry->name);
        double scale = strstr(entry->name, "embed") || strstr(entry->name, "lm_head") ? 0.5 : 0.25;
        double centre = strcmp(tail, "norm.weight") == 0 ? 1.0 : 0.0;
        for (int64_t i = 0; i < (int64_t)entry->rows * entry->cols; i++) {
            double u = ((double)(golden_hash((uint32_t)i, seed) >> 8) - 0x1p23) * 0x1p-23;
            values[entry->offset + i] = (float)(u * scale + centre);
        }
    }
}

void golden_upload(struct model *model, const float *masters, uint16_t *remainders) {
    const struct ops *ops = model->device->ops;
    const int64_t total = model->layout->total;
    if (model->type == DTYPE_F32) {
        ops->upload(model->device, model->data, masters, (size_t)total * 4);
        return;
    }
    uint16_t *halves = malloc((size_t)total * 2);
    for (int64_t i = 0; i < total; i++) {
        uint32_t bits;
        memcpy(&bits, &masters[i], 4);
        halves[i] = (uint16_t)((bits + 0x8000) >> 16);
        if (remainders)
            remainders[i] = (uint16_t)(bits - ((uint32_t)halves[i] << 16));
    }
    ops->upload(model->device, model->data, halves, (size_t)total * 2);
    free(halves);
}

struct model *golden_small_model(struct device *device, enum dtype type, int32_t positions) {
    const struct model_config config = {.layers = 2,
                                        .hidden = 48,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 64,
                                        .ffn = 64,
                                        .vocab = 96,
                                        .max_positions = 512,
                                        .rope_theta = 1e6,
                                        .rms_eps = 1e-6f,
                                        .tied = true,
                                        .bos = -1,
                                        .eos = 1};
    struct model *model = NULL;
    ASSERT_OK(model_create(device, &config, type, positions, 91, &model));
    float *values = malloc((size_t)model->layout->total * sizeof *values);
    golden_fill(model->layout, values);
    golden_upload(model, values, NULL);
    free(values);
    return model;
}

void golden_tokens(int32_t *ids, int32_t count, uint32_t seed, int32_t valid) {
    for (int32_t i = 0; i < count; i++)
        ids[i] = (int32_t)(golden_hash((uint32_t)i, seed) % (uint32_t)valid);
}
