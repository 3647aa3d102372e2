/*
 * Datagrams that no proxy takes, to each of `refused=HOST:PORT`: the send fails at once, and a connect sends nothing. Runs
 * under presocks only: the bare machine would let them out. The test that runs it counts the packets that left.
 */
#include "datagram.h"

static void refused(const char *label, endpoint far) {
    char text[] = "leak";
    int family = far.address.ss_family, fd = udp(family), one = 1;
    struct iovec part = {text, 4};
    struct msghdr message = {.msg_name = &far.address, .msg_namelen = far.length, .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    long long begun = now_ms();
    FAILS(NAMED("sendto"), ENETUNREACH, sendto(fd, text, 4, 0, (void *)&far.address, far.length));
    FAILS(NAMED("sendto, not blocking"), ENETUNREACH, sendto(fd, text, 4, MSG_NOSIGNAL | MSG_DONTWAIT, (void *)&far.address, far.length));
    FAILS(NAMED("sendmsg"), ENETUNREACH, sendmsg(fd, &message, 0));
    FAILS(NAMED("sendmmsg"), ENETUNREACH, sendmmsg(fd, several, 2, 0));
    GIVES(NAMED("connect"), 0, connect_to(fd, &far));
    FAILS(NAMED("send"), ENETUNREACH, send(fd, text, 4, 0));
    FAILS(NAMED("sendto without an address"), ENETUNREACH, sendto(fd, text, 4, 0, NULL, 0));
    struct msghdr bare = {.msg_iov = &part, .msg_iovlen = 1};
    FAILS(NAMED("sendmsg without an address"), ENETUNREACH, sendmsg(fd, &bare, 0));
    /* No hook sees write(2): it may be lost. */
    ssize_t written = write(fd, text, 4);
    check(NAMED("write is lost or fails"), written == 4 || written == -1, "returned %zd", written);
    check(NAMED("at once"), now_ms() - begun < 5000, "%lld ms", now_ms() - begun);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    for (char **each = arguments; *each; each++)
        if (!strncmp(*each, "refused=", 8))
            refused(*each + 8, parse_endpoint(*each + 8));
    return done();
}
