/*
 * A resolver of its own, as Go, musl, c-ares and dig have one: questions by UDP and TCP to port 53 of any address, in
 * each way that there is to send and to receive. Only presocks answers them, with stand-ins, so this runs under
 * presocks only.
 */
#include "portable.h"
#include <sys/uio.h>

#define A 1
#define MX 15
#define AAAA 28
#define HEADER 12
#define LONGEST 512

typedef unsigned char byte;

static const char *const servers[] = {
    "192.0.2.53", "10.88.0.2", "8.8.8.8", "127.0.0.53", "127.0.0.1", "::1", "2001:db8::53",
};
static in_port_t port;
static int serial;
static char label[96];
#define NAMED(text) named(text)

static const char *named(const char *text) {
    static char name[160];
    snprintf(name, sizeof name, "%s: %s", label, text);
    return name;
}

/* A question (RFC 1035, section 4); its length. */
static size_t question(byte *message, const char *host, int type) {
    byte *at = message;
    serial++;
    byte header[HEADER] = {(byte)(serial >> 8), (byte)serial, 1, 0, 0, 1};
    memcpy(at, header, HEADER), at += HEADER;
    while (*host) {
        size_t length = strcspn(host, ".");
        *at++ = (byte)length;
        memcpy(at, host, length), at += length;
        host += length + (host[length] == '.');
    }
    *at++ = 0;
    *at++ = 0, *at++ = (byte)type, *at++ = 0, *at++ = 1;
    return (size_t)(at - message);
}

/* The first address of an answer to the latest question, or -1 - RCODE when there is none. */
static int address_in(const byte *answer, ssize_t length, int type, endpoint *found) {
    if (length < HEADER || (answer[0] << 8 | answer[1]) != serial || !(answer[2] & 0x80))
        return -100;
    int answers = answer[6] << 8 | answer[7];
    const byte *at = answer + HEADER, *end = answer + length;
    while (at < end && *at)
        at += *at + 1;
    at += 5;
    for (; answers > 0 && at + 12 <= end; answers--) {
        while (at < end && *at && *at < 0xc0)
            at += *at + 1;
        at += *at ? 2 : 1;
        int kind = at[0] << 8 | at[1], size = at[8] << 8 | at[9];
        at += 10;
        if (at + size > end)
            return -101;
        if (kind == type && type == A && size == 4) {
            struct sockaddr_in *to = (void *)&found->address;
            *found = (endpoint){.length = sizeof *to};
            to->sin_family = AF_INET, to->sin_port = port;
            memcpy(&to->sin_addr, at, 4);
            return 0;
        }
        if (kind == type && type == AAAA && size == 16) {
            struct sockaddr_in6 *to = (void *)&found->address;
            *found = (endpoint){.length = sizeof *to};
            to->sin6_family = AF_INET6, to->sin6_port = port;
            memcpy(&to->sin6_addr, at, 16);
            return 0;
        }
        at += size;
    }
    return -1 - (answer[3] & 15);
}

/* 198.18.0.0/15, fd70:7265:736f:636b:7300::/96 */
static int is_stand_in(const endpoint *at) {
    if (at->address.ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)&at->address)->sin_addr.s_addr) & 0xfffe0000) == 0xc6120000;
    static const byte prefix[12] = {0xfd, 0x70, 0x72, 0x65, 0x73, 0x6f, 0x63, 0x6b, 0x73};
    return !memcmp(&((const struct sockaddr_in6 *)&at->address)->sin6_addr, prefix, sizeof prefix);
}

static endpoint server_at(const char *address) {
    char text[64];
    snprintf(text, sizeof text, strchr(address, ':') ? "[%s]:53" : "%s:53", address);
    return parse_endpoint(text);
}

enum sending { SENDTO, SENDMSG, SENDMMSG, CONNECT_SEND, CONNECT_WRITE, SENDINGS };
enum receiving { RECVFROM, RECVMSG, RECVMMSG, READ, RECEIVINGS };
static const char *const sendings[] = {"sendto", "sendmsg", "sendmmsg", "connect and send", "connect and write"};
static const char *const receivings[] = {"recvfrom", "recvmsg", "recvmmsg", "read"};

