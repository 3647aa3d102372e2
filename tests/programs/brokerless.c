/*
 * Under presocks only: this program kills its broker (its parent process) while one connection stands, one is pending
 * in poll, one in epoll, one in a blocked thread, and then looks at each, at new ones and at names.
 */
#include "check.h"
#include <netdb.h>
#include <sys/epoll.h>

static endpoint held;
static volatile pid_t blocked_tid;

static int unusable(int fd) {
    return send(fd, "stray", 5, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 && (errno == EPIPE || errno == ENOTCONN);
}

static int begin(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, to) != -1 || errno != EINPROGRESS)
        check("a connect begins", 0, "errno %s", strerrorname_np(errno));
    return fd;
}

typedef struct {
    int fd, result, error;
} blocked;

static void *block(void *argument) {
    blocked *self = argument;
    blocked_tid = gettid();
    self->result = connect_to(self->fd, &held);
    self->error = errno;
    return NULL;
}

static void kill_broker(void) {
    pid_t broker = getppid();
    if (kill(broker, SIGKILL))
        give_up("cannot kill the broker: %s", strerror(errno));
    while (getppid() == broker)
        sched_yield();
}

static void pending_failed(const char *name, int fd) {
    int error = socket_error(fd);
    check(name, error == ENETUNREACH, "SO_ERROR %s", error ? strerrorname_np(error) : "0");
    check(name, unusable(fd), "it takes bytes");
    close(fd);
}

static void new_ones_fail(endpoint open, endpoint open6) {
    int fd = tcp(AF_INET, 0);
    FAILS("a new blocking connect", ENETUNREACH, connect_to(fd, &open));
    check("a new blocking connect leaves nothing usable", unusable(fd), "it takes bytes");
    close(fd);
    fd = tcp(AF_INET6, 0);
    FAILS("a new IPv6 connect", ENETUNREACH, connect_to(fd, &open6));
    close(fd);
    fd = tcp(AF_INET, SOCK_NONBLOCK);
    int result = connect_to(fd, &open), error = errno;
    if (result == -1 && error == EINPROGRESS) {
        poll_one(fd, POLLOUT, PATIENCE_MS);
        error = socket_error(fd);
    }
    check("a new non-blocking connect", result == -1 && error == ENETUNREACH, "errno %s", strerrorname_np(error));
    check("a new non-blocking connect leaves nothing usable", unusable(fd), "it takes bytes");
    close(fd);
    fd = tcp(AF_INET, 0);
    result = (int)sendto(fd, "early", 5, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&open.address, open.length);
    check("a new fast open", result == -1 && errno == ENETUNREACH, SAW(result));
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    result = (int)sendto(fd, "x", 1, 0, (void *)&open.address, open.length);
    check("a datagram", result == -1 && errno == ENETUNREACH, SAW(result));
    close(fd);

    struct addrinfo *list = NULL;
    int failed = getaddrinfo(argument("name"), "80", NULL, &list);
    check("a name", failed == EAI_AGAIN || failed == EAI_FAIL, "getaddrinfo returned %d", failed);
    failed = getaddrinfo("never-asked-before.test", "80", NULL, &list);
    check("a new name", failed == EAI_AGAIN || failed == EAI_FAIL, "getaddrinfo returned %d", failed);
    check("gethostbyname", !gethostbyname("asked-late.test") && (h_errno == TRY_AGAIN || h_errno == NO_RECOVERY), "h_errno %d", h_errno);
}

static void local_ones_work(void) {
    endpoint at;
    int listener = loopback_listener(AF_INET, &at), fd = tcp(AF_INET, 0);
    GIVES("loopback still connects", 0, connect_to(fd, &at));
    close(fd), close(listener);
    struct addrinfo *list = NULL;
    GIVES("numbers need no broker", 0, getaddrinfo("192.0.2.1", "80", NULL, &list));
    if (list)
        freeaddrinfo(list);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held");
    endpoint open = endpoint_of("open");
    int standing = tcp(AF_INET, 0);
    GIVES("a connection stands", 0, connect_to(standing, &open));
    check("and echoes", echoes(standing), "no echo");

    stage("hold");
    int in_poll = begin(&held), in_epoll = begin(&held), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.u64 = 42};
    epoll_ctl(epoll, EPOLL_CTL_ADD, in_epoll, &event);
    blocked other = {.fd = tcp(AF_INET, 0)};
    pthread_t thread;
    pthread_create(&thread, NULL, block, &other);
    await_sleep(&blocked_tid);
    GIVES("one is pending", 0, poll_one(in_poll, POLLOUT, 0));
    kill_broker();

    int seen = poll_one(in_poll, POLLOUT, PATIENCE_MS);
    check("poll shows the failure", seen > 0 && (seen & POLLERR), "events %#x", seen);
    pending_failed("pending in poll", in_poll);
    int count = epoll_wait(epoll, &event, 1, PATIENCE_MS);
    check("epoll shows the failure", count == 1 && event.data.u64 == 42 && (event.events & EPOLLERR), "%d events, %#x", count, event.events);
    pending_failed("pending in epoll", in_epoll);
    pthread_join(thread, NULL);
    check("the blocked connect fails", other.result == -1 && other.error == ENETUNREACH, "returned %d, errno %s", other.result, strerrorname_np(other.error));
    check("the blocked connect leaves nothing usable", unusable(other.fd), "it takes bytes");
    stage("release");

    check("the standing connection still echoes", echoes(standing), "no echo");
    new_ones_fail(open, endpoint_of("open6"));
    local_ones_work();
    return done();
}
