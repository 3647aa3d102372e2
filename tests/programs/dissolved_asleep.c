/*
 * A thread waits in connect(), and another dissolves the socket and connects it to loopback: from then on it carries what it is given there, and
 * nothing else.
 */
#include "check.h"

#define ROUNDS 20

static int fd;
static endpoint held;
static volatile pid_t waiting;

static void *connects(void *unused) {
    (void)unused;
    waiting = gettid();
    /* How it ends is told elsewhere. */
    int result = connect_to(fd, &held);
    return (void *)(long)result;
}

static int goes_to_loopback(int listener, const endpoint *at) {
    char seen[8] = "";
    pthread_t thread;
    fd = tcp(held.address.ss_family, SOCK_CLOEXEC);
    waiting = 0;
    pthread_create(&thread, NULL, connects, NULL);
    if (!gets_a_name(fd))
        give_up("nobody connects it");
    await_sleep(&waiting);
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    if (connect(fd, &nothing, sizeof nothing) || connect_to(fd, at))
        give_up("the socket does not reach loopback: %s", strerror(errno));
    pthread_join(thread, NULL);
    int accepted = accept(listener, NULL, NULL);
    int arrives = send(fd, "mine", 4, MSG_NOSIGNAL) == 4 && recv(accepted, seen, sizeof seen, 0) == 4 && !memcmp(seen, "mine", 4);
    close(fd), close(accepted);
    return arrives;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    stage("hold");
    endpoint v4 = endpoint_of("held"), at;
    int listener = loopback_listener(AF_INET, &at), good = 0;
    held = v4;
    for (int i = 0; i < ROUNDS; i++)
        good += goes_to_loopback(listener, &at);
    GIVES("IPv4: what is sent to loopback arrives", ROUNDS, good);
    held = mapped(v4), at = mapped(at), good = 0;
    for (int i = 0; i < ROUNDS; i++)
        good += goes_to_loopback(listener, &at);
    GIVES("IPv6: what is sent to loopback arrives", ROUNDS, good);
    return done();
}
