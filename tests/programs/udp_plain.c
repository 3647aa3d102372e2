/* Datagrams as a program sends them that nothing is preloaded into: static, with another libc, with a cleared environment. */
#include "portable.h"
#include "datagram.h"

static void talks(const char *label, int family, endpoint one, endpoint two) {
    char seen[64];
    int fd = udp(family);
    check(NAMED("sendto and recvfrom"), exchanges(fd, &one), "not");
    check(NAMED("with another"), exchanges(fd, &two), "not");
    check(NAMED("and with both"), send_to(fd, "both", &one) && comes_from(fd, "both", &one) && exchanges(fd, &two), "not");
    FAILS(NAMED("nothing there"), EAGAIN, recv(fd, seen, sizeof seen, MSG_DONTWAIT));
    close(fd), fd = udp(family);
    GIVES(NAMED("connect"), 0, connect_to(fd, &one));
    check(NAMED("send"), echoes(fd), "not");
    GIVES(NAMED("write"), 5, write(fd, "write", 5));
    GIVES(NAMED("read"), 5, poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN ? read(fd, seen, sizeof seen) : -1);
    GIVES(NAMED("connect to another"), 0, connect_to(fd, &two));
    check(NAMED("it answers"), echoes(fd), "not");
    GIVES(NAMED("dissolve"), 0, dissolve(fd));
    check(NAMED("sendto and recvfrom after that"), exchanges(fd, &one), "not");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint one = endpoint_of("echo"), two = endpoint_of("second");
    talks("IPv4", AF_INET, one, two);
    talks("IPv6", AF_INET6, endpoint_of("echo6"), endpoint_of("second6"));
    talks("mapped", AF_INET6, mapped(one), mapped(two));
    return done();
}
