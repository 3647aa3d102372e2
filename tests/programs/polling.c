/* poll(2), ppoll(2) and their fortified forms (build with -O2 -D_FORTIFY_SOURCE=2) around pending connects. */
#include "check.h"
#include <sys/resource.h>

#define MANY 200
#define HIGH 3000

typedef int (*waiter)(struct pollfd *fds, nfds_t count, int timeout_ms);

/* Called through variables whose size the compiler cannot know, these are the plain functions. */
static int by_poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    return poll(fds, count, timeout_ms);
}

static int by_ppoll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    sigset_t none;
    sigemptyset(&none);
    int result = ppoll(fds, count, timeout_ms < 0 ? NULL : &limit, &none);
    if (limit.tv_sec != timeout_ms / 1000 && timeout_ms >= 0)
        check("ppoll leaves its time-out alone", 0, "changed");
    return result;
}

extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

static int by_poll_chk(struct pollfd *fds, nfds_t count, int timeout_ms) {
    return __poll_chk(fds, count, timeout_ms, count * sizeof *fds);
}

static int by_ppoll_chk(struct pollfd *fds, nfds_t count, int timeout_ms) {
    struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    return __ppoll_chk(fds, count, timeout_ms < 0 ? NULL : &limit, NULL, count * sizeof *fds);
}

static int begin(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, to) != -1 || errno != EINPROGRESS)
        check("a connect begins", 0, "errno %s", strerrorname_np(errno));
    return fd;
}

static void with(const char *label, waiter wait, endpoint held, endpoint refused, endpoint open) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    int pipes[2];
    if (pipe(pipes))
        give_up("pipe");
    int ready = tcp(AF_INET, 0);
    connect_to(ready, &open);

    stage("hold");
    int fd = begin(&held);
    struct pollfd set[] = {
        {.fd = pipes[0], .events = POLLIN, .revents = 77}, {.fd = fd, .events = POLLIN | POLLOUT, .revents = 77},
        {.fd = -1, .events = POLLOUT, .revents = 77},      {.fd = -fd, .events = POLLOUT, .revents = 77},
        {.fd = 29999, .events = 0, .revents = 77},
    };
    GIVES(NAMED("nothing is ready"), 0, wait(set, 4, 0));
    check(NAMED("revents are cleared"), !set[0].revents && !set[1].revents && !set[2].revents && !set[3].revents, "%#x %#x %#x %#x", set[0].revents, set[1].revents, set[2].revents, set[3].revents);
    check(NAMED("the set is left alone"), set[1].fd == fd && set[1].events == (POLLIN | POLLOUT) && set[2].fd == -1 && set[3].fd == -fd, "changed");
    long long started = now_ms();
    GIVES(NAMED("times out"), 0, wait(set, 2, 150));
    long long took = now_ms() - started;
    check(NAMED("takes its time"), took >= 149 && took < 20000, "%lld ms", took);
    GIVES(NAMED("a closed descriptor shows"), 1, wait(set, 5, 0));
    check(NAMED("as POLLNVAL"), set[4].revents == POLLNVAL && !set[1].revents, "%#x %#x", set[4].revents, set[1].revents);

    if (write(pipes[1], "x", 1) != 1)
        give_up("write");
    GIVES(NAMED("another descriptor wakes it"), 1, wait(set, 2, -1));
    check(NAMED("and is the one"), set[0].revents == POLLIN && !set[1].revents, "%#x %#x", set[0].revents, set[1].revents);
    struct pollfd mixed[] = {{.fd = fd, .events = POLLOUT}, {.fd = ready, .events = POLLOUT}};
    GIVES(NAMED("a connected socket beside it is ready"), 1, wait(mixed, 2, -1));
    check(NAMED("and only it"), !mixed[0].revents && mixed[1].revents == POLLOUT, "%#x %#x", mixed[0].revents, mixed[1].revents);
    struct pollfd twice[] = {{.fd = fd, .events = POLLOUT}, {.fd = fd, .events = POLLIN | POLLOUT}, {.fd = fd, .events = 0}};
    GIVES(NAMED("three times the same, none ready"), 0, wait(twice, 3, 0));
    stage("release");
    GIVES(NAMED("three times the same, ready"), 2, wait(twice, 3, -1));
    check(NAMED("each as asked"), twice[0].revents == POLLOUT && twice[1].revents == POLLOUT && !twice[2].revents, "%#x %#x %#x", twice[0].revents, twice[1].revents, twice[2].revents);
    check(NAMED("echoes"), echoes(fd), "no echo");
    struct pollfd data = {.fd = fd, .events = POLLIN};
    send(fd, "y", 1, 0);
    GIVES(NAMED("waits for data as ever"), 1, wait(&data, 1, -1));
    check(NAMED("data is POLLIN"), data.revents == POLLIN, "%#x", data.revents);
    close(fd);

    stage("hold");
    fd = begin(&refused);
    struct pollfd fails = {.fd = fd, .events = 0};
    GIVES(NAMED("nothing asked, nothing shown"), 0, wait(&fails, 1, 0));
    stage("release");
    GIVES(NAMED("a refusal shows unasked"), 1, wait(&fails, 1, -1));
    check(NAMED("as POLLERR and POLLHUP"), fails.revents == (POLLERR | POLLHUP), "%#x", fails.revents);
    GIVES(NAMED("with its error"), ECONNREFUSED, socket_error(fd));
    close(fd), close(ready), close(pipes[0]), close(pipes[1]);
}

