/* candor-proxy SEED LISTEN:TARGET...: forwards TCP connections on loopback from port LISTEN to port TARGET, badly: about twice a
 * second one of them is cut, stands still for up to a second, or has one bit flipped in what it carries next. Ends on SIGTERM with
 * one line: connections, and how many were cut, delayed and corrupted. For tests/fault/torture; connections have CURVE keys
 * there, without which nothing but TCP's own sum protects what they carry. One thread. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"

#define LINKS_MAX 8
#define PIPES_MAX                                                                                                      \
    256 /* five peers of a control, three of a weights and two groups sockets, with room for those that are only now found dead */
#define POLL_MS 20

struct link {
    int listener;
    in_port_t target;
};

struct pipe {
    int ends[2]; /* -1: free */
    int64_t still_until_ms;
    bool corrupt; /* the next bytes that pass */
};

static struct link links[LINKS_MAX];
static int link_count;
static struct pipe pipes[PIPES_MAX];
static unsigned seed;
static unsigned long connections, cuts, delays, corruptions;
static volatile sig_atomic_t ending;

static void on_signal(int number) {
    (void)number;
    ending = 1;
}

static unsigned below(unsigned limit) {
    return (unsigned)rand_r(&seed) % limit;
}

static struct sockaddr_in loopback(in_port_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static bool open_link(const char *text) {
    unsigned listen_port, target;
    int on = 1;
    if (link_count == LINKS_MAX || sscanf(text, "%5u:%5u", &listen_port, &target) != 2)
        return false;
    struct link *link = &links[link_count++];
    struct sockaddr_in address = loopback((in_port_t)listen_port);
    link->target = (in_port_t)target;
    link->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return link->listener >= 0 && setsockopt(link->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           bind(link->listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(link->listener, 64) == 0;
}

static void cut(struct pipe *pipe) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* what is on its way is lost */
    for (int i = 0; i < 2; i++) {
        setsockopt(pipe->ends[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(pipe->ends[i]);
        pipe->ends[i] = -1;
    }
}

static void accept_one(const struct link *link) {
    struct sockaddr_in address = loopback(link->target);
    int near = accept4(link->listener, NULL, NULL, SOCK_CLOEXEC);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pipe *pipe = pipes;
    while (pipe < pipes + PIPES_MAX && pipe->ends[0] >= 0)
        pipe++;
    if (near < 0 || far < 0 || pipe == pipes + PIPES_MAX ||
        connect(far, (struct sockaddr *)&address, sizeof address) != 0) {
        close(near); /* whoever listens there is dead for now; the peer tries again */
        close(far);
        return;
    }
    *pipe = (struct pipe){.ends = {near, far}};
    connections++;
}

/* All that is there now, one way. The writer may block for a moment: that is a delay too, but never for ever, so that a process
 * that stands still does not hold up the others. */
static void forward(struct pipe *pipe, int from) {
    char bytes[65536];
    ssize_t count = recv(pipe->ends[from], bytes, sizeof bytes, MSG_DONTWAIT);
    if (count <= 0) {
        if (count == 0 || (errno != EAGAIN && errno != EINTR))
            cut(pipe);
        return;
    }
    if (pipe->corrupt) {
        bytes[below((unsigned)count)] ^= (char)(1 << below(8));
        pipe->corrupt = false;
        corruptions++;
    }
    for (ssize_t sent = 0, one; sent < count; sent += one) {
        one = send(pipe->ends[!from], bytes + sent, (size_t)(count - sent), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (one < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = pipe->ends[!from], .events = POLLOUT};
            one = poll(&room, 1, 200) == 1 ? 0 : -1;
        }
        if (one < 0) {
            cut(pipe);
            return;
        }
    }
}

static void strike(int64_t now_ms) {
    struct pipe *pipe = &pipes[below(PIPES_MAX)];
    for (int i = 0; i < PIPES_MAX && pipe->ends[0] < 0; i++)
        pipe = pipe == pipes + PIPES_MAX - 1 ? pipes : pipe + 1;
    if (pipe->ends[0] < 0)
        return;
    switch (below(3)) {
    case 0:
        cut(pipe);
        cuts++;
        break;
    case 1:
        pipe->still_until_ms = now_ms + 1 + below(1000);
        delays++;
        break;
    default:
        pipe->corrupt = true;
    }
}

static void turn(int64_t now_ms) {
    struct pollfd set[LINKS_MAX + 2 * PIPES_MAX];
    for (int i = 0; i < link_count; i++)
        set[i] = (struct pollfd){.fd = links[i].listener, .events = POLLIN};
    for (int i = 0; i < 2 * PIPES_MAX; i++) {
        const struct pipe *pipe = &pipes[i / 2];
        set[link_count + i] =
            (struct pollfd){.fd = now_ms < pipe->still_until_ms ? -1 : pipe->ends[i % 2], .events = POLLIN};
    }
    if (poll(set, (nfds_t)(link_count + 2 * PIPES_MAX), POLL_MS) <= 0)
        return;
    for (int i = 0; i < 2 * PIPES_MAX; i++)
        if (set[link_count + i].revents && pipes[i / 2].ends[0] >= 0)
            forward(&pipes[i / 2], i % 2);
    for (int i = 0; i < link_count; i++)
        if (set[i].revents)
            accept_one(&links[i]);
}

int main(int argc, char **argv) {
    bool good = argc > 2;
    for (int i = 0; i < PIPES_MAX; i++)
        pipes[i].ends[0] = pipes[i].ends[1] = -1;
    for (int i = 2; good && i < argc; i++)
        good = open_link(argv[i]);
    if (!good) {
        fprintf(stderr, "candor-proxy: usage: candor-proxy SEED LISTEN:TARGET...: %s\n", strerror(errno));
        return 64;
    }
    seed = (unsigned)strtoul(argv[1], NULL, 10);
    signal(SIGTERM, on_signal);
    int64_t strike_ms = 0;
    while (!ending) {
        int64_t now_ms = clock_boot_ms();
        turn(now_ms);
        if (now_ms < strike_ms)
            continue;
        strike(now_ms);
        strike_ms = now_ms + 250 + below(500);
    }
    printf("connections %lu, cut %lu, delayed %lu, corrupted %lu\n", connections, cuts, delays, corruptions);
    return 0;
}
