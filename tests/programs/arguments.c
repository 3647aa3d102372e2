/* connect(2) with wrong arguments, and connects that are none of a proxy's business. */
#include "check.h"
#include <linux/netlink.h>
#include <sys/mman.h>

static int fd_of_null(void) {
    return open("/dev/null", O_RDWR);
}

static void wrong(endpoint open, endpoint open6) {
    int fd = tcp(AF_INET, 0), fd6 = tcp(AF_INET6, 0), pipes[2];
    if (pipe(pipes))
        give_up("pipe");
    FAILS("null address", EFAULT, connect(fd, NULL, sizeof(struct sockaddr_in)));
    FAILS("null address of no length", EINVAL, connect(fd, NULL, 0));
    FAILS("length 0", EINVAL, connect(fd, (void *)&open.address, 0));
    FAILS("length 1", EINVAL, connect(fd, (void *)&open.address, 1));
    FAILS("length 8", EINVAL, connect(fd, (void *)&open.address, 8));
    FAILS("length 15", EINVAL, connect(fd, (void *)&open.address, 15));
    FAILS("length of 4 GiB", EINVAL, connect(fd, (void *)&open.address, (socklen_t)-1));
    FAILS("length beyond sockaddr_storage", EINVAL, connect(fd, (void *)&open.address, sizeof open.address + 1));
    FAILS("IPv6 address cut short", EINVAL, connect(fd6, (void *)&open6.address, 20));
    FAILS("IPv6 address on an IPv4 socket", EAFNOSUPPORT, connect_to(fd, &open6));
    FAILS("IPv4 address on an IPv6 socket", EINVAL, connect_to(fd6, &open));
    FAILS("bad descriptor", EBADF, connect_to(-1, &open));
    FAILS("closed descriptor", EBADF, connect_to(9999, &open));
    FAILS("pipe", ENOTSOCK, connect_to(pipes[0], &open));
    FAILS("device", ENOTSOCK, connect_to(fd_of_null(), &open));
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
    FAILS("Unix address on an IPv4 socket", EAFNOSUPPORT, connect(fd, (void *)&at, sizeof at));
    GIVES("the socket still connects", 0, connect_to(fd, &open));
    check("and echoes", echoes(fd), "no echo");

    /* An address that ends with its page: nothing beyond it may be read. */
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_NONE);
    memcpy(page + 4096 - open.length, &open.address, open.length);
    int edge = tcp(AF_INET, 0);
    GIVES("address at the end of its page", 0, connect(edge, (void *)(page + 4096 - open.length), open.length));
    memcpy(page + 4096 - 24, &open6.address, 24);
    int edge6 = tcp(AF_INET6, 0);
    GIVES("IPv6 address without its scope", 0, connect(edge6, (void *)(page + 4096 - 24), 24));
    close(edge), close(edge6), close(fd), close(fd6), close(pipes[0]), close(pipes[1]);

    fd = tcp(AF_INET, 0);
    GIVES("long address connects", 0, connect(fd, (void *)&open.address, sizeof open.address));
    close(fd);
}

static void dissolved(endpoint open) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int fd = tcp(AF_INET, 0);
    GIVES("AF_UNSPEC on a new socket", 0, connect(fd, &none, sizeof none));
    GIVES("connects afterwards", 0, connect_to(fd, &open));
    GIVES("AF_UNSPEC dissolves", 0, connect(fd, &none, sizeof none));
    endpoint peer = {.length = sizeof peer.address};
    FAILS("no peer afterwards", ENOTCONN, getpeername(fd, (void *)&peer.address, &peer.length));
    FAILS("the reset shows once", ECONNRESET, send(fd, "x", 1, MSG_NOSIGNAL));
    FAILS("no sending afterwards", EPIPE, send(fd, "x", 1, MSG_NOSIGNAL));
    GIVES("connects again", 0, connect_to(fd, &open));
    check("has its peer again", peer_is(fd, &open), "another peer");
    check("echoes again", echoes(fd), "no echo");
    GIVES("AF_UNSPEC dissolves again", 0, connect(fd, &none, sizeof none));
    endpoint near;
    int listener = loopback_listener(AF_INET, &near);
    GIVES("connects near by", 0, connect_to(fd, &near));
    check("and shows that peer", peer_is(fd, &near), "another peer");
    close(listener);
    close(fd);
}

static void loopback(int family, const char *label) {
    char name[64];
    endpoint at, other = {.length = sizeof other.address};
    int listener = loopback_listener(family, &at), fd = tcp(family, 0), accepted;
    FAILS("listening socket", EISCONN, connect_to(listener, &at));
    snprintf(name, sizeof name, "%s loopback connects", label);
    GIVES(name, 0, connect_to(fd, &at));
    accepted = accept(listener, (void *)&other.address, &other.length);
    endpoint own = {.length = sizeof own.address};
    getsockname(fd, (void *)&own.address, &own.length);
    snprintf(name, sizeof name, "%s loopback is accepted from where it came", label);
    check(name, accepted >= 0 && same_endpoint(&own, &other), "another address");
    snprintf(name, sizeof name, "%s loopback has its peer", label);
    check(name, peer_is(fd, &at) && peer_is(accepted, &own), "another peer");
    close(fd), close(accepted);

    /* The unspecified address means this machine. */
    endpoint any = parse_endpoint(family == AF_INET ? "0.0.0.0:0" : "[::]:0");
    if (family == AF_INET)
        ((struct sockaddr_in *)&any.address)->sin_port = ((struct sockaddr_in *)&at.address)->sin_port;
    else
        ((struct sockaddr_in6 *)&any.address)->sin6_port = ((struct sockaddr_in6 *)&at.address)->sin6_port;
    fd = tcp(family, 0);
    snprintf(name, sizeof name, "%s unspecified address connects", label);
    GIVES(name, 0, connect_to(fd, &any));
    accepted = accept(listener, NULL, NULL);
    close(fd), close(accepted), close(listener);

    fd = tcp(family, 0);
    snprintf(name, sizeof name, "%s closed loopback port refuses", label);
    FAILS(name, ECONNREFUSED, connect_to(fd, &at));
    close(fd);
}

static void mapped_loopback(void) {
    endpoint at, to;
    int listener = loopback_listener(AF_INET, &at), fd = tcp(AF_INET6, 0);
    to = mapped(at);
    GIVES("mapped loopback connects", 0, connect_to(fd, &to));
    check("mapped loopback has its peer", peer_is(fd, &to), "another peer");
    close(fd), close(listener);
}

static void other_families(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "check-%d", (int)getpid());
    bind(listener, (void *)&at, sizeof at), listen(listener, 4);
    GIVES("Unix stream connects", 0, connect(fd, (void *)&at, sizeof at));
    close(fd), close(listener);

    struct sockaddr_un gone = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FAILS("Unix socket that is not there", ENOENT, connect(fd, (void *)&gone, sizeof gone));
    close(fd);

    int pair[2];
    GIVES("socketpair", 0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    close(pair[0]), close(pair[1]);

    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    GIVES("netlink connects", 0, connect(fd, (void *)&kernel, sizeof kernel));
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint target = endpoint_of("open");
    wrong(target, endpoint_of("open6"));
    dissolved(target);
    loopback(AF_INET, "IPv4");
    loopback(AF_INET6, "IPv6");
    mapped_loopback();
    other_families();
    return done();
}
