/*
 * Sends on TCP sockets with an address, which means nothing to them: what the kernel does without one, it does with one. What is sent is told from
 * how long it waits, what it does with signals, and what arrives.
 */
#include "waiting.h"
#include <linux/errqueue.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MUCH (8 << 20)

static endpoint far;
static int client, server;
static char *much;

/* A connection on loopback, of which both ends are ours. */
static void connection(void) {
    endpoint at;
    int room = 65536, listener = loopback_listener(AF_INET, &at);
    client = tcp(AF_INET, SOCK_CLOEXEC);
    /* Fixed, so that what is full stays full. */
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(client, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (connect_to(client, &at) || (server = accept(listener, NULL, NULL)) < 0)
        give_up("a connection on loopback: %s", strerror(errno));
    close(listener);
}

static void end(void) {
    close(client), close(server);
}

static ssize_t push(const void *data, size_t length, int flags) {
    return sendto(client, data, length, flags, (const void *)&far.address, far.length);
}

/* Sends what there is room for; and more, as long as late acknowledgements make room. */
static void fill(void) {
    do {
        while (push(much, MUCH, MSG_DONTWAIT) > 0) {
        }
        poll_one(client, POLLOUT, 500);
    } while (push(much, MUCH, MSG_DONTWAIT) > 0);
}

static volatile pid_t pusher;
static ssize_t pushed;
static int pushed_errno;

static void *pushes(void *length) {
    pusher = (pid_t)syscall(SYS_gettid);
    pushed = push(much, *(size_t *)length, 0);
    pushed_errno = errno;
    return NULL;
}

static pthread_t begin(size_t *length) {
    pthread_t thread;
    pusher = 0;
    pthread_create(&thread, NULL, pushes, length);
    await_wait(&pusher);
    return thread;
}

/* Reads `length` bytes; are they those of `much`? */
static int drain(size_t length) {
    static char seen[65536];
    for (size_t got = 0; got < length;) {
        size_t room = length - got < sizeof seen ? length - got : sizeof seen;
        ssize_t more = recv(server, seen, room, 0);
        if (more <= 0 || memcmp(seen, much + got, (size_t)more))
            return 0;
        got += (size_t)more;
    }
    return 1;
}

static volatile sig_atomic_t signals;

static void counts(int signal) {
    (void)signal;
    signals++;
}

static void handle(int signal, int flags) {
    struct sigaction action = {.sa_handler = counts, .sa_flags = flags};
    sigaction(signal, &action, NULL);
    signals = 0;
}

static void waits(void) {
    size_t length = MUCH;
    connection();
    pthread_t thread = begin(&length);
    GIVES("what a blocking send sends arrives", 1, drain(length));
    pthread_join(thread, NULL);
    GIVES("a blocking send sends all", length, pushed);
    end(), connection();
    struct iovec parts[3] = {{much, 10}, {much + 10, 0}, {much + 10, MUCH - 10}};
    struct msghdr header = {.msg_name = &far.address, .msg_namelen = far.length, .msg_iov = parts, .msg_iovlen = 3};
    header.msg_flags = MSG_DONTWAIT;
    parts[2].iov_len = 100000;
    GIVES("a message in parts", 100010, sendmsg(client, &header, 0));
    GIVES("it arrives", 1, drain(100010));
    parts[2].iov_len = 5;
    struct mmsghdr two[2] = {{.msg_hdr = header}, {.msg_hdr = header}};
    two[0].msg_hdr.msg_iovlen = 1;
    GIVES("two messages", 2, sendmmsg(client, two, 2, 0));
    GIVES("the first one's length", 10, two[0].msg_len);
    GIVES("the second one's length", 15, two[1].msg_len);
    GIVES("the first arrives", 1, drain(10));
    GIVES("the second arrives", 1, drain(15));
    GIVES("nothing", 0, push(much, 0, 0));
    FAILS("what is not there", EFAULT, push((void *)16, 10, 0));
    end();
}

static void does_not_wait(void) {
    connection();
    ssize_t some = push(much, MUCH, MSG_DONTWAIT);
    check("MSG_DONTWAIT sends some", some > 0 && some < MUCH, SAW(some));
    GIVES("and that arrives", 1, drain((size_t)some));
    fill();
    FAILS("and then none", EAGAIN, push(much, MUCH, MSG_DONTWAIT));
    fcntl(client, F_SETFL, O_NONBLOCK);
    FAILS("nor on a non-blocking socket", EAGAIN, push(much, MUCH, 0));
    fcntl(client, F_SETFL, 0);
    struct timeval limit = {.tv_usec = 200000};
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    long long before = now_ms();
    FAILS("nor within its time limit", EAGAIN, push(much, MUCH, 0));
    check("which it waits for", now_ms() - before >= 190, "%lld ms", now_ms() - before);
    end(), connection();
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    some = push(much, MUCH, 0);
    check("what was sent within it counts", some > 0 && some < MUCH, SAW(some));
    end();
}

static void is_interrupted(void) {
    size_t length = MUCH;
    connection(), fill();
    handle(SIGUSR1, 0);
    pthread_t thread = begin(&length);
    pthread_kill(thread, SIGUSR1), pthread_join(thread, NULL);
    check("a signal interrupts", pushed == -1 && pushed_errno == EINTR && signals == 1, "%zd", pushed);
    end(), connection(), fill();
    handle(SIGUSR1, SA_RESTART);
    thread = begin(&length);
    pthread_kill(thread, SIGUSR1);
    static char seen[65536];
    while (pthread_tryjoin_np(thread, NULL))
        if (!signals || recv(server, seen, sizeof seen, MSG_DONTWAIT) < 0)
            sched_yield();
    check("or the call is made again", pushed == (ssize_t)length && signals == 1, "%zd", pushed);
    end(), connection();
    handle(SIGUSR1, SA_RESTART);
    thread = begin(&length);
    poll_one(server, POLLIN, PATIENCE_MS);
    pthread_kill(thread, SIGUSR1), pthread_join(thread, NULL);
    check("what was sent before it counts", pushed > 0 && pushed < MUCH && signals == 1, "%zd", pushed);
    GIVES("and arrives", 1, drain((size_t)pushed));
    end();
}

static void keeps_flags(void) {
    char seen[8] = "";
    connection();
    GIVES("urgent data", 3, push("abc", 3, MSG_OOB));
    GIVES("what comes before it", 2, recv(server, seen, sizeof seen, 0));
    GIVES("is urgent", 1, recv(server, seen, 1, MSG_OOB));
    check("at its end", seen[0] == 'c', "%c", seen[0]);
    int one = 1;
    setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
    GIVES("without a copy", 50000, push(much, 50000, MSG_ZEROCOPY));
    GIVES("it arrives all the same", 1, drain(50000));
    union {
        char room[128];
        struct cmsghdr aligned;
    } control;
    struct msghdr header = {.msg_control = &control, .msg_controllen = sizeof control};
    struct sock_extended_err *told = (void *)CMSG_DATA(&control.aligned);
    GIVES("its end is told", POLLERR, poll_one(client, 0, PATIENCE_MS));
    GIVES("by a message", 0, recvmsg(client, &header, MSG_ERRQUEUE));
    check("about it", told->ee_origin == SO_EE_ORIGIN_ZEROCOPY && told->ee_info == 0 && told->ee_data == 0, "%u to %u", told->ee_info, told->ee_data);
    end();
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    far = endpoint_of("open");
    much = malloc(MUCH);
    for (size_t place = 0; place < MUCH; place++)
        much[place] = (char)(place * 7 + place / 251);
    waits();
    does_not_wait();
    is_interrupted();
    keeps_flags();
    return done();
}
