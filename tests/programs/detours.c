/*
 * Ways by which a packet could leave although its address is refused, or is loopback's: addresses longer than any, groups that the kernel
 * reports to routers, devices, source routes. The bare machine would send, so this runs under presocks only.
 */
#include "check.h"
#include <net/if.h>
#include <sys/uio.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef IP_UNICAST_IF
#define IP_UNICAST_IF 50
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#define DEVICE "cable"

static int udp(int family) {
    int fd = socket(family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

static union { struct sockaddr_storage address; char bytes[400]; } wide;

static void long_addresses(const char *label, endpoint far) {
    char name[96], text[] = "leak";
#define NAMED(what) (snprintf(name, sizeof name, "%s: %s", label, what), name)
    int family = far.address.ss_family;
    memset(&wide, 0, sizeof wide);
    memcpy(&wide, &far.address, far.length);
    struct iovec part = {text, 4};
    struct msghdr message = {.msg_name = &wide, .msg_namelen = 129, .msg_iov = &part, .msg_iovlen = 1};
    int fd = udp(family);
    FAILS(NAMED("sendmsg, 129 bytes"), ENETUNREACH, sendmsg(fd, &message, 0));
    message.msg_namelen = 400;
    FAILS(NAMED("sendmsg, 400 bytes"), ENETUNREACH, sendmsg(fd, &message, 0));
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    FAILS(NAMED("sendmmsg"), ENETUNREACH, sendmmsg(fd, several, 2, 0));
    message.msg_namelen = (socklen_t)-1;
    FAILS(NAMED("sendmsg, -1 bytes"), EINVAL, sendmsg(fd, &message, 0));
    message.msg_namelen = 0x80000010;
    FAILS(NAMED("sendmsg, a negative number of bytes"), EINVAL, sendmsg(fd, &message, 0));
    FAILS(NAMED("sendto, 129 bytes"), EINVAL, sendto(fd, text, 4, 0, (void *)&wide, 129));
    FAILS(NAMED("sendto, -1 bytes"), EINVAL, sendto(fd, text, 4, 0, (void *)&wide, (socklen_t)-1));
    FAILS(NAMED("connect, 129 bytes"), EINVAL, connect(fd, (void *)&wide, 129));
    FAILS(NAMED("sendto without an address, 129 bytes"), EDESTADDRREQ, sendto(fd, text, 4, 0, NULL, 129));
    close(fd);

    message.msg_namelen = 129;
    fd = tcp(family, 0);
    GIVES(NAMED("sendmsg with MSG_FASTOPEN"), 4, sendmsg(fd, &message, MSG_FASTOPEN));
    check(NAMED("which has the peer asked for"), peer_is(fd, &far), "another");
    close(fd);
    fd = tcp(family, 0);
    FAILS(NAMED("sendto with MSG_FASTOPEN"), EINVAL, sendto(fd, text, 4, MSG_FASTOPEN, (void *)&wide, 129));
    close(fd);
}

static void groups(void) {
    unsigned device = if_nametoindex(DEVICE), lo = if_nametoindex("lo");
    struct in_addr group = {inet_addr("239.1.2.3")};
    int fd = udp(AF_INET);
    struct ip_mreq any = {.imr_multiaddr = group}, here = {.imr_multiaddr = group, .imr_interface = {htonl(INADDR_LOOPBACK)}};
    FAILS("a group", ENODEV, setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &any, sizeof any));
    struct ip_mreqn there = {.imr_multiaddr = group, .imr_ifindex = (int)device, .imr_address = {htonl(INADDR_LOOPBACK)}};
    FAILS("a group on a device", ENODEV, setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &there, sizeof there));
    struct ip_mreq_source source = {.imr_multiaddr = group, .imr_sourceaddr = {htonl(INADDR_LOOPBACK)}};
    FAILS("a source", ENODEV, setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof source));
    struct group_req asked = {.gr_interface = device};
    struct group_source_req both = {.gsr_interface = device};
    struct sockaddr_in *at = (void *)&asked.gr_group;
    at->sin_family = AF_INET, at->sin_addr = group;
    memcpy(&both.gsr_group, &asked.gr_group, sizeof both.gsr_group);
    memcpy(&both.gsr_source, &asked.gr_group, sizeof both.gsr_source);
    ((struct sockaddr_in *)&both.gsr_source)->sin_addr.s_addr = inet_addr("10.88.0.2");
    FAILS("a group, by MCAST_JOIN_GROUP", ENODEV, setsockopt(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &asked, sizeof asked));
    FAILS("a source, by MCAST_JOIN_SOURCE_GROUP", ENODEV, setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &both, sizeof both));
    GIVES("a group on loopback", 0, setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &here, sizeof here));
    there.imr_ifindex = (int)lo, there.imr_multiaddr.s_addr = inet_addr("239.1.2.4");
    GIVES("a group on lo", 0, setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &there, sizeof there));
    close(fd);

    fd = udp(AF_INET6);
    struct ipv6_mreq six = {.ipv6mr_interface = device};
    inet_pton(AF_INET6, "ff05::1234", &six.ipv6mr_multiaddr);
    FAILS("an IPv6 group", ENODEV, setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof six));
    six.ipv6mr_interface = 0;
    FAILS("an IPv6 group on any device", ENODEV, setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof six));
    struct sockaddr_in6 *at6 = (void *)&asked.gr_group;
    memset(at6, 0, sizeof *at6);
    at6->sin6_family = AF_INET6, at6->sin6_addr = six.ipv6mr_multiaddr;
    FAILS("an IPv6 group, by MCAST_JOIN_GROUP", ENODEV, setsockopt(fd, IPPROTO_IPV6, MCAST_JOIN_GROUP, &asked, sizeof asked));
    six.ipv6mr_interface = lo;
    GIVES("an IPv6 group on lo", 0, setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof six));
    close(fd);
}

