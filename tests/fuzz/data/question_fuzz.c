/* A question file of arbitrary bytes: refused with a message, or every row is accounted for and what is usable comes
 * back the same from Candor's own form. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/data/question.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int file_of(const void *data, size_t bytes, char path[64]) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    ASSERT(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static enum status put(void *user, const struct question *question) {
    ASSERT(question->text[0] && question->id[0] && question->set[0]);
    ASSERT(question->answerable == (question->alias_count > 0));
    ASSERT(question->hash == question_hash(question));
    question_put(question, user);
    return STATUS_OK;
}

static uint64_t reread(const struct buf *lines, struct buf *out) {
    char path[64];
    int fd = file_of(lines->data, lines->bytes, path);
    struct question_events events = {.question = put, .user = out};
    struct question_counts counts;
    ASSERT(question_read(path, &events, &counts) == STATUS_OK);
    close(fd);
    return counts.used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char path[64];
    struct buf lines = {0}, once = {0}, twice = {0};
    struct question_events events = {.question = put, .user = &lines};
    struct question_counts counts;
    int fd = file_of(data, bytes, path);
    if (question_read(path, &events, &counts) == STATUS_OK) {
        uint64_t sum = counts.used;
        for (int i = 0; i < UNUSABLE_COUNT; i++)
            sum += counts.unusable[i];
        ASSERT(sum == counts.rows);
        ASSERT(buf_ok(&lines));
        /* Trimming and repeats settle at once, so the first and the second copy agree. */
        if (counts.used > 0 && reread(&lines, &once) > 0) {
            reread(&once, &twice);
            ASSERT(once.bytes == twice.bytes);
        }
    } else {
        ASSERT(status_message()[0] != '\0');
    }
    close(fd);
    buf_deinit(&lines);
    buf_deinit(&once);
    buf_deinit(&twice);
    return 0;
}
