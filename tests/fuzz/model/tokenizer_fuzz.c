/* A tokenizer.json, a zero byte, a text to encode: a broken file is refused with a message; with a good one every id is
 * in the vocabulary and decodes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char directory[] = "/dev/shm/candor-fuzz-XXXXXX";

static void clean_up(void) {
    fs_remove_tree(directory);
}

static void put(const char *name, const void *data, size_t bytes) {
    char path[PATH_BYTES];
    ASSERT(fs_join(path, directory, name) == STATUS_OK);
    FILE *file = fopen(path, "we");
    ASSERT(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const char config[] = "{\"eos_token\": \"<end>\"}";
    static bool ready;
    if (!ready) {
        ASSERT(mkdtemp(directory));
        atexit(clean_up);
        put("tokenizer_config.json", config, sizeof config - 1);
        ready = true;
    }
    const uint8_t *zero = memchr(data, 0, bytes);
    size_t file_bytes = zero ? (size_t)(zero - data) : bytes;
    const char *text = zero ? (const char *)zero + 1 : "";
    size_t text_bytes = zero ? bytes - file_bytes - 1 : 0;
    struct tokenizer *tokenizer = NULL;
    put("tokenizer.json", data, file_bytes);
    if (tokenizer_open(directory, &tokenizer) != STATUS_OK) {
        ASSERT(status_message()[0] != '\0' && !tokenizer);
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        struct token_list ids = {0};
        struct buf out = {0};
        if (tokenizer_encode(tokenizer, text, text_bytes, special, &ids) == STATUS_OK) {
            for (size_t i = 0; i < ids.count; i++)
                ASSERT(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_vocab_size(tokenizer));
            ASSERT(tokenizer_decode(tokenizer, ids.ids, ids.count, false, &out) == STATUS_OK);
        }
        token_list_deinit(&ids);
        buf_deinit(&out);
    }
    tokenizer_close(&tokenizer);
    return 0;
}
