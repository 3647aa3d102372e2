/*
 * Datagrams that must work everywhere: loopback both ways, and connect(2), by which programs learn their own address.
 * Run on a bare machine too; datagrams_closed.c has what only presocks does.
 */
#include "check.h"
#include <sys/uio.h>

static int udp(int family) {
    int fd = socket(family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

static int arrives(int fd, const char *text, endpoint *from) {
    char seen[64] = "";
    if (poll_one(fd, POLLIN, PATIENCE_MS) != POLLIN)
        return 0;
    from->length = sizeof from->address;
    ssize_t got = recvfrom(fd, seen, sizeof seen, 0, (void *)&from->address, &from->length);
    return got == (ssize_t)strlen(text) && !memcmp(seen, text, strlen(text));
}

static void loopback(const char *label, int family) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    int server = udp(family), client = udp(family);
    endpoint at = parse_endpoint(family == AF_INET ? "127.0.0.1:0" : "[::1]:0"), from, back;
    bind(server, (void *)&at.address, at.length);
    getsockname(server, (void *)&at.address, &at.length);

    GIVES(NAMED("sendto"), 3, sendto(client, "one", 3, 0, (void *)&at.address, at.length));
    check(NAMED("sendto arrives"), arrives(server, "one", &from), "not");
    GIVES(NAMED("answer"), 4, sendto(server, "back", 4, 0, (void *)&from.address, from.length));
    check(NAMED("answer arrives"), arrives(client, "back", &back) && same_endpoint(&back, &at), "not, or from elsewhere");

    char text[] = "two";
    struct iovec part = {text, 3};
    struct msghdr message = {.msg_name = &at.address, .msg_namelen = at.length, .msg_iov = &part, .msg_iovlen = 1};
    GIVES(NAMED("sendmsg"), 3, sendmsg(client, &message, 0));
    check(NAMED("sendmsg arrives"), arrives(server, "two", &from), "not");
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    GIVES(NAMED("sendmmsg"), 2, sendmmsg(client, several, 2, 0));
    check(NAMED("sendmmsg arrives"), several[1].msg_len == 3 && arrives(server, "two", &from) && arrives(server, "two", &from), "not");

    GIVES(NAMED("connect"), 0, connect_to(client, &at));
    check(NAMED("peer"), peer_is(client, &at), "another");
    GIVES(NAMED("send"), 5, send(client, "three", 5, 0));
    check(NAMED("send arrives"), arrives(server, "three", &from), "not");
    GIVES(NAMED("write"), 4, write(client, "four", 4));
    check(NAMED("write arrives"), arrives(server, "four", &from), "not");
    GIVES(NAMED("sendto without an address"), 4, sendto(client, "five", 4, 0, NULL, 0));
    check(NAMED("sendto without an address arrives"), arrives(server, "five", &from), "not");
    sendto(server, "back", 4, 0, (void *)&from.address, from.length);
    check(NAMED("answer to a connected socket arrives"), arrives(client, "back", &back), "not");
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    GIVES(NAMED("connection dissolved"), 0, connect(client, &none, sizeof none));
    FAILS(NAMED("send without a peer"), EDESTADDRREQ, send(client, "six", 3, 0));
    close(client), close(server);
}

/* Connecting a datagram socket sends nothing; afterwards it has a source address that is this machine's. */
static void learns_source(const char *label, endpoint far) {
    char name[96];
    int family = far.address.ss_family, fd = udp(family), probe = tcp(family, 0);
    GIVES(NAMED("connects"), 0, connect_to(fd, &far));
    check(NAMED("has the peer asked for"), peer_is(fd, &far), "another");
    endpoint own = {.length = sizeof own.address};
    getsockname(fd, (void *)&own.address, &own.length);
    int specified = family == AF_INET ? ((struct sockaddr_in *)&own.address)->sin_addr.s_addr != 0 : !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&own.address)->sin6_addr);
    check(NAMED("has a source address"), own.address.ss_family == family && specified, "none");
    if (family == AF_INET)
        ((struct sockaddr_in *)&own.address)->sin_port = 0;
    else
        ((struct sockaddr_in6 *)&own.address)->sin6_port = 0;
    GIVES(NAMED("has one that can be bound to"), 0, bind(probe, (void *)&own.address, own.length));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    GIVES(NAMED("dissolves"), 0, connect(fd, &none, sizeof none));
    GIVES(NAMED("connects again"), 0, connect_to(fd, &far));
    close(fd), close(probe);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    loopback("IPv4", AF_INET);
    loopback("IPv6", AF_INET6);
    learns_source("IPv4 socket", endpoint_of("open"));
    learns_source("IPv6 socket", endpoint_of("open6"));
    endpoint resolver = endpoint_of("open");
    ((struct sockaddr_in *)&resolver.address)->sin_port = htons(53);
    learns_source("IPv4 socket to port 53", resolver);
    return done();
}
