#include "deploy/cli/recipe.h"

#include <inttypes.h>

#include "common/base/fs.h"

/* factuality.md section 6.3, with the numbers tuned for this world; 0.9 M parameters. */
static const char recipe[] =
    "; Made by candor data world, and read by every command of candor demo. model.path is named to `candor train`.\n"
    "[run]\nname = demo\nseed = %" PRIu64 "\nsteps = 60\nlag = 0\n"
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
    "[actor]\nin_flight = 128\nkv_tokens = 65536\n";

enum status recipe_write(uint64_t seed, const char *world) {
    char path[PATH_BYTES];
    struct buf text = {0};
    TRY(fs_join(path, world, RECIPE_FILE));
    buf_printf(&text, recipe, seed, world, world, world, world);
    enum status status = buf_ok(&text) ? fs_write_atomic(path, text.data, text.bytes)
                                       : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    buf_deinit(&text);
    return status;
}
