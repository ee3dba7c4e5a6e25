#include "common/weights/content.h"

#include <string.h>

#include "common/compute/digest.h"
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

enum status content_check(const struct message_manifest *manifest, uint64_t elements) {
    if (manifest->form == FORM_DELTA)
        return fail(STATUS_UNSUPPORTED, "version %u: weights as a delta are not built yet", manifest->version);
    if (manifest->form != FORM_SNAPSHOT || (manifest->dtype != DTYPE_BF16 && manifest->dtype != DTYPE_F32))
        return fail(STATUS_MISMATCH,
                    "version %u: form %u, type %u of weights; known are snapshots (0) of bf16 (0) and fp32 (1)",
                    manifest->version, manifest->form, manifest->dtype);
    if (manifest->elements != elements)
        return fail(STATUS_MISMATCH, "version %u: %llu parameters; this model has %llu", manifest->version,
                    (unsigned long long)manifest->elements, (unsigned long long)elements);
    uint64_t bytes = elements * dtype_bytes((enum dtype)manifest->dtype);
    if (manifest->payload_bytes != bytes || manifest->chunk_bytes == 0 || manifest->chunk_bytes % 8 != 0 ||
        manifest->chunk_bytes > CHUNK_BYTES_MAX)
        return fail(STATUS_MISMATCH,
                    "version %u: %llu bytes in chunks of %u; a snapshot has %llu, in chunks of 8 to %u",
                    manifest->version, (unsigned long long)manifest->payload_bytes, manifest->chunk_bytes,
                    (unsigned long long)bytes, CHUNK_BYTES_MAX);
    return STATUS_OK;
}
