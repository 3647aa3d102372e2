/*
 * Control messages of datagrams to loopback: what they ask for arrives. `mark=ok` or `mark=refused`: so is a mark (SO_MARK), which takes a privilege.
 */
#include "check.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static int client, server;
static endpoint at;
static char name[96];

static const char *named(int family, const char *what) {
    snprintf(name, sizeof name, "IPv%d: %s", family == AF_INET ? 4 : 6, what);
    return name;
}

/* Control messages, one behind the other. */
static union {
    char room[256];
    struct cmsghdr aligned;
} control;
static size_t filled;

static void add(int level, int type, const void *value, size_t length) {
    struct cmsghdr *header = (void *)(control.room + filled);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(length), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(header), value, length);
    filled += CMSG_SPACE(length);
}

static ssize_t send_with(const char *data) {
    struct iovec part = {(void *)data, strlen(data)};
    struct msghdr message = {.msg_name = &at.address, .msg_namelen = at.length, .msg_iov = &part, .msg_iovlen = 1};
    message.msg_control = &control, message.msg_controllen = filled;
    return sendmsg(client, &message, 0);
}

/* The next datagram's control message of this type; -1 when it has none. */
static int received(int level, int type, ssize_t length) {
    char seen[64];
    union {
        char room[256];
        struct cmsghdr aligned;
    } with;
    struct iovec part = {seen, sizeof seen};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &with, .msg_controllen = sizeof with};
    if (poll_one(server, POLLIN, PATIENCE_MS) != POLLIN || recvmsg(server, &message, 0) != length)
        return -2;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each))
        if (each->cmsg_level == level && each->cmsg_type == type)
            return type == IP_TOS && level == IPPROTO_IP ? *CMSG_DATA(each) : *(int *)CMSG_DATA(each);
    return -1;
}

static void marks(int family) {
    int is_v4 = family == AF_INET, one = 1, level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6, hops = 7, traffic = 0x48, lo = 1;
    int hops_type = is_v4 ? IP_TTL : IPV6_HOPLIMIT, traffic_type = is_v4 ? IP_TOS : IPV6_TCLASS;
    client = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), server = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    at = parse_endpoint(is_v4 ? "127.0.0.1:0" : "[::1]:0");
    if (bind(server, (void *)&at.address, at.length) || getsockname(server, (void *)&at.address, &at.length))
        give_up("a server on loopback: %s", strerror(errno));
    setsockopt(server, level, is_v4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, &one, sizeof one);
    setsockopt(server, level, is_v4 ? IP_RECVTOS : IPV6_RECVTCLASS, &one, sizeof one);

    filled = 0, add(level, hops_type, &hops, sizeof hops), add(level, traffic_type, &traffic, sizeof traffic);
    GIVES(named(family, "two of them"), 5, send_with("hello"));
    GIVES(named(family, "the first arrives"), hops, received(level, hops_type, 5));
    GIVES(named(family, "again"), 5, send_with("hello"));
    GIVES(named(family, "the second arrives"), traffic, received(level, traffic_type, 5));

    filled = 0;
    struct in_pktinfo info = {.ipi_ifindex = lo};
    struct in6_pktinfo info6 = {.ipi6_ifindex = (unsigned)lo};
    if (is_v4)
        add(level, IP_PKTINFO, &info, sizeof info);
    else
        add(level, IPV6_PKTINFO, &info6, sizeof info6);
    add(level, hops_type, &hops, sizeof hops);
    GIVES(named(family, "lo"), 5, send_with("hello"));
    GIVES(named(family, "and one behind it"), hops, received(level, hops_type, 5));

    uint16_t segment = 4;
    filled = 0, add(IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    GIVES(named(family, "in segments"), 6, send_with("onetwo"));
    check(named(family, "the first segment"), received(0, 0, 4) == -1, "%s", "not");
    check(named(family, "the second segment"), received(0, 0, 2) == -1, "%s", "not");

    filled = 0, add(level, hops_type, &hops, sizeof hops);
    control.aligned.cmsg_len = 1000;
    FAILS(named(family, "one that is too long"), EINVAL, send_with("hello"));
    control.aligned.cmsg_len = 3;
    FAILS(named(family, "one that is too short"), EINVAL, send_with("hello"));
    hops = 1000;
    filled = 0, add(level, hops_type, &hops, sizeof hops);
    FAILS(named(family, "one that is out of range"), EINVAL, send_with("hello"));

    if (argument("mark")) {
        int mark = 77;
        filled = 0, add(SOL_SOCKET, SO_MARK, &mark, sizeof mark);
        if (!strcmp(argument("mark"), "ok"))
            GIVES(named(family, "a mark"), 5, send_with("hello"));
        else
            FAILS(named(family, "a mark"), EPERM, send_with("hello"));
    }
    close(client), close(server);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    marks(AF_INET);
    marks(AF_INET6);
    return done();
}
