/* Non-blocking connect(2): what a pending, a connected and a refused socket say to every call that asks. */
#include "check.h"

static void no_peer(const char *name, int fd) {
    endpoint peer = {.length = sizeof peer.address};
    FAILS(name, ENOTCONN, getpeername(fd, (void *)&peer.address, &peer.length));
}

/* `label` says which family. */
static void becomes_connected(const char *label, int domain, endpoint held) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    stage("hold");
    int fd = tcp(domain, SOCK_NONBLOCK | SOCK_CLOEXEC);
    FAILS(NAMED("starts"), EINPROGRESS, connect_to(fd, &held));
    FAILS(NAMED("is under way"), EALREADY, connect_to(fd, &held));
    no_peer(NAMED("has no peer yet"), fd);
    GIVES(NAMED("has no error yet"), 0, socket_error(fd));
    GIVES(NAMED("is not writable yet"), 0, poll_one(fd, POLLIN | POLLOUT, 0));
    GIVES(NAMED("is still not writable a little later"), 0, poll_one(fd, POLLOUT, 50));
    FAILS(NAMED("cannot be written to"), EAGAIN, send(fd, "x", 1, MSG_NOSIGNAL));
    GIVES(NAMED("has a name of its own"), 1, gets_a_name(fd));
    char byte;
    FAILS(NAMED("cannot be read"), EAGAIN, recv(fd, &byte, 1, 0));
    GIVES(NAMED("keeps its flags"), O_RDWR | O_NONBLOCK, fcntl(fd, F_GETFL));
    GIVES(NAMED("keeps close-on-exec"), FD_CLOEXEC, fcntl(fd, F_GETFD));
    stage("release");
    GIVES(NAMED("becomes writable"), POLLOUT, poll_one(fd, POLLIN | POLLOUT, PATIENCE_MS));
    GIVES(NAMED("connects without error"), 0, socket_error(fd));
    check(NAMED("has the peer asked for"), peer_is(fd, &held), "another peer");
    GIVES(NAMED("says connected once"), 0, connect_to(fd, &held));
    FAILS(NAMED("is connected from then on"), EISCONN, connect_to(fd, &held));
    check(NAMED("echoes"), echoes(fd), "no echo");
    GIVES(NAMED("keeps its flags when connected"), O_RDWR | O_NONBLOCK, fcntl(fd, F_GETFL));
    close(fd);
}

static void asked_by_connect_only(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK), result;
    FAILS("busy asker starts", EINPROGRESS, connect_to(fd, &held));
    stage("release");
    while ((result = connect_to(fd, &held)) && errno == EALREADY)
        sched_yield();
    GIVES("busy asker is told 0", 0, result);
    FAILS("and then that it is connected", EISCONN, connect_to(fd, &held));
    check("busy asker's socket echoes", echoes(fd), "no echo");
    close(fd);
}

static void asked_by_getpeername_only(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("getpeername asker starts", EINPROGRESS, connect_to(fd, &held));
    stage("release");
    while (!peer_is(fd, &held))
        sched_yield();
    check("getpeername asker's socket echoes", echoes(fd), "no echo");
    close(fd);
}

static void asked_by_so_error_only(endpoint refused) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK), error;
    FAILS("SO_ERROR asker starts", EINPROGRESS, connect_to(fd, &refused));
    stage("release");
    while (!(error = socket_error(fd)))
        sched_yield();
    GIVES("SO_ERROR asker is told", ECONNREFUSED, error);
    GIVES("SO_ERROR asker is told once", 0, socket_error(fd));
    close(fd);
}

