#include "common/base/run_config.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(section, key) offsetof(struct run_config, section##_##key)

static const struct config_option options[] = {
#define OPTION_INT_(section, key, scope, standard, least, most, unit, help)                                            \
    {#section, #key, OPTION_INT, SCOPE_##scope, FIELD(section, key), #standard, least, most, unit, NULL, help},
#define OPTION_REAL_(section, key, scope, standard, least, most, unit, help)                                           \
    {#section, #key, OPTION_REAL, SCOPE_##scope, FIELD(section, key), #standard, least, most, unit, NULL, help},
#define OPTION_BOOL_(section, key, scope, standard, help)                                                              \
    {#section, #key, OPTION_BOOL, SCOPE_##scope, FIELD(section, key), standard, 0, 0, "", NULL, help},
#define OPTION_TEXT_(section, key, scope, standard, help)                                                              \
    {#section, #key, OPTION_TEXT, SCOPE_##scope, FIELD(section, key), standard, 0, 0, "", NULL, help},
#define OPTION_CHOICE_(section, key, scope, standard, choices, help)                                                   \
    {#section, #key, OPTION_CHOICE, SCOPE_##scope, FIELD(section, key), standard, 0, 0, "", choices, help},
#include "common/base/run_options.def"
};

const struct option_table run_options = {options, sizeof options / sizeof options[0], sizeof(struct run_config)};

/* What loss.preset = trl changes in the defaults; what file, environment or --set say still wins.
 * Source: GRPOConfig of trl 1.16.0 and TrainingArguments of transformers 5.24.0. */
static const char *const trl_defaults[] = {
    "loss.preset=trl",
    "loss.clip_high=0.2",
    "loss.dual_clip=0",
    "loss.kl=0",
    "optim.warmup=0",
    "loss.kl_input_clamp=0",
    "loss.kl_value_clamp=0",
    "optim.schedule=linear",
    "loss.kl_bias_correction=yes",
};

static enum status apply(const char *path, const char *const *assignments, size_t count, struct run_config *config) {
    if (path)
        TRY(config_read_file(&run_options, config, path));
    TRY(config_read_environment(&run_options, config));
    for (size_t i = 0; i < count; i++)
        TRY(config_set(&run_options, config, assignments[i]));
    return STATUS_OK;
}

static enum status fill(const char *path, const char *const *assignments, size_t count, struct run_config *config) {
    TRY(config_defaults(&run_options, config));
    TRY(apply(path, assignments, count, config));
    if (config->loss_preset == LOSS_PRESET_TRL) { /* known only now: once more over the preset's defaults */
        TRY(config_defaults(&run_options, config));
        for (size_t i = 0; i < sizeof trl_defaults / sizeof trl_defaults[0]; i++)
            TRY(config_set(&run_options, config, trl_defaults[i]));
        TRY(apply(path, assignments, count, config));
    }
    return run_config_check(config);
}

enum status run_config_load(const char *path, const char *const *assignments, size_t count,
                            struct run_config **out_config) {
    struct run_config *config = malloc(sizeof *config);
    if (!config)
        return fail(STATUS_NO_MEMORY, "configuration: no memory");
    enum status status = fill(path, assignments, count, config);
    if (status != STATUS_OK) {
        free(config);
        return status;
    }
    *out_config = config;
    return STATUS_OK;
}

/* Those of candor-reward (reward/rules.c), and any that begins with "custom" for workers of an operator's own: a slip
 * of the pen would train on nothing. */
static const char *const reward_rules[] = {"both",     "fact",    "caution",  "fact-then-caution",
                                           "anchored", "ternary", "threshold"};

static bool rule_is_known(const char *name) {
    for (size_t i = 0; i < sizeof reward_rules / sizeof reward_rules[0]; i++)
        if (strcmp(reward_rules[i], name) == 0)
            return true;
    return strncmp(name, "custom", 6) == 0;
}

enum status run_config_check(const struct run_config *config) {
    if (!rule_is_known(config->reward_rule))
        return fail(STATUS_CONFIG,
                    "reward.rule = %.60s: no such rule; right would be both, fact, caution, fact-then-caution, "
                    "anchored, ternary, "
                    "threshold, or custom-NAME for reward workers of your own",
                    config->reward_rule);
    if (config->hub_heartbeat_ms * 3 > config->hub_lease_ms)
        return fail(STATUS_CONFIG,
                    "hub.lease_ms = %lld: leases would expire between heartbeats; right would be at least 3 times "
                    "hub.heartbeat_ms (%lld)",
                    (long long)config->hub_lease_ms, (long long)config->hub_heartbeat_ms);
    if (strcmp(config->reward_rule, "anchored") == 0 && config->data_knowledge[0] == '\0')
        return fail(STATUS_CONFIG, "reward.rule = anchored: needs data.knowledge, the base model's knowledge map; "
                                   "`candor eval --knowledge` writes it");
    if (config->eval_every > 0 && config->data_eval[0] == '\0')
        return fail(STATUS_CONFIG, "eval.every = %lld: needs data.eval, the questions to evaluate",
                    (long long)config->eval_every);
    return STATUS_OK;
}

/* ---- identity ---- */

enum status run_config_digest(const struct run_config *config, struct digest *out_digest) {
    struct digest digest;
    TRY(config_digest(&run_options, config, &digest));
    struct {
        struct digest options;
        int64_t steps;
    } both = {digest, config->run_steps};
    *out_digest = config->optim_schedule == SCHEDULE_CONSTANT ? digest : hash128(&both, sizeof both);
    return STATUS_OK;
}

size_t run_config_diff(const struct run_config *a, const struct run_config *b, struct buf *out) {
    size_t count = config_diff(&run_options, a, b, out);
    bool ends = a->optim_schedule != SCHEDULE_CONSTANT && b->optim_schedule != SCHEDULE_CONSTANT;
    if (!ends || a->run_steps == b->run_steps)
        return count;
    buf_printf(out, "run.steps: %lld -> %lld, where optim.schedule ends\n", (long long)a->run_steps,
               (long long)b->run_steps);
    return count + 1;
}

/* ---- names of files ---- */

/* One name behind what out holds. A link is followed: what it leads to now is what the run was begun with. */
static void put_absolute(const char *name, size_t bytes, struct buf *out) {
    char path[CONFIG_TEXT_BYTES], *real, *here;
    snprintf(path, sizeof path, "%.*s", (int)bytes, name);
    if ((real = realpath(path, NULL)) != NULL)
        buf_puts(out, real);
    else if (path[0] == '/' || !(here = getcwd(NULL, 0)))
        buf_puts(out, path);
    else {
        buf_printf(out, "%s/%s", here, path);
        free(here);
    }
    free(real);
}

static enum status make_absolute(const char *key, bool list, char *value) {
    struct buf out = {0};
    for (const char *name = value; *name;) {
        size_t bytes = list ? strcspn(name, ":") : strlen(name);
        if (bytes > 0)
            put_absolute(name, bytes, &out);
        name += bytes;
        if (*name == ':')
            buf_append(&out, name++, 1);
    }
    enum status status = STATUS_OK;
    if (!buf_ok(&out))
        status = fail(STATUS_NO_MEMORY, "%s: no memory", key);
    else if (out.bytes >= CONFIG_TEXT_BYTES)
        status = fail(STATUS_LIMIT, "%s: %zu bytes as absolute paths; right would be below %d", key, out.bytes,
                      CONFIG_TEXT_BYTES);
    else if (out.bytes > 0)
        memcpy(value, out.data, out.bytes + 1);
    buf_deinit(&out);
    return status;
}

enum status run_config_make_absolute(struct run_config *config) {
    const struct {
        const char *key;
        bool list; /* separated by ':' */
        char *value;
    } paths[] = {
        {"run.directory", false, config->run_directory},
        {"model.path", false, config->model_path},
        {"model.reference", false, config->model_reference},
        {"data.train", true, config->data_train},
        {"data.eval", true, config->data_eval},
        {"data.knowledge", false, config->data_knowledge},
        {"sft.data", false, config->sft_data},
        {"net.key", false, config->net_key},
        {"net.learner_key", false, config->net_learner_key},
        {"net.allow", false, config->net_allow},
        {"actor.cache", false, config->actor_cache},
    };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        TRY(make_absolute(paths[i].key, paths[i].list, paths[i].value));
    return STATUS_OK;
}
