#include "deploy/cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/transport/daemon.h"
#include "deploy/cli/args.h"

#define ARGUMENTS_MAX (2 * ARG_LIST_MAX + 32)
#define NAME_BYTES 64
#define LIVED_WELL_MS 60000

struct child {
    char name[NAME_BYTES];
    char *log;        /* path */
    char **arguments; /* [0] is the program's path; NULL-terminated */
    pid_t pid;        /* 0: not running */
    bool restart, done;
    int restarts;
    int64_t started_ms;
};

struct launch {
    char logs[PATH_BYTES];
    char programs[PATH_BYTES]; /* directory of this program */
    struct child children[LAUNCH_CHILDREN_MAX];
    uint32_t count;
};

static enum status find_programs(char out_directory[PATH_BYTES]) {
    ssize_t bytes = readlink("/proc/self/exe", out_directory, PATH_BYTES - 1);
    if (bytes <= 0)
        return fail_errno("/proc/self/exe");
    out_directory[bytes] = 0;
    char *slash = strrchr(out_directory, '/');
    ASSERT(slash != NULL);
    *slash = 0;
    return STATUS_OK;
}

enum status launch_create(const char *logs, struct launch **out_launch) {
    struct launch *launch = calloc(1, sizeof *launch);
    if (launch == NULL)
        return fail(STATUS_NO_MEMORY, "launch: out of memory");
    enum status status;
    TRY_GOTO(find_programs(launch->programs), failed);
    if (strlen(logs) >= PATH_BYTES - NAME_BYTES - 8) {
        status = fail(STATUS_LIMIT, "%s: path is too long", logs);
        goto failed;
    }
    strcpy(launch->logs, logs);
    TRY_GOTO(fs_make_directories(logs), failed);
    *out_launch = launch;
    return STATUS_OK;
failed:
    free(launch);
    return status;
}

/* launch->count when absent */
static uint32_t find_child(const struct launch *launch, const char *name) {
    uint32_t i = 0;
    while (i < launch->count && strcmp(launch->children[i].name, name) != 0)
        i++;
    return i;
}

/* Runs in the child between fork and exec: async-signal-safe calls only. */
static void become(const struct child *child, int log_fd, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);  /* the parent died before the line above */
    setpgid(0, 0); /* Ctrl-C goes to the parent, which ends its children in order */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
        _exit(1);
    execv(child->arguments[0], child->arguments);
    _exit(127);
}

static enum status spawn(struct child *child) {
    int log_fd = open(child->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0)
        return fail_errno("%s", child->log);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(child, log_fd, parent);
    close(log_fd);
    if (pid < 0)
        return fail_errno("%s: fork", child->name);
    child->pid = pid;
    child->started_ms = clock_boot_ms();
    return STATUS_OK;
}

enum status launch_start(struct launch *launch, const char *name, const char *program, const char *const *arguments,
                         bool restart) {
    ASSERT(find_child(launch, name) == launch->count && strlen(name) < NAME_BYTES);
    if (launch->count == LAUNCH_CHILDREN_MAX)
        return fail(STATUS_LIMIT, "%s: more than %d child processes", name, LAUNCH_CHILDREN_MAX);
    struct child *child = &launch->children[launch->count];
    memset(child, 0, sizeof *child);
    strcpy(child->name, name);
    char path[PATH_BYTES], log_name[NAME_BYTES + 8], log_path[PATH_BYTES];
    snprintf(log_name, sizeof log_name, "%s.log", child->name);
    TRY(fs_join(log_path, launch->logs, log_name));
    TRY(fs_join(path, launch->programs, program));
    if (access(path, X_OK) != 0)
        return fail_errno("%s", path);
    child->log = strdup(log_path);
    child->restart = restart;
    size_t count = 0;
    while (arguments[count] != NULL)
        count++;
    child->arguments = calloc(count + 2, sizeof *child->arguments);
    if (child->arguments == NULL || child->log == NULL)
        return fail(STATUS_NO_MEMORY, "%s: out of memory", name);
    child->arguments[0] = strdup(path);
    for (size_t i = 0; i < count; i++)
        child->arguments[i + 1] = strdup(arguments[i]);
    launch->count++;
    return spawn(child);
}

