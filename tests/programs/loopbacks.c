/*
 * Connections to loopback that are not there at once: the listener's queue is full. Those that wait, those that do not, time limits, signals, and
 * another thread that takes the connection back.
 */
#include "waiting.h"
#include <sys/syscall.h>

static endpoint at;
static int listener, first, fd;

/* A listener whose queue is full. */
static void fill(int family) {
    listener = loopback_listener(family, &at);
    listen(listener, 0);
    first = tcp(family, SOCK_CLOEXEC);
    if (connect_to(first, &at))
        give_up("the first of the queue: %s", strerror(errno));
    fd = tcp(family, SOCK_CLOEXEC);
}

static void drain(void) {
    close(accept(listener, NULL, NULL)), close(first);
}

static void end(void) {
    close(fd), close(listener);
}

static volatile pid_t connecter;
static int result, error;

static void *connects(void *nothing) {
    connecter = (pid_t)syscall(SYS_gettid);
    result = connect_to(fd, &at), error = errno;
    return nothing;
}

static pthread_t begin(void) {
    pthread_t thread;
    connecter = 0;
    pthread_create(&thread, NULL, connects, NULL);
    await_wait(&connecter);
    return thread;
}

static volatile sig_atomic_t signals;

static void counts(int signal) {
    (void)signal;
    signals++;
}

static char what[96];

static const char *named(int family, const char *name) {
    snprintf(what, sizeof what, "IPv%d: %s", family == AF_INET ? 4 : 6, name);
    return what;
}

static void waits(int family) {
    fill(family);
    pthread_t thread = begin();
    drain(), pthread_join(thread, NULL);
    check(named(family, "a blocking connect waits"), result == 0, "%s", strerrorname_np(error));
    FAILS(named(family, "another finds it connected"), EISCONN, connect_to(fd, &at));
    check(named(family, "its peer is the listener"), peer_is(fd, &at), "%s", "another");
    end();

    fill(family), fcntl(fd, F_SETFL, O_NONBLOCK);
    FAILS(named(family, "a non-blocking one does not"), EINPROGRESS, connect_to(fd, &at));
    FAILS(named(family, "nor does another"), EALREADY, connect_to(fd, &at));
    GIVES(named(family, "nor is it writable"), 0, poll_one(fd, POLLOUT, 0));
    FAILS(named(family, "nor has it a peer"), ENOTCONN, getpeername(fd, (void *)&(struct sockaddr_storage){0}, &(socklen_t){sizeof(struct sockaddr_storage)}));
    drain();
    GIVES(named(family, "it is later"), POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES(named(family, "without an error"), 0, socket_error(fd));
    GIVES(named(family, "a connect says so"), 0, connect_to(fd, &at));
    FAILS(named(family, "once"), EISCONN, connect_to(fd, &at));
    end();
}

static void gives_up(int family) {
    struct timeval limit = {.tv_usec = 100000};
    fill(family), setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    FAILS(named(family, "the time is over"), EINPROGRESS, connect_to(fd, &at));
    FAILS(named(family, "and once more"), EALREADY, connect_to(fd, &at));
    limit.tv_usec = 0, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    drain();
    GIVES(named(family, "without a limit it waits"), 0, connect_to(fd, &at));
    end();

    struct sigaction action = {.sa_handler = counts};
    sigaction(SIGUSR1, &action, NULL), signals = 0;
    fill(family);
    pthread_t thread = begin();
    pthread_kill(thread, SIGUSR1), pthread_join(thread, NULL);
    check(named(family, "a signal interrupts"), result == -1 && error == EINTR && signals == 1, "%d %s", result, strerrorname_np(error));
    drain();
    GIVES(named(family, "and it can be made again"), 0, connect_to(fd, &at));
    end();

    fill(family);
    thread = begin();
    endpoint none = {.address.ss_family = AF_UNSPEC, .length = sizeof(struct sockaddr)};
    /* The call may not have begun yet. */
    for (struct timespec pause = {.tv_nsec = 10000000}; pthread_tryjoin_np(thread, NULL); nanosleep(&pause, NULL))
        connect_to(fd, &none);
    /* Which error depends on the kernel. */
    check(named(family, "another thread takes it back"), result == -1, "%d", result);
    close(accept(listener, NULL, NULL)), close(first);
    GIVES(named(family, "and it connects again"), 0, connect_to(fd, &at));
    end();
}

static void *accepts(void *nothing) {
    drain();
    return nothing;
}

static ssize_t open_with(const char *data) {
    return sendto(fd, data, strlen(data), MSG_FASTOPEN, (const void *)&at.address, at.length);
}

/* MSG_FASTOPEN. */
static void opens(int family) {
    char seen[8] = "";
    pthread_t thread;
    fill(family), drain();
    GIVES(named(family, "a fast open"), 5, open_with("hello"));
    FAILS(named(family, "once"), EISCONN, open_with("again"));
    int accepted = accept(listener, NULL, NULL);
    GIVES(named(family, "its data arrives"), 5, recv(accepted, seen, sizeof seen, 0));
    check(named(family, "as it is"), !strcmp(seen, "hello"), "%s", seen);
    close(accepted), end();

    fill(family), drain(), fcntl(fd, F_SETFL, O_NONBLOCK);
    FAILS(named(family, "one that does not wait"), EINPROGRESS, open_with("hello"));
    GIVES(named(family, "is a connect"), POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES(named(family, "and can be sent on"), 5, send(fd, "hello", 5, 0));
    close(accept(listener, NULL, NULL)), end();

    fill(family), fcntl(fd, F_SETFL, 0);
    pthread_create(&thread, NULL, accepts, NULL);
    GIVES(named(family, "one that waits"), 5, open_with("hello"));
    pthread_join(thread, NULL), end();

    endpoint none = at, other = family == AF_INET ? parse_endpoint("[::1]:9") : parse_endpoint("127.0.0.1:9");
    none.address.ss_family = AF_UNSPEC;
    fd = tcp(family, SOCK_CLOEXEC);
    FAILS(named(family, "one to no family"), EOPNOTSUPP, sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&none.address, none.length));
    check(named(family, "one to another family"), sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&other.address, other.length) < 0, "%s", "sent");
    printf("%s\n", strerrorname_np(errno));
    close(fd), fd = tcp(family, SOCK_CLOEXEC);
    FAILS(named(family, "one to nobody"), ECONNREFUSED, open_with("hello"));
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    for (int family = AF_INET;; family = AF_INET6) {
        waits(family);
        gives_up(family);
        opens(family);
        close(fd = tcp(family, SOCK_CLOEXEC)), fd = tcp(family, SOCK_CLOEXEC);
        FAILS(named(family, "nobody listens"), ECONNREFUSED, connect_to(fd, &at));
        close(fd);
        if (family == AF_INET6)
            return done();
    }
}
