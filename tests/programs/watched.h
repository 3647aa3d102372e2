/* A connect that is under way, and an epoll set that watches it: for programs that move such a socket about. */
#ifndef WATCHED_H
#define WATCHED_H
#include "check.h"
#include <sys/epoll.h>
#include <sys/select.h>

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

/* What `fd` shows while its connect is under way, and that nothing can be read or written; 0 when all is well. */
__attribute__((unused)) static int is_pending(int fd, const endpoint *to) {
    fd_set set;
    struct timeval none = {0, 0};
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    char byte;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    if (poll_one(fd, POLLIN | POLLOUT, 0) != 0)
        return 1;
    if (select(fd + 1, NULL, &set, NULL, &none) != 0)
        return 2;
    if (socket_error(fd) != 0)
        return 3;
    if (getpeername(fd, (void *)&peer, &length) != -1 || errno != ENOTCONN)
        return 4;
    if (send(fd, "early", 5, MSG_DONTWAIT | MSG_NOSIGNAL) != -1 || errno != EAGAIN)
        return 5;
    if (read(fd, &byte, 1) != -1 || errno != EAGAIN)
        return 6;
    return connect_to(fd, to) != -1 || errno != EALREADY ? 7 : 0;
}

#endif
