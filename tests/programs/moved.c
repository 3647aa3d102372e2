/* A pending socket that is dup'ed, closed or forked: whoever holds it sees the connect through. */
#include "watched.h"

#define DATA 0x8badf00dfeedc0deULL

static void dup_and_close(endpoint held) {
    stage("hold");
    int fd = begin(&held), copy = dup2(fd, 77), third = fcntl(fd, F_DUPFD_CLOEXEC, 90);
    GIVES("the copy is not writable", 0, poll_one(copy, POLLOUT, 0));
    close(fd);
    GIVES("nor when the original is closed", 0, poll_one(copy, POLLOUT, 0));
    FAILS("the copy is under way", EALREADY, connect_to(copy, &held));
    int epoll = epoll_create1(0);
    struct epoll_event seen = {0};
    GIVES("the third copy goes into epoll", 0, add(epoll, third, DATA));
    GIVES("and is silent there", 0, epoll_wait(epoll, &seen, 1, 0));
    stage("release");
    GIVES("the copy becomes writable", POLLOUT, poll_one(copy, POLLOUT, PATIENCE_MS));
    GIVES("epoll tells", 1, epoll_wait(epoll, &seen, 1, PATIENCE_MS));
    check("with its data", seen.events == EPOLLOUT && seen.data.u64 == DATA, "%#x", seen.events);
    check("the copy has the peer asked for", peer_is(copy, &held), "another peer");
    check("the copies echo", echoes(copy) && echoes(third), "no echo");
    close(copy), close(third), close(epoll);
}

static void closed_while_pending(endpoint held) {
    stage("hold");
    int epoll = epoll_create1(0), fd = begin(&held);
    struct epoll_event seen = {0};
    add(epoll, fd, DATA);
    close(fd);
    stage("release");
    GIVES("closed while pending: silent", 0, epoll_wait(epoll, &seen, 1, 300));
    int next = begin(&held);
    add(epoll, next, ~DATA);
    GIVES("the next one: told", 1, epoll_wait(epoll, &seen, 1, PATIENCE_MS));
    check("the next one: as itself", seen.events == EPOLLOUT && seen.data.u64 == ~DATA, "%#x %#llx", seen.events, (unsigned long long)seen.data.u64);
    close(next), close(epoll);
}

/* A second socket put on the pending one's number by dup2. */
static void overwritten(endpoint held, endpoint open) {
    stage("hold");
    int fd = begin(&held), other = tcp(AF_INET, 0);
    GIVES("another connects meanwhile", 0, connect_to(other, &open));
    dup2(other, fd);
    GIVES("the number now is the other's", POLLOUT, poll_one(fd, POLLOUT, 0));
    check("with its peer", peer_is(fd, &open), "another peer");
    check("and echoes", echoes(fd), "no echo");
    stage("release");
    close(fd), close(other);
}

static int child_status(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static void forked(const char *name, endpoint held, int parent_closes) {
    stage("hold");
    int fd = begin(&held);
    pid_t child = fork();
    if (!child) {
        int early = poll_one(fd, POLLOUT, 0);
        stage("release");
        if (early)
            _exit(11);
        if (poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT)
            _exit(12);
        _exit(socket_error(fd) ? 13 : !peer_is(fd, &held) ? 14 : echoes(fd) ? 0 : 15);
    }
    if (parent_closes)
        close(fd);
    int status = child_status(child);
    check(name, status == 0, "status %#x", status);
    if (!parent_closes) {
        GIVES("the parent has it too", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
        check("and the parent echoes", echoes(fd), "no echo");
        close(fd);
    }
}

static void forked_parent_completes(endpoint held) {
    stage("hold");
    int fd = begin(&held), epoll = epoll_create1(0);
    struct epoll_event seen = {0};
    add(epoll, fd, DATA);
    pid_t child = fork();
    if (!child)
        _exit(0); /* a child that ends, as most do, must not disturb what it inherited */
    check("child ends", child_status(child) == 0, "badly");
    GIVES("the parent's is still pending", 0, epoll_wait(epoll, &seen, 1, 0));
    stage("release");
    GIVES("the parent's epoll tells", 1, epoll_wait(epoll, &seen, 1, PATIENCE_MS));
    check("with the parent's data", seen.events == EPOLLOUT && seen.data.u64 == DATA, "%#x", seen.events);
    check("the parent's socket echoes", echoes(fd), "no echo");
    close(fd), close(epoll);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    dup_and_close(held);
    closed_while_pending(held);
    overwritten(held, endpoint_of("open"));
    forked("the child sees it through", held, 0);
    forked("the child alone sees it through", held, 1);
    forked_parent_completes(held);
    return done();
}