/* Loopback is not local to a socket that sends by another device. */
static void devices(endpoint far) {
    endpoint here = parse_endpoint("127.0.0.1:9"), here6 = parse_endpoint("[::1]:9");
    int device = (int)if_nametoindex(DEVICE), in_network_order = (int)htonl((unsigned)device);
    int fd = udp(AF_INET);
    GIVES("bound to a device", 0, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
    FAILS("then to another", EPERM, setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof device));
    FAILS("sendto loopback from it", ENETUNREACH, sendto(fd, "leak", 4, 0, (void *)&here.address, here.length));
    FAILS("connect to loopback", ENETUNREACH, connect_to(fd, &here));
    FAILS("connect elsewhere", ENETUNREACH, connect_to(fd, &far));
    check("a write after it goes nowhere", write(fd, "leak", 4) == -1, "it went");
    close(fd);

    fd = tcp(AF_INET, 0);
    GIVES("a stream bound to a device", 0, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
    FAILS("connects to no loopback", ENETUNREACH, connect_to(fd, &here));
    close(fd);

    fd = udp(AF_INET);
    GIVES("sending by a device", 0, setsockopt(fd, IPPROTO_IP, IP_UNICAST_IF, &in_network_order, sizeof in_network_order));
    FAILS("sendto loopback by it", ENETUNREACH, sendto(fd, "leak", 4, 0, (void *)&here.address, here.length));
    close(fd);
    fd = udp(AF_INET6);
    GIVES("sending by a device, IPv6", 0, setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_IF, &in_network_order, sizeof in_network_order));
    FAILS("sendto IPv6 loopback by it", ENETUNREACH, sendto(fd, "leak", 4, 0, (void *)&here6.address, here6.length));
    close(fd);

    fd = udp(AF_INET);
    GIVES("connected elsewhere", 0, connect_to(fd, &far));
    FAILS("then bound to a device", ENODEV, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
    FAILS("then sending by a device", ENODEV, setsockopt(fd, IPPROTO_IP, IP_UNICAST_IF, &in_network_order, sizeof in_network_order));
    GIVES("then bound to lo", 0, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    close(fd);

    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))]; } control = {0};
    struct in_pktinfo by = {.ipi_ifindex = device};
    struct iovec part = {"leak", 4};
    struct msghdr message = {.msg_name = &here.address, .msg_namelen = here.length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof by)};
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    memcpy(CMSG_DATA(&control.header), &by, sizeof by);
    struct mmsghdr several = {.msg_hdr = message};
    fd = udp(AF_INET);
    FAILS("sendmsg by a device to loopback", ENETUNREACH, sendmsg(fd, &message, 0));
    FAILS("sendmmsg by a device to loopback", ENETUNREACH, sendmmsg(fd, &several, 1, 0));
    connect_to(fd, &here);
    message.msg_name = several.msg_hdr.msg_name = NULL, message.msg_namelen = several.msg_hdr.msg_namelen = 0;
    FAILS("sendmsg by a device on a connected socket", ENETUNREACH, sendmsg(fd, &message, 0));
    FAILS("sendmmsg by a device on a connected socket", ENETUNREACH, sendmmsg(fd, &several, 1, 0));
    by.ipi_ifindex = (int)if_nametoindex("lo");
    memcpy(CMSG_DATA(&control.header), &by, sizeof by);
    GIVES("sendmsg by lo", 4, sendmsg(fd, &message, 0));
    close(fd);

    struct in6_pktinfo by6 = {.ipi6_ifindex = (unsigned)device};
    fd = udp(AF_INET6);
    FAILS("IPV6_PKTINFO for all packets", ENODEV, setsockopt(fd, IPPROTO_IPV6, IPV6_PKTINFO, &by6, sizeof by6));
    message = (struct msghdr){.msg_name = &here6.address, .msg_namelen = here6.length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof by6)};
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by6), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
    memcpy(CMSG_DATA(&control.header), &by6, sizeof by6);
    FAILS("sendmsg by a device to IPv6 loopback", ENETUNREACH, sendmsg(fd, &message, 0));
    close(fd);
}

