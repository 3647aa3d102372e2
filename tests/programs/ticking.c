/* A connect that does not block, to `to=HOST:PORT`, in a program that a timer signals ten times a second (SA_RESTART). */
#include "check.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void count(int number) {
    (void)number;
    ticks++;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    struct itimerval tick = {{0, 100000}, {0, 100000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
    endpoint to = endpoint_of("to");
    int fd = tcp(to.address.ss_family, SOCK_NONBLOCK);
    int error = connect_to(fd, &to) ? errno : 0, ready = 0;
    if (error == EINPROGRESS) {
        do
            ready = poll_one(fd, POLLOUT, PATIENCE_MS);
        while (ready == -1 && errno == EINTR);
        error = ready == POLLOUT ? socket_error(fd) : EINPROGRESS;
    }
    struct itimerval never = {0};
    setitimer(ITIMER_REAL, &never, NULL);
    check("connects", error == 0, "%s", strerrorname_np(error));
    check("has the peer asked for", peer_is(fd, &to), "another");
    check("echoes", echoes(fd), "no echo");
    check("was signalled", ticks > 0, "never");
    return done();
}
