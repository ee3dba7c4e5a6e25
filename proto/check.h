/* Checks of single values, alike for what is read and what is written. Each returns STATUS_FORMAT or STATUS_LIMIT with the
 * reason; the caller puts the field's name in front. */
#ifndef CANDOR_PROTO_CHECK_H
#define CANDOR_PROTO_CHECK_H

#include "common/base/status.h"
#include "proto/schema.h"

enum status check_unsigned(const struct field *field, uint64_t value);
enum status check_signed(const struct field *field, int64_t value);
enum status check_real(const struct field *field, double value);
enum status check_text(const struct field *field, const char *data, uint64_t bytes, uint64_t most);
enum status check_count(const struct field *field, uint64_t count);
enum status check_ids(const int32_t *ids, uint32_t count);
enum status check_f32s(const float *values, uint32_t count);

#endif
