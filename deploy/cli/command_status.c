/* candor status: ask a running learner what it does. It needs no Redis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/transport/daemon.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/learner_status.h"
#include "deploy/cli/progress.h"

#define POLL_MS 100
#define SILENT_MS 5000 /* some heartbeats */

static const char *word_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static long long count_of(const json_t *object, const char *name) {
    return (long long)json_number_value(json_object_get(object, name));
}

static void print_versions(const json_t *versions) {
    const json_t *oldest = NULL, *newest = NULL;
    size_t index;
    json_t *version;
    json_array_foreach(versions, index, version) {
        if (oldest == NULL || count_of(version, "version") < count_of(oldest, "version"))
            oldest = version;
        if (newest == NULL || count_of(version, "version") > count_of(newest, "version"))
            newest = version;
    }
    if (newest != NULL)
        printf("  weights     versions %lld to %lld are served; %lld is %s\n", count_of(oldest, "version"),
               count_of(newest, "version"), count_of(newest, "version"), word_of(newest, "weights"));
}

static void print_peers(const json_t *peers) {
    size_t index;
    json_t *peer;
    json_array_foreach(peers, index, peer) {
        char age[32];
        progress_duration(json_number_value(json_object_get(peer, "silent_ms")) / 1000, age, sizeof age);
        printf("  %-11s %s on %s, pid %lld: %s; %lld groups done%s%s%s", word_of(peer, "role"), word_of(peer, "name"),
               word_of(peer, "host"), count_of(peer, "pid"), word_of(peer, "state"), count_of(peer, "accepted"),
               json_is_false(json_object_get(peer, "same_class")) ? "; another class: not bitwise reproducible" : "",
               json_is_true(json_object_get(peer, "distrusted")) ? "; refused for a wrong canary" : "",
               json_is_false(json_object_get(peer, "connected")) ? "; gone" : "");
        if (json_number_value(json_object_get(peer, "silent_ms")) > SILENT_MS)
            printf("; silent for %s", age);
        printf("\n");
    }
}

/* What went other than well; nothing when nothing did. */
static void print_counts(json_t *counts) {
    static const char *const usual[] = {"granted", "accepted", "hellos", "speculative"};
    const char *name;
    json_t *value;
    bool any = false;
    json_object_foreach(counts, name, value) {
        bool is_usual = false;
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
            is_usual = is_usual || strcmp(name, usual[i]) == 0;
        if (is_usual || json_number_value(value) <= 0)
            continue;
        printf("%s %s %lld", any ? "," : "  so far     ", name, (long long)json_number_value(value));
        any = true;
    }
    printf("%s", any ? "\n" : "");
}

static void show(json_t *status) {
    const char *doing = word_of(status, "doing"), *state = word_of(status, "state");
    printf("%s: %s\n", word_of(status, "run"), *doing != 0 ? doing : state);
    printf("  hub         %s; %lld leases out\n", state, count_of(status, "leases"));
    print_versions(json_object_get(status, "versions"));
    print_peers(json_object_get(status, "peers"));
    if (count_of(status, "peers_left_out") > 0)
        printf("  and %lld more\n", count_of(status, "peers_left_out"));
    print_counts(json_object_get(status, "counts"));
}

/* Asks until something comes back: the connection may be made only now. */
static enum status ask(struct learner_status *learner, const char *endpoint, int64_t timeout_ms, bool as_json) {
    int64_t deadline = clock_boot_ms() + timeout_ms;
    json_t *answer = NULL;
    enum status status = STATUS_TIMEOUT;
    while (status == STATUS_TIMEOUT && clock_boot_ms() < deadline && !command_interrupted())
        status = learner_status_ask(learner, POLL_MS, &answer);
    if (status == STATUS_TIMEOUT)
        return fail(STATUS_TIMEOUT, "%s: no learner answers within %lld s", endpoint, (long long)timeout_ms / 1000);
    TRY(status);
    char *text = as_json ? json_dumps(answer, JSON_COMPACT) : NULL;
    if (as_json)
        printf("%s\n", text != NULL ? text : "null");
    else
        show(answer);
    free(text);
    json_decref(answer);
    return STATUS_OK;
}

enum status command_status(int argc, char **argv) {
    const char *run = "", *learner = "", *key = "", *learner_key = "";
    int64_t seconds = 5;
    bool as_json = false;
    const struct arg args[] = {
        {"run", ARG_TEXT, &run, "DIR", "the run's directory, on this machine"},
        {"learner", ARG_TEXT, &learner, "ENDPOINT", "or the learner's control endpoint"},
        {"key", ARG_TEXT, &key, "FILE", "this host's key pair"},
        {"learner-key", ARG_TEXT, &learner_key, "FILE", "the learner's public key"},
        {"timeout", ARG_INT, &seconds, "SECONDS", "how long to wait (5)"},
        {"json", ARG_FLAG, &as_json, "", "the answer as it came"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor status --run DIR | --learner ENDPOINT",
                  "What the learner, its actors and reward workers do now.", args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (*run == 0 && *learner == 0)
        return fail(STATUS_USAGE, "--run DIR or --learner ENDPOINT is missing");
    if (seconds < 1 || seconds > 3600)
        return fail(STATUS_USAGE, "--timeout %lld: 1 to 3600 seconds", (long long)seconds);
    char endpoint[ENDPOINT_BYTES];
    TRY(daemon_endpoint(learner, run, "control", false, endpoint));
    const struct transport_settings keys = {.key = key, .learner_key = learner_key, .allow = ""};
    struct learner_status client;
    TRY(learner_status_open(endpoint, &keys, &client));
    enum status status = ask(&client, endpoint, seconds * 1000, as_json);
    learner_status_close(&client);
    return status;
}
