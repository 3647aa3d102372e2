/*
 * Addresses that a socket knows nothing of: IP's on Unix and netlink sockets, Unix sockets' on IP sockets, any on a TCP socket that is connected,
 * cut ones, and none of any family.
 */
#include "portable.h"
#include <stddef.h>

static endpoint far, far6, here, cut, none, wide_none, unix_name;

static const struct {
    const char *name;
    const endpoint *address;
} addresses[] = {
    {"IPv4", &far},     {"IPv6", &far6},           {"loopback", &here},           {"cut IPv4", &cut},
    {"no family", &none}, {"no family, wide", &wide_none}, {"a Unix address", &unix_name},
};

static char what[128];

static const char *named(const char *socket, const char *call, const char *address) {
    snprintf(what, sizeof what, "%s: %s to %s", socket, call, address);
    return what;
}

static ssize_t send_to(int fd, const endpoint *to, size_t length, int flags) {
    return sendto(fd, "x", length, flags | MSG_DONTWAIT | MSG_NOSIGNAL, (const void *)&to->address, to->length);
}

static ssize_t send_message(int fd, const endpoint *to) {
    struct iovec part = {"x", 1};
    struct msghdr header = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1};
    return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t send_messages(int fd, const endpoint *to) {
    struct iovec part = {"x", 1};
    struct msghdr header = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr two[2] = {{.msg_hdr = header}, {.msg_hdr = header}};
    int sent = sendmmsg(fd, two, 2, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? sent * 10 + (int)(two[0].msg_len + two[1].msg_len) : sent;
}

static void says(const char *socket, const char *call, const char *address, long result) {
    printf("%s: %ld %s\n", named(socket, call, address), result, result < 0 ? strerrorname_np(errno) : "");
}

/* What the socket says to each address. `connects`: and to connect(), which changes some. */
static void all(const char *socket, int fd, int connects) {
    for (size_t place = 0; place < sizeof addresses / sizeof *addresses; place++) {
        const endpoint *to = addresses[place].address;
        const char *name = addresses[place].name;
        /* A direct destination, or the proxy's business. */
        int goes = !strncmp(socket, "UDP", 3) && (to == &far || to == &far6 || to == &here || to == &wide_none);
        if (!goes) {
            says(socket, "sendto", name, send_to(fd, to, 1, 0));
            says(socket, "sendto of nothing", name, send_to(fd, to, 0, 0));
            says(socket, "sendmsg", name, send_message(fd, to));
            says(socket, "sendmmsg", name, send_messages(fd, to));
        }
        if (!goes && strncmp(socket, "TCP", 3))
            says(socket, "a fast open", name, send_to(fd, to, 1, MSG_FASTOPEN));
        if (connects)
            says(socket, "connect", name, connect_to(fd, to));
    }
    close(fd);
}

static int socket_of(int family, int kind) {
    int fd = socket(family, kind, 0);
    if (fd < 0)
        give_up("socket: %s", strerror(errno));
    return fd;
}

static int pair(int kind) {
    int both[2];
    if (socketpair(AF_UNIX, kind, 0, both))
        give_up("socketpair: %s", strerror(errno));
    return both[0];
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    far = endpoint_of("open"), far6 = endpoint_of("open6"), here = parse_endpoint("127.0.0.1:9");
    cut = far, cut.length = 8;
    none = (endpoint){.address.ss_family = AF_UNSPEC, .length = 4};
    wide_none = far, wide_none.address.ss_family = AF_UNSPEC;
    struct sockaddr_un *nowhere = (void *)&unix_name.address;
    nowhere->sun_family = AF_UNIX, strcpy(nowhere->sun_path, "/nowhere/at/all");
    unix_name.length = offsetof(struct sockaddr_un, sun_path) + 16;

    all("a Unix stream", socket_of(AF_UNIX, SOCK_STREAM), 1);
    all("a Unix datagram socket", socket_of(AF_UNIX, SOCK_DGRAM), 1);
    all("a Unix seqpacket socket", socket_of(AF_UNIX, SOCK_SEQPACKET), 1);
    all("a pair of Unix streams", pair(SOCK_STREAM), 1);
    all("a pair of Unix datagram sockets", pair(SOCK_DGRAM), 0);
    all("netlink", socket_of(AF_NETLINK, SOCK_RAW), 1);

    all("UDP", socket_of(AF_INET, SOCK_DGRAM), 0);
    all("UDP over IPv6", socket_of(AF_INET6, SOCK_DGRAM), 0);
    all("TCP", socket_of(AF_INET, SOCK_STREAM), 0);
    all("TCP over IPv6", socket_of(AF_INET6, SOCK_STREAM), 0);
    endpoint at;
    int listener = loopback_listener(AF_INET, &at), fd = socket_of(AF_INET, SOCK_STREAM);
    GIVES("connect to loopback", 0, connect_to(fd, &at));
    all("TCP that listens", listener, 1);
    fd = socket_of(AF_INET, SOCK_STREAM);
    GIVES("connect elsewhere", 0, connect_to(fd, &far));
    for (size_t place = 0; place < sizeof addresses / sizeof *addresses; place++) {
        says("TCP that is connected", "a fast open", addresses[place].name, send_to(fd, addresses[place].address, 1, MSG_FASTOPEN));
        if (addresses[place].address != &none && addresses[place].address != &wide_none)
            says("TCP that is connected", "connect", addresses[place].name, connect_to(fd, addresses[place].address));
    }
    all("TCP that is connected", fd, 0);
    const endpoint *families[] = {&none, &unix_name, &cut};
    for (int each = 0; each < 3; each++) {
        fd = socket_of(AF_INET, SOCK_STREAM);
        says("TCP", "a fast open", each ? each > 1 ? "cut IPv4" : "a Unix address" : "no family", send_to(fd, families[each], 1, MSG_FASTOPEN));
        says("TCP", "connect", each ? each > 1 ? "cut IPv4" : "a Unix address" : "no family", connect_to(fd, families[each]));
        GIVES("and after it", 0, connect_to(fd, &far));
        check("it works", echoes(fd), "%s", strerror(errno));
        close(fd);
    }
    return done();
}
