/* Blocking connect(2): each family, what it leaves behind, and what it does not touch. */
#include "check.h"

static void family(const char *label, int domain, endpoint open, endpoint refused, int v6only) {
    char name[96];
    int fd = tcp(domain, 0);
    if (domain == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);

    errno = 4242;
    int result = connect_to(fd, &open);
    snprintf(name, sizeof name, "%s connects", label);
    if (!check(name, result == 0, SAW(result))) {
        close(fd);
        return;
    }
    snprintf(name, sizeof name, "%s leaves errno alone", label);
    check(name, errno == 4242, "errno is %d", errno);
    snprintf(name, sizeof name, "%s has the peer asked for", label);
    check(name, peer_is(fd, &open), "another peer or none");

    endpoint own = {.length = sizeof own.address};
    result = getsockname(fd, (void *)&own.address, &own.length);
    in_port_t port = domain == AF_INET ? ((struct sockaddr_in *)&own.address)->sin_port : ((struct sockaddr_in6 *)&own.address)->sin6_port;
    snprintf(name, sizeof name, "%s has a local name", label);
    check(name, result == 0 && own.address.ss_family == domain && port != 0, "family %d port %d", own.address.ss_family, port);

    snprintf(name, sizeof name, "%s echoes", label);
    check(name, echoes(fd), "no echo");
    snprintf(name, sizeof name, "%s connected twice", label);
    FAILS(name, EISCONN, connect_to(fd, &open));
    snprintf(name, sizeof name, "%s has no pending error", label);
    GIVES(name, 0, socket_error(fd));
    close(fd);

    fd = tcp(domain, 0);
    if (domain == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    snprintf(name, sizeof name, "%s refused", label);
    FAILS(name, ECONNREFUSED, connect_to(fd, &refused));
    snprintf(name, sizeof name, "%s refused leaves no pending error", label);
    GIVES(name, 0, socket_error(fd));
    snprintf(name, sizeof name, "%s refused has no peer", label);
    endpoint none = {.length = sizeof none.address};
    FAILS(name, ENOTCONN, getpeername(fd, (void *)&none.address, &none.length));
    snprintf(name, sizeof name, "%s refused then refused", label);
    FAILS(name, ECONNREFUSED, connect_to(fd, &refused));
    snprintf(name, sizeof name, "%s refused then open", label);
    GIVES(name, 0, connect_to(fd, &open));
    snprintf(name, sizeof name, "%s refused then open echoes", label);
    check(name, echoes(fd), "no echo");
    close(fd);
}

static int option(int fd, int level, int number) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, number, &value, &length) ? -errno : value;
}

static void what_stays(endpoint open) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC), one = 1, size = 100000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    struct timeval patience = {7, 0}, seen = {0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int buffer = option(fd, SOL_SOCKET, SO_RCVBUF), flags = fcntl(fd, F_GETFL), linger = option(fd, SOL_SOCKET, SO_LINGER);
    GIVES("socket with options connects", 0, connect_to(fd, &open));
    GIVES("TCP_NODELAY stays", 1, option(fd, IPPROTO_TCP, TCP_NODELAY));
    GIVES("SO_KEEPALIVE stays", 1, option(fd, SOL_SOCKET, SO_KEEPALIVE));
    GIVES("SO_RCVBUF stays", buffer, option(fd, SOL_SOCKET, SO_RCVBUF));
    GIVES("SO_LINGER stays", linger, option(fd, SOL_SOCKET, SO_LINGER));
    socklen_t length = sizeof seen;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &seen, &length);
    check("SO_RCVTIMEO stays", seen.tv_sec == 7, "%ld s", (long)seen.tv_sec);
    GIVES("file flags stay", flags, fcntl(fd, F_GETFL));
    GIVES("close-on-exec stays", FD_CLOEXEC, fcntl(fd, F_GETFD));
    close(fd);

    fd = tcp(AF_INET, 0);
    GIVES("plain socket connects", 0, connect_to(fd, &open));
    GIVES("no close-on-exec appears", 0, fcntl(fd, F_GETFD));
    char byte;
    GIVES("shutdown passes the end on", 0, shutdown(fd, SHUT_WR));
    GIVES("the far end closes in turn", 0, read(fd, &byte, 1));
    int next = dup(fd);
    close(next);
    GIVES("no descriptor is left behind", next, dup(fd));
    close(next);
    close(fd);
}

/* The name of a bound socket must be the one that it was bound to. */
static void bound_first(endpoint open) {
    int fd = tcp(AF_INET, 0);
    endpoint any = parse_endpoint("0.0.0.0:0"), bound = any, after = any;
    bind(fd, (void *)&any.address, any.length);
    getsockname(fd, (void *)&bound.address, &bound.length);
    GIVES("bound socket connects", 0, connect_to(fd, &open));
    getsockname(fd, (void *)&after.address, &after.length);
    check("bound port stays", ((struct sockaddr_in *)&bound.address)->sin_port == ((struct sockaddr_in *)&after.address)->sin_port, "port changed");
    check("bound socket echoes", echoes(fd), "no echo");
    close(fd);
}

static void banner(endpoint from) {
    char text[64] = "";
    int fd = tcp(AF_INET, 0);
    GIVES("server that speaks first connects", 0, connect_to(fd, &from));
    ssize_t got = recv(fd, text, 11, MSG_WAITALL);
    check("banner is whole", got == 11 && !memcmp(text, "220 hello\r\n", 11), "%zd bytes: %s", got, text);
    check("banner server echoes", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open"), refused = endpoint_of("refused");
    endpoint open6 = endpoint_of("open6"), refused6 = endpoint_of("refused6");
    family("IPv4", AF_INET, open, refused, 0);
    family("IPv6", AF_INET6, open6, refused6, 0);
    family("mapped IPv4", AF_INET6, mapped(open), mapped(refused), 0);
    family("IPv6 only", AF_INET6, open6, refused6, 1);

    int fd = tcp(AF_INET6, 0), one = 1;
    endpoint mapped_open = mapped(open);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    FAILS("IPv6 only to a mapped address", ENETUNREACH, connect_to(fd, &mapped_open));
    close(fd);

    what_stays(open);
    bound_first(open);
    banner(endpoint_of("banner"));
    return done();
}
