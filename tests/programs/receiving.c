/*
 * recvfrom with an address, recvmsg, recvmmsg, and sendmsg without one: on Unix sockets and on loopback they are the kernel's, and
 * cancellation points.
 */
#include "check.h"
#include <sys/uio.h>

#define ROOM 32

/* A message with one part, and room for an address if one is given. */
typedef struct {
    struct msghdr header;
    struct iovec part;
    char data[ROOM];
} message;

static struct msghdr *with(message *one, const void *data, size_t length, endpoint *address) {
    memset(one, 0, sizeof *one);
    if (data)
        memcpy(one->data, data, length);
    one->part = (struct iovec){one->data, length};
    one->header = (struct msghdr){.msg_iov = &one->part, .msg_iovlen = 1};
    if (address)
        one->header.msg_name = &address->address, one->header.msg_namelen = address->length;
    return &one->header;
}

/* Of a length that the compiler does not know: the fortified form. */
__attribute__((always_inline)) static inline ssize_t receive_from(int fd, char *data, volatile size_t length, int flags, endpoint *from) {
    from->length = sizeof from->address;
    return recvfrom(fd, data, length, flags, (void *)&from->address, &from->length);
}

static void pass_descriptor(void) {
    int pair[2], pipes[2];
    char control[CMSG_SPACE(sizeof(int))] = "", data[ROOM] = "";
    message out, in;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(pipes))
        give_up("socketpair: %s", strerror(errno));
    struct msghdr *sent = with(&out, "x", 1, NULL), *seen = with(&in, NULL, ROOM, NULL);
    sent->msg_control = control, sent->msg_controllen = sizeof control;
    struct cmsghdr *attached = CMSG_FIRSTHDR(sent);
    attached->cmsg_level = SOL_SOCKET, attached->cmsg_type = SCM_RIGHTS, attached->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(attached), &pipes[1], sizeof(int));
    GIVES("unix: sendmsg with a descriptor", 1, sendmsg(pair[0], sent, 0));
    memset(control, 0, sizeof control);
    seen->msg_control = control, seen->msg_controllen = sizeof control;
    GIVES("unix: recvmsg with a descriptor", 1, recvmsg(pair[1], seen, MSG_CMSG_CLOEXEC));
    int passed = -1;
    if ((attached = CMSG_FIRSTHDR(seen)) && attached->cmsg_type == SCM_RIGHTS)
        memcpy(&passed, CMSG_DATA(attached), sizeof(int));
    check("unix: the descriptor works", write(passed, "y", 1) == 1 && read(pipes[0], data, ROOM) == 1 && data[0] == 'y', "not");
    close(pair[0]);
    GIVES("unix: recvmsg at the end", 0, recvmsg(pair[1], with(&in, NULL, ROOM, NULL), 0));
    FAILS("unix: sendmsg into a closed stream", EPIPE, sendmsg(pair[1], with(&out, "x", 1, NULL), MSG_NOSIGNAL));
    close(pair[1]), close(pipes[0]), close(pipes[1]), close(passed);
}

/* A socket of this kind with an address of its own. */
static int bound(int family, endpoint *at) {
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (family == AF_UNIX) {
        *at = (endpoint){.length = sizeof(sa_family_t)};
        at->address.ss_family = AF_UNIX;
    } else {
        *at = parse_endpoint(family == AF_INET ? "127.0.0.1:0" : "[::1]:0");
    }
    if (fd < 0 || bind(fd, (void *)&at->address, at->length))
        give_up("datagram socket: %s", strerror(errno));
    at->length = sizeof at->address;
    getsockname(fd, (void *)&at->address, &at->length);
    return fd;
}

static int is_from(const endpoint *seen, const endpoint *expected) {
    return seen->length == expected->length && !memcmp(&seen->address, &expected->address, seen->length);
}

