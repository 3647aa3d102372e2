/*
 * An IPv6 socket whose connection to an IPv4 address was reset, and which the next connect() uses anew for an IPv6 one. A bare kernel would send
 * to the former address; so this runs under presocks only. With `open6=`: reset by loopback, then for there; else by the proxy, which
 * has an IPv4 address, then for loopback.
 */
#include "check.h"

static int opens(int fd, const endpoint *to, int by_sending) {
    return by_sending ? (int)sendto(fd, "!", 1, MSG_FASTOPEN, (const void *)&to->address, to->length) : connect_to(fd, to);
}

static void connects_anew(const char *label, int protocol, int by_sending) {
    char name[96];
#define NAMED(what) (snprintf(name, sizeof name, "%s: %s", label, what), name)
    endpoint far = parse_endpoint("[2001:db8::7]:80"), here = parse_endpoint("[::1]:9");
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, protocol);
    if (fd < 0) {
        printf("%s: skipped (%s)\n", label, strerror(errno));
        return;
    }
    int begun = connect_to(fd, &far);
    check(NAMED("connects"), begun == 0 || errno == EINPROGRESS, SAW(begun));
    GIVES(NAMED("is connected"), POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES(NAMED("writes"), 1, write(fd, "!", 1));
    check(NAMED("is reset"), poll_one(fd, POLLIN, PATIENCE_MS) & POLLERR, "no error");
    FAILS(NAMED("is told so"), ECONNRESET, opens(fd, &here, by_sending));
    for (int i = 0; i < 2; i++) {
        int error = opens(fd, &here, by_sending) < 0 ? errno : 0;
        if (error == EINPROGRESS)
            error = poll_one(fd, POLLOUT, 1000) > 0 ? socket_error(fd) : ETIMEDOUT;
        check(NAMED("nobody listens on loopback"), error == ECONNREFUSED || error == ECONNABORTED, "%s", strerrorname_np(error));
    }
    close(fd);
}

static void goes_far(endpoint far) {
    endpoint here = parse_endpoint("[::ffff:127.0.0.1]:9");
    int fd = tcp(AF_INET6, 0);
    FAILS("nobody listens on loopback", ECONNREFUSED, connect_to(fd, &here));
    GIVES("then far away", 0, connect_to(fd, &far));
    check("echoes", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (argument("open6")) {
        goes_far(endpoint_of("open6"));
        return done();
    }
    connects_anew("TCP", 0, 0);
    connects_anew("TCP, MSG_FASTOPEN", 0, 1);
    connects_anew("MPTCP", 262, 0);
    return done();
}
