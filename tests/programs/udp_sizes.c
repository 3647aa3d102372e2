/* Datagrams of every size, up to where a SOCKS header may no longer fit (udp_limits.c has those), and one too large for any. */
#include "datagram.h"

#define LARGEST 65507

static unsigned char data[LARGEST + 1], seen[LARGEST + 1];

static void sizes(const char *label, int family, endpoint with) {
    static const int all[] = {1, 2, 255, 256, 512, 1232, 1472, 1473, 2048, 4096, 8182, 8192, 9000, 16384, 32768, 60000, 65000};
    int fd = udp(family);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char what[32];
        endpoint from;
        for (int at = 0; at < all[i]; at++)
            data[at] = (unsigned char)(at * 7 + (int)i);
        snprintf(what, sizeof what, "%d bytes", all[i]);
        ssize_t sent = sendto(fd, data, (size_t)all[i], 0, (void *)&with.address, with.length);
        ssize_t got = sent == all[i] ? receive(fd, seen, sizeof seen, &from) : -1;
        check(NAMED(what), got == all[i] && is_from(&from, &with) && !memcmp(data, seen, (size_t)got), "sent %zd, received %zd, %s", sent, got, strerrorname_np(errno));
    }
    if (family == AF_INET) {
        FAILS(NAMED("one too many"), EMSGSIZE, sendto(fd, data, LARGEST + 1, 0, (void *)&with.address, with.length));
        GIVES(NAMED("connect"), 0, connect_to(fd, &with));
        FAILS(NAMED("one too many with a peer"), EMSGSIZE, send(fd, data, LARGEST + 1, 0));
    }
    check(NAMED("and one of no size to speak of"), exchanges(fd, &with), "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    sizes("IPv4", AF_INET, endpoint_of("echo"));
    sizes("IPv6", AF_INET6, endpoint_of("echo6"));
    return done();
}
