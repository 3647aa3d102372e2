/*
 * Threads, vfork children and children that share a pending socket, but not all of the descriptors that there were: each sees the connect as it
 * is, and disturbs nobody.
 */
#include "watched.h"
#include <dirent.h>

#define DATA 0x8badf00dfeedc0deULL

static endpoint held, refused;
static int pending_at;

static int count_open(void) {
    int count = 0;
    DIR *dir = opendir("/proc/thread-self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Closes what the program does not know of. */
static void close_the_rest(void) {
    close_range(500, ~0U, 0);
}

static int sees_it_through(int fd) {
    int early = is_pending(fd, &held);
    stage("release");
    if (early)
        return early;
    if (poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT)
        return 11;
    return socket_error(fd) ? 12 : !peer_is(fd, &held) ? 13 : echoes(fd) ? 0 : 14;
}

static void *in_a_thread(void *way) {
    if (unshare(CLONE_FILES))
        return (void *)20;
    if (!strcmp(way, "without the rest"))
        close_the_rest();
    return (void *)(long)sees_it_through(pending_at);
}

static void beside_a_thread(const char *way) {
    char name[96];
    struct epoll_event seen = {0};
    pthread_t thread;
    void *failed = &thread;
    int before = count_open(), epoll = epoll_create1(0);
    stage("hold");
    pending_at = begin(&held);
    add(epoll, pending_at, DATA);
    pthread_create(&thread, NULL, in_a_thread, (void *)(long)way);
    pthread_join(thread, &failed);
    snprintf(name, sizeof name, "a thread with descriptors of its own, %s, sees it through", way);
    check(name, !failed, "step %ld", (long)failed);
    int count = epoll_wait(epoll, &seen, 1, PATIENCE_MS);
    check("the other thread's set tells", count == 1 && seen.data.u64 == DATA && seen.events == EPOLLOUT, "%d, events %#x", count, seen.events);
    GIVES("and so does poll", POLLOUT, poll_one(pending_at, POLLOUT, 0));
    check("the other thread's socket echoes", echoes(pending_at), "no echo");
    close(pending_at), close(epoll);
    GIVES("the other thread has as many descriptors as before", before, count_open());
}

static void *sees_a_failure(void *unused) {
    (void)unused;
    if (unshare(CLONE_FILES))
        return (void *)20;
    close_the_rest();
    if (poll_one(pending_at, POLLOUT, 0))
        return (void *)1;
    stage("release");
    int seen = poll_one(pending_at, POLLOUT, PATIENCE_MS);
    if (!(seen & POLLHUP))
        return (void *)2;
    return send(pending_at, "x", 1, MSG_NOSIGNAL) == -1 ? NULL : (void *)3;
}

static void beside_a_thread_that_sees_a_failure(void) {
    pthread_t thread;
    void *failed = &thread;
    stage("hold");
    pending_at = begin(&refused);
    pthread_create(&thread, NULL, sees_a_failure, NULL);
    pthread_join(thread, &failed);
    check("a thread with descriptors of its own sees that it fails", !failed, "step %ld", (long)failed);
    int seen = poll_one(pending_at, POLLOUT, PATIENCE_MS);
    check("and the other one", seen & POLLHUP, "events %#x", seen);
    close(pending_at);
}

/* Blocks until there is something to read. */
static void *reads(void *text) {
    int own = dup(pending_at);
    if (unshare(CLONE_FILES))
        return (void *)20;
    close_the_rest();
    return (void *)(long)(comes_back(own, text) ? 0 : 1);
}

static void beside_a_reader(void) {
    pthread_t thread;
    void *failed = &thread;
    stage("hold");
    pending_at = begin(&held);
    pthread_create(&thread, NULL, reads, "to be read\n");
    stage("release");
    GIVES("beside a reader it connects", POLLOUT, poll_one(pending_at, POLLOUT, PATIENCE_MS));
    GIVES("and is written to", 11, send(pending_at, "to be read\n", 11, MSG_NOSIGNAL));
    pthread_join(thread, &failed);
    check("what comes back is read by a thread with descriptors of its own", !failed, "step %ld", (long)failed);
    close(pending_at);
}

static void beside_a_vfork_child(void) {
    struct epoll_event seen = {0};
    int before = count_open(), epoll = epoll_create1(0), fd;
    volatile int failed = 0;
    stage("hold");
    fd = begin(&held);
    add(epoll, fd, DATA);
    pid_t child = vfork();
    if (!child) {
        failed = sees_it_through(fd);
        _exit(0);
    }
    status_of(child);
    check("a vfork child sees it through", !failed, "step %d", failed);
    int count = epoll_wait(epoll, &seen, 1, PATIENCE_MS);
    check("its parent's set tells", count == 1 && seen.data.u64 == DATA && seen.events == EPOLLOUT, "%d, events %#x", count, seen.events);
    check("its parent's socket echoes", echoes(fd), "no echo");
    close(fd), close(epoll);
    GIVES("its parent has as many descriptors as before", before, count_open());
}

static void beside_a_child(void) {
    stage("hold");
    int fd = begin(&held);
    pid_t child = fork();
    if (!child) {
        close_the_rest();
        _exit(sees_it_through(fd));
    }
    int status = status_of(child);
    check("a child without the rest sees it through", status == 0, "status %#x", status);
    GIVES("its parent's connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(fd), "no echo");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held"), refused = endpoint_of("heldrefused");
    beside_a_thread("with the rest");
    beside_a_thread("without the rest");
    beside_a_thread_that_sees_a_failure();
    beside_a_reader();
    beside_a_vfork_child();
    beside_a_child();
    return done();
}
