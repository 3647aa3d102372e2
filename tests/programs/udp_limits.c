/*
 * The sizes at which a SOCKS header does no longer fit: a datagram arrives whole or is refused with EMSGSIZE. Runs under presocks
 * only: a bare machine sends all.
 */
#include "datagram.h"

static unsigned char data[65507], seen[65535];

/* Whether one of this size goes there and back, or is refused; `refused` counts those. */
static int arrives_or_is_refused(int fd, const endpoint *with, int size, int *refused) {
    endpoint from;
    memset(data, size, (size_t)size);
    ssize_t sent = sendto(fd, data, (size_t)size, 0, (const void *)&with->address, with->length);
    if (sent == -1 && errno == EMSGSIZE)
        return ++*refused, 1;
    return sent == size && receive(fd, seen, sizeof seen, &from) == size && !memcmp(data, seen, (size_t)size);
}

static void limits(const char *label, int family, const endpoint *with) {
    int fd = udp(family), refused = 0, right = 1;
    for (int size = 65470; size <= 65507 && right; size++)
        right = arrives_or_is_refused(fd, with, size, &refused);
    check(NAMED("arrives or is refused"), right, "neither");
    /* 65507 bytes and a header of ten are longer than any datagram. */
    check(NAMED("the longest are refused"), refused >= 10, "%d are", refused);
    check(NAMED("no error remains"), socket_error(fd) == 0, "one does");
    check(NAMED("the socket still serves"), exchanges(fd, with), "not");
    GIVES(NAMED("connect"), 0, connect_to(fd, with));
    ssize_t sent = send(fd, data, 65507, 0);
    check(NAMED("with a peer it is refused"), sent == -1 && errno == EMSGSIZE, "not");
    check(NAMED("the peer still answers"), echoes(fd), "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint four = endpoint_of("echo"), six = endpoint_of("echo6");
    limits("IPv4", AF_INET, &four);
    limits("IPv6", AF_INET6, &six);
    return done();
}
