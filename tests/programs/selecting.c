/* select(2) and pselect(2) around pending connects: sets, counts and time-outs as the kernel leaves them. */
#include "check.h"
#include <sys/select.h>

typedef int (*waiter)(int count, fd_set *in, fd_set *out, fd_set *other, long long timeout_ms);

static int by_select(int count, fd_set *in, fd_set *out, fd_set *other, long long timeout_ms) {
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    return select(count, in, out, other, timeout_ms < 0 ? NULL : &limit);
}

static int by_pselect(int count, fd_set *in, fd_set *out, fd_set *other, long long timeout_ms) {
    struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000}, before = limit;
    sigset_t none;
    sigemptyset(&none);
    int result = pselect(count, in, out, other, timeout_ms < 0 ? NULL : &limit, &none);
    if (memcmp(&limit, &before, sizeof limit))
        check("pselect leaves its time-out alone", 0, "changed");
    return result;
}

static int begin(const endpoint *to) {
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, to) != -1 || errno != EINPROGRESS)
        check("a connect begins", 0, "errno %s", strerrorname_np(errno));
    return fd;
}

/* Makes `set` hold just these descriptors; the list ends with -1. */
static void fill(fd_set *set, ...) {
    va_list list;
    va_start(list, set);
    FD_ZERO(set);
    for (int fd = va_arg(list, int); fd >= 0; fd = va_arg(list, int))
        FD_SET(fd, set);
    va_end(list);
}

static int size_of(const fd_set *set) {
    int count = 0;
    for (int fd = 0; fd < FD_SETSIZE; fd++)
        count += FD_ISSET(fd, set) != 0;
    return count;
}

static void with(const char *label, waiter wait, endpoint held, endpoint refused, endpoint open) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    fd_set in, out, other;
    int pipes[2], ready = tcp(AF_INET, 0);
    if (pipe(pipes))
        give_up("pipe");
    connect_to(ready, &open);

    stage("hold");
    int fd = begin(&held), top = fd + 1;
    fill(&in, fd, pipes[0], -1);
    fill(&out, fd, -1);
    fill(&other, fd, -1);
    GIVES(NAMED("nothing is ready"), 0, wait(top, &in, &out, &other, 0));
    check(NAMED("all sets are emptied"), !size_of(&in) && !size_of(&out) && !size_of(&other), "%d %d %d", size_of(&in), size_of(&out), size_of(&other));
    fill(&out, fd, -1);
    long long started = now_ms();
    GIVES(NAMED("times out"), 0, wait(top, NULL, &out, NULL, 150));
    long long took = now_ms() - started;
    check(NAMED("takes its time"), took >= 149 && took < 20000, "%lld ms", took);

    fill(&out, fd, ready, -1);
    GIVES(NAMED("a connected socket beside it is ready"), 1, wait(top, NULL, &out, NULL, -1));
    check(NAMED("and only it"), FD_ISSET(ready, &out) && size_of(&out) == 1, "%d in the set", size_of(&out));
    fill(&out, fd, -1);
    fill(&in, pipes[0], -1);
    if (write(pipes[1], "x", 1) != 1)
        give_up("write");
    GIVES(NAMED("another descriptor wakes it"), 1, wait(top, &in, &out, NULL, -1));
    check(NAMED("and is the one"), FD_ISSET(pipes[0], &in) && !size_of(&out), "wrong sets");

    stage("release");
    fill(&in, fd, -1);
    fill(&out, fd, -1);
    GIVES(NAMED("becomes writable"), 1, wait(top, &in, &out, NULL, -1));
    check(NAMED("and only writable"), FD_ISSET(fd, &out) && !size_of(&in), "wrong sets");
    GIVES(NAMED("without error"), 0, socket_error(fd));
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd);

    stage("hold");
    fd = begin(&refused);
    stage("release");
    fill(&in, fd, -1);
    fill(&out, fd, -1);
    fill(&other, fd, -1);
    GIVES(NAMED("a refusal is readable and writable"), 2, wait(fd + 1, &in, &out, &other, -1));
    check(NAMED("and no exception"), FD_ISSET(fd, &in) && FD_ISSET(fd, &out) && !size_of(&other), "wrong sets");
    GIVES(NAMED("refused"), ECONNREFUSED, socket_error(fd));
    close(fd), close(ready), close(pipes[0]), close(pipes[1]);
}

static void time_left(endpoint held) {
    fd_set out;
    stage("hold");
    int fd = begin(&held);
    struct timeval limit = {0, 100000};
    fill(&out, fd, -1);
    GIVES("select times out", 0, select(fd + 1, NULL, &out, NULL, &limit));
    check("no time is left", limit.tv_sec == 0 && limit.tv_usec == 0, "%ld.%06ld s", (long)limit.tv_sec, (long)limit.tv_usec);
    stage("release");
    limit = (struct timeval){30, 0};
    fill(&out, fd, -1);
    GIVES("select returns early", 1, select(fd + 1, NULL, &out, NULL, &limit));
    check("most of the time is left", limit.tv_sec >= 10 && limit.tv_sec < 30, "%ld.%06ld s", (long)limit.tv_sec, (long)limit.tv_usec);
    close(fd);

    struct timeval bad = {-1, 0}, pause = {0, 1000};
    stage("hold");
    fd = begin(&held);
    fill(&out, fd, -1);
    FAILS("negative time-out", EINVAL, select(fd + 1, NULL, &out, NULL, &bad));
    FAILS("negative count", EINVAL, select(-1, NULL, &out, NULL, NULL));
    GIVES("select as a pause", 0, select(0, NULL, NULL, NULL, &pause));
    fill(&out, fd, 60, -1);
    FAILS("closed descriptor", EBADF, select(61, NULL, &out, NULL, NULL));
    fill(&out, fd, -1);
    GIVES("a descriptor beyond the count is not looked at", 0, select(fd, NULL, &out, NULL, &pause));
    stage("release");
    close(fd);
}

static void many(endpoint held) {
    enum { MANY = 100 };
    int fds[MANY], ready = 0, echoed = 0;
    stage("hold");
    for (int i = 0; i < MANY; i++)
        fds[i] = begin(&held);
    stage("release");
    fd_set waiting, out;
    FD_ZERO(&waiting);
    for (int i = 0; i < MANY; i++)
        FD_SET(fds[i], &waiting);
    while (ready < MANY) {
        out = waiting;
        int count = select(fds[MANY - 1] + 1, NULL, &out, NULL, NULL);
        if (count <= 0 || count != size_of(&out)) {
            check("many: the count is right", 0, "%d, not %d", count, size_of(&out));
            break;
        }
        ready += count;
        for (int i = 0; i < MANY; i++)
            if (FD_ISSET(fds[i], &out))
                FD_CLR(fds[i], &waiting);
    }
    for (int i = 0; i < MANY; i++) {
        echoed += echoes(fds[i]);
        close(fds[i]);
    }
    GIVES("many: all echo", MANY, echoed);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held"), refused = endpoint_of("heldrefused"), open = endpoint_of("open");
    with("select", by_select, held, refused, open);
    with("pselect", by_pselect, held, refused, open);
    time_left(held);
    many(held);
    return done();
}
