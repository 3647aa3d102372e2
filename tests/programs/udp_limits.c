/*
 * The sizes at which a SOCKS header does no longer fit: a datagram arrives or is refused with EMSGSIZE, it is not cut and not
 * lost. Runs under presocks only: a bare machine sends them all.
 */
#include "datagram.h"

static unsigned char data[65507], seen[65535];

static void limits(const char *label, int fd, const endpoint *with, int is_connected) {
    int refused = 0, right = 1;
    for (int size = 65470; size <= 65507; size++) {
        endpoint from;
        memset(data, size, (size_t)size);
        ssize_t sent = is_connected ? send(fd, data, (size_t)size, 0) : sendto(fd, data, (size_t)size, 0, (const void *)&with->address, with->length);
        if (sent == -1)
            refused += errno == EMSGSIZE, right &= errno == EMSGSIZE;
        else
            right &= sent == size && receive(fd, seen, sizeof seen, &from) == size && !memcmp(data, seen, (size_t)size);
    }
    check(NAMED("arrives or is refused"), right, "neither");
    /* 65507 bytes and a header of ten are longer than any datagram. */
    check(NAMED("the longest are refused"), refused >= 10, "%d are", refused);
    check(NAMED("no error remains"), socket_error(fd) == 0, "one does");
    check(NAMED("the socket still serves"), is_connected ? echoes(fd) : exchanges(fd, with), "not");
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint to = endpoint_of("echo"), to6 = endpoint_of("echo6");
    int fd = udp(AF_INET), fd6 = udp(AF_INET6);
    limits("sendto", fd, &to, 0);
    limits("IPv6", fd6, &to6, 0);
    GIVES("connect", 0, connect_to(fd, &to));
    limits("send", fd, &to, 1);
    return done();
}
