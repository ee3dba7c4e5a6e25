#include "common/weights/share.h"

#include <pthread.h>
#include <stdbool.h>

/* Below so many blocks a thread costs more than it saves. */
#define BLOCKS_PER_PART 16

uint32_t share_parts(uint64_t blocks, int threads) {
    uint64_t count = blocks / BLOCKS_PER_PART, most = threads < SHARE_PARTS_MAX ? (uint64_t)threads : SHARE_PARTS_MAX;
    count = count < most ? count : most;
    return count ? (uint32_t)count : 1;
}

void share_run(void *parts, size_t part_bytes, uint32_t count, void *(*work)(void *part)) {
    pthread_t threads[SHARE_PARTS_MAX];
    bool started[SHARE_PARTS_MAX] = {false};
    char *first = parts;
    for (uint32_t i = 1; i < count; i++)
        started[i] = pthread_create(&threads[i], NULL, work, first + i * part_bytes) == 0;
    for (uint32_t i = 0; i < count; i++)
        if (!started[i])
            work(first + i * part_bytes);
    for (uint32_t i = 1; i < count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}
