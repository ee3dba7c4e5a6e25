/* `candor data mix` and `candor data show`: from published files to one training and one held-out file.
 *
 * Mixing is even: every set gives the same number of questions, as many as the smallest has unless told otherwise. Two rows
 * are the same question when their texts agree after normalisation (case, accents, punctuation and spaces folded): the first
 * one is kept, whatever set or file it stands in, so no question is both trained on and held out. What is picked and what is
 * held out follows from the seed alone (RNG_DATA). Files are read twice and never held in memory: about 40 bytes a question. */
#ifndef CANDOR_DATA_MIX_H
#define CANDOR_DATA_MIX_H

#include "common/data/question.h"

#define MIX_SETS_MAX 64
#define MIX_NAME_BYTES 64

struct mix_options {
    const char *const *inputs; /* [input_count] paths, or NAME=PATH; files of one set may be several */
    size_t input_count;
    const char *const *against; /* [against_count] files whose questions must not appear (another run's held-out) */
    size_t against_count;
    const char *directory; /* gets train.jsonl, held-out.jsonl, manifest.json */
    uint64_t seed;
    uint32_t per_set; /* questions of each set, held-out included; 0: as many as the smallest set has */
    double held_out;  /* share of each set's questions to hold out, [0, 1) */
    const struct question_events *events; /* progress and unusable rows; may be NULL */
};

struct mix_set {
    char name[MIX_NAME_BYTES];
    uint64_t read, duplicates, held_elsewhere; /* usable rows; dropped as repeats; dropped for `against` */
    uint32_t train, held_out;
};

struct mix_report {
    struct question_counts counts; /* over all inputs */
    struct mix_set sets[MIX_SETS_MAX];
    uint32_t set_count;
    uint32_t train, held_out;
};

/* Writes the three files, each whole or not at all, manifest.json last. A set smaller than per_set gives what it has.
 */
enum status mix_write(const struct mix_options *options, struct mix_report *out_report);

/* A question's text as it is compared: folded to lower case without accents, punctuation or repeated spaces; appended.
 */
void mix_normalise(const char *text, struct buf *out);

struct show_options {
    uint32_t samples;   /* questions of each set to print, spread over the file */
    bool list_unusable; /* one line for each unusable row */
};

/* Append what a file holds, for people: sets, counts, unusable rows by reason, samples. Read twice when samples > 0. */
enum status show_file(const char *path, const struct show_options *options, struct buf *out_text);

#endif
