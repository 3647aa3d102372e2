/*
 * Programs that read and write before their connect is done. The kernel answers EAGAIN, or waits; nothing that they
 * tried may reach anyone, and nothing of a proxy's answers may reach them. After a failure the first to ask hears of it.
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

static void waits_when_blocking(const char *label, endpoint held, int family) {
    char name[96], reply[5] = "";
    int fd = tcp(family, SOCK_NONBLOCK);
    stage("hold");
    FAILS(NAMED("starts again"), EINPROGRESS, connect_to(fd, &held));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    pid_t child = fork();
    if (!child) {
        stage("release");
        _exit(0);
    }
    // Whoever connects it for us has O_NONBLOCK set for a moment.
    ssize_t written;
    do
        written = write(fd, "whole", 5);
    while (written == -1 && errno == EAGAIN);
    GIVES(NAMED("write waits"), 5, written);
    GIVES(NAMED("read waits"), 5, recv(fd, reply, 5, MSG_WAITALL));
    GIVES(NAMED("what was written comes back"), 0, memcmp(reply, "whole", 5));
    waitpid(child, NULL, 0);
    close(fd);
}

static void hears_of_a_failure(const char *label, endpoint held, int family) {
    char name[96], byte;
    for (int way = 0; way < 3; way++) {
        int fd = tcp(family, SOCK_NONBLOCK);
        stage("hold");
        FAILS(NAMED("starts towards a refusal"), EINPROGRESS, connect_to(fd, &held));
        FAILS(NAMED("waits for it"), EAGAIN, write(fd, "early", 5));
        stage("release");
        poll_one(fd, POLLOUT, PATIENCE_MS);
        if (way == 0)
            FAILS(NAMED("write says it"), ECONNREFUSED, write(fd, "late", 4));
        else if (way == 1)
            FAILS(NAMED("read says it"), ECONNREFUSED, read(fd, &byte, 1));
        else
            FAILS(NAMED("send says it"), ECONNREFUSED, send(fd, "late", 4, MSG_NOSIGNAL));
        GIVES(NAMED("and nobody after that"), 0, socket_error(fd));
        FAILS(NAMED("nothing is written later"), EPIPE, send(fd, "late", 4, MSG_NOSIGNAL));
        close(fd);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held");
    tries_while_pending("IPv4", held, AF_INET);
    tries_while_pending("mapped", mapped(held), AF_INET6);
    waits_when_blocking("IPv4", held, AF_INET);
    waits_when_blocking("mapped", mapped(held), AF_INET6);
    hears_of_a_failure("IPv4", endpoint_of("heldrefused"), AF_INET);
    return done();
}
