/*
 * Options that a program sets before it connects, among them those that change when data moves: none is in the way of the connect, each has its value
 * afterwards, whether that succeeds (`open=`) or fails (`refused=`, but with `refusing=no`), and nothing of what was sent before is told.
 */
#include "check.h"
#include <linux/net_tstamp.h>
#include <sys/uio.h>

#define NEW_TIMESTAMPING 65
#define SENT (SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE)

/* Of some the kernel itself changes the value: in its own way, or by how the connection goes. */
enum { KEPT, CHANGED, MOVING, KEPT_BY_FAILURE };

/* `told`: messages about a send. */
static const struct option {
    const char *name;
    int level, number, value, then, told;
} options[] = {
    {"none", SOL_SOCKET, SO_KEEPALIVE, 0, KEPT, 0},
    {"SO_RCVLOWAT 3", SOL_SOCKET, SO_RCVLOWAT, 3, KEPT, 0},
    {"SO_RCVLOWAT 5000", SOL_SOCKET, SO_RCVLOWAT, 5000, KEPT, 0},
    {"TCP_CORK", IPPROTO_TCP, TCP_CORK, 1, KEPT, 0},
    {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1, KEPT, 0},
    {"SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING, SENT | SOF_TIMESTAMPING_OPT_TSONLY, KEPT, 3},
    {"SO_TIMESTAMPING, new", SOL_SOCKET, NEW_TIMESTAMPING, SENT, KEPT, 3},
    {"SO_TIMESTAMPING of what is received", SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE, KEPT, 0},
    {"SO_RCVBUF 1", SOL_SOCKET, SO_RCVBUF, 1, KEPT, 0},
    {"SO_SNDBUF 1", SOL_SOCKET, SO_SNDBUF, 1, KEPT, 0},
    {"SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, 50, KEPT, 0},
    {"SO_MAX_PACING_RATE", SOL_SOCKET, SO_MAX_PACING_RATE, 20, KEPT, 0},
    {"SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1, KEPT, 0},
    {"SO_PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF, 0, CHANGED, 0},
    {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1, KEPT, 0},
    {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 6, KEPT, 0},
    {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1, KEPT, 0},
    {"IP_RECVERR", IPPROTO_IP, IP_RECVERR, 1, KEPT, 0},
    {"IP_TOS", IPPROTO_IP, IP_TOS, 0x10, KEPT, 0},
    {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 10000, KEPT, 0},
    {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 1, KEPT, 0},
    {"TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1, KEPT, 0},
    {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, 10, CHANGED, 0},
    /* Who is connected by a proxy has been connected, and cannot be set to wait for his first bytes. */
    {"TCP_FASTOPEN_CONNECT", IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, KEPT_BY_FAILURE, 0},
    {"TCP_QUICKACK off", IPPROTO_TCP, TCP_QUICKACK, 0, MOVING, 0},
    {"TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP, 64, CHANGED, 0},
    {"TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, 88, MOVING, 0},
};

static char name[160];
#define NAMED(what) (snprintf(name, sizeof name, "%s, %s: %s", option->name, how, what), name)

static int value_of(int fd, const struct option *option) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, option->level, option->number, &value, &length);
    return value;
}

/* Messages in the error queue, which are taken. */
static int told(int fd) {
    char data[512], control[512];
    int count = 0;
    for (;; count++) {
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return count;
    }
}

/* The errno of a connect(), or 0. */
static int connects(int fd, const endpoint *to) {
    if (!connect_to(fd, to))
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    int seen = poll_one(fd, POLLOUT, PATIENCE_MS), error = socket_error(fd);
    return error ? error : seen == POLLOUT ? 0 : seen ? -seen : ETIMEDOUT;
}

static void has_value(const struct option *option, const char *how, int fd, int value) {
    int now = value_of(fd, option);
    if (option->then == KEPT)
        GIVES(NAMED("has the value that it had"), value, now);
    else if (option->then == CHANGED)
        printf("%s, %s: has the value %d\n", option->name, how, now);
}

static void is_kept(const struct option *option, int family, int flags, const char *how) {
    int fd = tcp(family, flags);
    endpoint open = endpoint_of("open"), refused = endpoint_of("refused");
    if (family == AF_INET6)
        open = mapped(open), refused = mapped(refused);
    if (setsockopt(fd, option->level, option->number, &option->value, sizeof option->value)) {
        printf("%s, %s: skipped (%s)\n", option->name, how, strerror(errno));
        close(fd);
        return;
    }
    int value = value_of(fd, option);
    if (!argument("refusing")) {
        GIVES(NAMED("is refused"), ECONNREFUSED, connects(fd, &refused));
        /* A blocking one that fails has the kernel forget those that it changes. */
        if (option->then == KEPT_BY_FAILURE)
            GIVES(NAMED("has the value that it had when that has failed"), value, value_of(fd, option));
        else if (flags & SOCK_NONBLOCK || option->then == KEPT)
            has_value(option, how, fd, value);
        struct sockaddr nothing = {.sa_family = AF_UNSPEC};
        GIVES(NAMED("is free for another"), 0, connect(fd, &nothing, sizeof nothing));
    }
    GIVES(NAMED("connects"), 0, connects(fd, &open));
    has_value(option, how, fd, value);
    GIVES(NAMED("nothing is told of what it has not sent"), 0, told(fd));
    /* An answer of a few bytes could not be waited for. */
    int one = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    fcntl(fd, F_SETFL, 0);
    check(NAMED("echoes"), echoes(fd), "no echo");
    GIVES(NAMED("what it has sent is told"), option->told, told(fd));
    close(fd);
}

/* A socket for IPv6 alone is freed from that for a proxy at an IPv4 address: but not for good where it is not connected. */
static void is_still_for_ipv6_alone(void) {
    int one = 1, value = 0, fd = tcp(AF_INET6, 0);
    socklen_t length = sizeof value;
    endpoint refused = endpoint_of("refused6");
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    GIVES("for IPv6 alone: is refused", ECONNREFUSED, connects(fd, &refused));
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &length);
    GIVES("for IPv6 alone: still is", 1, value);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        is_kept(&options[i], AF_INET, 0, "blocking");
        is_kept(&options[i], AF_INET, SOCK_NONBLOCK, "not blocking");
        is_kept(&options[i], AF_INET6, SOCK_NONBLOCK, "IPv6");
    }
    if (!argument("refusing"))
        is_still_for_ipv6_alone();
    return done();
}
