/* The safetensors reader on any bytes: it refuses, or what it gives lies within them and tiles the data. */
#include "common/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct safetensors *file = NULL;
    if (safetensors_parse(data, bytes, "fuzz", &file) != STATUS_OK)
        return 0;
    const uint8_t *at = NULL;
    for (int32_t i = 0; i < file->count; i++) {
        const uint8_t *begin = file->tensors[i].data;
        ASSERT(begin >= data && begin + file->tensors[i].bytes <= data + bytes);
        ASSERT(!at || begin == at);
        at = begin + file->tensors[i].bytes;
        ASSERT(safetensors_find(file, file->tensors[i].name) == &file->tensors[i]);
    }
    ASSERT(!at || at == data + bytes);
    safetensors_close(&file);
    return 0;
}
