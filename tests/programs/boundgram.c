/*
 * A UDP socket that is bound to `own=`, an address that may leave this machine, or (`free=1`) need not be here, speaks to the echo service `to=`, and before that
 * (`first=`) is connected elsewhere; `broadcast=1`: it may broadcast. `connected=1`: connect(), then write(); else sendto(). `source=`: from that address, by a control message. Prints how that
 * ends, and whether an answer comes; then, for each line of input, the same again.
 */
#include "portable.h"
#include <sys/uio.h>

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

static int says(const char *name) {
    return argument(name) && atoi(argument(name));
}

static ssize_t send_one(int fd, const endpoint *to) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))]; } control = {0};
    struct iovec part = {"words", 5};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (!argument("source"))
        return says("connected") ? write(fd, "words", 5) : sendto(fd, "words", 5, 0, (void *)&to->address, to->length);
    if (!says("connected"))
        message.msg_name = (void *)&to->address, message.msg_namelen = to->length;
    endpoint from = endpoint_of("source");
    if (from.address.ss_family == AF_INET6) {
        struct in6_pktinfo by = {.ipi6_addr = ((struct sockaddr_in6 *)&from.address)->sin6_addr};
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
        memcpy(CMSG_DATA(&control.header), &by, sizeof by);
        message.msg_controllen = CMSG_SPACE(sizeof by);
    } else {
        struct in_pktinfo by = {.ipi_spec_dst = ((struct sockaddr_in *)&from.address)->sin_addr};
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(&control.header), &by, sizeof by);
        message.msg_controllen = CMSG_SPACE(sizeof by);
    }
    message.msg_control = &control;
    return sendmsg(fd, &message, 0);
}

/* An answer may take a moment; that there is none is known after one, too. */
static void speak(int fd, const endpoint *to) {
    char answer[64];
    ssize_t sent = send_one(fd, to);
    if (sent < 0) {
        printf("send: %s\n", strerrorname_np(errno));
        return;
    }
    int has_come = poll_one(fd, POLLIN, says("silent") ? 300 : PATIENCE_MS) > 0;
    ssize_t len = has_come ? recv(fd, answer, sizeof answer, 0) : -1;
    printf("send: %s\n", len == 5 && !memcmp(answer, "words", 5) ? "answered" : "no answer");
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint own = endpoint_of("own"), to = endpoint_of("to");
    int one = 1, family = own.address.ss_family;
    int fd = socket(family, SOCK_DGRAM, 0);
    if (says("free") && setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_FREEBIND : IPV6_FREEBIND, &one, sizeof one))
        give_up("free binds: %s", strerror(errno));
    if (says("broadcast") && setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one))
        give_up("broadcast: %s", strerror(errno));
    if (bind(fd, (void *)&own.address, own.length))
        give_up("bind: %s", strerror(errno));
    if (argument("first")) {
        endpoint first = endpoint_of("first");
        if (connect_to(fd, &first))
            give_up("connect: %s", strerror(errno));
    }
    if (says("connected") && connect_to(fd, &to)) {
        printf("connect: %s\n", strerrorname_np(errno));
        return 0;
    }
    speak(fd, &to);
    while (getchar() == '\n')
        speak(fd, &to);
    return 0;
}
