#include "tests/support/learner/tiny.h"

#include <unistd.h>

#include "common/base/log.h"
#include "common/data/world.h"

static const char shape[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 64, "
    "\"intermediate_size\": 96, \"num_hidden_layers\": 1, \"num_attention_heads\": 1, "
    "\"num_key_value_heads\": 1, \"hidden_act\": \"silu\", \"max_position_embeddings\": 64, "
    "\"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false, "
    "\"torch_dtype\": \"bfloat16\", \"vocab_size\": 192, \"eos_token_id\": 176}\n";

void tiny_open(struct tiny *tiny) {
    *tiny = (struct tiny){0};
    log_init("test", NULL, LOG_ERROR);
    /* checkpoints are fsynced: in memory, where there is such a file system, that costs nothing */
    snprintf(tiny->directory, sizeof tiny->directory, "%s/candor-learner-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(tiny->directory));
    ASSERT_OK(fs_join(tiny->world, tiny->directory, "world"));
    struct world_options options;
    world_defaults(&options);
    options.always = options.sometimes = options.never = 12;
    options.draws = 4;
    options.forced_draws = 1;
    ASSERT_OK(world_write(5, tiny->world, &options));
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, tiny->world, "config.json"));
    ASSERT_OK(fs_write_atomic(path, shape, strlen(shape)));
    ASSERT_OK(device_open("cpu", 1, &tiny->device));
    struct model_config config;
    ASSERT_OK(model_config_read(tiny->world, &config));
    ASSERT_OK(model_create(tiny->device, &config, DTYPE_BF16, 64, 0, &tiny->model));
    ASSERT_OK(model_initialise(tiny->model, 7, 0.1));
}

void tiny_close(struct tiny *tiny) {
    model_destroy(&tiny->model);
    device_close(&tiny->device);
    ASSERT_OK(fs_remove_tree(tiny->directory));
}

struct run_config *tiny_config(const struct tiny *tiny, const char *const *assignments) {
    char path[PATH_BYTES + 64], train[PATH_BYTES + 64], sft[PATH_BYTES + 64], run[PATH_BYTES + 64];
    snprintf(path, sizeof path, "model.path=%s", tiny->world);
    snprintf(train, sizeof train, "data.train=%s/train.jsonl", tiny->world);
    snprintf(sft, sizeof sft, "sft.data=%s/sft.jsonl", tiny->world);
    snprintf(run, sizeof run, "run.directory=%s/run", tiny->directory);
    const char *all[64] = {path, train, sft, run};
    size_t count = 4;
    for (; *assignments; assignments++)
        all[count++] = *assignments;
    struct run_config *config;
    ASSERT_OK(run_config_load(NULL, all, count, &config));
    return config;
}
