/*
 * One datagram socket in many hands, and many in one: dup, fork, threads, a socket that is handed on, numbers used anew, and
 * every way to wait for a datagram.
 */
#include "datagram.h"
#include <sys/epoll.h>
#include <sys/select.h>

static endpoint one, two;

/* Runs in a child of its own. */
static int in_child(int (*work)(int), int fd) {
    fflush(stdout);
    pid_t child = fork();
    if (!child)
        _exit(work(fd) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && !WEXITSTATUS(status);
}

static int child_exchanges(int fd) {
    return exchanges(fd, &one) && exchanges(fd, &two);
}

static int child_connects(int fd) {
    return !connect_to(fd, &two) && echoes(fd) && peer_is(fd, &two);
}

static void copies(void) {
    int fd = udp(AF_INET), copy = dup(fd);
    check("a copy sends and receives", exchanges(copy, &one), "not");
    check("so does the first", exchanges(fd, &one), "not");
    check("one sends, the other receives", send_to(fd, "across", &one) && comes_from(copy, "across", &one), "not");
    close(fd);
    check("the copy outlives it", exchanges(copy, &two), "not");
    int high = dup2(copy, 200);
    close(copy);
    check("at another number", high == 200 && exchanges(high, &one), "not");
    close(high);
}

static void forks(void) {
    int fd = udp(AF_INET);
    check("a child uses a new socket of its parent's", in_child(child_exchanges, fd), "not");
    check("the parent uses it after that", exchanges(fd, &one), "not");
    check("a child uses a socket in use", in_child(child_exchanges, fd), "not");
    check("the parent goes on", exchanges(fd, &two), "not");
    check("a child connects it", in_child(child_connects, fd), "not");
    check("the parent is connected", peer_is(fd, &two) && echoes(fd), "not");
    GIVES("the parent connects it elsewhere", 0, connect_to(fd, &one));
    check("the first answers", echoes(fd), "not");
    close(fd);
}

/* SCM_RIGHTS, from a child that ends at once. */
static void handed_on(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair: %s", strerror(errno));
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    pid_t child = fork();
    if (!child) {
        int fd = udp(AF_INET);
        int sound = exchanges(fd, &one);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        _exit(sound && sendmsg(pair[0], &message, 0) == 1 ? 0 : 1);
    }
    char seen[1];
    part.iov_base = seen;
    GIVES("a socket is handed on", 1, recvmsg(pair[1], &message, 0));
    int fd;
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    waitpid(child, NULL, 0);
    check("it is in use by the receiver", exchanges(fd, &one) && exchanges(fd, &two), "not");
    close(fd), close(pair[0]), close(pair[1]);
}

static void numbers(void) {
    int right = 1, last = -1;
    for (int i = 0; i < 20; i++) {
        int fd = udp(AF_INET);
        right &= last < 0 || fd == last;
        right &= i % 2 ? !connect_to(fd, &two) && echoes(fd) : exchanges(fd, &one);
        last = fd;
        close(fd);
    }
    check("twenty sockets at one number, one after the other", right, "not");
    enum { MANY = 32 };
    int many[MANY];
    char line[64];
    for (int i = 0; i < MANY; i++) {
        many[i] = udp(AF_INET);
        snprintf(line, sizeof line, "socket %d", i);
        right &= send_to(many[i], line, i % 2 ? &two : &one);
    }
    for (int i = MANY; i-- > 0;) {
        snprintf(line, sizeof line, "socket %d", i);
        right &= comes_from(many[i], line, i % 2 ? &two : &one);
        close(many[i]);
    }
    check("many sockets at once", right, "not");
}

static void waits(void) {
    int fd = udp(AF_INET), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, seen;
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    char text[64];
    check("poll: a new socket can be written to", poll_one(fd, POLLIN | POLLOUT, 0) == POLLOUT, "not");
    GIVES("epoll: nothing there", 0, epoll_wait(set, &seen, 1, 0));
    check("sends", send_to(fd, "wait", &one), "not");
    GIVES("epoll: an answer", 1, epoll_wait(set, &seen, 1, PATIENCE_MS));
    GIVES("epoll: it is there still", 1, epoll_wait(set, &seen, 1, 0));
    GIVES("takes it", 4, recv(fd, text, sizeof text, 0));
    GIVES("epoll: it is gone", 0, epoll_wait(set, &seen, 1, 0));
    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
    check("sends again", send_to(fd, "edge", &two), "not");
    GIVES("epoll: an edge", 1, epoll_wait(set, &seen, 1, PATIENCE_MS));
    GIVES("epoll: one edge only", 0, epoll_wait(set, &seen, 1, 0));
    check("the answer", comes_from(fd, "edge", &two), "not");

    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    check("sends once more", send_to(fd, "select", &one), "not");
    GIVES("select", 1, select(fd + 1, &readable, NULL, NULL, &patience));
    check("what it saw", FD_ISSET(fd, &readable) && comes_from(fd, "select", &one), "not");

    struct timeval short_time = {.tv_usec = 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time);
    FAILS("a time limit", EAGAIN, recv(fd, text, sizeof text, 0));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    FAILS("a socket that does not block", EAGAIN, recv(fd, text, sizeof text, 0));
    check("it sends all the same", exchanges(fd, &two), "not");
    close(fd), close(set);
}

static volatile pid_t receiver;

static void *waits_for_one(void *socket) {
    char seen[64] = "";
    endpoint from = {.length = sizeof from.address};
    receiver = gettid();
    ssize_t got = recvfrom(*(int *)socket, seen, sizeof seen, 0, (void *)&from.address, &from.length);
    return got == 6 && !memcmp(seen, "asleep", 6) && is_from(&from, &two) ? socket : NULL;
}

static void *talks(void *unused) {
    (void)unused;
    int fd = udp(AF_INET), right = 1;
    for (int i = 0; i < 50; i++)
        right &= exchanges(fd, i % 2 ? &one : &two);
    close(fd);
    return right ? &one : NULL;
}

static void threads(void) {
    enum { MANY = 8 };
    pthread_t sleeper, many[MANY];
    int fd = udp(AF_INET), right = 1;
    void *came;
    pthread_create(&sleeper, NULL, waits_for_one, &fd);
    await_sleep(&receiver);
    check("a thread sends", send_to(fd, "asleep", &two), "not");
    pthread_join(sleeper, &came);
    check("another, asleep in recvfrom, receives", came != NULL, "not");
    close(fd);
    for (int i = 0; i < MANY; i++)
        pthread_create(&many[i], NULL, talks, NULL);
    for (int i = 0; i < MANY; i++) {
        pthread_join(many[i], &came);
        right &= came != NULL;
    }
    check("threads talk, each on its socket", right, "not");
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    one = endpoint_of("echo"), two = endpoint_of("second");
    copies();
    forks();
    handed_on();
    numbers();
    waits();
    threads();
    return done();
}
