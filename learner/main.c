/* candor-learner: owns a run. The main thread watches signals, systemd and the training thread; run.h does the work. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "common/transport/daemon.h"
#include "learner/run.h"

#define POLL_MS 100

struct learner {
    struct run *run;
    struct daemon *daemon;
    int pulse, hub_pulse;
    enum status status;
    char message[STATUS_MESSAGE_BYTES]; /* fail()'s text belongs to its thread */
    atomic_bool ended;
};

static void beat(void *context) {
    struct learner *learner = context;
    daemon_beat(learner->daemon, learner->pulse);
}

static void allow(void *context, int64_t ms) {
    struct learner *learner = context;
    daemon_allow(learner->daemon, learner->pulse, ms);
}

static void hub_beat(void *context) {
    struct learner *learner = context;
    daemon_beat(learner->daemon, learner->hub_pulse);
}

static void *train(void *context) {
    struct learner *learner = context;
    learner->status = run_train(learner->run);
    snprintf(learner->message, sizeof learner->message, "%s", status_message());
    atomic_store(&learner->ended, true);
    return NULL;
}

static void watch(struct learner *learner) {
    bool ready = false;
    while (!atomic_load(&learner->ended)) {
        struct pollfd stop = {.fd = daemon_stop_fd(learner->daemon), .events = POLLIN};
        (void)poll(&stop, 1, POLL_MS);
        if (daemon_stopping(learner->daemon))
            run_stop(learner->run);
        if (!ready && run_ready(learner->run)) {
            daemon_ready(learner->daemon);
            ready = true;
        }
        struct buf line = {0};
        run_status(learner->run, &line);
        if (buf_ok(&line) && line.data)
            daemon_status(learner->daemon, "%s", line.data);
        buf_deinit(&line);
        daemon_tick(learner->daemon);
    }
}

static enum status learn(struct daemon *daemon, const struct run_config *config) {
    struct learner learner = {
        .daemon = daemon, .pulse = daemon_thread(daemon, "training"), .hub_pulse = daemon_thread(daemon, "hub")};
    struct run_hooks hooks = {.context = &learner, .beat = beat, .hub_beat = hub_beat, .allow = allow};
    TRY(run_create(config, &hooks, &learner.run));
    pthread_t thread;
    if (pthread_create(&thread, NULL, train, &learner) != 0) {
        run_destroy(&learner.run);
        return fail(STATUS_NO_MEMORY, "cannot start the training thread");
    }
    watch(&learner);
    pthread_join(thread, NULL);
    run_destroy(&learner.run);
    return learner.status == STATUS_OK ? STATUS_OK : fail(learner.status, "%s", learner.message);
}

int main(int argc, char **argv) {
    static const struct daemon_about about = {
        .program = "candor-learner",
        .purpose =
            "Owns a run: asks questions of actors, learns from scored groups, publishes weights, writes checkpoints.",
        .check = run_check,
        .run = learn,
    };
    return daemon_main(&about, argc, argv);
}
