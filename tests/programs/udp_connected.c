/*
 * Connected datagram sockets: the peer is who was asked for, answers of nobody else come, and a socket can be connected to
 * another or to nobody, and be used without its peer meanwhile.
 */
#include "datagram.h"

static void calls(const char *label, int fd, const endpoint *peer) {
    char text[] = "text", seen[64];
    struct iovec part = {text, 4}, in = {seen, sizeof seen};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr two[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    GIVES(NAMED("send"), 4, send(fd, text, 4, 0));
    check(NAMED("send's answer"), comes_from(fd, "text", peer), "not");
    GIVES(NAMED("write"), 4, write(fd, text, 4));
    check(NAMED("write's answer"), comes_from(fd, "text", peer), "not");
    GIVES(NAMED("writev"), 4, writev(fd, &part, 1));
    check(NAMED("writev's answer"), comes_from(fd, "text", peer), "not");
    GIVES(NAMED("sendto without an address"), 4, sendto(fd, text, 4, 0, NULL, 0));
    check(NAMED("sendto's answer"), comes_from(fd, "text", peer), "not");
    GIVES(NAMED("sendto with the peer's address"), 4, sendto(fd, text, 4, 0, (const void *)&peer->address, peer->length));
    check(NAMED("that sendto's answer"), comes_from(fd, "text", peer), "not");
    GIVES(NAMED("sendmmsg"), 2, sendmmsg(fd, two, 2, 0));
    check(NAMED("sendmmsg's answers"), comes_from(fd, "text", peer) && comes_from(fd, "text", peer), "not");
    GIVES(NAMED("sendmsg"), 4, sendmsg(fd, &message, 0));
    poll_one(fd, POLLIN, PATIENCE_MS);
    endpoint from = {0};
    struct msghdr got = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &in, .msg_iovlen = 1};
    GIVES(NAMED("recvmsg"), 4, recvmsg(fd, &got, 0));
    from.length = got.msg_namelen;
    check(NAMED("recvmsg's sender"), is_from(&from, peer), "another");
    send(fd, text, 0, 0);
    GIVES(NAMED("empty datagram"), 0, poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN ? read(fd, seen, sizeof seen) : -1);
    check(NAMED("getpeername"), peer_is(fd, peer), "another");
}

static void life(const char *label, int family, endpoint one, endpoint two) {
    char seen[64];
    int fd = udp(family);
    struct sockaddr_storage unused;
    socklen_t length = sizeof unused;
    FAILS(NAMED("send before connect"), EDESTADDRREQ, send(fd, "x", 1, 0));
    FAILS(NAMED("getpeername before connect"), ENOTCONN, getpeername(fd, (void *)&unused, &length));
    GIVES(NAMED("connect"), 0, connect_to(fd, &one));
    check(NAMED("the peer at once"), peer_is(fd, &one), "another");
    int port = port_of(fd);
    check(NAMED("a port"), port > 0, "%d", port);
    calls(label, fd, &one);
    check(NAMED("the same port"), port_of(fd) == port, "%d, then %d", port, port_of(fd));

    GIVES(NAMED("sendto past the peer"), 4, sendto(fd, "past", 4, 0, (const void *)&two.address, two.length));
    check(NAMED("its answer does not come"), nothing_comes(fd), "it does");
    check(NAMED("the peer's do"), echoes(fd), "not");

    GIVES(NAMED("connect to another"), 0, connect_to(fd, &two));
    check(NAMED("the other peer"), peer_is(fd, &two), "the first");
    check(NAMED("the other answers"), echoes(fd), "not");
    GIVES(NAMED("send again"), 3, send(fd, "two", 3, 0));
    check(NAMED("the answer is the other's"), comes_from(fd, "two", &two), "not");
    check(NAMED("still the same port"), port_of(fd) == port, "%d, then %d", port, port_of(fd));

    GIVES(NAMED("dissolve"), 0, dissolve(fd));
    FAILS(NAMED("send after that"), EDESTADDRREQ, send(fd, "x", 1, 0));
    FAILS(NAMED("getpeername after that"), ENOTCONN, getpeername(fd, (void *)&unused, &length));
    check(NAMED("sendto after that"), exchanges(fd, &one) && exchanges(fd, &two), "not");
    GIVES(NAMED("dissolve twice"), 0, dissolve(fd));
    GIVES(NAMED("connect again"), 0, connect_to(fd, &one));
    check(NAMED("it answers again"), echoes(fd) && peer_is(fd, &one), "not");
    FAILS(NAMED("nothing else there"), EAGAIN, recv(fd, seen, sizeof seen, MSG_DONTWAIT));
    close(fd);

    /* What has come from others before the connect is still there after it, as ever. */
    fd = udp(family);
    check(NAMED("without a peer first"), exchanges(fd, &two), "not");
    GIVES(NAMED("then with one"), 0, connect_to(fd, &one));
    check(NAMED("which answers"), echoes(fd), "not");
    close(fd);

    /* Nothing is sent: connect(2) by which a program learns its own address. */
    fd = udp(family);
    for (int time = 0; time < 3; time++)
        GIVES(NAMED("connect alone"), 0, connect_to(fd, time % 2 ? &two : &one));
    close(fd);
}

/* An IPv6 socket that had a peer by a mapped address, and then one by IPv6. */
static void between_families(endpoint four, endpoint six) {
    const char *label = "between families";
    int fd = udp(AF_INET6);
    GIVES(NAMED("connect to a mapped address"), 0, connect_to(fd, &four));
    check(NAMED("it answers"), peer_is(fd, &four) && echoes(fd), "not");
    GIVES(NAMED("dissolve"), 0, dissolve(fd));
    GIVES(NAMED("connect to IPv6"), 0, connect_to(fd, &six));
    check(NAMED("the peer is another"), peer_is(fd, &six), "not");
    GIVES(NAMED("dissolve again"), 0, dissolve(fd));
    /* No more by IPv4: what has had an IPv6 source address keeps it there. */
    check(NAMED("without a peer"), exchanges(fd, &six), "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint one = endpoint_of("echo"), two = endpoint_of("second");
    life("IPv4", AF_INET, one, two);
    life("IPv6", AF_INET6, endpoint_of("echo6"), endpoint_of("second6"));
    life("mapped", AF_INET6, mapped(one), mapped(two));
    between_families(mapped(one), endpoint_of("echo6"));
    return done();
}
