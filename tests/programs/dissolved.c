/*
 * A pending connect is dissolved with AF_UNSPEC, and the socket is used in every way that there is: what it says, that names are still looked up
 * (`name=`), and that what it does next is nobody's but its own.
 */
#include "check.h"
#include <netdb.h>

static endpoint held;

/* The name is looked up by the broker, where there is one. */
static int is_looked_up(void) {
    struct addrinfo *list = NULL;
    int error = getaddrinfo(argument("name"), "80", NULL, &list);
    if (!error)
        freeaddrinfo(list);
    return error;
}

static int send_byte(int fd) {
    return (int)send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int receive_byte(int fd) {
    char byte;
    return (int)recv(fd, &byte, 1, MSG_DONTWAIT);
}

static int connect_again(int fd) {
    return connect_to(fd, &held);
}

static int ask_peer(int fd) {
    endpoint peer = {.length = sizeof peer.address};
    return getpeername(fd, (void *)&peer.address, &peer.length);
}

/* What the dissolved socket says at first, and whether the error of the dissolved connection is left afterwards. */
static const struct use {
    const char *name;
    int (*call)(int);
    int error, left;
} uses[] = {
    {"sent to", send_byte, ECONNRESET, 0},          {"received from", receive_byte, ECONNRESET, 0},
    {"connected again", connect_again, EINPROGRESS, 0}, {"asked for its peer", ask_peer, ENOTCONN, ECONNRESET},
    {"asked for its error", socket_error, 0, 0},
};

static const char *label;

static const char *named(const char *verb, const char *use) {
    static char name[128];
    snprintf(name, sizeof name, "%s, %s: %s", label, use, verb);
    return name;
}

static int begin(void) {
    int fd = tcp(held.address.ss_family, SOCK_NONBLOCK | SOCK_CLOEXEC), seven = 7;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &seven, sizeof seven);
    if (connect_to(fd, &held) != -1 || errno != EINPROGRESS)
        give_up("the connect is not pending: %s", strerror(errno));
    if (!gets_a_name(fd))
        give_up("nobody connects it");
    return fd;
}

static void is_used(const struct use *use) {
    int fd = begin();
    GIVES(named("dissolves", use->name), 0, dissolve(fd));
    if (use->call == socket_error)
        GIVES(named("says how it ended", use->name), ECONNRESET, socket_error(fd));
    else
        FAILS(named("says", use->name), use->error, use->call(fd));
    GIVES(named("has this error", use->name), use->left, socket_error(fd));
    int seven = 0;
    socklen_t length = sizeof seven;
    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &seven, &length);
    /* In the next handshake it may be set aside again. */
    if (use->error != EINPROGRESS)
        GIVES(named("has its options", use->name), 7, seven);
    GIVES(named("names are looked up", use->name), 0, is_looked_up());
    close(fd);
}

/* From the moment of the dissolution on, the socket is its program's. */
static void goes_to_loopback(void) {
    endpoint at;
    int listener = loopback_listener(AF_INET, &at);
    if (held.address.ss_family == AF_INET6)
        at = mapped(at);
    for (int round = 0; round < 20; round++) {
        int fd = begin();
        if (dissolve(fd) || fcntl(fd, F_SETFL, 0) || connect_to(fd, &at))
            give_up("the socket does not reach loopback: %s", strerror(errno));
        int accepted = accept(listener, NULL, NULL);
        /* What is done after that look-up comes after all that the broker did before. */
        int error = is_looked_up();
        char seen[8] = "";
        if (error || send(fd, "mine", 4, MSG_NOSIGNAL) != 4 || recv(accepted, seen, sizeof seen, 0) != 4 || memcmp(seen, "mine", 4)) {
            check(named("carries what it sends", "connected to loopback"), 0, "round %d: look-up %d, seen \"%s\", %s", round, error, seen, strerror(errno));
            close(listener);
            return;
        }
        close(fd), close(accepted);
    }
    check(named("carries what it sends", "connected to loopback"), 1, " ");
    close(listener);
}

static void listens(void) {
    int fd = begin();
    GIVES(named("dissolves", "listening"), 0, dissolve(fd));
    GIVES(named("listens", "listening"), 0, listen(fd, 4));
    GIVES(named("names are looked up", "listening"), 0, is_looked_up());
    int is_listener = 0;
    socklen_t length = sizeof is_listener;
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, &length);
    check(named("still listens", "listening"), is_listener, "it does not");
    close(fd);
}

/* Shut down while it is pending, or before: the kernel dissolves the first. */
static void is_shut(int how) {
    int fd = begin();
    shutdown(fd, how);
    GIVES(named("names are looked up", "shut down"), 0, is_looked_up());
    socket_error(fd);
    GIVES(named("names are still looked up", "shut down"), 0, is_looked_up());
    close(fd);
    fd = tcp(held.address.ss_family, SOCK_NONBLOCK | SOCK_CLOEXEC);
    FAILS(named("is not connected", "shut down before"), ENOTCONN, shutdown(fd, how));
    FAILS(named("connects", "shut down before"), EINPROGRESS, connect_to(fd, &held));
    GIVES(named("names are looked up", "shut down before"), 0, is_looked_up());
    dissolve(fd);
    GIVES(named("names are still looked up", "shut down before"), 0, is_looked_up());
    close(fd);
}

static void of_family(const char *family, endpoint to) {
    label = family, held = to;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        is_used(&uses[i]);
    goes_to_loopback();
    listens();
    is_shut(SHUT_RD);
    is_shut(SHUT_WR);
    is_shut(SHUT_RDWR);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    stage("hold");
    endpoint v4 = endpoint_of("held");
    of_family("IPv4", v4);
    of_family("IPv6", mapped(v4));
    return done();
}
