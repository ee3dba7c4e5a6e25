#include "common/transport/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/base/build.h"
#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/log.h"

/* sun_path has 108 bytes with its NUL. */
#define SOCKET_PATH_BYTES 107
#define ASSIGNMENTS_MAX 256
/* Who waits for another process says so in the log, not at once, since all of them wait for a moment now and then. */
#define WAITING_FIRST_MS 2000
#define WAITING_AGAIN_MS 60000

struct daemon_pulse {
    const char *name;
    atomic_uint_fast64_t beats;
    atomic_int_fast64_t allowed_ms; /* until then nothing is expected of it */
    uint64_t fed;                   /* beats at the last feeding */
};

struct daemon {
    int signal_fd;
    atomic_bool stopping;
    char status[1024];
    int64_t waiting_ms;   /* when to log next what is waited for; 0: nothing is */
    uint64_t watchdog_us; /* 0: off */
    int64_t next_feed_ms;
    struct daemon_pulse pulses[DAEMON_THREADS_MAX];
    int thread_count;
};

/* ---- command line ---- */

struct arguments {
    const char *config_path;
    const char *assignments[ASSIGNMENTS_MAX];
    char run[PATH_BYTES + 32];
    size_t assignment_count;
    bool check, print, help, version;
};

static void print_help(const struct daemon_about *about) {
    printf(
        "usage: %s [--config FILE] [--run DIR] [--set SECTION.KEY=VALUE]... [--check-config | --print-config]\n\n%s\n\n"
        "  --config FILE            options of the run (INI); the environment (CANDOR_SECTION_KEY) and --set override "
        "it\n"
        "  --run DIR                the run's directory: --set run.directory=DIR\n"
        "  --set SECTION.KEY=VALUE  one option\n"
        "  --check-config           say whether the options are right, and exit\n"
        "  --print-config           print every option with its help and present value, and exit\n"
        "  --version                print the build, and exit\n",
        about->program, about->purpose);
}

static enum status assign(struct arguments *arguments, const char *assignment) {
    if (arguments->assignment_count == ASSIGNMENTS_MAX)
        return fail(STATUS_USAGE, "--set: more than %d of them", ASSIGNMENTS_MAX);
    arguments->assignments[arguments->assignment_count++] = assignment;
    return STATUS_OK;
}

static enum status parse(int argc, char **argv, struct arguments *arguments) {
    enum { CONFIG, RUN, SET, CHECK, PRINT, HELP, VERSION };
    static const struct option_name {
        const char *text;
        int argument;
    } names[] = {{"config", 1},       {"run", 1},  {"set", 1},    {"check-config", 0},
                 {"print-config", 0}, {"help", 0}, {"version", 0}};
    struct option long_options[8] = {{0}};
    for (int i = 0; i < 7; i++)
        long_options[i] = (struct option){names[i].text, names[i].argument, NULL, i};
    opterr = 0;
    optind = 0;
    for (;;) {
        int at = optind ? optind : 1;
        int got = getopt_long(argc, argv, ":h", long_options, NULL);
        if (got == -1)
            break;
        switch (got) {
        case CONFIG:
            arguments->config_path = optarg;
            break;
        case RUN:
            if ((size_t)snprintf(arguments->run, sizeof arguments->run, "run.directory=%s", optarg) >=
                sizeof arguments->run)
                return fail(STATUS_USAGE, "--run: the path is longer than %d bytes", PATH_BYTES);
            TRY(assign(arguments, arguments->run));
            break;
        case SET:
            TRY(assign(arguments, optarg));
            break;
        case CHECK:
            arguments->check = true;
            break;
        case PRINT:
            arguments->print = true;
            break;
        case 'h':
        case HELP:
            arguments->help = true;
            break;
        case VERSION:
            arguments->version = true;
            break;
        case ':':
            return fail(STATUS_USAGE, "%s: needs a value", argv[at]);
        default:
            return fail(STATUS_USAGE, "%s: no such option; --help lists them", argv[at]);
        }
    }
    if (optind < argc)
        return fail(STATUS_USAGE, "%s: takes no arguments besides options; --help lists them", argv[optind]);
    return STATUS_OK;
}

