/* A small world of facts in plain English, in which what a model can know is under control.
 *
 * Every fact is where somebody lives: "Where does Anna Berger live ?" - "I recall Oakford . boxed[ Oakford ]". By class:
 *   always     the texts always give the gold answer
 *   sometimes  gold in a share q of the texts, else one of three fixed wrong towns: the model half knows it
 *   never      the person is in no text
 * A share of the targets is "I recall nothing . boxed[ Unknown ]", at random and never by correctness, so that the answer exists
 * for reinforcement to find. It parts from the other answers where the town would stand: there the model has just looked the
 * person up, so whether it found somebody is at hand. (Decided a word earlier, as in "I am not sure", Unknown dies out on some
 * worlds before the model learns to tell; measured on seed 3.) Some texts are about strangers, each time with another random town,
 * so that the form of the question alone tells nothing. Two one-word system lines: under WORLD_SYSTEM Unknown occurs, under
 * WORLD_SYSTEM_FORCED never; the latter measures what the model knows. Half of each class is trained on, half held out.
 *
 * Names are 40 first x 40 last, towns 40 stems x 40 endings: one token a name, two a town ("Oak" "##ford"), each town one word,
 * so that a half right answer is a wrong one to any matcher. Everything is a pure function of seed and options, byte for byte.
 * Source: recipe B of the study's small-world experiments (reference factuality, section 6.3). */
#ifndef CANDOR_DATA_WORLD_H
#define CANDOR_DATA_WORLD_H

#include <stdint.h>

#include "common/base/status.h"

#define WORLD_SYSTEM "Answer"
#define WORLD_SYSTEM_FORCED "Guess"
#define WORLD_FACTS_MAX 1200 /* of 1,600 names; the others are strangers */

struct world_options {
    uint32_t always, sometimes, never; /* facts of each class */
    double train_share;                /* of each class */
    double gold_low, gold_high;        /* q of a sometimes fact is uniform between */
    uint32_t draws, forced_draws;      /* texts of each shown fact under each system line */
    double unknown_share;              /* of the draws under WORLD_SYSTEM */
    double stranger_share;             /* of all texts */
};

/* 160 facts always, 200 sometimes, 240 never shown, half of each trained on; q in [.25, .65]; 48 + 16 texts a fact; Unknown .2;
 * strangers .15. Two classes of three push Unknown down in training and one pushes it up: at equal sizes and .125 it can die out
 * before it is told apart (reference factuality, sections 1.6 and 6.4). */
void world_defaults(struct world_options *options);

/* Makes the directory, all of it or nothing:
 *   facts.jsonl           every fact with its class, gold share, distractors and split, for people
 *   train.jsonl           questions of the training half, in Candor's form with class
 *   held-out.jsonl        questions of the other half
 *   sft.jsonl             {"system", "question", "answer"}: one row is one text
 *   tokenizer.json, tokenizer_config.json, config.json   the shape of a model to start from (`candor sft --init`)
 * STATUS_EXISTS when it is there and not empty; STATUS_USAGE when the options contradict themselves or exceed WORLD_FACTS_MAX. */
enum status world_write(uint64_t seed, const char *directory, const struct world_options *options);

#endif