/* The last line of a child's log that tells what went wrong: the last that is not empty. */
static void last_error_line(const char *path, char *out, size_t out_bytes) {
    out[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    char tail[4096];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t start = end > (off_t)sizeof tail ? end - (off_t)sizeof tail : 0;
    ssize_t bytes = pread(fd, tail, sizeof tail - 1, start);
    close(fd);
    if (bytes <= 0)
        return;
    tail[bytes] = 0;
    for (char *line = strtok(tail, "\n"); line != NULL; line = strtok(NULL, "\n"))
        snprintf(out, out_bytes, "%s", line);
}

/* What an exit status of ours means (status.h). */
static enum status status_of_exit(int code) {
    switch (code) {
    case 64:
        return STATUS_USAGE;
    case 65:
        return STATUS_FORMAT;
    case 75:
        return STATUS_AGAIN;
    case 78:
        return STATUS_CONFIG;
    default:
        return STATUS_RUN_FAILED;
    }
}

/* The child's own last words, without its program's name, and where the rest is. */
static enum status report_death(const struct child *child, int how) {
    char line[STATUS_MESSAGE_BYTES];
    if (WIFSIGNALED(how))
        return fail(STATUS_RUN_FAILED, "%s: killed by signal %d (%s); its log: %s", child->name, WTERMSIG(how),
                    strsignal(WTERMSIG(how)), child->log);
    last_error_line(child->log, line, sizeof line);
    const char *words = strncmp(line, "candor-", 7) == 0 && strstr(line, ": ") != NULL ? strstr(line, ": ") + 2 : line;
    if (line[0] == 0)
        words = "it said nothing, as if its log could not be written";
    return fail(status_of_exit(WEXITSTATUS(how)), "%s: %s; exit status %d, its log: %s", child->name, words,
                WEXITSTATUS(how), child->log);
}

/* Exit status 64, 65 and 78 mean that starting again cannot help. */
static bool may_restart(struct child *child, int how) {
    if (!child->restart ||
        (WIFEXITED(how) && (WEXITSTATUS(how) == 64 || WEXITSTATUS(how) == 65 || WEXITSTATUS(how) == 78)))
        return false;
    if (clock_boot_ms() - child->started_ms > LIVED_WELL_MS)
        child->restarts = 0;
    return ++child->restarts <= LAUNCH_RESTARTS_MAX;
}

enum status launch_watch(struct launch *launch) {
    for (uint32_t i = 0; i < launch->count; i++) {
        struct child *child = &launch->children[i];
        int how;
        if (child->pid == 0 || waitpid(child->pid, &how, WNOHANG) != child->pid)
            continue;
        child->pid = 0;
        if (WIFEXITED(how) && WEXITSTATUS(how) == 0) {
            child->done = true;
            continue;
        }
        enum status status = report_death(child, how);
        if (!may_restart(child, how))
            return status;
        log_event(LOG_WARNING, "child_restarted", "name=%s times=%d reason=\"%s\"", child->name, child->restarts,
                  status_message());
        TRY(spawn(child));
    }
    return STATUS_OK;
}

bool launch_done(const struct launch *launch, const char *name) {
    uint32_t i = find_child(launch, name);
    return i < launch->count && launch->children[i].done;
}

void launch_stop(struct launch *launch, const char *name) {
    uint32_t i = find_child(launch, name);
    if (i < launch->count && launch->children[i].pid > 0)
        kill(launch->children[i].pid, SIGTERM);
}

static enum status start_actor(struct launch *launch, const struct run_config *config, const char *run_directory,
                               uint32_t number, uint32_t threads) {
    char name[NAME_BYTES], settings[7][PATH_BYTES + 32];
    snprintf(name, sizeof name, "actor-%u", number);
    snprintf(settings[0], sizeof settings[0], "actor.name=%s", name);
    snprintf(settings[1], sizeof settings[1], "actor.threads=%u", threads);
    snprintf(settings[2], sizeof settings[2], "actor.device=%s", config->actor_device);
    snprintf(settings[3], sizeof settings[3], "actor.in_flight=%lld", (long long)config->actor_in_flight);
    snprintf(settings[4], sizeof settings[4], "actor.kv_tokens=%lld", (long long)config->actor_kv_tokens);
    snprintf(settings[5], sizeof settings[5], "actor.outbox_bytes=%lld", (long long)config->actor_outbox_bytes);
    snprintf(settings[6], sizeof settings[6], "actor.cache=%s", config->actor_cache);
    const char *arguments[ARGUMENTS_MAX] = {"--run", run_directory};
    size_t count = 2;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        arguments[count++] = "--set";
        arguments[count++] = settings[i];
    }
    return launch_start(launch, name, "candor-actor", arguments, true);
}

enum status launch_workers(struct launch *launch, const struct run_config *config, const char *run_directory,
                           uint32_t actors, uint32_t rewards, uint32_t threads) {
    if (threads == 0)
        threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t share = actors > 0 && threads / actors > 0 ? threads / actors : 1;
    char name[NAME_BYTES], endpoint[ENDPOINT_BYTES], bind[ENDPOINT_BYTES + 16];
    for (uint32_t i = 0; i < rewards; i++) {
        snprintf(name, sizeof name, "reward-%u", i + 1);
        TRY(daemon_endpoint("", run_directory, name, true, endpoint));
        snprintf(bind, sizeof bind, "reward.bind=%s", endpoint);
        const char *arguments[] = {"--run", run_directory, "--set", bind, NULL};
        TRY(launch_start(launch, name, "candor-reward", arguments, true));
    }
    for (uint32_t i = 0; i < actors; i++)
        TRY(start_actor(launch, config, run_directory, i + 1, share));
    return STATUS_OK;
}

/* Reap what has ended; returns how many still run. */
static uint32_t reap(struct launch *launch) {
    uint32_t running = 0;
    for (uint32_t i = 0; i < launch->count; i++) {
        struct child *child = &launch->children[i];
        int how;
        if (child->pid != 0 && waitpid(child->pid, &how, WNOHANG) == child->pid)
            child->pid = 0;
        running += child->pid != 0;
    }
    return running;
}

static void signal_all(struct launch *launch, int number) {
    for (uint32_t i = 0; i < launch->count; i++)
        if (launch->children[i].pid > 0)
            kill(launch->children[i].pid, number);
}

void launch_destroy(struct launch **launch, int drain_ms) {
    struct launch *it = *launch;
    if (it == NULL)
        return;
    signal_all(it, SIGTERM);
    int64_t deadline = clock_boot_ms() + drain_ms;
    while (reap(it) > 0 && clock_boot_ms() < deadline)
        usleep(5000);
    signal_all(it, SIGKILL);
    while (reap(it) > 0)
        usleep(1000);
    for (uint32_t i = 0; i < it->count; i++) {
        for (char **argument = it->children[i].arguments; *argument != NULL; argument++)
            free(*argument);
        free(it->children[i].arguments);
        free(it->children[i].log);
    }
    free(it);
    *launch = NULL;
}
