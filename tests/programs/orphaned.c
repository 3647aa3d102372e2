/*
 * A pending socket whose memory or number is gone: held across execve(2), or registered in epoll under a descriptor that
 * was closed while a copy lives. The kernel knows no difference.
 */
#include "watched.h"

#define DATA 0x8badf00dfeedc0deULL

static int child_status(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

/* epoll keeps watching a closed descriptor's file while a copy lives (epoll(7), question 6). */
static void registered_then_closed(endpoint held) {
    stage("hold");
    int epoll = epoll_create1(0), fd = begin(&held), copy = dup(fd);
    struct epoll_event seen = {0};
    add(epoll, fd, DATA);
    close(fd);
    GIVES("registered, closed, copied: silent", 0, epoll_wait(epoll, &seen, 1, 0));
    stage("release");
    GIVES("registered, closed, copied: connects", POLLOUT, poll_one(copy, POLLOUT, PATIENCE_MS));
    GIVES("registered, closed, copied: told", 1, epoll_wait(epoll, &seen, 1, PATIENCE_MS));
    check("registered, closed, copied: with its data", seen.events == EPOLLOUT && seen.data.u64 == DATA, "%#x", seen.events);
    close(copy);
    GIVES("all closed: silent", 0, epoll_wait(epoll, &seen, 1, 0));
    close(epoll);
}

/* The program again, with the pending socket as descriptor `inherited=`: execve keeps the socket, not the memory. */
static int after_exec(endpoint held) {
    int fd = atoi(argument("inherited"));
    int early = poll_one(fd, POLLOUT, 0);
    stage("release");
    if (early)
        return 21;
    if (poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT)
        return 22;
    return socket_error(fd) ? 23 : !peer_is(fd, &held) ? 24 : echoes(fd) ? 0 : 25;
}

static void executed(endpoint held, char **argv) {
    char inherited[32], *again[16] = {argv[0]};
    int count = 1;
    for (char **each = argv + 1; *each && count < 14; each++)
        again[count++] = *each;
    stage("hold");
    int fd = begin(&held);
    snprintf(inherited, sizeof inherited, "inherited=%d", fd);
    again[count] = inherited;
    pid_t child = fork();
    if (!child) {
        execv("/proc/self/exe", again);
        _exit(20);
    }
    int status = child_status(child);
    check("exec while pending", status == 0, "status %#x", status);
    GIVES("exec: the parent's connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("exec: and echoes", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    if (argument("inherited"))
        return after_exec(held);
    registered_then_closed(held);
    executed(held, argv);
    return done();
}
