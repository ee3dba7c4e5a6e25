#include "common/weights/content.h"

#include <string.h>

#include "common/compute/digest.h"
#include "common/weights/delta.h"
#include "proto/limits.h"

struct digest content_digest(const void *data, uint64_t first, uint64_t bytes) {
    ASSERT(first % 8 == 0);
    const uint8_t *at = data;
    uint64_t index = first / 8;
    unsigned __int128 sum = 0;
    for (; bytes >= 8; bytes -= 8, at += 8, index++) {
        uint64_t word;
        memcpy(&word, at, 8);
        sum += (unsigned __int128)digest_key(index) * word;
    }
    if (bytes) {
        uint64_t word = 0;
        memcpy(&word, at, bytes);
        sum += (unsigned __int128)digest_key(index) * word;
    }
    return digest_of_u128(sum);
}

struct message_manifest content_manifest(uint32_t version, struct digest weights, uint64_t elements, enum dtype type) {
    return (struct message_manifest){
        .version = version,
        .weights = weights,
        .form = FORM_SNAPSHOT,
        .elements = elements,
        .dtype = (uint8_t)type,
        .payload_bytes = elements * dtype_bytes(type),
        .chunk_bytes = CHUNK_BYTES_MAX,
        .current = 1,
    };
}

struct message_manifest content_delta_manifest(uint32_t version, struct digest weights, struct digest base,
                                               uint64_t elements, uint64_t payload_bytes) {
    return (struct message_manifest){
        .version = version,
        .weights = weights,
        .form = FORM_DELTA,
        .base = base,
        .elements = elements,
        .dtype = DTYPE_BF16,
        .payload_bytes = payload_bytes,
        .chunk_bytes = CHUNK_BYTES_MAX,
    };
}

static enum status check_snapshot(const struct message_manifest *manifest) {
    if (manifest->dtype != DTYPE_BF16 && manifest->dtype != DTYPE_F32)
        return fail(STATUS_MISMATCH, "version %u: type %u of weights; known are bf16 (0) and fp32 (1)",
                    manifest->version, manifest->dtype);
    uint64_t bytes = manifest->elements * dtype_bytes((enum dtype)manifest->dtype);
    if (manifest->payload_bytes != bytes)
        return fail(STATUS_MISMATCH, "version %u: %llu bytes; a snapshot has %llu", manifest->version,
                    (unsigned long long)manifest->payload_bytes, (unsigned long long)bytes);
    return STATUS_OK;
}

static enum status check_delta(const struct message_manifest *manifest) {
    uint64_t most = delta_bytes_max(manifest->elements);
    if (manifest->dtype != DTYPE_BF16)
        return fail(STATUS_MISMATCH, "version %u: a delta of type %u; there are deltas of bf16 (0) alone",
                    manifest->version, manifest->dtype);
    if (digest_equal(manifest->base, manifest->weights))
        return fail(STATUS_MISMATCH, "version %u: a delta from the version to itself", manifest->version);
    if (manifest->payload_bytes < DELTA_HEADER_BYTES || manifest->payload_bytes > most)
        return fail(STATUS_MISMATCH, "version %u: a delta of %llu bytes; right would be %u to %llu", manifest->version,
                    (unsigned long long)manifest->payload_bytes, DELTA_HEADER_BYTES, (unsigned long long)most);
    return STATUS_OK;
}

enum status content_check(const struct message_manifest *manifest, uint64_t elements) {
    if (manifest->elements != elements)
        return fail(STATUS_MISMATCH, "version %u: %llu parameters; this model has %llu", manifest->version,
                    (unsigned long long)manifest->elements, (unsigned long long)elements);
    if (manifest->chunk_bytes == 0 || manifest->chunk_bytes % 8 != 0 || manifest->chunk_bytes > CHUNK_BYTES_MAX)
        return fail(STATUS_MISMATCH, "version %u: chunks of %u bytes; right would be 8 to %u", manifest->version,
                    manifest->chunk_bytes, CHUNK_BYTES_MAX);
    if (manifest->form == FORM_SNAPSHOT)
        return check_snapshot(manifest);
    if (manifest->form == FORM_DELTA)
        return check_delta(manifest);
    return fail(STATUS_MISMATCH, "version %u: form %u of weights; known are snapshots (0) and deltas (1)",
                manifest->version, manifest->form);
}