static ssize_t ask(int fd, enum sending how, byte *message, size_t length, endpoint *server) {
    struct iovec parts[2] = {{message, 5}, {message + 5, length - 5}};
    struct msghdr header = {.msg_name = &server->address, .msg_namelen = server->length, .msg_iov = parts, .msg_iovlen = 2};
    struct mmsghdr several = {.msg_hdr = header};
    switch (how) {
    case SENDTO:
        return sendto(fd, message, length, 0, (void *)&server->address, server->length);
    case SENDMSG:
        return sendmsg(fd, &header, 0);
    case SENDMMSG:
        return sendmmsg(fd, &several, 1, 0) == 1 ? (ssize_t)several.msg_len : -1;
    case CONNECT_SEND:
        return connect_to(fd, server) ? -1 : send(fd, message, length, 0);
    default:
        return connect_to(fd, server) ? -1 : write(fd, message, length);
    }
}

/* `from` has length 0 when the call cannot tell. */
static ssize_t hear(int fd, enum receiving how, byte *message, endpoint *from) {
    struct iovec parts[2] = {{message, 7}, {message + 7, LONGEST - 7}};
    *from = (endpoint){.length = sizeof from->address};
    struct msghdr header = {.msg_name = &from->address, .msg_namelen = from->length, .msg_iov = parts, .msg_iovlen = 2};
    struct mmsghdr several = {.msg_hdr = header};
    ssize_t got;
    switch (how) {
    case RECVFROM:
        return recvfrom(fd, message, LONGEST, 0, (void *)&from->address, &from->length);
    case RECVMSG:
        got = recvmsg(fd, &header, 0);
        from->length = header.msg_namelen;
        return got;
    case RECVMMSG:
        got = recvmmsg(fd, &several, 1, 0, NULL);
        from->length = several.msg_hdr.msg_namelen;
        return got == 1 ? (ssize_t)several.msg_len : -1;
    default:
        from->length = 0;
        return read(fd, message, LONGEST);
    }
}

static int udp(int family) {
    int fd = socket(family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

/* Asks, waits with poll() or in the call itself, and looks who answered. */
static void answered(endpoint server, enum sending sending, enum receiving receiving, int polls, int type,
                     const endpoint *expected) {
    byte message[LONGEST];
    int fd = udp(server.address.ss_family);
    size_t length = question(message, argument("name"), type);
    ssize_t sent = ask(fd, sending, message, length, &server);
    check(NAMED("is asked"), sent == (ssize_t)length, SAW(sent));
    if (polls)
        GIVES(NAMED("an answer is there"), POLLIN, poll_one(fd, POLLIN, PATIENCE_MS));
    endpoint from, found = {0};
    ssize_t got = hear(fd, receiving, message, &from);
    int result = address_in(message, got, type, &found);
    check(NAMED("answers"), result == 0, "%d after %zd bytes, errno %s", result, got, strerrorname_np(errno));
    if (from.length)
        check(NAMED("is who answers"), same_endpoint(&from, &server) && from.length == server.length, "another");
    if (sending == CONNECT_SEND || sending == CONNECT_WRITE)
        check(NAMED("is the peer"), peer_is(fd, &server), "another");
    check(NAMED("gives the stand-in"), same_endpoint(&found, expected), "another address");
    close(fd);
}

static endpoint stand_in(int type) {
    byte message[LONGEST];
    endpoint server = server_at(servers[0]), from, found = {0};
    int fd = udp(AF_INET);
    ask(fd, SENDTO, message, question(message, argument("name"), type), &server);
    int result = address_in(message, hear(fd, RECVFROM, message, &from), type, &found);
    close(fd);
    check("the name has a stand-in", result == 0 && is_stand_in(&found), "%d", result);
    return found;
}

static void reaches_the_name(const char *name, endpoint to) {
    int fd = tcp(to.address.ss_family, 0);
    snprintf(label, sizeof label, "%s", name);
    GIVES(NAMED("connects"), 0, connect_to(fd, &to));
    check(NAMED("has the peer asked for"), peer_is(fd, &to), "another");
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd);
}

static void by_udp(endpoint v4, endpoint v6) {
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        snprintf(label, sizeof label, "UDP to %s", servers[i]);
        answered(server_at(servers[i]), SENDTO, RECVFROM, 1, A, &v4);
        answered(server_at(servers[i]), SENDTO, RECVFROM, 0, AAAA, &v6);
        answered(server_at(servers[i]), CONNECT_WRITE, READ, 1, A, &v4);
    }
    for (int s = 0; s < SENDINGS; s++)
        for (int r = 0; r < RECEIVINGS; r++) {
            snprintf(label, sizeof label, "UDP by %s and %s", sendings[s], receivings[r]);
            answered(server_at(servers[0]), (enum sending)s, (enum receiving)r, 1, A, &v4);
            answered(server_at(servers[5]), (enum sending)s, (enum receiving)r, 0, A, &v4);
        }
}

