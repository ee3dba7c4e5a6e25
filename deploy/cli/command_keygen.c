/* candor keygen: a key pair for encrypted connections. */
#include <stdio.h>

#include "common/transport/keys.h"
#include "deploy/cli/commands.h"

enum status command_keygen(int argc, char **argv) {
    struct arg_list paths = {.count = 0};
    if (args_want_help(argc, argv)) {
        args_help("candor keygen FILE",
                  "Writes a key pair to FILE (keep it secret) and its public half to FILE.pub. Every host off loopback "
                  "needs\n"
                  "one: net.key names the pair, net.learner_key the learner's FILE.pub, and the learner's net.allow a "
                  "directory\n"
                  "of the clients' .pub files.",
                  NULL, 0);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, NULL, 0, &paths));
    if (paths.count != 1)
        return fail(STATUS_USAGE, "one FILE is needed");
    TRY(keys_generate(paths.items[0]));
    printf("%s (secret), %s.pub\n", paths.items[0], paths.items[0]);
    return STATUS_OK;
}