/* To getpeername() a datagram socket that is connected to port 0 has no peer, nor has a stream that nobody has answered yet. */
static void hidden_peers(void) {
    static const char *const places[] = {"127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"};
    int device = (int)if_nametoindex(DEVICE), in_network_order = (int)htonl((unsigned)device);
    for (int i = 0; i < 3; i++) {
        endpoint nowhere = parse_endpoint(places[i]);
        int is_v6 = nowhere.address.ss_family == AF_INET6, fd = udp(nowhere.address.ss_family);
        GIVES("connected to port 0", 0, connect_to(fd, &nowhere));
        FAILS("... and then bound to a device", ENODEV, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
        FAILS("... and then sending by a device", ENODEV,
              setsockopt(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, is_v6 ? IPV6_UNICAST_IF : IP_UNICAST_IF, &in_network_order, sizeof in_network_order));
        union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))]; } control = {0};
        struct in_pktinfo by = {.ipi_ifindex = device};
        struct iovec part = {"leak", 4};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(&control.header), &by, sizeof by);
        FAILS("... a message by a device", ENETUNREACH, sendmsg(fd, &message, 0));
        if (write(fd, "leak", 4) < 0)
            errno = 0;
        close(fd);
    }
    for (int i = 0; i < 2; i++) {
        int family = i ? AF_INET6 : AF_INET, waiting[3], answer = 0;
        endpoint full;
        int listener = loopback_listener(family, &full);
        listen(listener, 0);
        for (int n = 0; n < 3; n++)
            waiting[n] = tcp(family, SOCK_NONBLOCK), answer = connect_to(waiting[n], &full);
        check("a stream is not answered", answer == -1 && errno == EINPROGRESS && !poll_one(waiting[2], POLLOUT, 0), "it is");
        FAILS("... and then bound to a device", ENODEV, setsockopt(waiting[2], SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
        for (int n = 0; n < 3; n++)
            close(waiting[n]);
        close(listener);
    }
}

/* bind() to a link-local address binds to its device, though it fails. Of an MPTCP socket it binds the TCP socket within, and does not tell. */
static void devices_within(void) {
    static const char *const places[] = {"[::1]:9", "[::ffff:127.0.0.1]:9"};
    int probe = socket(AF_INET6, SOCK_STREAM, IPPROTO_MPTCP);
    if (probe < 0) {
        printf("MPTCP: skipped (%s)\n", strerror(errno));
        return;
    }
    close(probe);
    for (int i = 0; i < 4; i++) {
        int is_sent = i / 2, fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_MPTCP);
        endpoint linked = parse_endpoint("[fe80::77:77]:0"), here = parse_endpoint(places[i % 2]);
        ((struct sockaddr_in6 *)&linked.address)->sin6_scope_id = if_nametoindex(DEVICE);
        FAILS("MPTCP: bind to an address of a device", EADDRNOTAVAIL, bind(fd, (void *)&linked.address, linked.length));
        long result = is_sent ? sendto(fd, "leak", 4, MSG_FASTOPEN, (void *)&here.address, here.length) : connect_to(fd, &here);
        int error = result == -1 ? errno : 0;
        if (error == EINPROGRESS)
            error = poll_one(fd, POLLOUT, 1000) > 0 ? socket_error(fd) : ETIMEDOUT;
        check("MPTCP: loopback is the machine's own, or unreachable", error == ECONNREFUSED || error == ENETUNREACH, "%s", strerrorname_np(error));
        close(fd);
    }
}

