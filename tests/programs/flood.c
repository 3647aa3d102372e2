/*
 * Many threads make calls without pause which cost the broker more than them: when it has answered one, the next waits already. Another
 * process connects all the same, before too many of theirs are answered. Under presocks only: the kernel has no such queue.
 */
#include "check.h"
#include <sys/mman.h>

#define THREADS 64
#define MESSAGES 8
#define CONNECTS 10
#define SOON_MS 2000
#define MOST_CALLS 5000

static struct {
    volatile long calls, connected, slowest, most_calls;
} *shared;

static volatile int over;

/* All but the last could be sent; the broker looks at each, and then refuses the call. */
static void *flood(void *far) {
    endpoint here = parse_endpoint("127.0.0.1:9");
    struct iovec part = {"x", 1};
    struct mmsghdr all[MESSAGES];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    for (int i = 0; i < MESSAGES; i++) {
        endpoint *to = i < MESSAGES - 1 ? &here : far;
        all[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1}};
    }
    while (!over) {
        sendmmsg(fd, all, MESSAGES, MSG_DONTWAIT);
        __atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void connects(endpoint open) {
    while (shared->calls < 2 * THREADS)
        usleep(1000);
    for (int i = 0; i < CONNECTS && shared->slowest < SOON_MS; i++) {
        int fd = tcp(AF_INET, SOCK_CLOEXEC);
        long begin = (long)now_ms(), calls = shared->calls;
        shared->connected += connect_to(fd, &open) == 0;
        calls = shared->calls - calls;
        long took = (long)now_ms() - begin;
        if (took > shared->slowest)
            shared->slowest = took;
        if (calls > shared->most_calls)
            shared->most_calls = calls;
        close(fd);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open = endpoint_of("open");
    pthread_t threads[THREADS];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t other = fork();
    if (!other) {
        connects(open);
        _exit(0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, flood, &open);
    pid_t ended = 0;
    for (long long begin = now_ms(); !ended && now_ms() - begin < PATIENCE_MS; usleep(1000))
        ended = waitpid(other, NULL, WNOHANG);
    over = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check("another process ends meanwhile", ended == other, "it still connects");
    check("it connects each time", shared->connected == CONNECTS, "%ld of %d times", shared->connected, CONNECTS);
    check("soon", shared->slowest < SOON_MS, "after %ld ms", shared->slowest);
    check("in its turn", shared->most_calls < MOST_CALLS, "after %ld calls of others", shared->most_calls);
    return done();
}
