/*
 * A pending socket that lingers (SO_LINGER) is closed: the last that holds it is the broker. It still looks names up (`name=`) when the connection has ended,
 * which a line on the standard input tells; another has told that the connection is at the proxy.
 */
#include "check.h"
#include <netdb.h>

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint to = endpoint_of("open");
    struct linger linger = {.l_onoff = 1, .l_linger = 2 * WATCHDOG_SECONDS};
    struct addrinfo *list;
    char line[8];
    int fd = tcp(AF_INET, SOCK_NONBLOCK | SOCK_CLOEXEC);
    GIVES("lingers", 0, setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    FAILS("connects", EINPROGRESS, connect_to(fd, &to));
    check("is told that it is at the proxy", fgets(line, sizeof line, stdin) != NULL, "nothing");
    GIVES("is closed", 0, close(fd));
    check("is told of the end", fgets(line, sizeof line, stdin) != NULL, "nothing");
    GIVES("names are looked up", 0, getaddrinfo(argument("name"), "80", NULL, &list));
    return done();
}
