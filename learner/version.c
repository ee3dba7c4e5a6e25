#include "learner/version.h"

#include <stdlib.h>

enum status version_create(uint32_t number, enum dtype type, uint64_t elements, struct version **out_version) {
    struct version *version = calloc(1, sizeof *version);
    void *data = version ? malloc(elements * dtype_bytes(type)) : NULL;
    if (!data) {
        free(version);
        return fail(STATUS_NO_MEMORY, "version %u: no memory for a copy of %llu weights", number,
                    (unsigned long long)elements);
    }
    version->number = number;
    version->type = type;
    version->elements = elements;
    version->data = data;
    atomic_init(&version->references, 1);
    *out_version = version;
    return STATUS_OK;
}

enum status version_capture(const struct model *model, uint32_t number, struct version **out_version) {
    struct version *version;
    TRY(version_create(number, model->type, (uint64_t)model->layout->total, &version));
    model->device->ops->download(model->device, version->data, model->data,
                                 version->elements * dtype_bytes(model->type));
    enum status status = model_digest(model, &version->digest);
    if (status != STATUS_OK) {
        version_release(version);
        return status;
    }
    *out_version = version;
    return STATUS_OK;
}

enum status version_follow(const struct model *model, const struct version *before, struct record *record,
                           uint32_t number, struct version **out_version) {
    struct digest digest;
    TRY(model_digest(model, &digest));
    const struct patch *patch = record_patch(record, before->digest, digest);
    if (!patch)
        return version_capture(model, number, out_version);
    int threads = model->device->threads;
    if (patch_verify(patch, threads, before->data) != STATUS_OK)
        return fail(STATUS_DEVICE, "version %u: what the update changed on %s does not lead to what lies there", number,
                    model->device->name);
    struct version *version;
    TRY(version_create(number, model->type, before->elements, &version));
    patch_copy(patch, threads, before->data, version->data);
    version->digest = digest;
    *out_version = version;
    return STATUS_OK;
}

struct version *version_retain(struct version *version) {
    atomic_fetch_add(&version->references, 1);
    return version;
}

void version_release(struct version *version) {
    if (!version || atomic_fetch_sub(&version->references, 1) != 1)
        return;
    free(version->data);
    free(version);
}
