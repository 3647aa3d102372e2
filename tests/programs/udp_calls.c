/*
 * Every call that sends or receives datagrams, on sockets that are not connected, with IPv4, IPv6 and mapped addresses: the
 * data, its length and the sender are right, whatever was asked for.
 */
#include "datagram.h"
#include <sys/ioctl.h>

/* Not known when compiling, so that the fortified forms are called. */
static volatile size_t room = 256;

static void simple(const char *label, int fd, const endpoint *to) {
    char seen[256];
    endpoint from = {.length = sizeof from.address};
    GIVES(NAMED("sendto"), 5, sendto(fd, "hello", 5, 0, (const void *)&to->address, to->length));
    check(NAMED("the socket has a port"), port_of(fd) > 0, "none");
    check(NAMED("an answer comes"), poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN, "none");
    int waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    check(NAMED("its length is known"), waiting == 5, "%d", waiting);
    GIVES(NAMED("recvfrom"), 5, recvfrom(fd, seen, room, 0, (void *)&from.address, &from.length));
    check(NAMED("the sender"), is_from(&from, to) && !memcmp(seen, "hello", 5), "another");

    GIVES(NAMED("empty sendto"), 0, sendto(fd, NULL, 0, 0, (const void *)&to->address, to->length));
    GIVES(NAMED("empty datagram"), 0, receive(fd, seen, sizeof seen, &from));
    check(NAMED("its sender"), is_from(&from, to), "another");

    FAILS(NAMED("nothing there"), EAGAIN, recvfrom(fd, seen, room, MSG_DONTWAIT, (void *)&from.address, &from.length));
    FAILS(NAMED("nothing there, recv"), EAGAIN, recv(fd, seen, room, MSG_DONTWAIT));

    static const char *const ways[] = {"recv", "read", "readv", "recvfrom without an address", "recvmsg without an address"};
    for (int way = 0; way < 5; way++) {
        struct iovec part = {seen, sizeof seen};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        send_to(fd, ways[way], to);
        poll_one(fd, POLLIN, PATIENCE_MS);
        ssize_t got = way == 0   ? recv(fd, seen, room, 0)
                      : way == 1 ? read(fd, seen, room)
                      : way == 2 ? readv(fd, &part, 1)
                      : way == 3 ? recvfrom(fd, seen, room, 0, NULL, NULL)
                                 : recvmsg(fd, &message, 0);
        check(NAMED(ways[way]), got == (ssize_t)strlen(ways[way]) && !memcmp(seen, ways[way], (size_t)got), SAW(got));
    }
}

/* An address cut short, and none at all where there is room for one. */
static void narrow(const char *label, int fd, const endpoint *to) {
    char seen[256];
    unsigned char space[sizeof(struct sockaddr_storage)];
    memset(space, 0xee, sizeof space);
    socklen_t length = 6;
    send_to(fd, "narrow", to);
    poll_one(fd, POLLIN, PATIENCE_MS);
    GIVES(NAMED("room for part of the sender"), 6, recvfrom(fd, seen, room, 0, (void *)space, &length));
    check(NAMED("the length that it would have"), length == to->length, "%d", (int)length);
    check(NAMED("that part"), !memcmp(space, &to->address, 6) && space[6] == 0xee, "not");
    length = 0;
    send_to(fd, "narrow", to);
    poll_one(fd, POLLIN, PATIENCE_MS);
    GIVES(NAMED("no room for the sender"), 6, recvfrom(fd, seen, room, 0, (void *)space, &length));
    check(NAMED("its length all the same"), length == to->length, "%d", (int)length);
}

static void messages(const char *label, int fd, const endpoint *to) {
    char first[4] = "", rest[64] = "";
    struct iovec out[2] = {{"four", 4}, {"and more", 8}}, in[2] = {{first, 4}, {rest, sizeof rest}};
    endpoint from = {0};
    struct msghdr sent = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = out, .msg_iovlen = 2};
    struct msghdr got = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = in, .msg_iovlen = 2};
    GIVES(NAMED("sendmsg"), 12, sendmsg(fd, &sent, 0));
    check(NAMED("sendmsg leaves its address alone"), sent.msg_name == &to->address && sent.msg_namelen == to->length, "not");
    poll_one(fd, POLLIN, PATIENCE_MS);
    GIVES(NAMED("recvmsg"), 12, recvmsg(fd, &got, 0));
    from.length = got.msg_namelen;
    check(NAMED("recvmsg's sender"), is_from(&from, to), "another");
    check(NAMED("recvmsg's data and flags"), !memcmp(first, "four", 4) && !memcmp(rest, "and more", 8) && !got.msg_flags, "flags %x", got.msg_flags);

    char line[64];
    new_line(line);
    GIVES(NAMED("sendmsg, more to come"), 1, sendto(fd, line, 1, MSG_MORE, (const void *)&to->address, to->length));
    GIVES(NAMED("sendmsg, the rest"), (long)strlen(line) - 1, sendto(fd, line + 1, strlen(line) - 1, 0, (const void *)&to->address, to->length));
    check(NAMED("one datagram of two sends"), comes_from(fd, line, to), "not");
}

