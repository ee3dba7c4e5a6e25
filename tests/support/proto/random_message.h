/* Random messages within the limits, made from the table of fields: for round trips, fuzz seeds and benches. */
#ifndef CANDOR_TESTS_SUPPORT_PROTO_RANDOM_MESSAGE_H
#define CANDOR_TESTS_SUPPORT_PROTO_RANDOM_MESSAGE_H

#include "common/base/arena.h"
#include "proto/messages.h"

/* Message number `index` of the type; arrays have up to elements_max elements. Everything lies in arena. */
struct message random_message(enum message_type type, uint32_t index, uint32_t elements_max, struct arena *arena);

#endif
