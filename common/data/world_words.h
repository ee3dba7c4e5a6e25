/* The world's words, and the tokenizer and model shape that fit them. Inside common/data only. */
#ifndef CANDOR_DATA_WORLD_WORDS_H
#define CANDOR_DATA_WORLD_WORDS_H

#include <stdint.h>

#include "common/base/buf.h"

#define WORLD_PARTS 40                          /* of each kind of name part */
#define WORLD_NAMES (WORLD_PARTS * WORLD_PARTS) /* and as many towns */

/* name and town are numbers in [0, WORLD_NAMES). */
void world_put_name(uint32_t name, struct buf *out);
void world_put_town(uint32_t town, struct buf *out);
void world_put_question(uint32_t name, struct buf *out);
void world_put_answer(uint32_t town, struct buf *out);
void world_put_unknown(struct buf *out);

/* Files of a model directory. */
void world_put_tokenizer(struct buf *out);
void world_put_tokenizer_config(struct buf *out);
void world_put_config(struct buf *out);

#endif
