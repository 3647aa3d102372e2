/*
 * An IPv6 socket whose connection was reset, which connect() then tells, and which the next connect() uses anew, for loopback. A bare kernel
 * would send to the IPv4 address that it was connected to before; so this runs under presocks only, whose proxy has such an address.
 */
#include "check.h"

static void connects_anew(const char *label, int protocol) {
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
    FAILS(NAMED("is told so"), ECONNRESET, connect_to(fd, &here));
    for (int i = 0; i < 2; i++) {
        int error = connect_to(fd, &here) ? errno : 0;
        if (error == EINPROGRESS)
            error = poll_one(fd, POLLOUT, 1000) > 0 ? socket_error(fd) : ETIMEDOUT;
        check(NAMED("nobody listens on loopback"), error == ECONNREFUSED || error == ECONNABORTED, "%s", strerrorname_np(error));
    }
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    connects_anew("TCP", 0);
    connects_anew("MPTCP", 262);
    return done();
}
