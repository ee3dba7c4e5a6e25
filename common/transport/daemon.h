/* What every daemon of Candor does alike (DESIGN section 12): command line and configuration, signals, sd_notify, the
 * watchdog, the last error line and the exit code. A main.c is one struct daemon_about and `return daemon_main(...)`.
 *
 *   usage: candor-actor [--config FILE] [--run DIR] [--set SECTION.KEY=VALUE]... [--check-config | --print-config]
 *
 * --run DIR is --set run.directory=DIR. Exit codes are those of status_exit_code(); an error's last line on stderr is
 * "program: place: what was read: what would be right", which a parent process repeats.
 *
 * SIGTERM, SIGINT and SIGHUP ask for a drain; a second one ends the process at once. They are blocked in every thread and read
 * from a descriptor, so that no code runs in a signal handler. */
#ifndef CANDOR_TRANSPORT_DAEMON_H
#define CANDOR_TRANSPORT_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/fs.h"
#include "common/base/run_config.h"
#include "common/base/status.h"

/* Threads whose progress feeds the watchdog. */
#define DAEMON_THREADS_MAX 8

struct daemon;

struct daemon_about {
    const char *program;         /* "candor-actor" */
    const char *purpose;         /* one line for --help */
    const char *const *sections; /* NULL-terminated: the sections that --print-config shows; NULL: all */
    /* What this daemon needs beyond run_config_check: for --check-config and before run. May be NULL. */
    enum status (*check)(const struct run_config *config);
    enum status (*run)(struct daemon *daemon, const struct run_config *config);
};

/* The exit code of the process. */
int daemon_main(const struct daemon_about *about, int argc, char **argv);

/* ---- stopping ---- */
/* Readable when a stop was asked for and daemon_stopping() has not been called since: poll it, then ask. */
int daemon_stop_fd(const struct daemon *daemon);
/* True once a stop was asked for. The first true tells systemd STOPPING. Any thread. */
bool daemon_stopping(struct daemon *daemon);

/* ---- systemd; all of it does nothing outside of it. Main thread. ---- */
void daemon_ready(struct daemon *daemon);
/* What it is doing or waiting for, in words; sent when it changed. What begins with "waiting" is logged once it lasts. */
void daemon_status(struct daemon *daemon, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The state of a learner's peer, with the learner's address where that is silent; NULL: it is not. */
void daemon_state(struct daemon *daemon, const char *state, const char *silent_learner);
/* A thread that must go on: *out_thread is what daemon_beat wants. Register before the thread starts. */
int daemon_thread(struct daemon *daemon, const char *name);
/* The thread got around its loop once. Wait-free. */
void daemon_beat(struct daemon *daemon, int thread);
/* The thread begins something that may take so long without a beat: a model is loaded. Its next beat ends the allowance. */
void daemon_allow(struct daemon *daemon, int thread, int64_t ms);
/* Feeds the watchdog if half its period is over and every registered thread has beaten since the last time, or has an allowance;
 * else names the one that stands still in a log line. Call at least once a second. */
void daemon_tick(struct daemon *daemon);

/* ---- who this process is, for HELLO ---- */
struct daemon_identity {
    char host[128];
    char name[256];       /* the configured name, else "host-pid" */
    uint64_t incarnation; /* random, never 0 */
    uint32_t pid;
};
enum status daemon_identify(const char *configured_name, struct daemon_identity *out_identity);

/* ---- where sockets of one machine lie ---- */
#define ENDPOINT_BYTES 512

/* `configured` when it is not empty; else the ipc endpoint `name` ("control", "weights", ...) in the socket directory of the
 * run: <run directory>/sockets, or when that would be too long for a socket address, a directory of this user's under
 * $TMPDIR (/tmp) named by the run directory's hash: the same for every process that names the same run. make: create it (mode
 * 0700). STATUS_CONFIG when both are empty or the directory belongs to someone else. */
enum status daemon_endpoint(const char *configured, const char *run_directory, const char *name, bool make,
                            char out_endpoint[ENDPOINT_BYTES]);

/* $TMPDIR/candor-UID/name, made with mode 0700. STATUS_CONFIG when it is someone else's. */
enum status daemon_temporary(const char *name, char out_path[PATH_BYTES]);

#endif
