/* Runs a fuzz target once over each file of its corpus, so that the corpus is a test wherever there is no clang. */
#include <stdint.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static enum status replay(const char *directory, size_t *out_count) {
    struct fs_list list = {0};
    struct buf input = {0};
    enum status status = STATUS_OK;
    TRY(fs_list_directory(directory, &list));
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        buf_reset(&input);
        TRY_GOTO(fs_join(path, directory, list.names[i]), done);
        TRY_GOTO(fs_read(path, 1 << 24, &input), done);
        fprintf(stderr, "%s\n", path);
        LLVMFuzzerTestOneInput((const uint8_t *)input.data, input.bytes);
    }
    *out_count = list.count;
done:
    fs_list_free(&list);
    buf_deinit(&input);
    return status;
}

int main(int argc, char **argv) {
    size_t count = 0;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    if (argc != 2 || replay(argv[1], &count) != STATUS_OK) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY; %s\n", argv[0], status_message());
        return 1;
    }
    printf("%zu inputs\n", count);
    return 0;
}
