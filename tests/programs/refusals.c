/*
 * What presocks refuses to a program that LD_PRELOAD does not reach, by bare system calls: raw and packet sockets,
 * other transports, datagrams to anywhere, multicast groups, io_uring. The bare machine would let most of it out, so
 * this runs under presocks only; the test that runs it counts the packets that left. `source=` and `source6=` are the
 * machine's own addresses.
 */
#include "check.h"
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif

static char name[128];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)

static void refused_sockets(void) {
    static const struct {
        const char *label;
        int family, type, protocol, error;
    } all[] = {
        {"raw ICMP", AF_INET, SOCK_RAW, IPPROTO_ICMP, EPERM},
        {"raw with headers", AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW, EPERM},
        {"raw TCP", AF_INET, SOCK_RAW, IPPROTO_TCP, EPERM},
        {"raw ICMPv6", AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6, EPERM},
        {"packet", AF_PACKET, SOCK_RAW, 0x300, EPERM},
        {"cooked packet", AF_PACKET, SOCK_DGRAM, 0x300, EPERM},
        {"old packet", AF_INET, SOCK_PACKET, 0x300, EPERM},
        {"ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP, EPERM},
        {"ping, IPv6", AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMPV6, EPERM},
        {"XDP", 44, SOCK_RAW, 0, EPERM},
        {"SCTP", AF_INET, SOCK_STREAM, IPPROTO_SCTP, EPROTONOSUPPORT},
        {"SCTP packets", AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP, EPROTONOSUPPORT},
        {"DCCP", AF_INET, SOCK_DCCP, IPPROTO_DCCP, EPROTONOSUPPORT},
        {"UDP-Lite", AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, EPROTONOSUPPORT},
        {"UDP-Lite, IPv6", AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, EPROTONOSUPPORT},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(name, sizeof name, "%s socket", all[i].label);
        FAILS(name, all[i].error, syscall(SYS_socket, all[i].family, all[i].type, all[i].protocol));
    }
}

static int udp(int family) {
    int fd = (int)syscall(SYS_socket, family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

static void own_address(const char *label, int fd, const char *expected) {
    endpoint own = {.length = sizeof own.address};
    char text[INET6_ADDRSTRLEN] = "";
    getsockname(fd, (void *)&own.address, &own.length);
    int family = own.address.ss_family;
    if (family == AF_INET)
        inet_ntop(family, &((struct sockaddr_in *)&own.address)->sin_addr, text, sizeof text);
    else
        inet_ntop(family, &((struct sockaddr_in6 *)&own.address)->sin6_addr, text, sizeof text);
    check(NAMED("shows the source address"), !strcmp(text, expected), "%s", text);
}

static void no_datagram_leaves(const char *label, endpoint far, const char *source) {
    char text[] = "leak";
    int family = far.address.ss_family, fd = udp(family), one = 1;
    struct iovec part = {text, 4};
    struct msghdr message = {.msg_name = &far.address, .msg_namelen = far.length, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    FAILS(NAMED("sendto"), ENETUNREACH, syscall(SYS_sendto, fd, text, 4, 0, &far.address, far.length));
    FAILS(NAMED("sendmsg"), ENETUNREACH, syscall(SYS_sendmsg, fd, &message, 0));
    FAILS(NAMED("sendmmsg"), ENETUNREACH, syscall(SYS_sendmmsg, fd, several, 2, 0));
    /* What follows is lost or fails; the counters of packets tell whether it left. */
    GIVES(NAMED("connect"), 0, syscall(SYS_connect, fd, &far.address, far.length));
    if (source)
        own_address(label, fd, source);
    struct msghdr plain = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t sent = write(fd, text, 4);
    check(NAMED("write is lost or fails"), sent == 4 || sent == -1, SAW(sent));
    sent = syscall(SYS_sendto, fd, text, 4, 0, NULL, 0);
    check(NAMED("sendto without an address is lost or fails"), sent == 4 || sent == -1, SAW(sent));
    sent = syscall(SYS_sendmsg, fd, &plain, 0);
    check(NAMED("sendmsg without an address is lost or fails"), sent == 4 || sent == -1, SAW(sent));
    FAILS(NAMED("sendto once connected"), ENETUNREACH, syscall(SYS_sendto, fd, text, 4, 0, &far.address, far.length));
    close(fd);
}

/* The first of two messages is for loopback and may be sent; the second is not. */
static void mixed(endpoint far) {
    endpoint here = parse_endpoint("127.0.0.1:0");
    char text[] = "text", seen[8];
    int server = udp(AF_INET), client = udp(AF_INET);
    bind(server, (void *)&here.address, here.length);
    getsockname(server, (void *)&here.address, &here.length);
    struct iovec part = {text, 4};
    struct mmsghdr two[2] = {
        {.msg_hdr = {.msg_name = &here.address, .msg_namelen = here.length, .msg_iov = &part, .msg_iovlen = 1}},
        {.msg_hdr = {.msg_name = &far.address, .msg_namelen = far.length, .msg_iov = &part, .msg_iovlen = 1}},
    };
    long sent = syscall(SYS_sendmmsg, client, two, 2, 0);
    check("sendmmsg to loopback and elsewhere", sent == 1 || (sent == -1 && errno == ENETUNREACH), SAW(sent));
    if (sent == 1)
        GIVES("its first message arrives", 4, recv(server, seen, sizeof seen, MSG_DONTWAIT));
    close(server), close(client);
}

static int joins(int fd, int level, int option, const void *value, size_t length) {
    return (int)syscall(SYS_setsockopt, fd, level, option, value, length);
}

static void groups(void) {
    int fd = udp(AF_INET), fd6 = udp(AF_INET6);
    struct ip_mreq group = {0};
    struct ip_mreqn device = {0};
    struct ipv6_mreq group6 = {0};
    struct group_req any = {0};
    inet_pton(AF_INET, "224.0.0.251", &group.imr_multiaddr);
    device.imr_multiaddr = group.imr_multiaddr;
    inet_pton(AF_INET6, "ff02::fb", &group6.ipv6mr_multiaddr);
    struct sockaddr_in *at = (void *)&any.gr_group;
    at->sin_family = AF_INET, at->sin_addr = group.imr_multiaddr;
    FAILS("IP_ADD_MEMBERSHIP", ENODEV, joins(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    FAILS("IP_ADD_MEMBERSHIP with a device", ENODEV, joins(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &device, sizeof device));
    FAILS("MCAST_JOIN_GROUP", ENODEV, joins(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &any, sizeof any));
    FAILS("IPV6_ADD_MEMBERSHIP", ENODEV, joins(fd6, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof group6));
    close(fd), close(fd6);
}

/* Raw by its type, but it does not leave the machine: ip(8), sudo and libc itself need it (rtnetlink(7)). */
static void netlink(void) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {.header = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK}};
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}, from;
    static char answer[65536];
    struct iovec out = {&request, sizeof request}, in = {answer, sizeof answer};
    struct msghdr sent = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &out, .msg_iovlen = 1};
    struct msghdr received = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &in, .msg_iovlen = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), links = 0;
    check("netlink socket", fd >= 0, SAW(fd));
    GIVES("netlink is asked", sizeof request, sendmsg(fd, &sent, 0));
    for (int more = 1; more;) {
        ssize_t got = recvmsg(fd, &received, 0);
        if (!check("netlink answers", got > 0, SAW(got)))
            break;
        unsigned left = (unsigned)got;
        for (struct nlmsghdr *each = (void *)answer; NLMSG_OK(each, left); each = NLMSG_NEXT(each, left)) {
            links += each->nlmsg_type == RTM_NEWLINK;
            more = more && each->nlmsg_type != NLMSG_DONE && each->nlmsg_type != NLMSG_ERROR;
        }
    }
    check("netlink shows loopback and the cable", links >= 2, "%d links", links);
    close(fd);
}

static void rings(void) {
    static char parameters[256];
    FAILS("io_uring_setup", ENOSYS, syscall(SYS_io_uring_setup, 4, parameters));
    FAILS("io_uring_enter", ENOSYS, syscall(SYS_io_uring_setup + 1, 0, 1, 0, 0, NULL, 0));
    FAILS("io_uring_register", ENOSYS, syscall(SYS_io_uring_setup + 2, 0, 0, NULL, 0));
}

#ifdef __x86_64__
/* The numbers of the x32 ABI are these with a bit more. */
static void x32(endpoint far) {
    const long bit = 0x40000000;
    int fd = tcp(AF_INET, 0);
    FAILS("connect by the x32 ABI", ENOSYS, syscall(SYS_connect | bit, fd, &far.address, far.length));
    FAILS("socket by the x32 ABI", ENOSYS, syscall(SYS_socket | bit, AF_INET, SOCK_RAW, IPPROTO_ICMP));
    FAILS("sendto by the x32 ABI", ENOSYS, syscall(SYS_sendto | bit, fd, "x", 1, MSG_FASTOPEN, &far.address, far.length));
    FAILS("sendmsg by the x32 ABI", ENOSYS, syscall(518 | bit, fd, NULL, 0));
    close(fd);
}
#else
static void x32(endpoint far) { (void)far; }
#endif

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint far = endpoint_of("open"), far6 = endpoint_of("open6");
    refused_sockets();
    no_datagram_leaves("IPv4", far, argument("source"));
    no_datagram_leaves("IPv6", far6, argument("source6"));
    no_datagram_leaves("mapped IPv4", mapped(far), NULL);
    no_datagram_leaves("broadcast", parse_endpoint("255.255.255.255:67"), NULL);
    no_datagram_leaves("multicast", parse_endpoint("224.0.0.251:5353"), NULL);
    no_datagram_leaves("stand-in", parse_endpoint("198.18.0.77:443"), NULL);
    mixed(far);
    groups();
    netlink();
    rings();
    x32(far);
    return done();
}