static void datagrams(const char *label, int family) {
    char name[96], data[ROOM] = "";
    endpoint here, there, from;
    message one;
    int receiver = bound(family, &here), sender = bound(family, &there);
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    GIVES(NAMED("sendto"), 3, sendto(sender, "one", 3, 0, (void *)&here.address, here.length));
    errno = ERANGE;
    ssize_t got = receive_from(receiver, data, ROOM, 0, &from);
    check(NAMED("recvfrom tells the sender"), got == 3 && is_from(&from, &there), "%zd", got);
    check(NAMED("recvfrom leaves errno alone"), errno == ERANGE, "%d", errno);

    GIVES(NAMED("sendmsg"), 3, sendmsg(sender, with(&one, "two", 3, &here), 0));
    char two[2];
    from = (endpoint){.length = 3};
    memset(&from.address, 0x55, sizeof from.address);
    got = recvfrom(receiver, two, sizeof two, MSG_TRUNC, (void *)&from.address, &from.length);
    check(NAMED("recvfrom cuts what has no room"), got == 3 && from.length == there.length && ((char *)&from.address)[3] == 0x55, "%zd, %u", got, from.length);

    GIVES(NAMED("connect"), 0, connect_to(sender, &here));
    GIVES(NAMED("sendmsg to the peer"), 5, sendmsg(sender, with(&one, "three", 5, NULL), 0));
    from.length = sizeof from.address;
    struct msghdr *header = with(&one, NULL, 2, &from);
    got = recvmsg(receiver, header, 0);
    from.length = header->msg_namelen;
    check(NAMED("recvmsg tells the sender and that it cuts"), got == 2 && is_from(&from, &there) && header->msg_flags == MSG_TRUNC, "%zd, flags %#x", got, header->msg_flags);

    message out[3], in[3];
    struct mmsghdr several[3] = {{.msg_hdr = *with(&out[0], "a", 1, NULL)}, {.msg_hdr = *with(&out[1], "bb", 2, NULL)}, {.msg_hdr = *with(&out[2], "ccc", 3, NULL)}};
    GIVES(NAMED("sendmmsg to the peer"), 3, sendmmsg(sender, several, 3, 0));
    endpoint each[3] = {{.length = sizeof from.address}, {.length = sizeof from.address}, {.length = sizeof from.address}};
    for (int i = 0; i < 3; i++)
        several[i] = (struct mmsghdr){.msg_hdr = *with(&in[i], NULL, ROOM, &each[i])};
    struct timespec limit = {.tv_sec = 5};
    GIVES(NAMED("recvmmsg"), 3, recvmmsg(receiver, several, 3, MSG_WAITFORONE, &limit));
    int good = 0;
    for (int i = 0; i < 3; i++) {
        each[i].length = several[i].msg_hdr.msg_namelen;
        good += several[i].msg_len == (unsigned)i + 1 && is_from(&each[i], &there) && in[i].data[i] == 'a' + i;
    }
    GIVES(NAMED("recvmmsg tells lengths and senders"), 3, good);

    FAILS(NAMED("recvfrom finds nothing"), EAGAIN, receive_from(receiver, data, ROOM, MSG_DONTWAIT, &from));
    FAILS(NAMED("recvmsg finds nothing"), EAGAIN, recvmsg(receiver, with(&one, NULL, ROOM, NULL), MSG_DONTWAIT));
    FAILS(NAMED("recvmmsg finds nothing"), EAGAIN, recvmmsg(receiver, several, 3, MSG_DONTWAIT, NULL));
    close(receiver), close(sender);
}

static void wrong(void) {
    endpoint from;
    char data[ROOM];
    message one;
    struct msghdr *volatile nowhere = NULL;
    struct mmsghdr *volatile none = NULL;
    int fds[2];
    FAILS("recvfrom on no descriptor", EBADF, receive_from(-1, data, ROOM, 0, &from));
    FAILS("recvmsg on no descriptor", EBADF, recvmsg(-1, with(&one, NULL, ROOM, NULL), 0));
    FAILS("sendmsg on no descriptor", EBADF, sendmsg(-1, with(&one, "x", 1, NULL), 0));
    if (pipe(fds))
        give_up("pipe");
    FAILS("recvmsg on no socket", ENOTSOCK, recvmsg(fds[0], with(&one, NULL, ROOM, NULL), 0));
    FAILS("recvfrom on no socket", ENOTSOCK, receive_from(fds[0], data, ROOM, 0, &from));
    close(fds[0]), close(fds[1]);
    int fd = bound(AF_INET, &from);
    FAILS("recvmsg into nothing", EFAULT, recvmsg(fd, nowhere, MSG_DONTWAIT));
    FAILS("recvmmsg into nothing", EFAULT, recvmmsg(fd, none, 1, MSG_DONTWAIT, NULL));
    close(fd);
}

/* A stream has no sender to tell: the length says so. */
static void streams(void) {
    endpoint at, from;
    char data[ROOM];
    int listener = loopback_listener(AF_INET, &at), client = tcp(AF_INET, 0);
    GIVES("stream: connect", 0, connect_to(client, &at));
    int server = accept(listener, NULL, NULL);
    GIVES("stream: sendto with an address", 2, sendto(client, "hi", 2, 0, (void *)&at.address, at.length));
    memset(&from, 0, sizeof from);
    ssize_t got = receive_from(server, data, ROOM, 0, &from);
    check("stream: recvfrom with an address", got == 2 && from.length == 0, "%zd, length %u", got, from.length);
    close(listener), close(client), close(server);
}

enum { FROM, MESSAGE, MESSAGES, SEND, WAYS };
static const char *const ways[WAYS] = {"recvfrom", "recvmsg", "recvmmsg", "sendmsg"};

typedef struct {
    int way, fd, cleaned, type;
    ssize_t got;
    volatile pid_t tid;
} victim;

