/* A connect that is under way, and an epoll set that watches it: for programs that move such a socket about. */
#ifndef WATCHED_H
#define WATCHED_H
#include "check.h"
#include <sys/epoll.h>

__attribute__((unused)) static int begin(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, to) != -1 || errno != EINPROGRESS)
        check("a connect begins", 0, "errno %s", strerrorname_np(errno));
    return fd;
}

__attribute__((unused)) static int add(int epoll, int fd, uint64_t data) {
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = data};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

#endif