/* The packet goes to the route's first stop, 10.88.0.2, on its way to loopback. */
static void source_routes(void) {
    unsigned char route[] = {131, 7, 4, 10, 88, 0, 2, 0};
    endpoint here = parse_endpoint("127.0.0.1:9");
    int fd = udp(AF_INET);
    FAILS("a source route", EPERM, setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route, sizeof route));
    GIVES("none", 0, setsockopt(fd, IPPROTO_IP, IP_OPTIONS, NULL, 0));
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof route)]; } control = {0};
    struct iovec part = {"leak", 4};
    struct msghdr message = {.msg_name = &here.address, .msg_namelen = here.length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof route), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_RETOPTS};
    memcpy(CMSG_DATA(&control.header), route, sizeof route);
    FAILS("a source route for one message", ENETUNREACH, sendmsg(fd, &message, 0));
    close(fd);
}

/* Sources that are not this machine's, to which others answer, and connections without a handshake: the privileged alone may have them. */
static void sources(void) {
    int one = 1, none = 0;
    for (int i = 0; i < 2; i++) {
        int family = i ? AF_INET6 : AF_INET, stream = tcp(family, 0), datagram = udp(family);
        FAILS("a repaired connection", EPERM, setsockopt(stream, IPPROTO_TCP, TCP_REPAIR, &one, sizeof one));
        FAILS("... no more", EPERM, setsockopt(stream, IPPROTO_TCP, TCP_REPAIR, &none, sizeof none));
        FAILS("a stream from anywhere", EPERM, setsockopt(stream, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof one));
        FAILS("datagrams from anywhere", EPERM, setsockopt(datagram, IPPROTO_IP, IP_TRANSPARENT, &one, 1));
        GIVES("... no more", 0, setsockopt(datagram, IPPROTO_IP, IP_TRANSPARENT, &none, sizeof none));
        GIVES("an address that is to come", 0, setsockopt(datagram, IPPROTO_IP, IP_FREEBIND, &one, sizeof one));
        close(stream), close(datagram);
    }
    int fd = udp(AF_INET6);
    FAILS("IPv6 datagrams from anywhere", EPERM, setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof one));
    GIVES("an IPv6 address that is to come", 0, setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof one));
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    long_addresses("IPv4", endpoint_of("open"));
    long_addresses("IPv6", endpoint_of("open6"));
    groups();
    devices(endpoint_of("open"));
    hidden_peers();
    devices_within();
    source_routes();
    sources();
    return done();
}
