/* The options of a run, read by the learner (and by drivers such as `candor eval`); actors and reward workers get what they
 * need from leases and read only the sections actor, reward, net and log. The table is run_options.def: one line an option. */
#ifndef CANDOR_BASE_RUN_CONFIG_H
#define CANDOR_BASE_RUN_CONFIG_H

#include "common/base/config.h"

enum loss_preset { LOSS_PRESET_STABLE, LOSS_PRESET_TRL };
enum loss_type { LOSS_DAPO, LOSS_GRPO, LOSS_BNPO, LOSS_DR_GRPO };
enum ratio_level { RATIO_TOKEN, RATIO_SEQUENCE };
enum policy_term { POLICY_CLIP, POLICY_CISPO };
enum advantage_scale { SCALE_GROUP, SCALE_BATCH, SCALE_NONE };
enum determinism { DETERMINISM_AUTO, DETERMINISM_STRICT };
enum moment_storage { MOMENTS_FP32, MOMENTS_INT8 };
enum lr_schedule { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };

/* Field names are section_key. */
struct run_config {
#define OPTION_INT_(section, key, scope, standard, least, most, unit, help) int64_t section##_##key;
#define OPTION_REAL_(section, key, scope, standard, least, most, unit, help) double section##_##key;
#define OPTION_BOOL_(section, key, scope, standard, help) bool section##_##key;
#define OPTION_TEXT_(section, key, scope, standard, help) char section##_##key[CONFIG_TEXT_BYTES];
#define OPTION_CHOICE_(section, key, scope, standard, choices, help) int64_t section##_##key;
#include "common/base/run_options.def"
};

extern const struct option_table run_options;

/* Defaults, then file (may be NULL), environment, and `count` assignments; then run_config_check. With loss.preset = trl
 * the defaults are TRL's first; what is said explicitly still wins. config = heap struct, free() it. */
enum status run_config_load(const char *path, const char *const *assignments, size_t count,
                            struct run_config **out_config);

/* Checks between options (for example: the longest group must fit the micro-batch); STATUS_CONFIG naming the keys. */
enum status run_config_check(const struct run_config *config);

/* What two runs must have in common to be one: the digest of every option that decides the trained bits. Of run.steps it knows only
 * when the learning rate comes down to 0 there: else a longer run begins with the shorter one's bits. What the data are called is
 * not in it either: that they are the same is told by their content. */
enum status run_config_digest(const struct run_config *config, struct digest *out_digest);
/* The options because of which two digests differ, as config_diff. */
size_t run_config_diff(const struct run_config *a, const struct run_config *b, struct buf *out);

/* Make the names of files and directories absolute, so that they mean the same from another directory. STATUS_LIMIT naming one that is
 * then too long. */
enum status run_config_make_absolute(struct run_config *config);

#endif