static bool listed(const char *const *sections, const char *section) {
    if (!sections)
        return true;
    for (; *sections; sections++)
        if (strcmp(*sections, section) == 0)
            return true;
    return false;
}

static enum status print_config(const struct daemon_about *about, const struct run_config *config) {
    struct option_table table = {.struct_bytes = run_options.struct_bytes};
    struct config_option *options = calloc(run_options.count, sizeof *options);
    if (!options)
        return fail(STATUS_NO_MEMORY, "no memory: %zu options", run_options.count);
    for (size_t i = 0; i < run_options.count; i++)
        if (listed(about->sections, run_options.options[i].section))
            memcpy(&options[table.count++], &run_options.options[i], sizeof *options);
    table.options = options;
    struct buf text = {0};
    config_print(&table, config, true, &text);
    bool ok = buf_ok(&text);
    if (ok)
        fwrite(text.data, 1, text.bytes, stdout);
    buf_deinit(&text);
    free(options);
    if (!ok)
        return fail(STATUS_NO_MEMORY, "no memory: the options as text");
    return fflush(stdout) == 0 ? STATUS_OK : fail_errno("standard output");
}

/* ---- signals ---- */

static void stop_signals(sigset_t *out_set) {
    sigemptyset(out_set);
    sigaddset(out_set, SIGTERM);
    sigaddset(out_set, SIGINT);
    sigaddset(out_set, SIGHUP);
}

static enum status signals_open(struct daemon *daemon) {
    sigset_t set;
    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like a full disk */
    daemon->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return daemon->signal_fd >= 0 ? STATUS_OK : fail_errno("signalfd");
}

int daemon_stop_fd(const struct daemon *daemon) {
    return daemon->signal_fd;
}

