/*
 * A program into which nobody may look (PR_SET_DUMPABLE), as ssh-agent and keepassxc are: what it can do without presocks it can do
 * with it.
 */
#include "check.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/prctl.h>

static void connects(const char *label, endpoint to) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    int fd = tcp(to.address.ss_family, 0);
    GIVES(NAMED("connects"), 0, connect_to(fd, &to));
    check(NAMED("has the peer asked for"), peer_is(fd, &to), SAW(-1));
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd);
}

static void loopback(int family) {
    endpoint at, own = {.length = sizeof own.address}, peer = {.length = sizeof peer.address};
    int listener = loopback_listener(family, &at), fd = tcp(family, 0);
    GIVES("loopback connects", 0, connect_to(fd, &at));
    check("loopback has its peer", peer_is(fd, &at), SAW(-1));
    int accepted = accept(listener, NULL, NULL);
    GIVES("loopback has a name", 0, getsockname(fd, (void *)&own.address, &own.length));
    GIVES("who was accepted has a peer", 0, getpeername(accepted, (void *)&peer.address, &peer.length));
    check("which is the other", same_endpoint(&own, &peer), "not");
    close(fd), close(accepted), close(listener);
}

/* A datagram in each of the ways in which it can be sent, to an address of this kind. */
static void datagrams(const char *label, const struct sockaddr_un *at, socklen_t length) {
    char name[96], text[] = "text", seen[8];
    int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0);
    GIVES(NAMED("is bound"), 0, bind(to, (const void *)at, length));
    struct iovec part = {text, 4};
    struct mmsghdr several[2] = {0};
    for (int n = 0; n < 2; n++)
        several[n].msg_hdr = (struct msghdr){.msg_name = (void *)at, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1};
    GIVES(NAMED("sendto"), 4, sendto(from, text, 4, 0, (const void *)at, length));
    GIVES(NAMED("sendmsg"), 4, sendmsg(from, &several[0].msg_hdr, 0));
    GIVES(NAMED("sendmmsg"), 2, sendmmsg(from, several, 2, 0));
    for (int n = 0; n < 4; n++)
        GIVES(NAMED("is received"), 4, recvfrom(to, seen, sizeof seen, MSG_DONTWAIT, NULL, NULL));
    close(to);
    FAILS(NAMED("sendto nobody"), ECONNREFUSED, sendto(from, text, 4, 0, (const void *)at, length));
    FAILS(NAMED("sendmsg to nobody"), ECONNREFUSED, sendmsg(from, &several[0].msg_hdr, 0));
    close(from);
}

static void local(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int length = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "undumpable-%d", (int)getpid());
    datagrams("abstract", &at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length));
    at.sun_path[0] = 'a', at.sun_path[2] = 0;
    if (chdir("/tmp"))
        give_up("/tmp: %s", strerror(errno));
    unlink(at.sun_path);
    datagrams("short path", &at, sizeof at.sun_family + 3);
    unlink(at.sun_path);
    datagrams("whole address", &at, sizeof at);
    unlink(at.sun_path);
}

/* The kernel is asked which interfaces there are. */
static void netlink(void) {
    struct {
        struct nlmsghdr header;
        struct rtgenmsg body;
    } ask = {{.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}, {AF_UNSPEC}};
    char answer[8192];
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}, from;
    struct iovec in = {&ask, sizeof ask}, out = {answer, sizeof answer};
    struct msghdr sent = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &in, .msg_iovlen = 1};
    struct msghdr got = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &out, .msg_iovlen = 1};
    for (int how = 0; how < 2; how++) {
        int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
        GIVES("netlink is asked", sizeof ask,
              how ? sendmsg(fd, &sent, 0) : sendto(fd, &ask, sizeof ask, 0, (void *)&kernel, sizeof kernel));
        check("netlink answers", recvmsg(fd, &got, MSG_DONTWAIT) > 0 && from.nl_pid == 0, SAW(-1));
        close(fd);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (prctl(PR_SET_DUMPABLE, 0))
        give_up("PR_SET_DUMPABLE: %s", strerror(errno));
    connects("IPv4", endpoint_of("open"));
    connects("IPv6", endpoint_of("open6"));
    loopback(AF_INET);
    loopback(AF_INET6);
    local();
    netlink();
    return done();
}
