/* Where the final answer stands in a model's output: the last complete boxed[...], \boxed{...} or <answer>...</answer>.
 *
 * A box is complete when its bracket is closed within FINAL_BYTES_MAX bytes; brackets nest. Of boxes inside one another
 * the innermost counts, so `<answer>\boxed{x}</answer>` is x. Empty boxes are passed over (prompts are echoed). Letters
 * of either case. An unfinished box, as a truncated output has it, is no answer. */
#ifndef CANDOR_REWARD_EXTRACT_H
#define CANDOR_REWARD_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>

#define FINAL_BYTES_MAX 1024 /* a brief answer is asked for; also the bound of the search for a closing bracket */

struct box {
    size_t start, bytes; /* the answer, without spaces around it */
    size_t open;         /* where the box begins: the reasoning ends here */
};

/* The last box that begins before `before` (use text_bytes for the whole text). Linear in the text. */
bool box_find_last(const char *text, size_t text_bytes, size_t before, struct box *out_box);

#endif
