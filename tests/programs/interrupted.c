/* A blocking connect(2) that a signal or SO_SNDTIMEO ends early goes on in the background (connect(2), socket(7)). */
#include "check.h"
#include <sys/time.h>

static volatile sig_atomic_t signals;

static void count(int number) {
    (void)number;
    signals++;
}

static void on_signal(int flags) {
    struct sigaction action = {.sa_handler = count, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    signals = 0;
}

static pthread_t connecting;
static int release_afterwards;

static volatile pid_t connecting_tid;

/* Signals the thread once it sleeps in its system call. */
static void *interrupt(void *unused) {
    (void)unused;
    await_sleep(&connecting_tid);
    pthread_kill(connecting, SIGUSR1);
    while (!signals)
        sched_yield();
    if (release_afterwards)
        stage("release");
    return NULL;
}

static pthread_t interrupt_soon(int release) {
    pthread_t thread;
    connecting = pthread_self();
    connecting_tid = gettid();
    release_afterwards = release;
    if (pthread_create(&thread, NULL, interrupt, NULL))
        give_up("pthread_create");
    return thread;
}

static void interrupted_then_polled(endpoint held) {
    stage("hold");
    on_signal(0);
    int fd = tcp(AF_INET, 0);
    pthread_t thread = interrupt_soon(0);
    FAILS("a signal interrupts", EINTR, connect_to(fd, &held));
    pthread_join(thread, NULL);
    GIVES("not connected yet", 0, poll_one(fd, POLLOUT, 0));
    GIVES("no error yet", 0, socket_error(fd));
    FAILS("no sending yet, without waiting", EAGAIN, send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    endpoint peer = {.length = sizeof peer.address};
    FAILS("no peer yet", ENOTCONN, getpeername(fd, (void *)&peer.address, &peer.length));
    stage("release");
    GIVES("poll sees it through", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES("without error", 0, socket_error(fd));
    check("to the peer asked for", peer_is(fd, &held), "another peer");
    check("that echoes", echoes(fd), "no echo");
    GIVES("flags stay blocking", O_RDWR, fcntl(fd, F_GETFL));
    close(fd);
}

static void interrupted_then_connected_again(endpoint held) {
    stage("hold");
    on_signal(0);
    int fd = tcp(AF_INET, 0);
    pthread_t thread = interrupt_soon(1);
    FAILS("a signal interrupts again", EINTR, connect_to(fd, &held));
    GIVES("a second blocking call waits", 0, connect_to(fd, &held));
    pthread_join(thread, NULL);
    FAILS("a third says connected", EISCONN, connect_to(fd, &held));
    check("after the second it echoes", echoes(fd), "no echo");
    close(fd);
}

static void interrupted_then_refused(endpoint refused) {
    stage("hold");
    on_signal(0);
    int fd = tcp(AF_INET, 0);
    pthread_t thread = interrupt_soon(0);
    FAILS("a signal interrupts what will be refused", EINTR, connect_to(fd, &refused));
    pthread_join(thread, NULL);
    stage("release");
    int seen = poll_one(fd, POLLIN | POLLOUT, PATIENCE_MS);
    check("poll sees the refusal", (seen & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP), "events %#x", seen);
    GIVES("SO_ERROR says so", ECONNREFUSED, socket_error(fd));
    GIVES("once", 0, socket_error(fd));
    close(fd);
}

static void restarted(endpoint held) {
    stage("hold");
    on_signal(SA_RESTART);
    int fd = tcp(AF_INET, 0);
    pthread_t thread = interrupt_soon(1);
    GIVES("SA_RESTART goes on", 0, connect_to(fd, &held));
    check("the handler ran", signals == 1, "%d signals", (int)signals);
    pthread_join(thread, NULL);
    check("after the restart it echoes", echoes(fd), "no echo");
    close(fd);
}

static void timed_out(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    struct timeval little = {0, 200000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &little, sizeof little);
    long long begin = now_ms();
    FAILS("SO_SNDTIMEO ends the wait", EINPROGRESS, connect_to(fd, &held));
    long long took = now_ms() - begin;
    check("when it was set to", took >= 180 && took < 20000, "%lld ms", took);
    FAILS("the next call waits and says so", EALREADY, connect_to(fd, &held));
    GIVES("still not connected", 0, poll_one(fd, POLLOUT, 0));

    on_signal(SA_RESTART);
    struct timeval much = {30, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &much, sizeof much);
    pthread_t thread = interrupt_soon(0);
    FAILS("with a time-out set SA_RESTART is not honoured", EINTR, connect_to(fd, &held));
    pthread_join(thread, NULL);
    stage("release");
    GIVES("connects in the background", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("after the time-out it echoes", echoes(fd), "no echo");
    close(fd);

    fd = tcp(AF_INET, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &much, sizeof much);
    GIVES("a time-out that is long enough does not matter", 0, connect_to(fd, &held));
    struct timeval seen = {0};
    socklen_t length = sizeof seen;
    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &seen, &length);
    check("and stays", seen.tv_sec == 30, "%ld s", (long)seen.tv_sec);
    close(fd);
}

static void dissolved(endpoint held) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("begun", EINPROGRESS, connect_to(fd, &held));
    GIVES("AF_UNSPEC gives a pending connect up", 0, connect(fd, &none, sizeof none));
    stage("release");
    socket_error(fd);
    FAILS("begun again", EINPROGRESS, connect_to(fd, &held));
    GIVES("connected", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("after starting again it echoes", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    interrupted_then_polled(held);
    interrupted_then_connected_again(held);
    interrupted_then_refused(endpoint_of("heldrefused"));
    restarted(held);
    timed_out(held);
    dissolved(held);
    return done();
}
