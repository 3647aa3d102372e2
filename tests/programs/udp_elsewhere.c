/* Answers from another port than the one that was asked, as TFTP gives them: who takes from anybody gets them and can answer. */
#include "datagram.h"

static void asks(const char *label, int family, endpoint to) {
    char seen[64];
    endpoint from;
    int fd = udp(family);
    check(NAMED("sendto"), send_to(fd, "where", &to), "not");
    GIVES(NAMED("an answer comes"), 5, receive(fd, seen, sizeof seen, &from));
    endpoint expected = to;
    /* At the same place in either family. */
    ((struct sockaddr_in *)&expected.address)->sin_port = ((struct sockaddr_in *)&from.address)->sin_port;
    check(NAMED("from the same host"), is_from(&from, &expected), "not");
    check(NAMED("from another port"), !is_from(&from, &to), "the same");
    check(NAMED("the first is there still"), send_to(fd, "again", &to), "not");
    GIVES(NAMED("and answers"), 5, receive(fd, seen, sizeof seen, &expected));
    check(NAMED("from there again"), is_from(&expected, &from), "not");

    GIVES(NAMED("connect"), 0, connect_to(fd, &to));
    GIVES(NAMED("send"), 4, send(fd, "gone", 4, 0));
    check(NAMED("who has a peer hears no other"), nothing_comes(fd), "it does");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    asks("IPv4", AF_INET, endpoint_of("elsewhere"));
    asks("IPv6", AF_INET6, endpoint_of("elsewhere6"));
    asks("mapped", AF_INET6, mapped(endpoint_of("elsewhere")));
    return done();
}
