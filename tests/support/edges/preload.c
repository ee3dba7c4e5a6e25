/* What happens to a host, for tests/integration/edges_*.sh: a library that is put before the others (LD_PRELOAD) of an unchanged
 * program. Each part waits for its variable of the environment:
 *
 *   EDGES_CLOCK=FILE    seconds by which CLOCK_BOOTTIME is ahead, read again at every look at the clock: the host was suspended
 *   EDGES_HOSTS=FILE    lines "NAME ADDRESS", read again at every look-up: the name service
 *   EDGES_POISON=TEXT   a message of ZeroMQ's with this text in it kills the process that takes it (SIGKILL) */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

/* While the file is being written it may be empty: then the last value holds. */
static long seconds_ahead(void) {
    static int fd = -2;
    static long last;
    char text[32] = {0};
    const char *path = getenv("EDGES_CLOCK");
    if (fd == -2)
        fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && pread(fd, text, sizeof text - 1, 0) > 0 && strchr(text, '\n'))
        last = strtol(text, NULL, 10);
    return last;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_BOOTTIME)
        time->tv_sec += seconds_ahead();
    return result;
}

/* The address of a name, written to out; false: the file does not know it. */
static int look_up(const char *name, char out[64]) {
    char known[64];
    const char *path = getenv("EDGES_HOSTS");
    FILE *file = path && name ? fopen(path, "re") : NULL;
    int found = 0;
    while (file && !found && fscanf(file, "%63s %63s", known, out) == 2)
        found = strcmp(known, name) == 0;
    if (file)
        fclose(file);
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    char address[64];
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(look_up(name, address) ? address : name, service, hints, out);
}

int zmq_msg_recv(zmq_msg_t *message, void *socket, int flags) {
    int (*real)(zmq_msg_t *, void *, int);
    const char *poison = getenv("EDGES_POISON");
    *(void **)&real = dlsym(RTLD_NEXT, "zmq_msg_recv");
    int bytes = real(message, socket, flags);
    if (bytes > 0 && poison && memmem(zmq_msg_data(message), (size_t)bytes, poison, strlen(poison)))
        kill(getpid(), SIGKILL);
    return bytes;
}
