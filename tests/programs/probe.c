/*
 * One client whose fate the tests of hostile proxies look at: it connects `times=` times (1) to `to=HOST:PORT`, the
 * HOST a name or a number, with `mode=blocking`, `poll` or `epoll`, and prints what came of each attempt:
 *
 *     connect: ok | ERRNO | EAI_…
 *     peer: the one asked for | another | none      after success
 *     received: TEXT                                after success, `expect=` bytes
 *     unusable | usable                             after failure: whether send(2) still takes bytes
 */
#include "check.h"
#include <netdb.h>
#include <sys/epoll.h>

static const char *mode;

static const char *name_of_resolver_error(int error) {
    return error == EAI_AGAIN ? "EAI_AGAIN" : error == EAI_FAIL ? "EAI_FAIL" : error == EAI_NONAME ? "EAI_NONAME" : gai_strerror(error);
}

/* The attempt's errno, 0 after success. */
static int attempt(int fd, const struct addrinfo *to) {
    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    if (!strcmp(mode, "epoll")) {
        struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            return -1;
        close(epoll);
    } else if (poll_one(fd, POLLOUT, -1) <= 0) {
        return -1;
    }
    return socket_error(fd);
}

static void receive(int fd, size_t length) {
    char text[4096];
    size_t got = 0;
    while (got < length && got < sizeof text - 1) {
        if (poll_one(fd, POLLIN, PATIENCE_MS) <= 0)
            break;
        ssize_t more = recv(fd, text + got, length - got, 0);
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    text[got] = 0;
    printf("received: %s\n", text);
}

static void once(const struct addrinfo *to) {
    endpoint asked = {.length = to->ai_addrlen}, peer = {.length = sizeof peer.address};
    memcpy(&asked.address, to->ai_addr, to->ai_addrlen);
    int fd = tcp(to->ai_family, SOCK_CLOEXEC | (strcmp(mode, "blocking") ? SOCK_NONBLOCK : 0));
    int error = attempt(fd, to);
    printf("connect: %s\n", error == 0 ? "ok" : strerrorname_np(error) ? strerrorname_np(error) : "no event");
    if (error) {
        ssize_t sent = send(fd, "stray", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
        printf(sent == -1 && (errno == EPIPE || errno == ENOTCONN) ? "unusable\n" : "usable\n");
    } else {
        int known = !getpeername(fd, (void *)&peer.address, &peer.length);
        printf("peer: %s\n", !known ? "none" : same_endpoint(&peer, &asked) ? "the one asked for" : "another");
        if (argument("say") && send(fd, argument("say"), strlen(argument("say")), 0) < 0)
            printf("say: %s\n", strerrorname_np(errno));
        if (argument("expect"))
            receive(fd, (size_t)atoi(argument("expect")));
    }
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    mode = argument("mode") ? argument("mode") : "blocking";
    char *host = strdup(argument("to")), *colon = strrchr(host, ':');
    int times = argument("times") ? atoi(argument("times")) : 1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    *colon = 0;
    int error = getaddrinfo(host, colon + 1, &hints, &list);
    if (error) {
        printf("connect: %s\n", name_of_resolver_error(error));
        return done();
    }
    for (int i = 0; i < times; i++)
        once(list);
    freeaddrinfo(list);
    free(host);
    return done();
}
