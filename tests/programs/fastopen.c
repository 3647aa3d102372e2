/* Connects in other clothes: MSG_FASTOPEN, TCP_FASTOPEN_CONNECT, MPTCP. What is sent must arrive once, in order. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/uio.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static void blocking(endpoint open, endpoint refused) {
    int fd = tcp(AF_INET, 0);
    GIVES("sendto with MSG_FASTOPEN", 5, sendto(fd, "early", 5, MSG_FASTOPEN, (void *)&open.address, open.length));
    check("its data comes back", comes_back(fd, "early"), "not");
    check("its peer is the one asked for", peer_is(fd, &open), "another");
    check("it echoes", echoes(fd), "no echo");
    FAILS("again, now connected", EISCONN, sendto(fd, "early", 5, MSG_FASTOPEN, (void *)&open.address, open.length));
    close(fd);

    fd = tcp(AF_INET, 0);
    struct iovec parts[2] = {{"one", 3}, {"two", 3}};
    struct msghdr message = {.msg_name = &open.address, .msg_namelen = open.length, .msg_iov = parts, .msg_iovlen = 2};
    GIVES("sendmsg with MSG_FASTOPEN", 6, sendmsg(fd, &message, MSG_FASTOPEN));
    check("its parts come back", comes_back(fd, "onetwo"), "not");
    close(fd);

    fd = tcp(AF_INET, 0);
    FAILS("MSG_FASTOPEN refused", ECONNREFUSED, sendto(fd, "early", 5, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&refused.address, refused.length));
    close(fd);

    fd = tcp(AF_INET, 0);
    FAILS("sendto with an address but without the flag", EPIPE, sendto(fd, "early", 5, MSG_NOSIGNAL, (void *)&open.address, open.length));
    close(fd);
}

static void non_blocking(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("MSG_FASTOPEN without blocking", EINPROGRESS, sendto(fd, "early", 5, MSG_FASTOPEN, (void *)&held.address, held.length));
    GIVES("is pending", 0, poll_one(fd, POLLOUT, 0));
    stage("release");
    GIVES("and connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(fd), "no echo");
    close(fd);
}

/* connect() succeeds at once, the first write carries the SYN: by the time that write is done all must be as ever. */
static void on_connect(endpoint open, endpoint held) {
    int fd = tcp(AF_INET, 0), one = 1;
    GIVES("TCP_FASTOPEN_CONNECT", 0, setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one));
    GIVES("connects", 0, connect_to(fd, &open));
    GIVES("writes", 5, write(fd, "early", 5));
    check("what it wrote comes back", comes_back(fd, "early"), "not");
    check("its peer is the one asked for", peer_is(fd, &open), "another");
    check("and it echoes", echoes(fd), "no echo");
    close(fd);

    stage("hold");
    fd = tcp(AF_INET, SOCK_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    int result = connect_to(fd, &held);
    check("without blocking", result == 0 || errno == EINPROGRESS, SAW(result));
    stage("release");
    GIVES("is writable in the end", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES("writes", 5, write(fd, "early", 5));
    check("which comes back", comes_back(fd, "early"), "not");
    close(fd);
}

/* Without a cookie the kernel takes any connect() for done, and has the SYN carry the first bytes. */
static void refused_on_connect(const endpoint *refused, int flags) {
    int fd = tcp(AF_INET, flags), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &one, sizeof one);
    int result = connect_to(fd, refused);
    if (result == 0)
        result = (int)write(fd, "early", 5);
    if (flags) {
        check("no cookie: is under way", result > 0 || errno == EINPROGRESS, SAW(result));
        check("no cookie: is hung up in the end", poll_one(fd, POLLIN, PATIENCE_MS) & POLLHUP, "not");
        GIVES("no cookie: is refused in the end", ECONNREFUSED, socket_error(fd));
    } else {
        check("no cookie: is refused", result == -1 && errno == ECONNREFUSED, SAW(result));
    }
    check("no cookie: nothing is sent", send(fd, "x", 1, MSG_NOSIGNAL) == -1, "a byte");
    close(fd);
}

static void mptcp(endpoint open, endpoint refused, endpoint held) {
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    if (fd < 0) {
        printf("MPTCP: skipped (%s)\n", strerror(errno));
        return;
    }
    GIVES("MPTCP connects", 0, connect_to(fd, &open));
    check("MPTCP has the peer asked for", peer_is(fd, &open), "another");
    check("MPTCP echoes", echoes(fd), "no echo");
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    FAILS("MPTCP refused", ECONNREFUSED, connect_to(fd, &refused));
    close(fd);
    stage("hold");
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_MPTCP);
    FAILS("MPTCP pending", EINPROGRESS, connect_to(fd, &held));
    GIVES("MPTCP not writable", 0, poll_one(fd, POLLOUT, 0));
    stage("release");
    GIVES("MPTCP writable", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("MPTCP echoes in the end", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open"), refused = endpoint_of("refused"), held = endpoint_of("held");
    blocking(open, refused);
    non_blocking(held);
    on_connect(open, held);
    refused_on_connect(&refused, 0);
    refused_on_connect(&refused, SOCK_NONBLOCK);
    mptcp(open, refused, held);
    return done();
}
