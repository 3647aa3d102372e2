/*
 * Sockets that are bound, restricted to IPv6, or have options that change what goes with a datagram: control messages that
 * are received are whole, those that are sent do no harm, and what a kernel may lack may be refused but not half done.
 */
#include "datagram.h"
#include <linux/errqueue.h>
#include <netinet/udp.h>

#define SEGMENT 300

static void set(const char *name, int fd, int level, int option, int value) {
    GIVES(name, 0, setsockopt(fd, level, option, &value, sizeof value));
}

static void bound(const char *label, int family, const char *at, int only6, endpoint with, const endpoint *then) {
    int fd = udp(family);
    endpoint own = parse_endpoint(at);
    if (family == AF_INET6)
        set(NAMED("IPV6_V6ONLY"), fd, IPPROTO_IPV6, IPV6_V6ONLY, only6);
    GIVES(NAMED("bind"), 0, bind(fd, (void *)&own.address, own.length));
    int port = port_of(fd);
    check(NAMED("sends and receives"), exchanges(fd, &with), "not");
    if (then)
        check(NAMED("and with another"), exchanges(fd, then), "not");
    endpoint now = {.length = sizeof now.address};
    getsockname(fd, (void *)&now.address, &now.length);
    /* The port is compared by itself. */
    ((struct sockaddr_in *)&own.address)->sin_port = ((struct sockaddr_in *)&now.address)->sin_port;
    check(NAMED("keeps its address"), is_from(&now, &own), "not");
    check(NAMED("keeps its port"), port > 0 && port_of(fd) == port, "%d, then %d", port, port_of(fd));
    GIVES(NAMED("connect"), 0, connect_to(fd, &with));
    check(NAMED("has its peer"), peer_is(fd, &with) && echoes(fd), "not");
    check(NAMED("keeps its port all the same"), port_of(fd) == port, "%d, then %d", port, port_of(fd));
    close(fd);
}

static void only_ipv6(endpoint v4, endpoint v6) {
    int fd = udp(AF_INET6);
    endpoint other = mapped(v4);
    set("IPv6 only", fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    FAILS("IPv6 only: sendto a mapped address", ENETUNREACH, sendto(fd, "x", 1, 0, (void *)&other.address, other.length));
    FAILS("IPv6 only: connect to one", ENETUNREACH, connect_to(fd, &other));
    check("IPv6 only: sends and receives", exchanges(fd, &v6), "not");
    close(fd);
}

/* Asks and takes the answer with its control messages, each of which must be whole; how many of the wanted kind there are. */
static int controls(int fd, const endpoint *with, int level, int type, size_t size) {
    char seen[64], space[512];
    endpoint from = {0};
    struct iovec part = {seen, sizeof seen};
    struct msghdr message = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (!send_to(fd, "control", with) || poll_one(fd, POLLIN, PATIENCE_MS) != POLLIN || recvmsg(fd, &message, 0) != 7)
        return -1;
    from.length = message.msg_namelen;
    if (!is_from(&from, with) || memcmp(seen, "control", 7) || message.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
        return -2;
    int found = 0;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each))
        found += each->cmsg_level == level && each->cmsg_type == type && each->cmsg_len == CMSG_LEN(size);
    return found;
}

static void received(const char *label, int family, endpoint with) {
    int fd = udp(family), four = family == AF_INET;
    GIVES(NAMED("no control messages"), 0, controls(fd, &with, 0, 0, 0));
    set(NAMED("SO_TIMESTAMP"), fd, SOL_SOCKET, SO_TIMESTAMP, 1);
    GIVES(NAMED("a time"), 1, controls(fd, &with, SOL_SOCKET, SCM_TIMESTAMP, sizeof(struct timeval)));
    if (four) {
        set(NAMED("IP_PKTINFO"), fd, IPPROTO_IP, IP_PKTINFO, 1);
        GIVES(NAMED("a packet's place"), 1, controls(fd, &with, IPPROTO_IP, IP_PKTINFO, sizeof(struct in_pktinfo)));
        set(NAMED("IP_RECVTTL"), fd, IPPROTO_IP, IP_RECVTTL, 1);
        GIVES(NAMED("its time to live"), 1, controls(fd, &with, IPPROTO_IP, IP_TTL, sizeof(int)));
        set(NAMED("IP_RECVTOS"), fd, IPPROTO_IP, IP_RECVTOS, 1);
        GIVES(NAMED("its type of service"), 1, controls(fd, &with, IPPROTO_IP, IP_TOS, 1));
    } else {
        set(NAMED("IPV6_RECVPKTINFO"), fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        GIVES(NAMED("a packet's place"), 1, controls(fd, &with, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(struct in6_pktinfo)));
        set(NAMED("IPV6_RECVHOPLIMIT"), fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
        GIVES(NAMED("its hop limit"), 1, controls(fd, &with, IPPROTO_IPV6, IPV6_HOPLIMIT, sizeof(int)));
    }
    close(fd);
}

/* Sends with one control message: 1 when the datagram comes back, 0 when the call is refused, else negative. */
static int sends_with(int fd, const endpoint *to, int level, int type, const void *data, size_t size) {
    union {
        struct cmsghdr header;
        char space[128];
    } control;
    memset(&control, 0, sizeof control);
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(&control.header), data, size);
    char line[64];
    struct iovec part = {line, (size_t)new_line(line)};
    struct msghdr message = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(size)};
    ssize_t sent = sendmsg(fd, &message, 0);
    if (sent == -1)
        return 0;
    return sent == (ssize_t)strlen(line) && comes_from(fd, line, to) ? 1 : -1;
}

