/* What a version is: its content (DESIGN section 8). The digest of weights in host memory, and the manifest that names
 * them. */
#ifndef CANDOR_WEIGHTS_CONTENT_H
#define CANDOR_WEIGHTS_CONTENT_H

#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/compute/device.h"
#include "proto/messages.h"

/* The digest of a part of a flat buffer; the parts of a buffer add up (digest_add) to the whole, in any order. It is the device's
 * ops->digest: E elements of W bits are one little-endian 64-bit word, so the type does not matter.
 *   data   [bytes] of the buffer from byte `first` on; first is a multiple of 8, and so is bytes except at the buffer's end */
struct digest content_digest(const void *data, uint64_t first, uint64_t bytes);

/* The manifest of a snapshot. */
struct message_manifest content_manifest(uint32_t version, struct digest weights, uint64_t elements, enum dtype type);

/* The manifest of a delta of payload_bytes (delta.h) that leads from version - 1's weights, `base`, to `weights`. */
struct message_manifest content_delta_manifest(uint32_t version, struct digest weights, struct digest base,
                                               uint64_t elements, uint64_t payload_bytes);

/* A manifest that arrived: sizes that agree with each other and with the model's number of parameters.
 * STATUS_MISMATCH. */
enum status content_check(const struct message_manifest *manifest, uint64_t elements);

#endif