bool daemon_stopping(struct daemon *daemon) {
    if (atomic_load(&daemon->stopping))
        return true;
    struct signalfd_siginfo info;
    if (read(daemon->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return false;
    if (atomic_exchange(&daemon->stopping, true))
        return true;
    sigset_t set;
    stop_signals(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* the second one kills */
    sd_notify(0, "STOPPING=1");
    log_event(LOG_INFO, "stopping", "signal=%u", info.ssi_signo);
    return true;
}

/* ---- systemd ---- */

void daemon_ready(struct daemon *daemon) {
    (void)daemon;
    sd_notify(0, "READY=1");
}

static void log_waiting(struct daemon *daemon, const char *text) {
    int64_t now_ms = clock_boot_ms();
    if (strncmp(text, "waiting", strlen("waiting")) != 0) {
        daemon->waiting_ms = 0;
    } else if (daemon->waiting_ms == 0) {
        daemon->waiting_ms = now_ms + WAITING_FIRST_MS;
    } else if (now_ms >= daemon->waiting_ms) {
        log_event(LOG_INFO, "waiting", "status=\"%s\"", text);
        daemon->waiting_ms = now_ms + WAITING_AGAIN_MS;
    }
}

void daemon_status(struct daemon *daemon, const char *format, ...) {
    char text[sizeof daemon->status];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_waiting(daemon, text);
    if (strcmp(text, daemon->status) == 0)
        return;
    memcpy(daemon->status, text, sizeof text);
    sd_notifyf(0, "STATUS=%s", text);
}

void daemon_state(struct daemon *daemon, const char *state, const char *silent_learner) {
    if (silent_learner)
        daemon_status(daemon, "%s; net.learner = %s", state, silent_learner);
    else
        daemon_status(daemon, "%s", state);
}

int daemon_thread(struct daemon *daemon, const char *name) {
    ASSERT(daemon->thread_count < DAEMON_THREADS_MAX);
    daemon->pulses[daemon->thread_count].name = name;
    return daemon->thread_count++;
}

void daemon_beat(struct daemon *daemon, int thread) {
    struct daemon_pulse *pulse = &daemon->pulses[thread];
    if (atomic_load_explicit(&pulse->allowed_ms, memory_order_relaxed))
        atomic_store_explicit(&pulse->allowed_ms, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&pulse->beats, 1, memory_order_relaxed);
}

void daemon_allow(struct daemon *daemon, int thread, int64_t ms) {
    atomic_store_explicit(&daemon->pulses[thread].allowed_ms, clock_boot_ms() + ms, memory_order_relaxed);
}

static bool stands_still(struct daemon_pulse *pulse, int64_t now_ms) {
    return atomic_load_explicit(&pulse->beats, memory_order_relaxed) == pulse->fed &&
           now_ms >= atomic_load_explicit(&pulse->allowed_ms, memory_order_relaxed);
}

void daemon_tick(struct daemon *daemon) {
    int64_t now = clock_boot_ms();
    if (!daemon->watchdog_us || now < daemon->next_feed_ms)
        return;
    for (int i = 0; i < daemon->thread_count; i++) {
        if (stands_still(&daemon->pulses[i], now)) {
            LOG_EVERY(10000, LOG_WARNING, "thread_stands_still", "thread=%s", daemon->pulses[i].name);
            return;
        }
    }
    for (int i = 0; i < daemon->thread_count; i++)
        daemon->pulses[i].fed = atomic_load_explicit(&daemon->pulses[i].beats, memory_order_relaxed);
    sd_notify(0, "WATCHDOG=1");
    daemon->next_feed_ms = now + (int64_t)(daemon->watchdog_us / 2000);
}

/* ---- identity ---- */

enum status daemon_identify(const char *configured_name, struct daemon_identity *out_identity) {
    struct daemon_identity identity = {.pid = (uint32_t)getpid()};
    if (gethostname(identity.host, sizeof identity.host - 1) != 0)
        return fail_errno("gethostname");
    if (configured_name[0])
        snprintf(identity.name, sizeof identity.name, "%s", configured_name);
    else
        snprintf(identity.name, sizeof identity.name, "%s-%u", identity.host, identity.pid);
    while (identity.incarnation == 0)
        if (getrandom(&identity.incarnation, sizeof identity.incarnation, 0) != (ssize_t)sizeof identity.incarnation)
            return fail_errno("getrandom");
    *out_identity = identity;
    return STATUS_OK;
}

/* ---- endpoints ---- */

/* A directory that is this user's alone. */
static enum status private_directory(const char *path) {
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return fail_errno("%s", path);
    struct stat info;
    if (lstat(path, &info) != 0)
        return fail_errno("%s", path);
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid())
        return fail(STATUS_CONFIG, "%s: must be a directory of this user's; set TMPDIR or the endpoint", path);
    return STATUS_OK;
}

/* $TMPDIR/candor-UID */
static enum status user_directory(bool make, char out_path[PATH_BYTES]) {
    const char *temporary = getenv("TMPDIR");
    int length = snprintf(out_path, PATH_BYTES, "%s/candor-%u", temporary && temporary[0] ? temporary : "/tmp",
                          (unsigned)geteuid());
    if (length >= PATH_BYTES)
        return fail(STATUS_LIMIT, "TMPDIR: path too long");
    return make ? private_directory(out_path) : STATUS_OK;
}

enum status daemon_temporary(const char *name, char out_path[PATH_BYTES]) {
    char parent[PATH_BYTES];
    TRY(user_directory(true, parent));
    TRY(fs_join(out_path, parent, name));
    return private_directory(out_path);
}

/* The run's directory as every process would name it. It may not exist yet: then the parent decides. */
static enum status canonical(const char *directory, char out_path[PATH_BYTES]) {
    char *real = realpath(directory, NULL);
    if (real) {
        int length = snprintf(out_path, PATH_BYTES, "%s", real);
        free(real);
        return length < PATH_BYTES ? STATUS_OK : fail(STATUS_LIMIT, "%s: path too long", directory);
    }
    if (errno != ENOENT)
        return fail_errno("%s", directory);
    return fail(STATUS_NOT_FOUND, "%s: no such run directory", directory);
}

static enum status socket_directory(const char *run_directory, const char *name, bool make, char out_path[PATH_BYTES]) {
    char run[PATH_BYTES];
    TRY(canonical(run_directory, run));
    TRY(fs_join(out_path, run, "sockets"));
    if (strlen(out_path) + 1 + strlen(name) <= SOCKET_PATH_BYTES)
        return make ? private_directory(out_path) : STATUS_OK;
    char parent[PATH_BYTES];
    TRY(user_directory(make, parent));
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash64(run, strlen(run)));
    TRY(fs_join(out_path, parent, hex));
    if (strlen(out_path) + 1 + strlen(name) > SOCKET_PATH_BYTES)
        return fail(STATUS_CONFIG, "TMPDIR = %s: too long for a socket's address; shorten it or set the endpoints",
                    parent);
    return make ? private_directory(out_path) : STATUS_OK;
}

enum status daemon_endpoint(const char *configured, const char *run_directory, const char *name, bool make,
                            char out_endpoint[ENDPOINT_BYTES]) {
    if (configured[0]) {
        if ((size_t)snprintf(out_endpoint, ENDPOINT_BYTES, "%s", configured) >= ENDPOINT_BYTES)
            return fail(STATUS_CONFIG, "%.40s...: an endpoint has at most %d bytes", configured, ENDPOINT_BYTES - 1);
        return STATUS_OK;
    }
    if (!run_directory[0])
        return fail(STATUS_CONFIG, "no endpoint for %s: set it, or name the run with --run DIR", name);
    char directory[PATH_BYTES];
    TRY(socket_directory(run_directory, name, make, directory));
    snprintf(out_endpoint, ENDPOINT_BYTES, "ipc://%.*s/%s", SOCKET_PATH_BYTES, directory, name);
    return STATUS_OK;
}

/* ---- main ---- */

static enum status run(const struct daemon_about *about, int argc, char **argv) {
    static struct daemon daemon; /* outlives everything that may still log or beat */
    struct arguments arguments = {0};
    TRY(parse(argc, argv, &arguments));
    if (arguments.help) {
        print_help(about);
        return STATUS_OK;
    }
    if (arguments.version) {
        printf("%s %s\n", about->program, build_name());
        return STATUS_OK;
    }
    struct run_config *config;
    TRY(run_config_load(arguments.config_path, arguments.assignments, arguments.assignment_count, &config));
    enum status status = STATUS_OK;
    if (arguments.print) { /* of anything that parses: it also shows what there is to set */
        status = print_config(about, config);
        goto out;
    }
    if (about->check)
        TRY_GOTO(about->check(config), out);
    if (arguments.check) {
        printf("%s: the configuration is good\n", about->program);
        goto out;
    }
    log_init(about->program, NULL, (enum log_level)config->log_level);
    TRY_GOTO(signals_open(&daemon), out);
    if (sd_watchdog_enabled(0, &daemon.watchdog_us) <= 0)
        daemon.watchdog_us = 0;
    status = about->run(&daemon, config);
    close(daemon.signal_fd);
out:
    free(config);
    return status;
}

int daemon_main(const struct daemon_about *about, int argc, char **argv) {
    log_init(about->program, NULL, LOG_INFO);
    enum status status = run(about, argc, argv);
    if (status == STATUS_OK)
        return 0;
    fprintf(stderr, "%s: %s\n", about->program, status_message());
    sd_notifyf(0, "STATUS=%s", status_message());
    return status_exit_code(status);
}