static void many(endpoint held) {
    struct pollfd set[MANY];
    int ready = 0;
    stage("hold");
    for (int i = 0; i < MANY; i++)
        set[i] = (struct pollfd){.fd = begin(&held), .events = POLLOUT};
    GIVES("many: none ready", 0, poll(set, MANY, 0));
    stage("release");
    while (ready < MANY) {
        int count = poll(set, MANY, PATIENCE_MS), counted = 0;
        if (count <= 0)
            break;
        for (int i = 0; i < MANY; i++) {
            if (!set[i].revents)
                continue;
            counted++;
            if (set[i].revents != POLLOUT || socket_error(set[i].fd))
                check("many: each connects", 0, "events %#x", set[i].revents);
            ready++;
            set[i].fd = -set[i].fd;
        }
        if (counted != count)
            check("many: the count is right", 0, "%d, not %d", count, counted);
    }
    GIVES("many: all ready", MANY, ready);
    int echoed = 0;
    for (int i = 0; i < MANY; i++) {
        echoed += echoes(-set[i].fd);
        close(-set[i].fd);
    }
    GIVES("many: all echo", MANY, echoed);
}

static void high(endpoint held) {
    struct rlimit limit = {HIGH + 100, HIGH + 100};
    setrlimit(RLIMIT_NOFILE, &limit);
    stage("hold");
    int low = tcp(AF_INET, SOCK_NONBLOCK), fd = dup2(low, HIGH);
    close(low);
    FAILS("a high descriptor starts", EINPROGRESS, connect_to(fd, &held));
    GIVES("a high descriptor is not ready", 0, poll_one(fd, POLLOUT, 0));
    stage("release");
    GIVES("a high descriptor becomes ready", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("a high descriptor echoes", echoes(fd), "no echo");
    close(fd);
}

__attribute__((noinline)) static int by_plain_poll(struct pollfd *fds, nfds_t count) {
    return poll(fds, count, 0);
}

static void wrong(endpoint held) {
    stage("hold");
    int fd = begin(&held);
    struct pollfd *volatile nowhere = NULL; /* volatile: the compiler must not see that it is null */
    FAILS("null set", EFAULT, by_plain_poll(nowhere, 1));
    GIVES("no set", 0, poll(NULL, 0, 0));
    struct timespec bad = {0, -1};
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    FAILS("bad time-out", EINVAL, ppoll(&one, 1, &bad, NULL));
    stage("release");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held"), refused = endpoint_of("heldrefused"), open = endpoint_of("open");
    with("poll", by_poll, held, refused, open);
    with("ppoll", by_ppoll, held, refused, open);
    with("__poll_chk", by_poll_chk, held, refused, open);
    with("__ppoll_chk", by_ppoll_chk, held, refused, open);
    many(held);
    wrong(held);
    high(held);
    return done();
}
