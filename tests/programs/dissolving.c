/* A socket is dissolved (connect() with AF_UNSPEC) while others wait for its connect: they are told that there is no connection.
 * With `threads=` only those who connect without O_NONBLOCK: a caught call on a socket with it waits as well. */
#include "waiting.h"
#include <sys/mman.h>

static endpoint held;

/* What a thread or process that waits for a connect has come to. */
typedef struct {
    volatile pid_t thread;
    int fd, result, error;
} waiter;

static void *waits_in_connect(void *given) {
    waiter *own = given;
    own->thread = gettid();
    errno = 0;
    own->result = connect_to(own->fd, &held);
    own->error = errno;
    return NULL;
}

static void *waits_in_read(void *given) {
    waiter *own = given;
    char byte;
    own->thread = gettid();
    errno = 0;
    own->result = (int)read(own->fd, &byte, 1);
    own->error = errno;
    return NULL;
}

/* ECONNRESET is what kernels before 6.7 say, and ECONNABORTED to a waiter that looks when another has been told. */
static void is_told(const char *name, const waiter *told) {
    int is_error = told->error == EPIPE || told->error == ECONNRESET || told->error == ECONNABORTED;
    check(name, told->result == -1 && is_error, "returned %d, errno %s", told->result, strerrorname_np(told->error));
}

static void is_as_new(const char *name, int fd, endpoint open) {
    int result = connect_to(fd, &open);
    check(name, result == 0 && peer_is(fd, &open) && echoes(fd), SAW(result));
    close(fd);
}

/* Returns when the socket's first segment is out, and its flags are these: while that begins, presocks sets O_NONBLOCK. */
static void await_start(int fd, int flags) {
    struct tcp_info info = {.tcpi_state = TCP_CLOSE};
    socklen_t length = sizeof info;
    for (; info.tcpi_state == TCP_CLOSE || fcntl(fd, F_GETFL) != flags; sched_yield())
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
            give_up("TCP_INFO: %s", strerror(errno));
}

/* A connect that was begun without blocking, on a socket that blocks from now on. */
static int begin_and_block(void) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("a connect begins", EINPROGRESS, connect_to(fd, &held));
    await_start(fd, O_RDWR | O_NONBLOCK);
    fcntl(fd, F_SETFL, 0);
    return fd;
}

static void beside_threads(endpoint open) {
    waiter waiters[2] = {0};
    pthread_t threads[2];
    stage("hold");
    int fd = tcp(AF_INET, 0);
    for (int i = 0; i < 2; i++) {
        waiters[i].fd = fd;
        pthread_create(&threads[i], NULL, waits_in_connect, &waiters[i]);
        await_call(&waiters[i].thread);
        await_start(fd, O_RDWR);
    }
    GIVES("a socket that threads connect is dissolved", 0, dissolve(fd));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    is_told("the thread that connects is told", &waiters[0]);
    is_told("and the one that has joined it", &waiters[1]);
    stage("release");
    is_as_new("the socket can be connected again", fd, open);
}

static void beside_a_reader(endpoint open) {
    waiter reader = {0};
    pthread_t thread;
    stage("hold");
    int fd = begin_and_block();
    reader.fd = fd;
    pthread_create(&thread, NULL, waits_in_read, &reader);
    await_call(&reader.thread);
    GIVES("a socket that a thread reads from is dissolved", 0, dissolve(fd));
    pthread_join(thread, NULL);
    check("the reader gets nothing", reader.result < 1, "%d bytes", reader.result);
    stage("release");
    socket_error(fd);
    is_as_new("it can be connected again", fd, open);
}

/* Another process has the same socket, and a memory of its own. */
static void beside_a_process(endpoint open) {
    waiter *own = mmap(NULL, sizeof *own, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stage("hold");
    int fd = begin_and_block(), status = -1;
    pid_t child = fork();
    if (!child) {
        alarm(WATCHDOG_SECONDS);
        own->fd = fd;
        waits_in_connect(own);
        _exit(0);
    }
    await_call(&own->thread);
    GIVES("the parent dissolves it", 0, dissolve(fd));
    GIVES("the child ends", child, waitpid(child, &status, 0));
    is_told("and was told", own);
    stage("release");
    socket_error(fd);
    is_as_new("the parent can connect it again", fd, open);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held");
    endpoint open = endpoint_of("open");
    beside_threads(open);
    if (argument("threads"))
        return done();
    beside_a_reader(open);
    beside_a_process(open);
    return done();
}
