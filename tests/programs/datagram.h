/* What the programs that send datagrams share: sockets, and exchanges with an echo service that look at the sender. */
#ifndef DATAGRAM_H
#define DATAGRAM_H
#include "check.h"
#include <sys/uio.h>

/* How long to wait for what must not come. */
#define A_WHILE_MS 300

__attribute__((unused)) static int udp(int family) {
    int fd = socket(family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

/* A payload that no other exchange has; its length. */
__attribute__((unused)) static int new_line(char line[64]) {
    static int serial;
    return snprintf(line, 64, "line %d %d", (int)getpid(), __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
}

__attribute__((unused)) static int send_to(int fd, const char *text, const endpoint *to) {
    return sendto(fd, text, strlen(text), 0, (const void *)&to->address, to->length) == (ssize_t)strlen(text);
}

/* Receives one datagram, waiting for it, and whom it is from; -1 when none comes. */
__attribute__((unused)) static ssize_t receive(int fd, void *into, size_t size, endpoint *from) {
    if (!(poll_one(fd, POLLIN, PATIENCE_MS) & POLLIN))
        return -1;
    memset(from, 0, sizeof *from);
    from->length = sizeof from->address;
    return recvfrom(fd, into, size, 0, (void *)&from->address, &from->length);
}

/* Whether two are the same to the last byte that counts: family, port, address, length. */
__attribute__((unused)) static int is_from(const endpoint *from, const endpoint *expected) {
    return from->length == expected->length && same_endpoint(from, expected);
}

/* `text` comes, from there. */
__attribute__((unused)) static int comes_from(int fd, const char *text, const endpoint *expected) {
    char seen[512];
    endpoint from;
    ssize_t got = receive(fd, seen, sizeof seen, &from);
    return got == (ssize_t)strlen(text) && !memcmp(seen, text, strlen(text)) && is_from(&from, expected);
}

/* Something new goes there and comes back from there. */
__attribute__((unused)) static int exchanges(int fd, const endpoint *with) {
    char line[64];
    new_line(line);
    return send_to(fd, line, with) && comes_from(fd, line, with);
}

__attribute__((unused)) static int nothing_comes(int fd) {
    return poll_one(fd, POLLIN, A_WHILE_MS) == 0;
}

/* The port that the socket has, 0 for none. */
__attribute__((unused)) static int port_of(int fd) {
    endpoint own = {.length = sizeof own.address};
    if (getsockname(fd, (void *)&own.address, &own.length))
        return -1;
    /* At the same place in either family. */
    return ntohs(((struct sockaddr_in *)&own.address)->sin_port);
}

__attribute__((unused)) static char named[160];
#define NAMED(text) (snprintf(named, sizeof named, "%s: %s", label, text), named)
#endif
