/* Messages to bytes and back (proto/README.md specifies the bytes). Both directions run over one table of fields
 * (schema.h), so that what is written is what is read. Pure functions; thread-safe.
 *
 * Decoding trusts nothing (I5): no allocation before a count is checked against the bytes that are left, depth and every field
 * bounded by proto/limits.h, texts well-formed UTF-8, unknown keys skipped, missing and repeated ones refused. */
#ifndef CANDOR_PROTO_PROTO_H
#define CANDOR_PROTO_PROTO_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/status.h"
#include "proto/limits.h"
#include "proto/messages.h"

/* Append the message to out. STATUS_LIMIT or STATUS_FORMAT naming the field when it could not be read back: out is then as
 * before. STATUS_NO_MEMORY. */
enum status proto_encode(const struct message *message, struct buf *out);

/* Read one frame. Texts and arrays are allocated in arena, except chunk data, which stays within the frame.
 * STATUS_FORMAT with the reason ("group: samples: logprobs: 12 bytes ..."), which quotes nothing of the input;
 * STATUS_NO_MEMORY when the arena is full: proto_arena_bytes() is always enough. */
enum status proto_decode(const void *frame, size_t bytes, struct arena *arena, struct message *out_message);
size_t proto_arena_bytes(size_t frame_bytes);

/* "lease", "group", ...; "?" outside the enum. */
const char *message_name(enum message_type type);

/* ---- groups ---- */
/* The identity of a group's content (I2): XXH3-128 over the XXH3-128 of each sample's ids and of its log-probabilities, both
 * little endian, in sample order. */
struct digest group_digest(const struct message_group *group);

/* The room that a lease takes at its actor: the most bytes that its group's frame can have. The one place where a lease's
 * weight is reckoned, by the hub that grants it, by the actor that reserves it. */
uint64_t lease_weigh(const struct message_lease *lease);
/* The same for the scored frame, which a reward worker keeps. */
uint64_t scored_weigh(const struct message_lease *lease);

struct text text_of(const char *string); /* borrowed; NULL is "" */
bool text_equal(struct text a, struct text b);
bool work_key_equal(const struct work_key *a, const struct work_key *b);

#endif
