/*
 * What presocks refuses: datagrams to anything but loopback, raw and packet sockets, other transports. The bare machine
 * would let them out, so this runs under presocks only; the test that runs it counts the packets that left.
 */
#include "check.h"
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <sys/uio.h>

static int udp(int family) {
    int fd = socket(family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

static void nothing_leaves(const char *label, endpoint far) {
    char name[96], text[] = "leak";
#define NAMED(what) (snprintf(name, sizeof name, "%s: %s", label, what), name)
    int family = far.address.ss_family, fd = udp(family);
    struct iovec part = {text, 4};
    struct msghdr message = {.msg_name = &far.address, .msg_namelen = far.length, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    FAILS(NAMED("sendto"), ENETUNREACH, sendto(fd, text, 4, 0, (void *)&far.address, far.length));
    FAILS(NAMED("sendto, no signal"), ENETUNREACH, sendto(fd, text, 4, MSG_NOSIGNAL | MSG_DONTWAIT, (void *)&far.address, far.length));
    FAILS(NAMED("sendmsg"), ENETUNREACH, sendmsg(fd, &message, 0));
    FAILS(NAMED("sendmmsg"), ENETUNREACH, sendmmsg(fd, several, 2, 0));
    GIVES(NAMED("connect"), 0, connect_to(fd, &far));
    check(NAMED("peer"), peer_is(fd, &far), "another");
    FAILS(NAMED("send"), ENETUNREACH, send(fd, text, 4, 0));
    FAILS(NAMED("sendto without an address"), ENETUNREACH, sendto(fd, text, 4, 0, NULL, 0));
    struct msghdr bare = {.msg_iov = &part, .msg_iovlen = 1};
    FAILS(NAMED("sendmsg without an address"), ENETUNREACH, sendmsg(fd, &bare, 0));
    /* write(2) may be lost or refused (no hook sees it); the packet counters tell whether it left. */
    ssize_t written = write(fd, text, 4);
    check(NAMED("write is lost or fails"), written == 4 || written == -1, "returned %zd", written);
    written = writev(fd, &part, 1);
    check(NAMED("writev is lost or fails"), written == 4 || written == -1, "returned %zd", written);
    close(fd);
}

/* The first of two messages is for loopback: it is sent, the other is not; the count says so (sendmmsg(2)). */
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
    int sent = sendmmsg(client, two, 2, 0);
    check("sendmmsg to loopback and elsewhere", sent == 1 || (sent == -1 && errno == ENETUNREACH), SAW(sent));
    if (sent == 1)
        GIVES("its first message arrives", 4, recv(server, seen, sizeof seen, MSG_DONTWAIT));

    /* A socket connected to loopback may still name another destination. */
    GIVES("connected to loopback", 0, connect_to(client, &here));
    FAILS("sendto elsewhere from it", ENETUNREACH, sendto(client, text, 4, 0, (void *)&far.address, far.length));
    GIVES("send to loopback from it", 4, send(client, text, 4, 0));

    close(client), close(server);
}

static void refused_socket(const char *name, int expected, int family, int type, int protocol) {
    errno = 0;
    int fd = socket(family, type, protocol);
    check(name, fd == -1 && errno == expected, SAW(fd));
    if (fd >= 0)
        close(fd);
}

/* Transports that no SOCKS proxy carries: the socket may be refused, or its connect. */
static void refused_transport(const char *name, int type, int protocol, endpoint far) {
    int fd = socket(AF_INET, type, protocol);
    if (fd == -1) {
        check(name, 1, "never");
        return;
    }
    int result = connect_to(fd, &far);
    int sent = (int)sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT, (void *)&far.address, far.length);
    check(name, result == -1 && sent == -1, "connect %d, sendto %d", result, sent);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint far = endpoint_of("open"), far6 = endpoint_of("open6");
    nothing_leaves("IPv4", far);
    nothing_leaves("IPv6", far6);
    nothing_leaves("mapped IPv4", mapped(far));
    nothing_leaves("broadcast", parse_endpoint("255.255.255.255:67"));
    nothing_leaves("multicast", parse_endpoint("224.0.0.251:5353"));
    nothing_leaves("stand-in", parse_endpoint("198.18.0.77:443"));
    nothing_leaves("IPv6 stand-in", parse_endpoint("[fd70:7265:736f:636b:7301::c612:4d]:443"));
    mixed(far);

    refused_socket("raw ICMP socket", EPERM, AF_INET, SOCK_RAW, IPPROTO_ICMP);
    refused_socket("raw socket with headers", EPERM, AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    refused_socket("raw ICMPv6 socket", EPERM, AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6);
    refused_socket("packet socket", EPERM, AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    refused_socket("cooked packet socket", EPERM, AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
    refused_socket("old packet socket", EPERM, AF_INET, SOCK_PACKET, htons(ETH_P_ALL));
    refused_socket("ping socket", EPERM, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    refused_socket("ping socket, IPv6", EPERM, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
    refused_transport("SCTP stream", SOCK_STREAM, IPPROTO_SCTP, far);
    refused_transport("SCTP packets", SOCK_SEQPACKET, IPPROTO_SCTP, far);
    refused_transport("DCCP", SOCK_DCCP, IPPROTO_DCCP, far);
    refused_transport("UDP-Lite", SOCK_DGRAM, IPPROTO_UDPLITE, far);

    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    check("raw netlink socket", netlink >= 0, "errno %s", strerrorname_np(errno));
    return done();
}
