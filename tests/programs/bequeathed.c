/*
 * A pending socket that goes on in a program of which only the backstop knows (`heir=PATH`, this one linked statically, or executed without the shim:
 * `preload=no`): when nobody else waits for it, its connect has failed there, and nothing of the handshake is to be read.
 */
#include "watched.h"

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (argument("heir")) {
        char number[32];
        endpoint held = endpoint_of("held");
        stage("hold");
        snprintf(number, sizeof number, "number=%d", begin(&held));
        if (argument("preload"))
            unsetenv("LD_PRELOAD");
        execl(argument("heir"), argv[0], number, NULL);
        give_up("exec: %s", strerror(errno));
    }
    int fd = atoi(argument("number"));
    char byte;
    int seen = 0;
    /* The broker lets go of it a moment after exec: it does not wait five seconds, as for a program that the shim will be in. */
    for (long long end = now_ms() + 4000; !(seen & POLLHUP) && now_ms() < end;)
        seen = poll_one(fd, POLLIN, 1);
    check("its connect has failed", seen & POLLHUP, "events %#x", seen);
    check("nothing is to be read", recv(fd, &byte, 1, MSG_DONTWAIT) <= 0, "a byte");
    check("nothing is sent", send(fd, "x", 1, MSG_NOSIGNAL) < 0, "a byte");
    return done();
}
