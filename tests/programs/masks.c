/* Signals and the waiting calls while a connect is pending: EINTR, the temporary masks of ppoll, pselect, epoll_pwait. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/select.h>

static volatile sig_atomic_t handled;
static int pending, epoll;
static sigset_t nothing, all;

static void count(int number) {
    (void)number;
    handled++;
}

static int by_ppoll(const sigset_t *mask) {
    struct pollfd one = {.fd = pending, .events = POLLOUT};
    struct timespec limit = {1, 0};
    return ppoll(&one, 1, &limit, mask);
}

static int by_pselect(const sigset_t *mask) {
    struct timespec limit = {1, 0};
    fd_set out;
    FD_ZERO(&out);
    FD_SET(pending, &out);
    return pselect(pending + 1, NULL, &out, NULL, &limit, mask);
}

static int by_epoll_pwait(const sigset_t *mask) {
    struct epoll_event event;
    return epoll_pwait(epoll, &event, 1, 1000, mask);
}

static int by_epoll_pwait2(const sigset_t *mask) {
    struct epoll_event event;
    struct timespec limit = {1, 0};
    return epoll_pwait2(epoll, &event, 1, &limit, mask);
}

/* The signal is blocked and waiting: only a call that unblocks it for its own time sees it. */
static void with_mask(const char *label, int (*wait)(const sigset_t *)) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    sigset_t now;
    sigprocmask(SIG_BLOCK, &all, NULL);
    handled = 0;
    raise(SIGUSR1);
    FAILS(NAMED("its mask lets the signal in"), EINTR, wait(&nothing));
    GIVES(NAMED("the handler ran once"), 1, handled);
    sigprocmask(SIG_BLOCK, NULL, &now);
    check(NAMED("the old mask is back"), sigismember(&now, SIGUSR1) == 1, "it is not");

    raise(SIGUSR1);
    long long begin = now_ms();
    GIVES(NAMED("a mask that blocks it"), 0, wait(&all));
    check(NAMED("lasts its time"), now_ms() - begin >= 990, "%lld ms", now_ms() - begin);
    GIVES(NAMED("and lets nothing in"), 1, handled);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    GIVES(NAMED("which comes afterwards"), 2, handled);
}

static pthread_t waiting;
static volatile pid_t waiting_tid;

/* Signals the waiting thread once it sleeps. */
static void *interrupt(void *unused) {
    (void)unused;
    await_sleep(&waiting_tid);
    pthread_kill(waiting, SIGUSR1);
    return NULL;
}

static void interrupted(const char *name, int how) {
    pthread_t thread;
    struct epoll_event event;
    fd_set out;
    FD_ZERO(&out);
    FD_SET(pending, &out);
    handled = 0;
    pthread_create(&thread, NULL, interrupt, NULL);
    if (how == 0)
        FAILS(name, EINTR, poll_one(pending, POLLOUT, -1));
    else if (how == 1)
        FAILS(name, EINTR, select(pending + 1, NULL, &out, NULL, NULL));
    else
        FAILS(name, EINTR, epoll_wait(epoll, &event, 1, -1));
    pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    /* None of these calls is restarted, whatever the action says (signal(7)). */
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&nothing);
    sigemptyset(&all);
    sigaddset(&all, SIGUSR1);
    waiting = pthread_self(), waiting_tid = gettid();

    stage("hold");
    pending = tcp(AF_INET, SOCK_NONBLOCK), epoll = epoll_create1(0);
    FAILS("starts", EINPROGRESS, connect_to(pending, &held));
    struct epoll_event event = {.events = EPOLLOUT};
    epoll_ctl(epoll, EPOLL_CTL_ADD, pending, &event);
    with_mask("ppoll", by_ppoll);
    with_mask("pselect", by_pselect);
    with_mask("epoll_pwait", by_epoll_pwait);
    with_mask("epoll_pwait2", by_epoll_pwait2);
    interrupted("a signal interrupts poll", 0);
    interrupted("a signal interrupts select", 1);
    interrupted("a signal interrupts epoll_wait", 2);
    stage("release");
    GIVES("connects in the end", POLLOUT, poll_one(pending, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(pending), "no echo");
    return done();
}
