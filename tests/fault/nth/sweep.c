#include "tests/fault/nth/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINT_SECONDS 60 /* under sanitizers on a busy machine; a point takes milliseconds */
#define POINTS_MAX 100000

struct manner {
    enum nth_class class;
    int error;
    bool lasting;
    const char *text;
};

static const struct manner manners[] = {
    {NTH_ALLOC, ENOMEM, false, "no memory"},
    {NTH_ALLOC, ENOMEM, true, "no memory from then on"},
    {NTH_THREAD, EAGAIN, false, "no thread"},
    {NTH_WRITE, EIO, false, "EIO"},
    {NTH_WRITE, ENOSPC, true, "ENOSPC from then on"},
    {NTH_WRITE, NTH_SHORT, false, "half of it"},
    {NTH_WRITE, EINTR, false, "EINTR"},
    {NTH_SYNC, EIO, false, "EIO"},
    {NTH_RENAME, EIO, false, "EIO"},
    {NTH_OPEN, EMFILE, false, "EMFILE"},
    {NTH_OPEN, ENOSPC, true, "ENOSPC from then on"},
    {NTH_READ, EIO, false, "EIO"},
    {NTH_READ, NTH_SHORT, false, "half of it"},
    {NTH_READ, EINTR, false, "EINTR"},
    {NTH_SEND, EAGAIN, false, "EAGAIN"},
    {NTH_SEND, EHOSTUNREACH, false, "EHOSTUNREACH"},
};

static uint64_t points[NTH_CLASS_COUNT];
static uint64_t every = 1;
static char point[256]; /* the one at hand; "": none */

/* Names the point at which the process dies, or does not end. */
static void died(int number) {
    static const char end[] = ": signal in the middle of it\n", late[] = ": it does not end\n";
    const char *text = number == SIGALRM ? late : end;
    if (write(STDOUT_FILENO, point, strlen(point)) >= 0)
        (void)!write(STDOUT_FILENO, text, strlen(text));
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void watch_signals(void) {
    signal(SIGALRM, died);
    signal(SIGABRT, died);
}

static int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Nothing that a person reads may be empty, or be about something else. */
static void check_message(const struct manner *manner, enum status status) {
    const char *text = status_message();
    if (manner->class == NTH_ALLOC && !strstr(text, "memory"))
        fail_msg("%s: a message without \"memory\": \"%s\"", status_name(status), text);
    if (manner->error > 0 && manner->class != NTH_ALLOC && manner->class != NTH_THREAD && manner->class != NTH_SEND &&
        !strstr(text, strerror(manner->error)))
        fail_msg("%s: a message without \"%s\": \"%s\"", status_name(status), strerror(manner->error), text);
    if (text[0] == '\0')
        fail_msg("%s without a message", status_name(status));
}

static void report(const char *name, uint64_t swept) {
    printf("  %-28s %6llu points\n", name, (unsigned long long)swept);
    fflush(stdout);
}

/* True: the N-th call was there to fail. */
static bool sweep_point(const struct sweep *s, const struct manner *manner, uint64_t at, void *context) {
    struct nth_plan plan = {manner->class, manner->error, manner->lasting, at, s->under, NULL};
    snprintf(point, sizeof point, "%s: %s %llu: %s", s->name, nth_class_names[manner->class], (unsigned long long)at,
             manner->text);
    alarm(POINT_SECONDS);
    int64_t live = nth_live();
    int descriptors = open_descriptors();
    if (s->begin)
        s->begin(context);
    fail(STATUS_OK, "%s", "");
    nth_arm(&plan);
    enum status status = s->act(context);
    nth_disarm();
    bool hit = nth_hits() > 0;
    if (status != STATUS_OK && !hit)
        fail_msg("undisturbed: %s: %s", status_name(status), status_message());
    if (status != STATUS_OK)
        check_message(manner, status);
    bool lost_json = status == STATUS_NO_MEMORY && strstr(status_message(), "JSON"); /* json.c says why */
    s->check(context, status, hit);
    if (s->end)
        s->end(context);
    if (nth_live() != live && !lost_json)
        fail_msg("%lld allocations are left (the message was \"%s\")", (long long)(nth_live() - live),
                 status_message());
    if (open_descriptors() != descriptors)
        fail_msg("%d descriptors are left open", open_descriptors() - descriptors);
    alarm(0);
    point[0] = '\0';
    return hit;
}

void sweep(const struct sweep *s, void *context) {
    uint64_t swept = 0;
    watch_signals();
    for (size_t m = 0; m < sizeof manners / sizeof manners[0]; m++) {
        if (!(s->classes >> manners[m].class & 1))
            continue;
        uint64_t count = 0;
        for (uint64_t at = 1 + m % every; sweep_point(s, &manners[m], at, context); at += every)
            assert_true(++count < POINTS_MAX);
        points[manners[m].class] += count;
        swept += count;
    }
    report(s->name, swept);
}

/* True: it was killed at the N-th call. */
static bool kill_point(const struct sweep *s, enum nth_class class, uint64_t at, void *context) {
    struct nth_plan plan = {class, NTH_KILL, false, at, s->under, NULL};
    snprintf(point, sizeof point, "%s: killed at %s %llu", s->name, nth_class_names[class], (unsigned long long)at);
    alarm(POINT_SECONDS);
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        s->begin(context);
        nth_arm(&plan);
        _exit(s->act(context) == STATUS_OK ? 0 : 1);
    }
    int result;
    assert_true(waitpid(child, &result, 0) == child && WIFEXITED(result));
    bool killed = WEXITSTATUS(result) == NTH_KILLED;
    assert_true(killed || WEXITSTATUS(result) == 0);
    s->check(context, STATUS_OK, killed);
    if (s->end)
        s->end(context);
    alarm(0);
    point[0] = '\0';
    return killed;
}

void sweep_kills(const struct sweep *s, void *context) {
    uint64_t swept = 0;
    watch_signals();
    for (enum nth_class class = 0; class < NTH_CLASS_COUNT; class ++) {
        if (!(NTH_FILES >> class & 1))
            continue;
        uint64_t count = 0;
        for (uint64_t at = 1 + class % every; kill_point(s, class, at, context); at += every)
            assert_true(++count < POINTS_MAX);
        points[class] += count;
        swept += count;
    }
    report(s->name, swept);
}

void sweep_every(uint64_t wanted) {
    every = wanted;
}

uint64_t sweep_points(void) {
    uint64_t sum = 0;
    for (int class = 0; class < NTH_CLASS_COUNT; class ++)
        sum += points[class];
    return sum;
}

void sweep_report(void) {
    for (int class = 0; class < NTH_CLASS_COUNT; class ++)
        printf("  %-28s %6llu\n", nth_class_names[class], (unsigned long long)points[class]);
    printf("%llu points swept\n", (unsigned long long)sweep_points());
}

int sweep_teardown(void **state) {
    (void)state;
    if (point[0])
        printf("  at %s\n", point);
    nth_disarm();
    alarm(0);
    point[0] = '\0';
    return 0;
}
