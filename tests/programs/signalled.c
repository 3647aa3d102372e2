/*
 * O_ASYNC (fcntl(2)) on a socket that connects: the signal comes when the connect has succeeded, or failed, and not before; to whom it is meant for, with
 * what it is to say; and afterwards it tells of data.
 */
#include "watched.h"
#include <sys/ioctl.h>
#include <sys/syscall.h>

static endpoint held, refused;

enum { BY_FLAG = 1, BY_IOCTL = 2, WHILE_PENDING = 4, FAILS_TO = 8, OWN_SIGNAL = 16, TO_THREAD = 32, TO_GROUP = 64 };

static char name[160];
#define NAMED(what) (snprintf(name, sizeof name, "%s: %s", how, what), name)

static void make_async(int fd, int ways) {
    struct f_owner_ex thread = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
    int on = 1;
    int failed = ways & TO_THREAD ? fcntl(fd, F_SETOWN_EX, &thread) : fcntl(fd, F_SETOWN, ways & TO_GROUP ? -getpgrp() : getpid());
    if (ways & OWN_SIGNAL)
        failed |= fcntl(fd, F_SETSIG, SIGRTMIN + 1);
    failed |= ways & BY_IOCTL ? ioctl(fd, FIOASYNC, &on) : fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
    if (failed)
        give_up("O_ASYNC: %s", strerror(errno));
}

/* The next signal within so many milliseconds; 0: none. */
static int next(siginfo_t *info, int milliseconds) {
    sigset_t set;
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    sigemptyset(&set), sigaddset(&set, SIGIO), sigaddset(&set, SIGRTMIN + 1);
    int number = sigtimedwait(&set, info, &time);
    return number < 0 ? 0 : number;
}

static void drain(void) {
    siginfo_t info;
    while (next(&info, 0)) {
    }
}

/* Waits for a signal that says this, however many come. */
static int is_told(int fd, int ways, int code, long band) {
    siginfo_t info = {0};
    while (next(&info, PATIENCE_MS)) {
        if (!(ways & OWN_SIGNAL))
            return info.si_signo == SIGIO;
        if (info.si_signo == SIGRTMIN + 1 && info.si_code == code && info.si_fd == fd && info.si_band & band)
            return 1;
    }
    return 0;
}

static void connects(const char *how, int ways) {
    siginfo_t info;
    const endpoint *to = ways & FAILS_TO ? &refused : &held;
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (!(ways & WHILE_PENDING))
        make_async(fd, ways);
    drain();
    FAILS(NAMED("begins"), EINPROGRESS, connect_to(fd, to));
    if (ways & WHILE_PENDING)
        make_async(fd, ways);
    check(NAMED("has the flag"), fcntl(fd, F_GETFL) & O_ASYNC, "not");
    GIVES(NAMED("is silent while it is pending"), 0, next(&info, 200));
    stage("release");
    if (ways & FAILS_TO) {
        check(NAMED("is told"), is_told(fd, ways, POLL_ERR, POLLERR), "not");
        check(NAMED("has failed"), poll_one(fd, POLLOUT, 0) & POLLHUP, "not");
        GIVES(NAMED("and says why"), ECONNREFUSED, socket_error(fd));
        close(fd);
        return;
    }
    check(NAMED("is told"), is_told(fd, ways, POLL_OUT, POLLOUT), "not");
    GIVES(NAMED("is connected"), POLLOUT, poll_one(fd, POLLOUT, 0));
    GIVES(NAMED("without an error"), 0, socket_error(fd));
    check(NAMED("has the flag still"), fcntl(fd, F_GETFL) & O_ASYNC, "not");
    drain();
    GIVES(NAMED("sends"), 5, send(fd, "hello", 5, MSG_NOSIGNAL));
    check(NAMED("is told of the answer"), is_told(fd, ways, POLL_IN, POLLIN), "not");
    check(NAMED("which comes back"), comes_back(fd, "hello"), "not");
    close(fd);
}

/* Who wants none is told nothing. */
static void is_off_again(void) {
    siginfo_t info;
    int off = 0;
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    make_async(fd, BY_FLAG);
    drain();
    FAILS("off again: begins", EINPROGRESS, connect_to(fd, &held));
    ioctl(fd, FIOASYNC, &off);
    check("off again: has no flag", !(fcntl(fd, F_GETFL) & O_ASYNC), "it has");
    stage("release");
    GIVES("off again: connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("off again: has no flag still", !(fcntl(fd, F_GETFL) & O_ASYNC), "it has");
    GIVES("off again: is silent", 0, next(&info, 200));
    close(fd);
}

/* A service that speaks first is heard, too. */
static void hears_the_first_word(void) {
    const char *how = "a service that speaks first";
    endpoint banner = endpoint_of("banner");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    make_async(fd, BY_FLAG | OWN_SIGNAL);
    drain();
    FAILS(NAMED("begins"), EINPROGRESS, connect_to(fd, &banner));
    check(NAMED("is told"), is_told(fd, OWN_SIGNAL, POLL_OUT, POLLOUT), "not");
    check(NAMED("is told of data"), is_told(fd, OWN_SIGNAL, POLL_IN, POLLIN), "not");
    check(NAMED("has data"), poll_one(fd, POLLIN, 0) & POLLIN, "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    setpgid(0, 0);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGIO), sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    held = endpoint_of("held"), refused = endpoint_of("heldrefused");
    connects("a flag", BY_FLAG);
    connects("an ioctl", BY_IOCTL);
    connects("a signal of its own", BY_FLAG | OWN_SIGNAL);
    connects("for a thread", BY_FLAG | OWN_SIGNAL | TO_THREAD);
    connects("for a group", BY_FLAG | TO_GROUP);
    connects("refused", BY_FLAG | FAILS_TO);
    connects("refused, a signal of its own", BY_FLAG | OWN_SIGNAL | FAILS_TO);
    connects("while pending", BY_FLAG | WHILE_PENDING | OWN_SIGNAL);
    connects("an ioctl while pending", BY_IOCTL | WHILE_PENDING);
    connects("refused, while pending", BY_FLAG | WHILE_PENDING | OWN_SIGNAL | FAILS_TO);
    is_off_again();
    hears_the_first_word();
    return done();
}
