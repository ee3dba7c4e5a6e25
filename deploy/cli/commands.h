/* The subcommands of `candor`: each parses its own arguments (argv[0] is the command's name), prints its own help for --help,
 * and returns a status whose message main.c prints. */
#ifndef CANDOR_DEPLOY_COMMANDS_H
#define CANDOR_DEPLOY_COMMANDS_H

#include "common/base/run_config.h"
#include "common/base/status.h"
#include "deploy/cli/args.h"

enum status command_demo(int argc, char **argv);
enum status command_train(int argc, char **argv);
enum status command_sft(int argc, char **argv);
enum status command_eval(int argc, char **argv);
enum status command_grade(int argc, char **argv);
enum status command_data(int argc, char **argv);
enum status command_generate(int argc, char **argv);
enum status command_report(int argc, char **argv);
enum status command_status(int argc, char **argv);
enum status command_keygen(int argc, char **argv);

/* Set by SIGINT and SIGTERM (main.c); long work looks at it and returns STATUS_INTERRUPTED. */
bool command_interrupted(void);

#endif
