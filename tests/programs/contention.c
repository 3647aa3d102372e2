/*
 * Several hands on one pending socket: forks while other threads look at it, a signal handler on top of a look, loop threads that sleep in
 * the set in which it was registered before it connects, and a set that is shared with a child.
 */
#include "check.h"
#include <sys/epoll.h>
#include <sys/time.h>

#define DATA 0x8badf00dfeedc0deULL
#define FORKS 300
#define LOOKS 20000
#define ROUNDS 60

static int watched;
static volatile int is_over;

static void *look(void *unused) {
    (void)unused;
    while (!is_over)
        poll_one(watched, POLLIN, 0);
    return NULL;
}

static int pending(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("starts", EINPROGRESS, connect_to(fd, to));
    return fd;
}

/* A child that is forked while a thread of its parent is in the middle of a look must still be able to look. */
static void forks(const endpoint *held) {
    pthread_t threads[3];
    int good = 0;
    watched = pending(held);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, look, NULL);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (!child) {
            alarm(10);
            _exit(poll_one(watched, POLLIN, 0) == 0 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        good += status == 0;
    }
    is_over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    GIVES("every child looks", FORKS, good);
}

static void on_alarm(int signal) {
    (void)signal;
    int saved = errno, error = -1;
    socklen_t length = sizeof error;
    getsockopt(watched, SOL_SOCKET, SO_ERROR, &error, &length);
    errno = saved;
}

/* A handler that asks about the socket while the thread below it does. */
static void interrupted_looks(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
    int quiet = 0;
    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    for (int i = 0; i < LOOKS; i++)
        quiet += poll_one(watched, POLLIN, 0) == 0;
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    GIVES("looks under a handler", LOOKS, quiet);
}

static int loop_epoll, connected;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t heard = PTHREAD_COND_INITIALIZER;
static int last_fd, last_error;

/* As event loops with several threads do: a socket counts as connected when it is writable and has a peer. */
static void *loop(void *unused) {
    (void)unused;
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(loop_epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.u64 == DATA)
            return NULL;
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int fd = event.data.fd, is_up = getpeername(fd, (void *)&peer, &length) == 0;
        if (!(event.events & EPOLLOUT) || (!is_up && !(event.events & EPOLLERR)))
            continue;
        pthread_mutex_lock(&mutex);
        if (last_fd == fd && !connected) {
            connected = 1;
            last_error = socket_error(fd);
        }
        pthread_cond_signal(&heard);
        pthread_mutex_unlock(&mutex);
    }
}

static void registered_loops(const endpoint *open) {
    pthread_t threads[2];
    int good = 0;
    loop_epoll = epoll_create1(0);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, loop, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = tcp(AF_INET, SOCK_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
        pthread_mutex_lock(&mutex);
        last_fd = fd, connected = 0, last_error = -1;
        pthread_mutex_unlock(&mutex);
        epoll_ctl(loop_epoll, EPOLL_CTL_ADD, fd, &event);
        int result = connect_to(fd, open);
        pthread_mutex_lock(&mutex);
        while (result == -1 && errno == EINPROGRESS && !connected)
            pthread_cond_wait(&heard, &mutex);
        good += connected && last_error == 0;
        pthread_mutex_unlock(&mutex);
        close(fd);
    }
    GIVES("every socket of the loops connects", ROUNDS, good);
    int pipes[2];
    struct epoll_event end = {.events = EPOLLIN, .data.u64 = DATA};
    if (pipe(pipes))
        give_up("pipe");
    epoll_ctl(loop_epoll, EPOLL_CTL_ADD, pipes[0], &end);
    close(pipes[1]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    close(loop_epoll);
}

/* The child shares the set, not the parent's knowledge of what is pending in it. */
static void shared_set(const endpoint *refused) {
    int epoll = epoll_create1(0), ready[2];
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = DATA}, seen = {.data.u64 = DATA};
    if (pipe(ready))
        give_up("pipe");
    pid_t child = fork();
    if (!child) {
        char byte;
        alarm(20);
        if (read(ready[0], &byte, 1) != 1)
            _exit(3);
        int count = epoll_wait(epoll, &seen, 1, 300);
        _exit(count < 0 ? 1 : count > 0 && seen.data.u64 != DATA ? 2 : 0);
    }
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    connect_to(fd, refused);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    poll_one(fd, POLLOUT, PATIENCE_MS);
    if (write(ready[1], "x", 1) != 1)
        give_up("write");
    int status = -1;
    waitpid(child, &status, 0);
    GIVES("the child's wait ends, with no data but the program's", 0, status);
    close(fd), close(epoll), close(ready[0]), close(ready[1]);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held"), open = endpoint_of("open"), refused = endpoint_of("refused");
    stage("hold");
    forks(&held);
    interrupted_looks();
    stage("release");
    GIVES("connects in the end", POLLOUT, poll_one(watched, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(watched), "no echo");
    close(watched);
    registered_loops(&open);
    shared_set(&refused);
    return done();
}
