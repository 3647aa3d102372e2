/*
 * Waiting for data, not for the connection: a pending socket that is registered for reading only stays silent when it
 * connects and speaks when the server does. Also several waiters on one socket, and an epoll set inside another.
 */
#include "check.h"
#include <sys/epoll.h>
#include <sys/select.h>

#define DATA 0x8badf00dfeedc0deULL

static endpoint held, held_banner;

static int begin(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, to) != -1 || errno != EINPROGRESS)
        check("a connect begins", 0, "errno %s", strerrorname_np(errno));
    return fd;
}

static void add(int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        check("epoll_ctl", 0, "errno %s", strerrorname_np(errno));
}

static int says_hello(int fd) {
    char text[11];
    return recv(fd, text, sizeof text, MSG_WAITALL) == sizeof text && !memcmp(text, "220 hello\r\n", 11);
}

/* The server says nothing first: the connect itself must wake nobody. */
static void silent_server(void) {
    stage("hold");
    int fd = begin(&held), epoll = epoll_create1(0);
    struct epoll_event event = {0};
    add(epoll, fd, EPOLLIN, DATA);
    stage("release");
    while (!peer_is(fd, &held))
        sched_yield();
    GIVES("connected: epoll has nothing to read", 0, epoll_wait(epoll, &event, 1, 100));
    GIVES("connected: poll has nothing to read", 0, poll_one(fd, POLLIN, 100));
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd, &in);
    struct timeval limit = {0, 100000};
    GIVES("connected: select has nothing to read", 0, select(fd + 1, &in, NULL, NULL, &limit));
    send(fd, "x", 1, 0);
    GIVES("the answer wakes epoll", 1, epoll_wait(epoll, &event, 1, -1));
    check("as data", event.events == EPOLLIN && event.data.u64 == DATA, "%#x", event.events);
    close(fd), close(epoll);
}

/* One call sleeps from before the connect is done until the banner comes. */
static void *release_later(void *unused) {
    (void)unused;
    stage("release");
    return NULL;
}

static void banner_by_epoll(const char *label, uint32_t mode) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    pthread_t thread;
    struct epoll_event event = {0};
    stage("hold");
    int fd = begin(&held_banner), epoll = epoll_create1(0);
    add(epoll, fd, EPOLLIN | mode, DATA);
    pthread_create(&thread, NULL, release_later, NULL);
    GIVES(NAMED("epoll sleeps through to the banner"), 1, epoll_wait(epoll, &event, 1, -1));
    check(NAMED("as data"), event.events == EPOLLIN && event.data.u64 == DATA, "%#x", event.events);
    check(NAMED("which is whole"), says_hello(fd), "it is not");
    GIVES(NAMED("and all"), 0, epoll_wait(epoll, &event, 1, 0));
    pthread_join(thread, NULL);
    close(fd), close(epoll);
}

static void banner_by_poll(void) {
    pthread_t thread;
    stage("hold");
    int fd = begin(&held_banner);
    pthread_create(&thread, NULL, release_later, NULL);
    GIVES("poll sleeps through to the banner", POLLIN, poll_one(fd, POLLIN, -1));
    check("poll's banner is whole", says_hello(fd), "it is not");
    pthread_join(thread, NULL);
    close(fd);

    fd_set in;
    stage("hold");
    fd = begin(&held_banner);
    FD_ZERO(&in);
    FD_SET(fd, &in);
    pthread_create(&thread, NULL, release_later, NULL);
    GIVES("select sleeps through to the banner", 1, select(fd + 1, &in, NULL, NULL, NULL));
    check("select's banner is whole", says_hello(fd), "it is not");
    pthread_join(thread, NULL);
    close(fd);
}

static int shared;

static void *poll_shared(void *unused) {
    (void)unused;
    return (void *)(long)poll_one(shared, POLLOUT, PATIENCE_MS);
}

static void *wait_shared(void *epoll) {
    struct epoll_event event = {0};
    int count = epoll_wait(*(int *)epoll, &event, 1, PATIENCE_MS);
    return (void *)(long)(count == 1 && event.data.u64 == DATA ? (int)event.events : -1);
}

static void several_waiters(void) {
    enum { EACH = 8 };
    pthread_t threads[2 * EACH];
    int epolls[EACH], good = 0;
    stage("hold");
    shared = begin(&held);
    for (int i = 0; i < EACH; i++) {
        epolls[i] = i % 2 ? epolls[i - 1] : epoll_create1(0); /* two threads in each set */
        if (i % 2 == 0)
            add(epolls[i], shared, EPOLLOUT, DATA);
        pthread_create(&threads[2 * i], NULL, poll_shared, NULL);
        pthread_create(&threads[2 * i + 1], NULL, wait_shared, &epolls[i]);
    }
    stage("release");
    for (int i = 0; i < 2 * EACH; i++) {
        void *seen;
        pthread_join(threads[i], &seen);
        good += (long)seen == POLLOUT;
    }
    GIVES("all who wait are told", 2 * EACH, good);
    check("the shared socket echoes", echoes(shared), "no echo");
    close(shared);
    for (int i = 0; i < EACH; i += 2)
        close(epolls[i]);
}

static void set_in_a_set(uint32_t mode) {
    struct epoll_event event = {0};
    stage("hold");
    int fd = begin(&held), inner = epoll_create1(0), outer = epoll_create1(0);
    add(inner, fd, EPOLLOUT | mode, DATA);
    add(outer, inner, EPOLLIN, 7);
    GIVES("outer set is silent", 0, epoll_wait(outer, &event, 1, 50));
    stage("release");
    GIVES("outer set tells", 1, epoll_wait(outer, &event, 1, PATIENCE_MS));
    check("of the inner one", event.data.u64 == 7 && event.events == EPOLLIN, "%#x", event.events);
    GIVES("inner set tells", 1, epoll_wait(inner, &event, 1, 0));
    check("of the socket", event.data.u64 == DATA && event.events == EPOLLOUT, "%#x", event.events);
    close(fd), close(inner), close(outer);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held"), held_banner = held;
    endpoint banner = endpoint_of("banner");
    ((struct sockaddr_in *)&held_banner.address)->sin_port = ((struct sockaddr_in *)&banner.address)->sin_port;
    silent_server();
    banner_by_epoll("level", 0);
    banner_by_epoll("edge", EPOLLET);
    banner_by_epoll("one-shot", EPOLLONESHOT);
    banner_by_poll();
    several_waiters();
    set_in_a_set(0);
    set_in_a_set(EPOLLET);
    return done();
}
