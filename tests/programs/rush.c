/*
 * `processes=` programs that connect at the same time, each with `connects=` non-blocking sockets, or, without that, with a
 * blocking one. When all have begun, one more looks up `name=`, if there is one. All that is connected echoes; with `dissolve=1`
 * nothing is, as they think better of it. With `wait=1` they do that, and the end comes, when there is a line to read.
 */
#include "portable.h"
#include <netdb.h>

static endpoint target;
static int begun[2], results[2], go[2];

static int number(const char *name, int otherwise) {
    const char *text = argument(name);
    return text ? atoi(text) : otherwise;
}

static void tell(int fd, int value) {
    if (write(fd, &value, sizeof value) != sizeof value)
        _exit(121);
}

static int hear(int fd) {
    int value = -1;
    if (read(fd, &value, sizeof value) != sizeof value)
        give_up("a program has ended early");
    return value;
}

static void await_line(void) {
    char letter = 0;
    while (letter != '\n' && read(0, &letter, 1) == 1) {
    }
}

/* What has become of a connect. */
static int is_good(int fd, int error) {
    if (error)
        fprintf(stderr, "connect: %s\n", strerror(error));
    return error == 0 && echoes(fd);
}

static int connect_blocking(void) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    tell(begun[1], 0);
    return is_good(fd, connect_to(fd, &target) ? errno : 0);
}

static int dissolve_all(const struct pollfd *all, int count) {
    int good = 0;
    for (int i = 0; i < count; i++) {
        good += dissolve(all[i].fd) == 0;
        close(all[i].fd);
    }
    return good;
}

static int connect_all(int count) {
    struct pollfd *all = calloc((size_t)count, sizeof *all);
    int good = 0, left = 0;
    for (int i = 0; i < count; i++) {
        int fd = tcp(AF_INET, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int error = connect_to(fd, &target) ? errno : 0;
        all[i] = (struct pollfd){.fd = fd, .events = POLLOUT};
        left++;
        if (error != EINPROGRESS) {
            good += is_good(fd, error);
            all[i].fd = -1;
            left--;
        }
    }
    tell(begun[1], 0);
    if (argument("wait"))
        hear(go[0]);
    if (argument("dissolve"))
        return dissolve_all(all, count);
    while (left > 0 && poll(all, (nfds_t)count, -1) > 0)
        for (int i = 0; i < count; i++)
            if (all[i].fd >= 0 && all[i].revents) {
                good += is_good(all[i].fd, socket_error(all[i].fd));
                close(all[i].fd);
                all[i].fd = -1;
                left--;
            }
    return good;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    target = endpoint_of("to");
    int processes = number("processes", 1), connects = number("connects", 0), good = 0;
    if (pipe(begun) || pipe(results) || pipe(go))
        give_up("pipe: %s", strerror(errno));
    for (int i = 0; i < processes; i++)
        if (!fork()) {
            tell(results[1], connects ? connect_all(connects) : connect_blocking());
            _exit(0);
        }
    close(begun[1]);
    close(results[1]);
    for (int i = 0; i < processes; i++)
        hear(begun[0]);
    if (argument("name")) {
        struct addrinfo *found = NULL;
        GIVES("a name is looked up", 0, getaddrinfo(argument("name"), "80", NULL, &found));
    }
    if (argument("wait")) {
        printf("all have begun\n");
        await_line();
        for (int i = 0; i < processes; i++)
            tell(go[1], 0);
    }
    for (int i = 0; i < processes; i++)
        good += hear(results[0]);
    GIVES(argument("dissolve") ? "sockets that are dissolved" : "connects that succeed", processes * (connects ? connects : 1), good);
    if (argument("wait"))
        await_line();
    return done();
}
