/*
 * A pending socket that another program goes on with: across execve(2), in a child's program, by SCM_RIGHTS. Whoever has it sees the connect as it is,
 * and sees it through, whether those who had it before keep it, close it, or end.
 */
#include "watched.h"

#define DATA 0x8badf00dfeedc0deULL

static endpoint held, refused;
static char *self[32];
static int words;

/* A connect that the kernel has begun. */
static int begun(const endpoint *to) {
    int fd = begin(to);
    check("it has a port", gets_a_name(fd), "none");
    return fd;
}

/* What the program that has got the socket does with it; 0 when all is well. */
static int sees_it_through(int fd) {
    int early = is_pending(fd, &held);
    struct epoll_event seen = {0};
    int epoll = epoll_create1(0);
    if (!early && add(epoll, fd, DATA))
        early = 8;
    if (!early && epoll_wait(epoll, &seen, 1, 0))
        early = 9;
    stage("release");
    if (early)
        return early;
    if (epoll_wait(epoll, &seen, 1, PATIENCE_MS) != 1 || seen.events != EPOLLOUT || seen.data.u64 != DATA)
        return 11;
    if (poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT)
        return 12;
    return socket_error(fd) ? 13 : !peer_is(fd, &held) ? 14 : echoes(fd) ? 0 : 15;
}

static int sees_it_fail(int fd) {
    int early = poll_one(fd, POLLIN | POLLOUT, 0);
    stage("release");
    if (early)
        return 1;
    if (!(poll_one(fd, POLLOUT, PATIENCE_MS) & POLLHUP))
        return 2;
    int error = socket_error(fd);
    if (error != ECONNREFUSED)
        return 100 + error;
    return send(fd, "x", 1, MSG_NOSIGNAL) == -1 ? 0 : 4;
}

/* This program again, as `does=WHAT` on descriptor `number=FD`; `then`: what that execs in its turn. */
static void become(const char *what, int fd, const char *then) {
    char does[64], number[32], next[64];
    snprintf(does, sizeof does, "does=%s", what);
    snprintf(number, sizeof number, "number=%d", fd);
    snprintf(next, sizeof next, "then=%s", then);
    char *again[40];
    int count = 0;
    for (; count < words; count++)
        again[count] = self[count];
    again[count++] = does, again[count++] = number, again[count++] = next, again[count] = NULL;
    execv("/proc/self/exe", again);
    _exit(20);
}

static int as_told(const char *what) {
    int fd = atoi(argument("number"));
    if (!strcmp(what, "sees it through"))
        return sees_it_through(fd);
    if (!strcmp(what, "sees it fail"))
        return sees_it_fail(fd);
    if (!strcmp(what, "becomes another"))
        become(argument("then"), fd, "");
    if (!strcmp(what, "has nothing")) {
        stage("release");
        return fcntl(fd, F_GETFD) != -1 ? 1 : 0;
    }
    return 21;
}

static void child_ends_well(const char *name, pid_t child) {
    int status = status_of(child);
    check(name, status == 0, "status %#x", status);
}

static void parents_too(int fd) {
    GIVES("its parent's connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("and echoes", echoes(fd), "no echo");
    close(fd);
}

static void in_a_childs_program(void) {
    stage("hold");
    int fd = begun(&held);
    pid_t child = fork();
    if (!child)
        become("sees it through", fd, "");
    child_ends_well("a child's program sees it through", child);
    parents_too(fd);
}

static void in_a_childs_program_alone(void) {
    stage("hold");
    int fd = begun(&held);
    pid_t child = fork();
    if (!child)
        become("sees it through", fd, "");
    close(fd);
    child_ends_well("a child's program sees it through, closed by its parent", child);
}

/* Runs `act` in a child, and says how that has ended. */
static void in_a_child(const char *name, void (*act)(void)) {
    pid_t child = fork();
    if (!child) {
        act();
        _exit(22);
    }
    child_ends_well(name, child);
}

static void execs(void) {
    stage("hold");
    become("sees it through", begun(&held), "");
}

static void execs_twice(void) {
    stage("hold");
    become("becomes another", begun(&held), "sees it through");
}

static void execs_with_a_copy(void) {
    stage("hold");
    int fd = begun(&held), copy = dup2(fd, 77);
    close(fd);
    become("sees it through", copy, "");
}

static void execs_with_one_that_fails(void) {
    stage("hold");
    become("sees it fail", begun(&refused), "");
}

static void execs_without_it(void) {
    stage("hold");
    int fd = begin(&held);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    become("has nothing", fd, "");
}

/* The parent ends, and its child's program goes on: it says by the pipe how that ends. */
static void in_an_orphans_program(void) {
    int told[2], failed = -1;
    if (pipe(told))
        give_up("pipe");
    stage("hold");
    pid_t parent = fork();
    if (!parent) {
        int fd = begun(&held);
        pid_t child = fork();
        if (child)
            _exit(0);
        child = fork();
        if (!child)
            become("sees it through", fd, "");
        close(fd);
        failed = status_of(child);
        _exit(write(told[1], &failed, sizeof failed) != sizeof failed);
    }
    close(told[1]);
    status_of(parent);
    check("an orphan's program sees it through", read(told[0], &failed, sizeof failed) == sizeof failed && !failed, "status %#x", failed);
    close(told[0]);
}

static void hand_on(int by, int fd) {
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(by, &message, 0) != 1)
        give_up("sendmsg: %s", strerror(errno));
}

