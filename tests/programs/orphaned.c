/*
 * A pending socket whose number is gone: registered in epoll under a descriptor that was closed while a copy lives. The kernel knows no difference.
 */
#include "watched.h"

#define DATA 0x8badf00dfeedc0deULL

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

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    registered_then_closed(held);
    return done();
}