/* As musl asks: from one socket that is bound, one question each to several servers, both families at once. */
static void from_one_socket(endpoint v4, endpoint v6) {
    byte message[LONGEST];
    endpoint any = parse_endpoint("0.0.0.0:0");
    int fd = udp(AF_INET), from_all = 0, right = 0;
    bind(fd, (void *)&any.address, any.length);
    for (int i = 0; i < 3; i++)
        for (int type = A; type <= AAAA; type += AAAA - A) {
            endpoint server = server_at(servers[i]), from, found = {0};
            ask(fd, SENDTO, message, question(message, argument("name"), type), &server);
            if (poll_one(fd, POLLIN, PATIENCE_MS) != POLLIN)
                break;
            ssize_t got = hear(fd, i % 2 ? RECVMSG : RECVFROM, message, &from);
            right += address_in(message, got, type, &found) == 0 && same_endpoint(&found, type == A ? &v4 : &v6);
            from_all += same_endpoint(&from, &server);
        }
    GIVES("one socket, three servers: answers", 6, right);
    GIVES("one socket, three servers: each from whom it was asked of", 6, from_all);
    close(fd);
}

static int all(int fd, byte *into, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t more = poll_one(fd, POLLIN, PATIENCE_MS) > 0 ? read(fd, into + got, length - got) : -1;
        if (more <= 0)
            return 0;
        got += (size_t)more;
    }
    return 1;
}

/* RFC 1035, section 4.2.2: each message with its length before it; a connection may carry several. */
static void by_tcp(const char *address, endpoint v4) {
    byte message[LONGEST + 2];
    endpoint server = server_at(address), found;
    snprintf(label, sizeof label, "TCP to %s", address);
    int fd = tcp(server.address.ss_family, 0);
    GIVES(NAMED("connects"), 0, connect_to(fd, &server));
    check(NAMED("is the peer"), peer_is(fd, &server), "another");
    for (int round = 0; round < 2; round++) {
        found = (endpoint){0};
        size_t length = question(message + 2, argument("name"), A);
        message[0] = (byte)(length >> 8), message[1] = (byte)length;
        GIVES(NAMED("is asked"), (ssize_t)length + 2, write(fd, message, length + 2));
        int whole = all(fd, message, 2) && (length = (size_t)(message[0] << 8 | message[1])) <= LONGEST && all(fd, message, length);
        check(NAMED("answers"), whole && address_in(message, (ssize_t)length, A, &found) == 0, "not");
        check(NAMED("gives the stand-in"), same_endpoint(&found, &v4), "another address");
    }
    close(fd);
}

/* What the DNS cannot be asked for, and what is no question, is answered with nothing, or not at all; what comes next is. */
static void other_questions(endpoint v4) {
    byte message[LONGEST];
    endpoint server = server_at(servers[0]), from, found;
    int fd = udp(AF_INET);
    snprintf(label, sizeof label, "another question");
    ask(fd, SENDTO, message, question(message, argument("name"), MX), &server);
    GIVES(NAMED("is answered"), POLLIN, poll_one(fd, POLLIN, PATIENCE_MS));
    int result = address_in(message, hear(fd, RECVFROM, message, &from), MX, &found);
    check(NAMED("has no address"), result == -1 || result == -1 - 2, "%d", result);
    close(fd);

    fd = udp(AF_INET);
    GIVES("half a question is taken", 3, sendto(fd, "\1\2\3", 3, 0, (void *)&server.address, server.length));
    memset(message, 0xc0, sizeof message);
    GIVES("nonsense is taken", LONGEST, sendto(fd, message, LONGEST, 0, (void *)&server.address, server.length));
    close(fd);
    snprintf(label, sizeof label, "after nonsense");
    answered(server, SENDTO, RECVFROM, 1, A, &v4);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open");
    port = ((struct sockaddr_in *)&open.address)->sin_port;
    endpoint v4 = stand_in(A), v6 = stand_in(AAAA);
    by_udp(v4, v6);
    from_one_socket(v4, v6);
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++)
        by_tcp(servers[i], v4);
    other_questions(v4);
    reaches_the_name("the stand-in", v4);
    reaches_the_name("the IPv6 stand-in", v6);
    return done();
}