static void becomes_refused(const char *label, int domain, endpoint refused, endpoint held) {
    char name[96];
    stage("hold");
    int fd = tcp(domain, SOCK_NONBLOCK);
    FAILS(NAMED("refused starts"), EINPROGRESS, connect_to(fd, &refused));
    GIVES(NAMED("refused shows nothing yet"), 0, poll_one(fd, POLLIN | POLLOUT, 0));
    stage("release");
    int seen = poll_one(fd, POLLIN | POLLOUT, PATIENCE_MS);
    int all = POLLIN | POLLOUT | POLLERR | POLLHUP;
    check(NAMED("refused shows everything"), (seen & all) == all, "events %#x", seen);
    GIVES(NAMED("refused shows POLLERR and POLLHUP unasked"), POLLERR | POLLHUP, poll_one(fd, 0, 0));
    GIVES(NAMED("refused has its error"), ECONNREFUSED, socket_error(fd));
    GIVES(NAMED("refused has its error once"), 0, socket_error(fd));
    no_peer(NAMED("refused has no peer"), fd);
    FAILS(NAMED("refused cannot be sent to"), EPIPE, send(fd, "x", 1, MSG_NOSIGNAL));
    /* The kernel may end the old attempt with one ECONNABORTED before it begins a new one. */
    errno = 0;
    int again = connect_to(fd, &held);
    if (again == -1 && errno == ECONNABORTED)
        again = connect_to(fd, &held);
    check(NAMED("refused can be connected again"), again == -1 && errno == EINPROGRESS, SAW(again));
    GIVES(NAMED("refused connects at last"), POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check(NAMED("refused echoes at last"), echoes(fd), "no echo");
    close(fd);

    stage("hold");
    fd = tcp(domain, SOCK_NONBLOCK);
    FAILS(NAMED("refused starts, told by connect"), EINPROGRESS, connect_to(fd, &refused));
    stage("release");
    poll_one(fd, POLLOUT, PATIENCE_MS);
    FAILS(NAMED("refused tells the second connect"), ECONNREFUSED, connect_to(fd, &refused));
    GIVES(NAMED("refused tells it instead of SO_ERROR"), 0, socket_error(fd));
    close(fd);

    stage("hold");
    fd = tcp(domain, SOCK_NONBLOCK);
    FAILS(NAMED("refused starts, told by send"), EINPROGRESS, connect_to(fd, &refused));
    stage("release");
    poll_one(fd, POLLOUT, PATIENCE_MS);
    errno = 0;
    ssize_t sent = send(fd, "x", 1, MSG_NOSIGNAL);
    check(NAMED("refused fails a send"), sent == -1 && (errno == ECONNREFUSED || errno == EPIPE), SAW(sent));
    close(fd);
}

/* Made non-blocking for the connect and blocking afterwards, as libraries with a connect time-out do it. */
static void blocking_again(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    FAILS("O_NONBLOCK starts", EINPROGRESS, connect_to(fd, &held));
    fcntl(fd, F_SETFL, 0);
    stage("release");
    GIVES("O_NONBLOCK cleared while pending, connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    GIVES("O_NONBLOCK stays cleared", O_RDWR, fcntl(fd, F_GETFL));
    check("and echoes", echoes(fd), "no echo");
    close(fd);
}

static int open_null(void) {
    return open("/dev/null", O_RDONLY);
}

/* Closed while pending, then its number used again at once: nothing of the old may cling to the new. */
static void number_used_again(endpoint held, endpoint open) {
    stage("hold");
    for (int round = 0; round < 20; round++) {
        int fd = tcp(AF_INET, SOCK_NONBLOCK);
        connect_to(fd, &held);
        close(fd);
        int next = tcp(AF_INET, 0);
        if (next != fd || connect_to(next, &open) || !peer_is(next, &open) || poll_one(next, POLLOUT, 0) != POLLOUT || !echoes(next)) {
            check("a number used again", 0, "round %d: %d then %d", round, fd, next);
            break;
        }
        close(next);
        next = open_null();
        if (poll_one(next, POLLIN, 0) != POLLIN)
            check("a number used again by a file", 0, "round %d", round);
        close(next);
    }
    check("numbers were used again", 1, "never");
    stage("release");
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held"), refused = endpoint_of("heldrefused");
    becomes_connected("IPv4", AF_INET, held);
    becomes_connected("mapped IPv4", AF_INET6, mapped(held));
    becomes_refused("IPv4", AF_INET, refused, held);
    becomes_refused("mapped IPv4", AF_INET6, mapped(refused), mapped(held));
    asked_by_connect_only(held);
    asked_by_getpeername_only(held);
    asked_by_so_error_only(refused);
    blocking_again(held);
    number_used_again(held, endpoint_of("open"));
    return done();
}
