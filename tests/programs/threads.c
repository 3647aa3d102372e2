/* Threads: many at once, small stacks, cancellation, connects inside signal handlers. */
#include "check.h"
#include <limits.h>
#include <sys/epoll.h>

#define THREADS 50
#define ROUNDS 20

static endpoint open_at, held_at;

static void *connect_and_echo(void *argument) {
    long good = 0, nonblocking = (long)argument % 2;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = tcp(AF_INET, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
        int result = connect_to(fd, &open_at);
        if (nonblocking && result == -1 && errno == EINPROGRESS)
            result = poll_one(fd, POLLOUT, PATIENCE_MS) == POLLOUT ? socket_error(fd) : -1;
        good += result == 0 && peer_is(fd, &open_at) && echoes(fd);
        close(fd);
    }
    return (void *)good;
}

static void many(void) {
    pthread_t threads[THREADS];
    long good = 0;
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, connect_and_echo, (void *)i))
            give_up("pthread_create");
    for (int i = 0; i < THREADS; i++) {
        void *each;
        pthread_join(threads[i], &each);
        good += (long)each;
    }
    GIVES("fifty threads, twenty connects each", THREADS * ROUNDS, good);
}

/* On the smallest stack there is: a hook that needs more than a few KiB runs into the guard page. */
static void *on_small_stack(void *unused) {
    (void)unused;
    int fd = tcp(AF_INET, 0);
    long result = connect_to(fd, &open_at);
    close(fd);
    if (result)
        return (void *)1;
    fd = tcp(AF_INET, SOCK_NONBLOCK);
    connect_to(fd, &open_at);
    struct epoll_event event = {.events = EPOLLOUT};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    result = epoll_wait(epoll, &event, 1, PATIENCE_MS) != 1 || poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT || socket_error(fd);
    close(fd), close(epoll);
    return (void *)result;
}

static void small_stack(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int set = pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    pthread_t thread;
    void *result = (void *)-1;
    if (set || pthread_create(&thread, &attributes, on_small_stack, NULL))
        give_up("small stack");
    pthread_join(thread, &result);
    GIVES("a 16 KiB stack is enough", 0, (long)result);
}

typedef struct {
    int how, fd, cleaned;
    volatile pid_t tid;
} victim;

static void note_cleaned(void *argument) {
    ((victim *)argument)->cleaned = 1;
}

static void *block(void *argument) {
    victim *self = argument;
    struct epoll_event event = {.events = EPOLLOUT};
    int epoll = epoll_create1(0);
    pthread_cleanup_push(note_cleaned, self);
    if (self->how) {
        connect_to(self->fd, &held_at);
        epoll_ctl(epoll, EPOLL_CTL_ADD, self->fd, &event);
    }
    self->tid = gettid();
    if (self->how == 0)
        connect_to(self->fd, &held_at);
    else if (self->how == 1)
        poll_one(self->fd, POLLOUT, -1);
    else
        epoll_wait(epoll, &event, 1, -1);
    pthread_cleanup_pop(0);
    return NULL;
}

/* connect, poll and epoll_wait are cancellation points: a blocked thread must end, its clean-up handlers run. */
static void cancelled(const char *name, int how) {
    victim self = {.how = how, .fd = tcp(AF_INET, how ? SOCK_NONBLOCK : 0)};
    pthread_t thread;
    void *result = NULL;
    stage("hold");
    pthread_create(&thread, NULL, block, &self);
    await_sleep(&self.tid);
    pthread_cancel(thread);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    int joined = pthread_timedjoin_np(thread, &result, &limit);
    check(name, joined == 0 && result == PTHREAD_CANCELED && self.cleaned, "join %d, result %p, clean-up %d", joined, result, self.cleaned);
    stage("release");
    close(self.fd);
}

static volatile sig_atomic_t handled;

static void connect_in_handler(int number) {
    (void)number;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    handled = fd >= 0 && connect(fd, (const void *)&open_at.address, open_at.length) == 0 ? 1 : -1;
    close(fd);
}

static void *signal_main(void *argument) {
    pthread_kill(*(pthread_t *)argument, SIGUSR2);
    return NULL;
}

static void in_handler(void) {
    struct sigaction action = {.sa_handler = connect_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    GIVES("connects in a signal handler", 1, handled);

    /* The handler runs while this thread is inside poll, with a connect of its own pending. */
    handled = 0;
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("starts", EINPROGRESS, connect_to(fd, &held_at));
    pthread_t self = pthread_self(), thread;
    pthread_create(&thread, NULL, signal_main, &self);
    int seen;
    do
        seen = poll_one(fd, POLLOUT, 20);
    while (!handled);
    check("poll is interrupted or times out", seen <= 0, "events %#x", seen);
    GIVES("connects in a handler inside poll", 1, handled);
    pthread_join(thread, NULL);
    stage("release");
    GIVES("the pending one goes on", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(fd), "no echo");
    close(fd);

    /* A small alternate stack, as Go's and Java's run-times use. */
    static char stack[16384];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    handled = 0;
    raise(SIGUSR2);
    GIVES("connects in a handler on its own stack", 1, handled);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    open_at = endpoint_of("open");
    held_at = endpoint_of("held");
    many();
    small_stack();
    cancelled("connect is a cancellation point", 0);
    cancelled("poll is a cancellation point", 1);
    cancelled("epoll_wait is a cancellation point", 2);
    in_handler();
    return done();
}