static void looks(const char *label, int fd, const endpoint *to) {
    char seen[256];
    endpoint from = {.length = sizeof from.address};
    send_to(fd, "0123456789", to);
    poll_one(fd, POLLIN, PATIENCE_MS);
    for (int time = 0; time < 2; time++) {
        memset(seen, 0, sizeof seen), memset(&from, 0, sizeof from), from.length = sizeof from.address;
        GIVES(NAMED("recvfrom, peek"), 10, recvfrom(fd, seen, room, MSG_PEEK, (void *)&from.address, &from.length));
        check(NAMED("what was seen"), is_from(&from, to) && !memcmp(seen, "0123456789", 10), "not it");
    }
    struct iovec part = {seen, 4};
    struct msghdr message = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &part, .msg_iovlen = 1};
    GIVES(NAMED("recvmsg, peek at a part"), 4, recvmsg(fd, &message, MSG_PEEK));
    from.length = message.msg_namelen;
    check(NAMED("it says so"), (message.msg_flags & MSG_TRUNC) && is_from(&from, to), "flags %x", message.msg_flags);
    from.length = sizeof from.address;
    GIVES(NAMED("peek at the true length"), 10, recvfrom(fd, seen, 4, MSG_PEEK | MSG_TRUNC, (void *)&from.address, &from.length));
    GIVES(NAMED("the true length"), 10, recv(fd, seen, 4, MSG_TRUNC));
    FAILS(NAMED("the rest is gone"), EAGAIN, recv(fd, seen, room, MSG_DONTWAIT));
}

/* Several messages of one call, to two services. */
static void several(const char *label, int fd, const endpoint *one, const endpoint *two) {
    enum { COUNT = 6 };
    char texts[COUNT][8], seen[COUNT][8];
    struct iovec out[COUNT], in[COUNT];
    struct mmsghdr sent[COUNT], got[COUNT];
    endpoint from[COUNT];
    memset(sent, 0, sizeof sent), memset(got, 0, sizeof got);
    for (int i = 0; i < COUNT; i++) {
        const endpoint *to = i % 2 ? two : one;
        snprintf(texts[i], sizeof texts[i], "part %d", i);
        out[i] = (struct iovec){texts[i], 6}, in[i] = (struct iovec){seen[i], sizeof seen[i]};
        sent[i].msg_hdr = (struct msghdr){.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &out[i], .msg_iovlen = 1};
        got[i].msg_hdr = (struct msghdr){.msg_name = &from[i].address, .msg_namelen = sizeof from[i].address, .msg_iov = &in[i], .msg_iovlen = 1};
    }
    GIVES(NAMED("sendmmsg"), COUNT, sendmmsg(fd, sent, COUNT, 0));
    int lengths = 1, senders = 1, came = 0;
    for (int i = 0; i < COUNT; i++)
        lengths &= sent[i].msg_len == 6;
    check(NAMED("sendmmsg's lengths"), lengths, "not");
    while (came < COUNT && poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN) {
        int more = recvmmsg(fd, got + came, (unsigned)(COUNT - came), MSG_WAITFORONE, NULL);
        if (more <= 0)
            break;
        for (int i = came; i < came + more; i++) {
            from[i].length = got[i].msg_hdr.msg_namelen;
            lengths &= got[i].msg_len == 6;
            senders &= is_from(&from[i], (seen[i][5] - '0') % 2 ? two : one);
        }
        came += more;
    }
    check(NAMED("recvmmsg"), came == COUNT && lengths, "%d", came);
    check(NAMED("recvmmsg's senders"), senders, "others");
    struct timespec soon = {.tv_nsec = 1000000};
    FAILS(NAMED("recvmmsg, nothing there"), EAGAIN, recvmmsg(fd, got, COUNT, MSG_DONTWAIT, &soon));
}

static void all(const char *label, int family, endpoint one, endpoint two) {
    int fd = udp(family);
    simple(label, fd, &one);
    narrow(label, fd, &one);
    messages(label, fd, &one);
    looks(label, fd, &one);
    several(label, fd, &one, &two);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint one = endpoint_of("echo"), two = endpoint_of("second");
    all("IPv4", AF_INET, one, two);
    all("IPv6", AF_INET6, endpoint_of("echo6"), endpoint_of("second6"));
    all("mapped", AF_INET6, mapped(one), mapped(two));
    all("both families", AF_INET6, mapped(one), endpoint_of("second6"));
    return done();
}
