/* A thousand connects pending at once, blocking ones in threads beside them, with the usual limit of descriptors raised. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/resource.h>

#define CROWD 1000
#define THREADS 100

static endpoint held_at;

static void *blocking(void *unused) {
    (void)unused;
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    long good = connect_to(fd, &held_at) == 0 && peer_is(fd, &held_at) && echoes(fd);
    close(fd);
    return (void *)good;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held_at = endpoint_of("held");
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 3 * CROWD) {
        printf("crowd: skipped (%ld descriptors)\n", (long)limit.rlim_cur);
        return 0;
    }

    static int fds[CROWD];
    static char seen[CROWD];
    struct epoll_event event, events[64];
    int epoll = epoll_create1(EPOLL_CLOEXEC), begun = 0, wrong = 0, connected = 0, echoed = 0;
    stage("hold");
    for (int i = 0; i < CROWD; i++) {
        fds[i] = tcp(AF_INET, SOCK_NONBLOCK | SOCK_CLOEXEC);
        begun += connect_to(fds[i], &held_at) == -1 && errno == EINPROGRESS;
        event = (struct epoll_event){.events = EPOLLOUT | EPOLLET, .data.u64 = (uint64_t)i};
        wrong += epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) != 0;
    }
    GIVES("all begin", CROWD, begun);
    GIVES("all are registered", 0, wrong);
    GIVES("none is ready", 0, epoll_wait(epoll, events, 64, 0));
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, blocking, NULL);
    stage("release");
    while (connected + wrong < CROWD) {
        int count = epoll_wait(epoll, events, 64, PATIENCE_MS);
        if (count <= 0)
            break;
        for (int i = 0; i < count; i++) {
            uint64_t which = events[i].data.u64;
            if (which < CROWD && events[i].events == EPOLLOUT && !seen[which]++ && socket_error(fds[which]) == 0)
                connected++;
            else
                wrong++;
        }
    }
    check("all connect", connected == CROWD && !wrong, "%d connected, %d wrong", connected, wrong);
    for (int i = 0; i < CROWD; i++) {
        echoed += echoes(fds[i]);
        close(fds[i]);
    }
    GIVES("all echo", CROWD, echoed);
    long good = 0;
    for (int i = 0; i < THREADS; i++) {
        void *each;
        pthread_join(threads[i], &each);
        good += (long)each;
    }
    GIVES("the blocking ones too", THREADS, good);
    return done();
}
