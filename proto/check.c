#include "proto/check.h"

#include <math.h>

#include "common/base/utf8.h"

enum status check_unsigned(const struct field *field, uint64_t value) {
    if (value < field->least || value > field->most)
        return fail(STATUS_FORMAT, "%llu is outside %llu to %llu", (unsigned long long)value,
                    (unsigned long long)field->least, (unsigned long long)field->most);
    return STATUS_OK;
}

enum status check_signed(const struct field *field, int64_t value) {
    if (value < (int64_t)field->least || value > (int64_t)field->most)
        return fail(STATUS_FORMAT, "%lld is outside %lld to %lld", (long long)value, (long long)field->least,
                    (long long)field->most);
    return STATUS_OK;
}

enum status check_real(const struct field *field, double value) {
    if (isfinite(value) || (field->nan_allowed && isnan(value)))
        return STATUS_OK;
    return fail(STATUS_FORMAT, "not a finite number");
}

enum status check_text(const struct field *field, const char *data, uint64_t bytes, uint64_t most) {
    if (bytes < field->least && field->kind != FIELD_TEXTS)
        return fail(STATUS_FORMAT, "empty");
    if (bytes > most)
        return fail(STATUS_LIMIT, "%llu bytes, at most %llu", (unsigned long long)bytes, (unsigned long long)most);
    if (bytes > 0 && !utf8_valid(data, bytes))
        return fail(STATUS_FORMAT, "not UTF-8");
    if (field->kind == FIELD_LABEL) {
        for (uint64_t i = 0; i < bytes; i++) {
            if ((unsigned char)data[i] < 0x20 || data[i] == 0x7f)
                return fail(STATUS_FORMAT, "a control character in a label");
        }
    }
    return STATUS_OK;
}

enum status check_count(const struct field *field, uint64_t count) {
    if (count < field->least || count > field->most)
        return fail(STATUS_LIMIT, "%llu elements, %llu to %llu", (unsigned long long)count,
                    (unsigned long long)field->least, (unsigned long long)field->most);
    return STATUS_OK;
}

enum status check_ids(const int32_t *ids, uint32_t count) {
    int32_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all |= ids[i]; /* negative exactly when one is */
    return all < 0 ? fail(STATUS_FORMAT, "a negative token id") : STATUS_OK;
}

enum status check_f32s(const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return fail(STATUS_FORMAT, "element %u is not a finite number", i);
    }
    return STATUS_OK;
}
