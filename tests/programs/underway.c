/* Connects that the kernel makes by itself: a non-blocking one returns at once, and its socket tells how it goes on. */
#include "waiting.h"

static endpoint held;

static int begin(const endpoint *to) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("a connect begins", EINPROGRESS, connect_to(fd, to));
    FAILS("it is under way", EALREADY, connect_to(fd, to));
    GIVES("its socket is not writable", 0, poll_one(fd, POLLOUT, 0));
    return fd;
}

typedef struct {
    volatile pid_t thread;
    int fd, result;
} waiter;

static void *waits(void *given) {
    waiter *own = given;
    own->thread = gettid();
    own->result = connect_to(own->fd, &held);
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held");
    endpoint refused = endpoint_of("heldrefused"), open = endpoint_of("open");
    int fd = begin(&held);
    stage("release");
    GIVES("then it is writable", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES("and has no error", 0, socket_error(fd));
    check("and is connected", peer_is(fd, &held) && echoes(fd), "it is not");
    close(fd);

    fd = begin(&refused);
    stage("release");
    check("one that is refused is told so", poll_one(fd, POLLOUT, PATIENCE_MS) & POLLERR, "it is not");
    GIVES("by its error", ECONNREFUSED, socket_error(fd));
    close(fd);

    fd = begin(&held);
    GIVES("one that is dissolved", 0, dissolve(fd));
    stage("release");
    fcntl(fd, F_SETFL, 0);
    GIVES("connects elsewhere", 0, connect_to(fd, &open));
    check("and is connected there", peer_is(fd, &open) && echoes(fd), "it is not");
    close(fd);

    waiter own = {.fd = begin(&held)};
    fcntl(own.fd, F_SETFL, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, waits, &own);
    await_call(&own.thread);
    stage("release");
    pthread_join(thread, NULL);
    GIVES("a call that waits for one that did not", 0, own.result);
    check("has its connection", peer_is(own.fd, &held) && echoes(own.fd), "it has not");
    return done();
}
