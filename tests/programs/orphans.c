/* Calls while processes that nobody waits for end all the time: whoever adopts them is interrupted by each. */
#include "check.h"

#define ORPHANS 1000
#define CALLERS 2

static volatile int over;

/* Leaves one orphan after the other. */
static void leave_orphans(void) {
    for (int i = 0; i < ORPHANS; i++) {
        pid_t parent = fork();
        if (!parent) {
            fork();
            _exit(0);
        }
        if (parent < 0)
            give_up("fork: %s", strerror(errno));
        waitpid(parent, NULL, 0);
    }
    _exit(0);
}

/* The first errno that is not the kernel's for a socket with nothing to receive, or 0. */
static void *call_again_and_again(void *unused) {
    (void)unused;
    int pair[2];
    long error = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) ? errno : 0;
    while (!error && !over) {
        char text[8];
        struct iovec part = {text, sizeof text};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (recvmsg(pair[0], &message, MSG_DONTWAIT) != -1 || errno != EAGAIN)
            error = errno;
    }
    return (void *)error;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open");
    pthread_t callers[CALLERS];
    pid_t maker = fork();
    if (!maker)
        leave_orphans();
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&callers[i], NULL, call_again_and_again, NULL);
    int status = -1;
    waitpid(maker, &status, 0);
    over = 1;
    for (int i = 0; i < CALLERS; i++) {
        void *error;
        pthread_join(callers[i], &error);
        errno = (int)(long)error;
        check("calls are answered while orphans end", !error, SAW(-1));
    }
    GIVES("orphans were left", 0, status);
    int fd = tcp(AF_INET, 0);
    GIVES("afterwards a connect is answered", 0, connect_to(fd, &open));
    check("and echoes", echoes(fd), "no echo");
    return done();
}
