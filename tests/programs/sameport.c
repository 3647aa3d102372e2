/*
 * Several connections from one local port, each to another destination (SO_REUSEADDR before bind(2)): to the kernel they are as good as any, though a
 * proxy is one address for all of them.
 */
#include "check.h"

static const char *how;

static const char *named(const char *what) {
    static char name[128];
    snprintf(name, sizeof name, "%s: %s", how, what);
    return name;
}

static uint16_t *port_of(endpoint *at) {
    /* In both families the port comes after the family. */
    return &((struct sockaddr_in *)&at->address)->sin_port;
}

/* A socket that is bound to this port, or to any free one if that is 0. */
static int bound(endpoint own, int flags, uint16_t *port) {
    int fd = tcp(own.address.ss_family, flags), one = 1;
    *port_of(&own) = *port;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&own.address, own.length) || getsockname(fd, (void *)&own.address, &own.length))
        give_up("bind: %s", strerror(errno));
    *port = *port_of(&own);
    return fd;
}

static uint16_t own_port(int fd) {
    endpoint own = {.length = sizeof own.address};
    getsockname(fd, (void *)&own.address, &own.length);
    return *port_of(&own);
}

/* The address from which this machine speaks to `to`. */
static endpoint own_address(const endpoint *to) {
    endpoint own = {.length = sizeof own.address};
    int fd = socket(to->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect_to(fd, to) || getsockname(fd, (void *)&own.address, &own.length))
        give_up("no way to the destination: %s", strerror(errno));
    close(fd);
    return own;
}

static int connects(int fd, const endpoint *to) {
    if (!connect_to(fd, to))
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    return poll_one(fd, POLLOUT, PATIENCE_MS) > 0 ? socket_error(fd) : ETIMEDOUT;
}

static void go_from_one_port(const char *label, endpoint own, int flags, const endpoint *to) {
    how = label;
    uint16_t port = 0;
    int first = bound(own, flags, &port), second = bound(own, flags, &port), third = bound(own, flags, &port);
    GIVES(named("the first connects"), 0, connects(first, &to[0]));
    GIVES(named("the second connects"), 0, connects(second, &to[1]));
    GIVES(named("the third is refused"), ECONNREFUSED, connects(third, &to[2]));
    GIVES(named("the first has its port"), port, own_port(first));
    GIVES(named("the second has the same"), port, own_port(second));
    check(named("each has its peer"), peer_is(first, &to[0]) && peer_is(second, &to[1]), "it has not");
    fcntl(first, F_SETFL, 0), fcntl(second, F_SETFL, 0);
    check(named("the first echoes"), echoes(first), "no echo");
    check(named("the second echoes"), echoes(second), "no echo");
    close(second);
    check(named("the first still echoes"), echoes(first), "no echo");
    close(first), close(third);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    stage("release");
    endpoint v4[] = {endpoint_of("open"), endpoint_of("held"), endpoint_of("refused")};
    endpoint v6[] = {mapped(v4[0]), mapped(v4[1]), mapped(v4[2])};
    endpoint any = parse_endpoint("0.0.0.0:0"), any6 = parse_endpoint("[::]:0");
    go_from_one_port("IPv4", any, 0, v4);
    go_from_one_port("IPv4, not blocking", any, SOCK_NONBLOCK, v4);
    go_from_one_port("IPv4, bound to an address", own_address(&v4[0]), 0, v4);
    go_from_one_port("IPv6, mapped", any6, 0, v6);
    return done();
}
