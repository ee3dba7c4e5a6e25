#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "deploy/demo/demo.h"

enum status demo_paths(struct demo *demo) {
    TRY(fs_join(demo->config, demo->out, "candor.ini"));
    TRY(fs_join(demo->world, demo->out, "world"));
    TRY(fs_join(demo->base, demo->out, "base"));
    return fs_join(demo->run, demo->out, "run");
}

enum status demo_stages(const struct demo *demo, struct stage out_stages[STAGES]) {
    static char seed[24], eval[PATH_BYTES], report[PATH_BYTES];
    snprintf(seed, sizeof seed, "%" PRIu64, demo->seed);
    TRY(fs_join(eval, demo->run, "eval"));
    TRY(fs_join(report, demo->out, "report.html"));
    struct stage stages[STAGES] = {
        {"a world of facts", {"data", "world", "--seed", seed, "--out", demo->world}, ""},
        {"pretraining", {"sft", "--config", demo->config, "--init", demo->world, "--out", demo->base}, ""},
        {"what the model knows",
         {"eval", "--knowledge", "--config", demo->config, "--model", demo->base, "--out", eval},
         ""},
        {"GRPO", {"train", "--config", demo->config, "--run", demo->run}, ""},
        {"evaluation", {"eval", "--run", demo->run}, ""},
        {"report", {"report", demo->run, "--out", report}, ""},
    };
    TRY(fs_join(stages[0].product, demo->world, "sft.jsonl"));
    TRY(fs_join(stages[1].product, demo->base, "config.json"));
    TRY(fs_join(stages[2].product, eval, "knowledge.jsonl"));
    TRY(fs_join(stages[4].product, eval, "final.jsonl"));
    memcpy(out_stages, stages, sizeof stages);
    return STATUS_OK;
}

/* Recipe: factuality.md section 6.3, with the numbers tuned for this world; 0.9 M parameters. */
static const char config_text[] = "; Made by candor demo: every command of the demo reads this file.\n"
                                  "[run]\nname = demo\nseed = %" PRIu64 "\nsteps = 60\nlag = 0\n"
                                  "[model]\npath = %s\n"
                                  "[data]\ntrain = %s/train.jsonl\neval = %s/train.jsonl:%s/held-out.jsonl\n"
                                  "[prompt]\nsystem = Answer\nforced = Guess\nmax_tokens = 16\n"
                                  "[sample]\ngroup = 20\nquestions = 64\nmax_new_tokens = 16\n"
                                  "[reward]\nrule = both\n"
                                  "[loss]\nkl = 0\n"
                                  "[optim]\nlr = 3e-4\nwarmup = 5\nbeta2 = 0.95\n"
                                  "[train]\nmicrobatch_tokens = 4096\nlogit_chunk = 1024\n"
                                  "[sft]\ndata = %s/sft.jsonl\nsteps = 600\nbatch = 128\nlr = 2e-3\nwarmup = 50\n"
                                  "[eval]\nevery = 15\nsamples = 20\n"
                                  "[checkpoint]\nevery = 20\n"
                                  "[actor]\nin_flight = 128\nkv_tokens = 65536\n"
                                  "[telemetry]\nredis = %s\n";

/* Where a Redis server listens by default, when one does: then the run can be watched there too. */
static const char *find_redis(void) {
    redisContext *redis = redisConnectWithTimeout("127.0.0.1", 6379, (struct timeval){.tv_usec = 100000});
    bool there = redis != NULL && redis->err == 0;
    if (redis != NULL)
        redisFree(redis);
    return there ? "127.0.0.1:6379" : "";
}

enum status demo_write_config(const struct demo *demo) {
    struct buf text = {0};
    buf_printf(&text, config_text, demo->seed, demo->base, demo->world, demo->world, demo->world, demo->world,
               find_redis());
    enum status status = buf_ok(&text) ? fs_write_atomic(demo->config, text.data, text.bytes)
                                       : fail(STATUS_NO_MEMORY, "%s: out of memory", demo->config);
    buf_deinit(&text);
    return status;
}
