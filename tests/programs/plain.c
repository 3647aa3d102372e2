/*
 * A TCP client in every way that needs no shared library: libc's calls and bare system calls, blocking and not, by
 * address and by name. It is compiled static, with musl, and for i386, where LD_PRELOAD does nothing.
 */
#include "portable.h"
#include <netdb.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

typedef int (*connector)(int fd, const endpoint *to);

static int by_system_call(int fd, const endpoint *to) {
    return (int)syscall(SYS_connect, fd, &to->address, to->length);
}

#ifdef SYS_socketcall
static int by_socketcall(int fd, const endpoint *to) {
    unsigned long words[] = {(unsigned long)fd, (unsigned long)&to->address, to->length};
    return (int)syscall(SYS_socketcall, 3, words);
}
#endif

/* 0 or the errno, whether the call itself or the socket tells it. */
static int outcome(connector call, int fd, const endpoint *to) {
    if (call(fd, to) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    return poll_one(fd, POLLOUT, PATIENCE_MS) > 0 ? socket_error(fd) : -1;
}

static void talks(const char *label, int fd, const endpoint *to) {
    char name[96];
    snprintf(name, sizeof name, "%s has the peer asked for", label);
    check(name, peer_is(fd, to), "another peer or none");
    snprintf(name, sizeof name, "%s echoes", label);
    check(name, echoes(fd), "no echo");
}

static void reaches(const char *way, const char *family, connector call, int flags, endpoint open, endpoint refused) {
    char name[96], label[64];
    snprintf(label, sizeof label, "%s, %s", way, family);
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    int fd = tcp(open.address.ss_family, SOCK_CLOEXEC | flags);
    int file_flags = fcntl(fd, F_GETFL);
    GIVES(NAMED("connects"), 0, outcome(call, fd, &open));
    talks(label, fd, &open);
    /* The kernel says 0 once after a connect that did not block. */
    int twice = call(fd, &open);
    check(NAMED("connected twice"), (twice == 0 && flags) || (twice == -1 && errno == EISCONN), SAW(twice));
    GIVES(NAMED("keeps its file flags"), file_flags, fcntl(fd, F_GETFL));
    GIVES(NAMED("keeps close-on-exec"), FD_CLOEXEC, fcntl(fd, F_GETFD));
    close(fd);

    fd = tcp(open.address.ss_family, flags);
    GIVES(NAMED("refused"), ECONNREFUSED, outcome(call, fd, &refused));
    endpoint none = {.length = sizeof none.address};
    FAILS(NAMED("refused has no peer"), ENOTCONN, getpeername(fd, (void *)&none.address, &none.length));
    /* The kernel may end an attempt that was not blocking with one ECONNABORTED before it begins a new one. */
    int again = outcome(call, fd, &refused);
    check(NAMED("refused again"), again == ECONNREFUSED || again == ECONNABORTED, "errno %d", again);
    again = outcome(call, fd, &open);
    if (again == ECONNABORTED)
        again = outcome(call, fd, &open);
    GIVES(NAMED("refused and then connected"), 0, again);
    talks(label, fd, &open);
    close(fd);
}

static void every_family(const char *way, connector call, int flags) {
    endpoint open = endpoint_of("open"), refused = endpoint_of("refused");
    reaches(way, "IPv4", call, flags, open, refused);
    reaches(way, "IPv6", call, flags, endpoint_of("open6"), endpoint_of("refused6"));
    reaches(way, "mapped IPv4", call, flags, mapped(open), mapped(refused));
}

/* With MSG_FASTOPEN the calls that send are connects. `how` picks the call; with `number` it is bare, not libc's. */
static long early(int fd, int how, int number, const endpoint *to) {
    char text[] = "early";
    struct iovec part = {text, 5};
    struct msghdr message = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr several = {.msg_hdr = message};
    int flags = MSG_FASTOPEN | MSG_NOSIGNAL;
    long result;
    switch (how) {
    case 0:
        return number ? syscall(SYS_sendto, fd, text, 5, flags, &to->address, to->length)
                      : sendto(fd, text, 5, flags, (void *)&to->address, to->length);
    case 1:
        return number ? syscall(SYS_sendmsg, fd, &message, flags) : sendmsg(fd, &message, flags);
    default:
        result = number ? syscall(SYS_sendmmsg, fd, &several, 1, flags) : sendmmsg(fd, &several, 1, (unsigned)flags);
        return result == 1 ? (long)several.msg_len : result;
    }
}

static void fast_open(endpoint open, endpoint refused) {
    static const char *const calls[] = {"sendto", "sendmsg", "sendmmsg"};
    char name[96], label[64];
    for (int how = 0; how < 3; how++)
        /* The shim takes the flag from libc's sendmmsg. */
        for (int number = how == 2 && argument("hooked"); number < 2; number++) {
            snprintf(label, sizeof label, "%s%s with MSG_FASTOPEN", number ? "bare " : "", calls[how]);
            int fd = tcp(AF_INET, 0);
            GIVES(NAMED("sends"), 5, early(fd, how, number, &open));
            check(NAMED("brings its data back"), comes_back(fd, "early"), "not");
            talks(label, fd, &open);
            FAILS(NAMED("again"), EISCONN, early(fd, how, number, &open));
            close(fd);
            fd = tcp(AF_INET, 0);
            FAILS(NAMED("refused"), ECONNREFUSED, early(fd, how, number, &refused));
            GIVES(NAMED("refused and then connected"), 0, connect_to(fd, &open));
            check(NAMED("then echoes"), echoes(fd), "no echo");
            close(fd);
        }
}

static void multipath(endpoint open, endpoint refused) {
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    if (fd < 0) {
        printf("MPTCP: skipped (%s)\n", strerror(errno));
        return;
    }
    GIVES("MPTCP connects", 0, connect_to(fd, &open));
    talks("MPTCP", fd, &open);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    FAILS("MPTCP refused", ECONNREFUSED, connect_to(fd, &refused));
    close(fd);
}

static void by_name(const char *host, int family, const char *label, endpoint open) {
    char name[96];
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int error = getaddrinfo(host, NULL, &hints, &list);
    if (!check(NAMED("is found"), error == 0 && list, "%s", gai_strerror(error)))
        return;
    endpoint to = {.length = list->ai_addrlen};
    memcpy(&to.address, list->ai_addr, list->ai_addrlen);
    in_port_t port = ((struct sockaddr_in *)&open.address)->sin_port;
    if (family == AF_INET)
        ((struct sockaddr_in *)&to.address)->sin_port = port;
    else
        ((struct sockaddr_in6 *)&to.address)->sin6_port = port;
    freeaddrinfo(list);
    int fd = tcp(family, 0);
    GIVES(NAMED("connects"), 0, connect_to(fd, &to));
    talks(label, fd, &to);
    close(fd);
}

/* What is near by stays near by. */
static void loopback(void) {
    endpoint at;
    int listener = loopback_listener(AF_INET, &at), fd = tcp(AF_INET, 0);
    GIVES("loopback connects", 0, connect_to(fd, &at));
    check("loopback has its peer", peer_is(fd, &at), "another");
    close(fd), close(listener);
    fd = tcp(AF_INET, 0);
    FAILS("closed loopback port refuses", ECONNREFUSED, connect_to(fd, &at));
    close(fd);
    FAILS("bad descriptor", EBADF, by_system_call(-1, &at));
    FAILS("bad pointer", EFAULT, syscall(SYS_connect, fd = tcp(AF_INET, 0), 16, sizeof(struct sockaddr_in)));
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open"), refused = endpoint_of("refused");
    every_family("connect", connect_to, 0);
    every_family("connect with poll", connect_to, SOCK_NONBLOCK);
    every_family("system call", by_system_call, 0);
#ifdef SYS_socketcall
    every_family("socketcall", by_socketcall, 0);
#endif
    fast_open(open, refused);
    multipath(open, refused);
    by_name(argument("name"), AF_INET, "name, IPv4", open);
    by_name(argument("name"), AF_INET6, "name, IPv6", open);
    loopback();
    return done();
}