static ssize_t go(victim *self) {
    endpoint from;
    char data[ROOM];
    message one;
    struct mmsghdr several = {0};
    switch (self->way) {
    case FROM:
        return receive_from(self->fd, data, ROOM, 0, &from);
    case MESSAGE:
        return recvmsg(self->fd, with(&one, NULL, ROOM, NULL), 0);
    case MESSAGES:
        several.msg_hdr = *with(&one, NULL, ROOM, NULL);
        return recvmmsg(self->fd, &several, 1, 0, NULL);
    default:
        return sendmsg(self->fd, with(&one, "x", 1, NULL), 0);
    }
}

static void note_cleaned(void *argument) {
    ((victim *)argument)->cleaned = 1;
}

static void *block(void *argument) {
    victim *self = argument;
    pthread_cleanup_push(note_cleaned, self);
    self->tid = gettid();
    go(self);
    pthread_cleanup_pop(0);
    return NULL;
}

/* The request is there before the call, and the call need not wait. */
static void *arrive_cancelled(void *argument) {
    victim *self = argument;
    pthread_cleanup_push(note_cleaned, self);
    pthread_cancel(pthread_self());
    go(self);
    pthread_cleanup_pop(0);
    return NULL;
}

/* A thread that forbids it is not cancelled, and the call leaves the thread's type of cancellation as it was. */
static void *forbid(void *argument) {
    victim *self = argument;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    self->got = go(self);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &self->type);
    return NULL;
}

/* Ends when the thread has ended; whether it was cancelled. */
static int ends_cancelled(pthread_t thread, const victim *self) {
    struct timespec limit;
    void *result = NULL;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    return !pthread_timedjoin_np(thread, &result, &limit) && result == PTHREAD_CANCELED && self->cleaned;
}

static void cancelled(const char *label, int family, int way) {
    char name[96];
    int pair[2];
    pthread_t thread;
    endpoint here, there;
    if (family == AF_UNIX) {
        if (socketpair(AF_UNIX, way == SEND ? SOCK_STREAM : SOCK_DGRAM, 0, pair))
            give_up("socketpair");
    } else {
        pair[0] = bound(family, &here), pair[1] = bound(family, &there);
        connect_to(pair[1], &here);
    }
    victim waits = {.way = way, .fd = pair[0]};
    if (way == SEND)
        while (send(pair[0], name, sizeof name, MSG_DONTWAIT) > 0)
            ;
    pthread_create(&thread, NULL, block, &waits);
    await_sleep(&waits.tid);
    pthread_cancel(thread);
    snprintf(name, sizeof name, "%s: %s is a cancellation point", label, ways[way]);
    check(name, ends_cancelled(thread, &waits), "not cancelled, or not cleaned up: %d", waits.cleaned);
    if (way == SEND)
        goto end;

    victim arrives = {.way = way, .fd = pair[0]};
    send(pair[1], "text", 4, 0);
    pthread_create(&thread, NULL, arrive_cancelled, &arrives);
    snprintf(name, sizeof name, "%s: %s takes nothing in a cancelled thread", label, ways[way]);
    check(name, ends_cancelled(thread, &arrives) && recv(pair[0], name, sizeof name, MSG_PEEK | MSG_DONTWAIT) == 4, "not so");

    victim forbids = {.way = way, .fd = pair[0], .type = -1};
    pthread_create(&thread, NULL, forbid, &forbids);
    pthread_join(thread, NULL);
    snprintf(name, sizeof name, "%s: %s keeps the thread's manner of cancellation", label, ways[way]);
    check(name, forbids.got == (way == MESSAGES ? 1 : 4) && forbids.type == PTHREAD_CANCEL_DEFERRED, "%zd, type %d", forbids.got, forbids.type);
end:
    close(pair[0]), close(pair[1]);
}

static void ignore(int number) {
    (void)number;
}

/* A signal handler ends the wait, unless it restarts calls. */
static void interrupted(void) {
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, NULL);
    endpoint at, from;
    char data[ROOM];
    message one;
    int fd = bound(AF_INET, &at);
    ualarm(20000, 20000);
    FAILS("recvfrom is interrupted", EINTR, receive_from(fd, data, ROOM, 0, &from));
    FAILS("recvmsg is interrupted", EINTR, recvmsg(fd, with(&one, NULL, ROOM, NULL), 0));
    /* As with a time-out on the socket even with SA_RESTART (signal(7)): so a sender ends this one. */
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        _exit(sendto(fd, "late", 4, 0, (void *)&at.address, at.length) != 4);
    }
    GIVES("recvfrom is restarted", 4, receive_from(fd, data, ROOM, 0, &from));
    ualarm(0, 0);
    waitpid(child, NULL, 0);
    action.sa_handler = SIG_DFL;
    sigaction(SIGALRM, &action, NULL);
    alarm(WATCHDOG_SECONDS);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    pass_descriptor();
    datagrams("unix", AF_UNIX);
    datagrams("IPv4", AF_INET);
    datagrams("IPv6", AF_INET6);
    wrong();
    streams();
    interrupted();
    for (int way = 0; way < WAYS; way++)
        cancelled("unix", AF_UNIX, way);
    for (int way = 0; way < SEND; way++)
        cancelled("IPv4", AF_INET, way);
    return done();
}
