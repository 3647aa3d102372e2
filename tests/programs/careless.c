/*
 * A program that reads and writes before its connect is done. The kernel answers EAGAIN (or blocks); nothing that it
 * tried may reach anyone, and nothing of a proxy's answers may reach it.
 */
#include "check.h"
#include <sys/uio.h>

#define TRIES 200

static void not_yet(const char *name, ssize_t result, int *early) {
    if (result != -1 || errno != EAGAIN) {
        if (!*early)
            check(name, 0, SAW(result));
        ++*early;
    }
}

static void tries_while_pending(const char *label, endpoint held, int family) {
    char name[96], byte;
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    struct iovec part = {"early", 5}, room = {&byte, 1};
    int early = 0, fd = tcp(family, SOCK_NONBLOCK);
    stage("hold");
    FAILS(NAMED("starts"), EINPROGRESS, connect_to(fd, &held));
    for (int i = 0; i < TRIES; i++) {
        not_yet(NAMED("write"), write(fd, "early", 5), &early);
        not_yet(NAMED("writev"), writev(fd, &part, 1), &early);
        not_yet(NAMED("send"), send(fd, "early", 5, MSG_NOSIGNAL), &early);
        not_yet(NAMED("read"), read(fd, &byte, 1), &early);
        not_yet(NAMED("readv"), readv(fd, &room, 1), &early);
        not_yet(NAMED("recv"), recv(fd, &byte, 1, 0), &early);
        poll_one(fd, POLLOUT, 1);
    }
    GIVES(NAMED("nothing is read or written early"), 0, early);
    stage("release");
    GIVES(NAMED("connects"), POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES(NAMED("without error"), 0, socket_error(fd));
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    tries_while_pending("IPv4", held, AF_INET);
    tries_while_pending("mapped", mapped(held), AF_INET6);
    return done();
}
