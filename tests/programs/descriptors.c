/* Descriptors: closed ranges, closed standard streams, none left, none gained. Each scene runs in a child of its own. */
#include "check.h"
#include <dirent.h>
#include <sys/resource.h>

static endpoint open_at, held_at;

static int one_connection(void) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    int good = connect_to(fd, &open_at) == 0 && echoes(fd);
    close(fd);
    return good;
}

static void scene(const char *name, int (*play)(void)) {
    fflush(stdout);
    int status = -1;
    pid_t child = fork();
    if (!child)
        _exit(play());
    waitpid(child, &status, 0);
    check(name, status == 0, "status %#x", status);
}

static int range_closed(void) {
    if (close_range(3, ~0U, 0))
        return 1;
    if (!one_connection())
        return 2;
    close_range(0, ~0U, 0);
    return one_connection() ? 0 : 3;
}

/* Pending connects survive only on descriptors that survive. */
static int range_closed_while_pending(void) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    if (connect_to(fd, &held_at) != -1 || errno != EINPROGRESS)
        return 1;
    if (dup2(fd, 200) != 200 || close_range(3, 199, 0) || close_range(201, ~0U, 0))
        return 2;
    stage("release");
    int seen = poll_one(200, POLLOUT, PATIENCE_MS);
    if (seen != POLLOUT && !(seen & POLLERR))
        return 3;
    if (seen == POLLOUT && !echoes(200)) /* never "connected" with something else than the far end */
        return 4;
    return one_connection() ? 0 : 5;
}

static int standard_streams_closed(void) {
    close(0), close(1), close(2);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd != 0)
        return 1;
    if (connect_to(fd, &open_at) || !echoes(fd))
        return 2;
    if (dup(0) != 1 || dup(0) != 2 || dup(0) != 3)
        return 3;
    return 0;
}

static int standard_streams_closed_non_blocking(void) {
    close(0), close(1), close(2);
    stage("hold");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd != 0 || connect_to(fd, &held_at) != -1 || errno != EINPROGRESS)
        return 1;
    /* What the program opens next must get the next number, whatever is pending. */
    if (open("/dev/null", O_RDWR) != 1 || open("/dev/null", O_RDWR) != 2)
        return 2;
    stage("release");
    return poll_one(fd, POLLOUT, PATIENCE_MS) == POLLOUT && echoes(fd) ? 0 : 3;
}

static int few_descriptors(void) {
    struct rlimit limit = {16, 16};
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return 1;
    for (int round = 0; round < 50; round++)
        if (!one_connection())
            return 2;
    return 0;
}

/* With none left the connect must not go anywhere but through the proxy: it may fail, then the socket is unusable. */
static int no_descriptors(void) {
    int fd = tcp(AF_INET, 0), last = fd;
    struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int next = dup(fd); next >= 0; next = dup(fd))
        last = next;
    int result = connect_to(fd, &open_at);
    if (result == 0)
        return echoes(fd) ? 0 : 1;
    if (send(fd, "x", 1, MSG_NOSIGNAL) != -1)
        return 2;
    while (last > fd)
        close(last--);
    return connect_to(fd, &open_at) == 0 && echoes(fd) ? 0 : 3;
}

static int count_open(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int nothing_gained(void) {
    int before = count_open();
    for (int round = 0; round < 20; round++)
        if (!one_connection())
            return 1;
    for (int round = 0; round < 20; round++) {
        int fd = tcp(AF_INET, SOCK_NONBLOCK);
        connect_to(fd, &open_at);
        if (poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT)
            return 2;
        close(fd);
    }
    return count_open() == before ? 0 : 3;
}

/* The number after the lowest free one stays what a program expects while a connect is pending. */
static int next_number(void) {
    stage("hold");
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    connect_to(fd, &held_at);
    int next = dup(fd);
    stage("release");
    return next == fd + 1 ? 0 : 1;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    open_at = endpoint_of("open");
    held_at = endpoint_of("held");
    scene("close_range over everything", range_closed);
    scene("close_range while pending", range_closed_while_pending);
    scene("streams closed", standard_streams_closed);
    scene("streams closed, non-blocking", standard_streams_closed_non_blocking);
    scene("few descriptors", few_descriptors);
    scene("no descriptors left", no_descriptors);
    scene("no descriptor gained", nothing_gained);
    scene("next number while pending", next_number);
    return done();
}