static int receive(int by, int in_a_batch) {
    char byte, room[CMSG_SPACE(sizeof(int))] = {0};
    int fd = -1;
    struct iovec part = {&byte, 1};
    struct mmsghdr batch = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room}};
    if (in_a_batch ? recvmmsg(by, &batch, 1, 0, NULL) != 1 : recvmsg(by, &batch.msg_hdr, 0) != 1)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&batch.msg_hdr);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* Its sender keeps it, or closes it before it can have been received. */
enum { KEPT, CLOSED };

static void received(const char *name, int sender, int (*sees)(int), const endpoint *to) {
    int pair[2], go[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(go))
        give_up("socketpair");
    pid_t receiver = fork();
    if (!receiver) {
        char byte;
        close(pair[0]), close(go[1]);
        /* Until it may. */
        if (read(go[0], &byte, 1) < 0)
            _exit(23);
        int fd = receive(pair[1], sender == CLOSED);
        _exit(fd < 0 ? 24 : sees(fd));
    }
    stage("hold");
    int fd = begin(to);
    hand_on(pair[0], fd);
    if (sender == CLOSED)
        close(fd);
    close(go[0]), close(go[1]);
    child_ends_well(name, receiver);
    if (sender == KEPT && sees == sees_it_through)
        parents_too(fd);
    else if (sender == KEPT)
        close(fd);
    close(pair[0]), close(pair[1]);
}

static void received_after_its_sender(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair");
    stage("hold");
    pid_t sender = fork();
    if (!sender) {
        hand_on(pair[0], begun(&held));
        _exit(0);
    }
    child_ends_well("its sender ends", sender);
    int fd = receive(pair[1], 0);
    GIVES("received when its sender has ended, it is seen through", 0, sees_it_through(fd));
    close(fd), close(pair[0]), close(pair[1]);
}

static void received_by_its_sender(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair");
    stage("hold");
    int fd = begin(&held);
    hand_on(pair[0], fd);
    close(fd);
    fd = receive(pair[1], 0);
    GIVES("received by its sender, it is seen through", 0, sees_it_through(fd));
    close(fd), close(pair[0]), close(pair[1]);
}

/* One that is connected is as it was. */
static void connected(void) {
    endpoint open = endpoint_of("open");
    int pair[2], fd = tcp(AF_INET, 0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair");
    GIVES("another is connected", 0, connect_to(fd, &open));
    hand_on(pair[0], fd);
    close(fd);
    fd = receive(pair[1], 0);
    check("received, it echoes", echoes(fd), "no echo");
    close(fd), close(pair[0]), close(pair[1]);
}

int main(int argc, char **argv) {
    start(argv);
    held = endpoint_of("held"), refused = endpoint_of("heldrefused");
    for (words = 0; words < argc && words < 32 && strncmp(argv[words], "does=", 5); words++)
        self[words] = argv[words];
    if (argument("does"))
        return as_told(argument("does"));
    in_a_childs_program();
    in_a_childs_program_alone();
    in_a_child("the program that comes next sees it through", execs);
    in_a_child("the one after that sees it through", execs_twice);
    in_a_child("the program that comes next sees a copy through", execs_with_a_copy);
    in_a_child("the program that comes next sees it fail", execs_with_one_that_fails);
    in_a_child("the program that comes next has none that is closed on exec", execs_without_it);
    in_an_orphans_program();
    received("received, it is seen through", KEPT, sees_it_through, &held);
    received("received and closed by its sender, it is seen through", CLOSED, sees_it_through, &held);
    received("received, it is seen to fail", KEPT, sees_it_fail, &refused);
    received_after_its_sender();
    received_by_its_sender();
    connected();
    return done();
}
