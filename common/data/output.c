#include "common/data/output.h"

#include <unistd.h>

enum status output_open(struct output *output, const char *path) {
    int bytes = snprintf(output->path, sizeof output->path, "%s", path);
    int temporary_bytes = snprintf(output->temporary, sizeof output->temporary, "%s.%ld.tmp", path, (long)getpid());
    if (bytes < 0 || temporary_bytes < 0 || (size_t)temporary_bytes >= sizeof output->temporary)
        return fail(STATUS_LIMIT, "%s: the path is too long", path);
    output->rows = 0;
    output->file = fopen(output->temporary, "wxe");
    return output->file ? STATUS_OK : fail_errno("%s", output->temporary);
}

enum status output_put(struct output *output, const struct buf *line) {
    if (!buf_ok(line))
        return fail(STATUS_NO_MEMORY, "%s: out of memory for a row", output->path);
    output->rows++;
    return fwrite(line->data, 1, line->bytes, output->file) == line->bytes ? STATUS_OK
                                                                           : fail_errno("%s", output->temporary);
}

enum status output_publish(struct output *output) {
    bool whole = fflush(output->file) == 0 && fsync(fileno(output->file)) == 0;
    whole = fclose(output->file) == 0 && whole;
    output->file = NULL;
    if (!whole || rename(output->temporary, output->path) != 0) {
        enum status status = fail_errno("%s", output->path);
        unlink(output->temporary);
        return status;
    }
    return STATUS_OK;
}

void output_drop(struct output *output) {
    if (output->file) {
        fclose(output->file);
        unlink(output->temporary);
        output->file = NULL;
    }
}
