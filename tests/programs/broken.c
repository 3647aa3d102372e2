/*
 * Sends with an address on TCP sockets that are closed for writing: the error, and the signal that goes with it.
 */
#include "check.h"
#include <sys/syscall.h>

static endpoint far;
static int client;
static volatile sig_atomic_t signals;
static volatile pid_t signalled;

static ssize_t push(int flags) {
    return sendto(client, "x", 1, flags, (const void *)&far.address, far.length);
}

static void counts(int signal) {
    (void)signal;
    signals++, signalled = (pid_t)syscall(SYS_gettid);
}

static void *pushes(void *nothing) {
    FAILS("a broken pipe", EPIPE, push(0));
    while (!signals)
        sched_yield();
    GIVES("has its signal in its thread", syscall(SYS_gettid), signalled);
    FAILS("a broken pipe, quietly", EPIPE, push(MSG_NOSIGNAL));
    GIVES("has none", 1, signals);
    return nothing;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    far = endpoint_of("open");
    endpoint at;
    int listener = loopback_listener(AF_INET, &at);
    client = tcp(AF_INET, SOCK_CLOEXEC);
    if (connect_to(client, &at) || shutdown(client, SHUT_WR))
        give_up("a connection on loopback: %s", strerror(errno));
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        struct sigaction action = {.sa_handler = counts, .sa_flags = flags};
        pthread_t thread;
        sigaction(SIGPIPE, &action, NULL);
        signals = 0;
        pthread_create(&thread, NULL, pushes, NULL);
        pthread_join(thread, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    FAILS("a broken pipe that nobody minds", EPIPE, push(0));
    pid_t child = fork();
    if (!child) {
        alarm(WATCHDOG_SECONDS);
        signal(SIGPIPE, SIG_DFL);
        push(0);
        /* The signal may come a little later than the answer. */
        pause();
    }
    int status = 0;
    waitpid(child, &status, 0);
    check("it ends who does not look", WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE, "status %x", status);
    close(client), close(listener);
    client = tcp(AF_INET, SOCK_CLOEXEC);
    FAILS("one that was never connected", EPIPE, push(0));
    return done();
}
