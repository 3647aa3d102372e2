/* Threads asleep in epoll_wait while others connect; epoll_pwait and epoll_pwait2; an epoll set of 200 sockets. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/syscall.h>

#define DATA 0x8badf00dfeedc0deULL
#define MANY 200

typedef int (*waiter)(int epoll, struct epoll_event *events, int room, int timeout_ms);

static int by_wait(int epoll, struct epoll_event *events, int room, int timeout_ms) {
    return epoll_wait(epoll, events, room, timeout_ms);
}

static int by_pwait(int epoll, struct epoll_event *events, int room, int timeout_ms) {
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait(epoll, events, room, timeout_ms, &none);
}

static int by_pwait2(int epoll, struct epoll_event *events, int room, int timeout_ms) {
    struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    return epoll_pwait2(epoll, events, room, timeout_ms < 0 ? NULL : &limit, NULL);
}

typedef struct {
    int epoll, result;
    waiter wait;
    struct epoll_event event;
    volatile pid_t tid;
} sleeper;

static void *sleep_in_wait(void *argument) {
    sleeper *self = argument;
    self->tid = gettid();
    self->result = self->wait(self->epoll, &self->event, 1, -1);
    return NULL;
}

static void control(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(epoll, operation, fd, &event))
        check("epoll_ctl", 0, "errno %s", strerrorname_np(errno));
}

/* The thread sleeps on an empty set; this one connects, then adds: it must wake for the true event only. */
static void asleep_before(const char *label, waiter wait, endpoint held, uint32_t mode) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    sleeper other = {.epoll = epoll_create1(0), .wait = wait, .result = -2};
    pthread_t thread;
    pthread_create(&thread, NULL, sleep_in_wait, &other);
    await_sleep(&other.tid);
    stage("hold");
    FAILS(NAMED("starts"), EINPROGRESS, connect_to(fd, &held));
    control(other.epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | mode, DATA);
    await_sleep(&other.tid);
    check(NAMED("sleeps on"), other.result == -2, "woke with %d", other.result);
    stage("release");
    pthread_join(thread, NULL);
    check(NAMED("wakes with the event"), other.result == 1 && other.event.events == EPOLLOUT && other.event.data.u64 == DATA, "%d, %#x, %#llx", other.result, other.event.events, (unsigned long long)other.event.data.u64);
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd), close(other.epoll);
}

/* The set holds the socket before the connect, edge-triggered and seen once: the sleeper has only new edges to wake for. */
static void registered_and_asleep(endpoint held) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    sleeper other = {.epoll = epoll_create1(0), .wait = by_wait, .result = -2};
    struct epoll_event first;
    control(other.epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, DATA);
    GIVES("registered: hung up at first", 1, epoll_wait(other.epoll, &first, 1, 0));
    pthread_t thread;
    pthread_create(&thread, NULL, sleep_in_wait, &other);
    await_sleep(&other.tid);
    stage("hold");
    FAILS("registered: starts", EINPROGRESS, connect_to(fd, &held));
    stage("release");
    pthread_join(thread, NULL);
    check("registered: wakes with the event", other.result == 1 && other.event.events == EPOLLOUT && other.event.data.u64 == DATA, "%d, %#x", other.result, other.event.events);
    GIVES("registered: and no error", 0, socket_error(fd));
    check("registered: echoes", echoes(fd), "no echo");
    close(fd), close(other.epoll);
}

static void time_outs(const char *label, waiter wait, endpoint held) {
    char name[96];
    struct epoll_event events[2];
    int epoll = epoll_create1(0), fd = tcp(AF_INET, SOCK_NONBLOCK), pipes[2];
    if (pipe(pipes))
        give_up("pipe");
    stage("hold");
    connect_to(fd, &held);
    control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 1);
    control(epoll, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 2);
    GIVES(NAMED("nothing at once"), 0, wait(epoll, events, 2, 0));
    long long started = now_ms();
    GIVES(NAMED("times out"), 0, wait(epoll, events, 2, 150));
    long long took = now_ms() - started;
    check(NAMED("takes its time"), took >= 149 && took < 20000, "%lld ms", took);
    if (write(pipes[1], "x", 1) != 1)
        give_up("write");
    GIVES(NAMED("another descriptor wakes it"), 1, wait(epoll, events, 2, -1));
    check(NAMED("and is the one"), events[0].data.u64 == 2 && events[0].events == EPOLLIN, "%#x %#llx", events[0].events, (unsigned long long)events[0].data.u64);
    FAILS(NAMED("no room"), EINVAL, wait(epoll, events, 0, 0));
    FAILS(NAMED("no epoll"), EINVAL, wait(pipes[0], events, 1, 0));
    FAILS(NAMED("no descriptor"), EBADF, wait(-1, events, 1, 0));
    stage("release");
    control(epoll, EPOLL_CTL_DEL, pipes[0], 0, 0);
    GIVES(NAMED("wakes without a time-out"), 1, wait(epoll, events, 2, -1));
    check(NAMED("with the socket"), events[0].data.u64 == 1 && events[0].events == EPOLLOUT, "%#x", events[0].events);
    close(fd), close(epoll), close(pipes[0]), close(pipes[1]);
}

static void many(endpoint held, uint32_t mode) {
    static int fds[MANY];
    static char seen[MANY];
    struct epoll_event events[7]; /* fewer than there are: leftovers must come in the next call */
    int epoll = epoll_create1(0), ready = 0, echoed = 0;
    memset(seen, 0, sizeof seen);
    stage("hold");
    for (int i = 0; i < MANY; i++) {
        fds[i] = tcp(AF_INET, SOCK_NONBLOCK);
        if (i % 2)
            control(epoll, EPOLL_CTL_ADD, fds[i], EPOLLOUT | mode, (uint64_t)i);
        if (connect_to(fds[i], &held) != -1 || errno != EINPROGRESS)
            check("many: starts", 0, "errno %s", strerrorname_np(errno));
        if (i % 2 == 0)
            control(epoll, EPOLL_CTL_ADD, fds[i], EPOLLOUT | mode, (uint64_t)i);
    }
    GIVES("many: none ready", 0, epoll_wait(epoll, events, 7, 0));
    stage("release");
    while (ready < MANY) {
        int count = epoll_wait(epoll, events, 7, -1);
        if (count <= 0) {
            check("many: epoll_wait without a time-out", 0, SAW(count));
            break;
        }
        for (int i = 0; i < count; i++) {
            uint64_t which = events[i].data.u64;
            if (which >= MANY || events[i].events != EPOLLOUT || seen[which]++) {
                check("many: each event once, with its data", 0, "%#x %llu", events[i].events, (unsigned long long)which);
                ready = MANY;
                break;
            }
            control(epoll, EPOLL_CTL_MOD, fds[which], EPOLLIN, which);
            ready++;
        }
    }
    for (int i = 0; i < MANY; i++) {
        echoed += echoes(fds[i]);
        close(fds[i]);
    }
    GIVES("many: all echo", MANY, echoed);
    close(epoll);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    asleep_before("asleep in epoll_wait", by_wait, held, 0);
    asleep_before("asleep in epoll_wait, edge", by_wait, held, EPOLLET);
    asleep_before("asleep in epoll_pwait", by_pwait, held, EPOLLONESHOT);
    asleep_before("asleep in epoll_pwait2", by_pwait2, held, 0);
    registered_and_asleep(held);
    time_outs("epoll_wait", by_wait, held);
    time_outs("epoll_pwait", by_pwait, held);
    time_outs("epoll_pwait2", by_pwait2, held);
    many(held, 0);
    many(held, EPOLLET);
    return done();
}
