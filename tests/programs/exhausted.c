/* No descriptor is left: the shim can ask nobody, and leaves the calls to the seccomp filter. */
#include "check.h"
#include <sys/resource.h>

static int others[64], count;

/* From here on, no more descriptors. */
static void exhaust(void) {
    struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int next = dup(0); next >= 0; next = dup(0))
        others[count++] = next;
    FAILS("no descriptor is left", EMFILE, dup(0));
}

static void release(void) {
    while (count)
        close(others[--count]);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open_at = endpoint_of("open"), refused = endpoint_of("refused");
    int blocking = tcp(AF_INET, 0), nonblocking = tcp(AF_INET, SOCK_NONBLOCK), denied = tcp(AF_INET, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
    exhaust();
    GIVES("connects", 0, connect_to(blocking, &open_at));
    check("has the peer asked for", peer_is(blocking, &open_at), "another");
    check("echoes", echoes(blocking), "not");
    int result = connect_to(nonblocking, &open_at);
    check("begins to connect", result == 0 || errno == EINPROGRESS, SAW(result));
    GIVES("can be written to", POLLOUT, poll_one(nonblocking, POLLOUT, PATIENCE_MS));
    GIVES("has no error", 0, socket_error(nonblocking));
    check("echoes without blocking", echoes(nonblocking), "not");
    FAILS("is refused", ECONNREFUSED, connect_to(denied, &refused));
    GIVES("connects a datagram socket", 0, connect_to(datagram, &open_at));
    check("which has the peer asked for", peer_is(datagram, &open_at), "another");
    release();
    check("still echoes", echoes(blocking) && echoes(nonblocking), "not");
    close(blocking), close(nonblocking), close(denied), close(datagram);
    return done();
}
