/* Filled groups on their way from the hub's thread to whoever takes the completed work. Locked inside. */
#ifndef CANDOR_HUB_COLLECT_H
#define CANDOR_HUB_COLLECT_H

#include "common/base/arena.h"
#include "common/hub/server.h"

struct collect;

enum status collect_create(struct collect **out_collect);
void collect_destroy(struct collect **collect);

/* Work was offered: its groups come. STATUS_NO_MEMORY. */
enum status collect_begin(struct collect *collect, uint8_t stream, uint32_t step, uint32_t slot_count);
/* Drop what there is of it; absent is fine. */
void collect_forget(struct collect *collect, uint8_t stream, uint32_t step);
/* A group, once a slot. Takes the memory of take_arena, in which the group lies, and leaves a fresh arena of the same
 * limit. */
void collect_group(struct collect *collect, const struct message_scored *scored, struct arena *take_arena);
void collect_completed(struct collect *collect, uint8_t stream, uint32_t step);

/* Every later collect_take returns this status with this text. The first one stays. */
void collect_fail(struct collect *collect, enum status status, const char *text);

/* As hub_server_take. */
enum status collect_take(struct collect *collect, uint8_t stream, uint32_t step, int timeout_ms,
                         struct completed_work **out_work);
uint32_t collect_filled(struct collect *collect, uint8_t stream, uint32_t step);

#endif
