#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/run_config.h"
#include "deploy/cli/recipe.h"
#include "deploy/demo/demo.h"

enum status demo_paths(struct demo *demo) {
    TRY(fs_join(demo->world, demo->out, "world"));
    TRY(fs_join(demo->config, demo->world, RECIPE_FILE));
    TRY(fs_join(demo->base, demo->out, "base"));
    return fs_join(demo->run, demo->out, "run");
}

/* Where a Redis server listens by default, when one does: then the run can be watched there too; else NULL. */
static const char *find_redis(void) {
    redisContext *redis = redisConnectWithTimeout("127.0.0.1", 6379, (struct timeval){.tv_usec = 100000});
    bool there = redis != NULL && redis->err == 0;
    if (redis != NULL)
        redisFree(redis);
    return there ? "telemetry.redis=127.0.0.1:6379" : NULL;
}

static void add(struct stage *stage, const char *argument) {
    size_t count = 0;
    while (stage->arguments[count] != NULL)
        count++;
    ASSERT(count + 1 < STAGE_ARGUMENTS_MAX);
    stage->arguments[count] = argument;
}

static void add_set(struct stage *stage, const char *assignment) {
    add(stage, "--set");
    add(stage, assignment);
}

enum status demo_stages(const struct demo *demo, struct stage out_stages[STAGES]) {
    static char seed[24], eval[PATH_BYTES], report[PATH_BYTES], model[PATH_BYTES + 16];
    snprintf(seed, sizeof seed, "%" PRIu64, demo->seed);
    snprintf(model, sizeof model, "model.path=%s", demo->base);
    TRY(fs_join(eval, demo->run, "eval"));
    TRY(fs_join(report, demo->out, "report.html"));
    const struct {
        const char *title, *arguments[8];
        bool configured; /* reads the configuration */
    } stages[STAGES] = {
        {"a world of facts", {"data", "world", "--seed", seed, "--out", demo->world}, false},
        {"pretraining", {"sft", "--init", demo->world, "--out", demo->base}, true},
        {"what the model knows", {"eval", "--knowledge", "--model", demo->base, "--out", eval}, true},
        {"GRPO", {"train", "--run", demo->run}, true},
        {"evaluation", {"eval", "--run", demo->run}, false}, /* by the configuration that the run keeps */
        {"report", {"report", demo->run, "--out", report}, false},
    };
    for (int i = 0; i < STAGES; i++) {
        out_stages[i] = (struct stage){.title = stages[i].title};
        for (size_t a = 0; stages[i].arguments[a] != NULL; a++)
            add(&out_stages[i], stages[i].arguments[a]);
        if (!stages[i].configured)
            continue;
        add(&out_stages[i], "--config");
        add(&out_stages[i], demo->config);
        for (size_t s = 0; s < demo->set.count; s++)
            add_set(&out_stages[i], demo->set.items[s]);
    }
    add_set(&out_stages[3], model);
    const char *redis = find_redis();
    if (redis != NULL)
        add_set(&out_stages[3], redis);
    TRY(fs_join(out_stages[0].product, demo->world, RECIPE_FILE));
    TRY(fs_join(out_stages[1].product, demo->base, "config.json"));
    TRY(fs_join(out_stages[2].product, eval, "knowledge.jsonl"));
    return fs_join(out_stages[4].product, eval, "final.jsonl");
}

enum status demo_check_settings(const struct demo *demo) {
    struct run_config *config = malloc(sizeof *config);
    if (config == NULL)
        return fail(STATUS_NO_MEMORY, "configuration: no memory");
    enum status status = config_defaults(&run_options, config);
    for (size_t i = 0; i < demo->set.count && status == STATUS_OK; i++)
        status = config_set(&run_options, config, demo->set.items[i]);
    if (status == STATUS_OK && demo->resume && fs_exists(demo->config)) {
        status = config_read_file(&run_options, config, demo->config);
        if (status == STATUS_OK && (uint64_t)config->run_seed != demo->seed)
            status = fail(STATUS_USAGE, "--seed %" PRIu64 ": %s holds the world of --seed %lld", demo->seed, demo->out,
                          (long long)config->run_seed);
    }
    free(config);
    return status;
}