static void sent(const char *label, int family, endpoint with) {
    int fd = udp(family), mark = 2;
    if (family == AF_INET) {
        struct in_pktinfo anywhere = {0};
        GIVES(NAMED("type of service"), 1, sends_with(fd, &with, IPPROTO_IP, IP_TOS, &mark, sizeof mark));
        GIVES(NAMED("no source in particular"), 1, sends_with(fd, &with, IPPROTO_IP, IP_PKTINFO, &anywhere, sizeof anywhere));
    } else {
        struct in6_pktinfo anywhere = {0};
        GIVES(NAMED("traffic class"), 1, sends_with(fd, &with, IPPROTO_IPV6, IPV6_TCLASS, &mark, sizeof mark));
        GIVES(NAMED("no source in particular"), 1, sends_with(fd, &with, IPPROTO_IPV6, IPV6_PKTINFO, &anywhere, sizeof anywhere));
    }
    check(NAMED("without one again"), exchanges(fd, &with), "not");
    close(fd);
}

/* QUIC's and DTLS's options: path MTU discovery, errors by a queue. */
static void harmless(const char *label, int family, endpoint with) {
    int fd = udp(family), four = family == AF_INET, level = four ? IPPROTO_IP : IPPROTO_IPV6;
    char seen[64], space[512];
    struct iovec part = {seen, sizeof seen};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    set(NAMED("no fragments"), fd, level, four ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
    set(NAMED("errors by the queue"), fd, level, four ? IP_RECVERR : IPV6_RECVERR, 1);
    set(NAMED("type of service"), fd, level, four ? IP_TOS : IPV6_TCLASS, 2);
    set(NAMED("SO_REUSEADDR"), fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(NAMED("SO_BROADCAST"), fd, SOL_SOCKET, SO_BROADCAST, 1);
    set(NAMED("SO_RCVBUF"), fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    set(NAMED("SO_SNDBUF"), fd, SOL_SOCKET, SO_SNDBUF, 1 << 20);
    check(NAMED("sends and receives"), exchanges(fd, &with), "not");
    FAILS(NAMED("no error in the queue"), EAGAIN, recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT));
    GIVES(NAMED("no error on the socket"), 0, socket_error(fd));
    GIVES(NAMED("connect"), 0, connect_to(fd, &with));
    check(NAMED("its peer answers"), echoes(fd), "not");
    close(fd);
}

/* `count` datagrams come back, of this length but for the last. */
static int segments_come(int fd, int count, int last) {
    char seen[2048];
    for (int i = 0; i < count; i++) {
        endpoint from;
        if (receive(fd, seen, sizeof seen, &from) != (i + 1 < count ? SEGMENT : last))
            return 0;
    }
    return nothing_comes(fd);
}

/* Several datagrams by one call (udp(7), UDP_SEGMENT), or an error that tells the program to send them one by one. */
static void segments(const char *label, int family, endpoint to) {
    char data[3 * SEGMENT + 100];
    memset(data, 'x', sizeof data);
    int fd = udp(family), size = SEGMENT;
    int refused = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
    ssize_t sent = refused ? -1 : sendto(fd, data, sizeof data, 0, (void *)&to.address, to.length);
    check(NAMED("an option for segments"), sent == -1 || (sent == sizeof data && segments_come(fd, 4, 100)), "neither");
    close(fd), fd = udp(family);

    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(uint16_t))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT}};
    uint16_t length = SEGMENT;
    memcpy(CMSG_DATA(&control.header), &length, sizeof length);
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_name = &to.address, .msg_namelen = to.length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    sent = sendmsg(fd, &message, 0);
    check(NAMED("segments of one call"), sent == -1 || (sent == sizeof data && segments_come(fd, 4, 100)), "neither");
    check(NAMED("a datagram after them"), exchanges(fd, &to), "not");
    int on = 1;
    /* With it one receive may bring several datagrams, but a short one comes alone. */
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    check(NAMED("receive offload"), exchanges(fd, &to) && exchanges(fd, &to), "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint v4 = endpoint_of("echo"), v6 = endpoint_of("echo6"), as6 = mapped(v4);
    char own[160], own6[160];
    snprintf(own, sizeof own, "%s:0", argument("own")), snprintf(own6, sizeof own6, "[%s]:0", argument("own6"));
    bound("bound to its own address", AF_INET, own, 0, v4, NULL);
    bound("bound to 0.0.0.0", AF_INET, "0.0.0.0:0", 0, v4, NULL);
    bound("bound to its own IPv6 address", AF_INET6, own6, 0, v6, NULL);
    bound("bound to ::", AF_INET6, "[::]:0", 0, v6, &as6);
    bound("bound to ::, for IPv6 only", AF_INET6, "[::]:0", 1, v6, NULL);
    only_ipv6(v4, v6);
    received("received, IPv4", AF_INET, v4);
    received("received, IPv6", AF_INET6, v6);
    sent("sent, IPv4", AF_INET, v4);
    sent("sent, IPv6", AF_INET6, v6);
    harmless("options, IPv4", AF_INET, v4);
    harmless("options, IPv6", AF_INET6, v6);
    segments("IPv4", AF_INET, v4);
    segments("IPv6", AF_INET6, v6);
    return done();
}
