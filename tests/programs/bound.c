/*
 * A TCP socket that is bound to `own=`, an address that may leave this machine, or (`free=1`) need not be here, and connected to each `to=`
 * in turn until one answers; with `query=1` that is a name server. `only=1`: for IPv6 alone; `mptcp=1`: MPTCP; `fast=1`: by MSG_FASTOPEN. Prints how connect() ends, whether what it
 * says comes back, and, after a line of input, what has become of the conversation.
 */
#include "portable.h"

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#define MPTCP 262

static int says(const char *name) {
    return argument(name) && atoi(argument(name));
}

/* A question for the address of `a.test`, and any answer to it; or words, and these words. */
static int converses(int fd) {
    static const unsigned char query[] = "\0\030\0\7\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1";
    unsigned char answer[512];
    if (!says("query"))
        return echoes(fd);
    if (write(fd, query, sizeof query - 1) < 0 || poll_one(fd, POLLIN, PATIENCE_MS) <= 0)
        return 0;
    return read(fd, answer, sizeof answer) > 12 && answer[3] == 7;
}

static void show_own(const char *name, int fd) {
    char text[INET6_ADDRSTRLEN] = "";
    endpoint own = {.length = sizeof own.address};
    getsockname(fd, (void *)&own.address, &own.length);
    const void *address = own.address.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&own.address)->sin_addr
                                                           : (void *)&((struct sockaddr_in6 *)&own.address)->sin6_addr;
    printf("%s: %s\n", name, inet_ntop(own.address.ss_family, address, text, sizeof text));
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint own = endpoint_of("own");
    int one = 1, family = own.address.ss_family, result = -1;
    int fd = socket(family, SOCK_STREAM | (says("nonblocking") ? SOCK_NONBLOCK : 0), says("mptcp") ? MPTCP : 0);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (says("free") && setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_FREEBIND : IPV6_FREEBIND, &one, sizeof one))
        give_up("free binds: %s", strerror(errno));
    if (says("only") && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one))
        give_up("IPv6 alone: %s", strerror(errno));
    /* Its last connection may have left the port in TIME_WAIT. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, (void *)&own.address, own.length))
        give_up("bind: %s", strerror(errno));
    for (char **each = arguments; *each && result; each++) {
        if (strncmp(*each, "to=", 3))
            continue;
        endpoint to = parse_endpoint(*each + 3);
        result = says("fast") ? (int)sendto(fd, "", 0, MSG_FASTOPEN, (void *)&to.address, to.length) : connect_to(fd, &to);
        int error = errno;
        if (result && error == EINPROGRESS && poll_one(fd, POLLOUT, PATIENCE_MS) > 0)
            error = socket_error(fd), result = error ? -1 : 0;
        printf("connect: %s\n", result ? strerrorname_np(error) : "ok");
        show_own("own", fd);
    }
    if (result)
        return 0;
    fcntl(fd, F_SETFL, 0);
    printf("before: %s\n", converses(fd) ? "ok" : "no");
    if (!says("leaves"))
        return 0;
    getchar();
    printf("after: %s\n", converses(fd) ? "ok" : "no");
    return 0;
}
