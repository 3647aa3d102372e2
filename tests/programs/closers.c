/*
 * Copies of pending sockets are closed by those who have descriptors of their own: children, a vfork child and a thread, which share the
 * memory. Whoever still has one sees the connect through.
 */
#include "watched.h"

#define SOCKETS 20
#define LOOKS 40

static endpoint held;
static int sockets[SOCKETS];

static void begin_all(void) {
    stage("hold");
    for (int i = 0; i < SOCKETS; i++)
        sockets[i] = begin(&held);
}

static void close_all(void) {
    for (int i = 0; i < SOCKETS; i++)
        close(sockets[i]);
}

/* Some looks at something else, for as long as it takes to have everything noticed that is noticed now and then. */
static void look_about(void) {
    struct pollfd none = {.fd = -1};
    for (int i = 0; i < LOOKS; i++)
        poll(&none, 1, 5);
}

static void all_are_connected(const char *name) {
    int connected = 0;
    for (int i = 0; i < SOCKETS; i++)
        connected += poll_one(sockets[i], POLLOUT, PATIENCE_MS) == POLLOUT && !socket_error(sockets[i]) && echoes(sockets[i]);
    GIVES(name, SOCKETS, connected);
    close_all();
}

static void all_connect(const char *name) {
    int silent = 0;
    for (int i = 0; i < SOCKETS; i++)
        silent += poll_one(sockets[i], POLLOUT, 0) == 0;
    GIVES("all are pending", SOCKETS, silent);
    stage("release");
    all_are_connected(name);
}

/* `shares_memory`: after vfork(). */
static void closed_by_a_child(int shares_memory, const char *closes, const char *connects) {
    begin_all();
    pid_t child = shares_memory ? vfork() : fork();
    if (!child) {
        close_all();
        look_about();
        _exit(0);
    }
    GIVES(closes, 0, status_of(child));
    look_about();
    all_connect(connects);
}

static void closed_by_the_parent(void) {
    int ready[2], status;
    begin_all();
    if (pipe(ready))
        give_up("pipe");
    pid_t child = fork();
    if (!child) {
        char byte;
        if (read(ready[0], &byte, 1) != 1)
            _exit(1);
        look_about();
        all_connect("the child's connect");
        _exit(done());
    }
    close_all();
    look_about();
    if (write(ready[1], "x", 1) != 1)
        give_up("write");
    status = status_of(child);
    check("a parent closes its copies", status == 0, "status %#x", status);
    close(ready[0]), close(ready[1]);
}

/* The set is the parent's, too: what the child closes stays in it. */
static void closed_by_a_child_with_the_same_set(void) {
    struct epoll_event seen = {0};
    begin_all();
    int epoll = epoll_create1(0), told = 0;
    for (int i = 0; i < SOCKETS; i++)
        add(epoll, sockets[i], (uint64_t)i);
    pid_t child = fork();
    if (!child) {
        close_all();
        look_about();
        _exit(0);
    }
    GIVES("a child closes what is in a set", 0, status_of(child));
    GIVES("the set is silent", 0, epoll_wait(epoll, &seen, 1, 0));
    stage("release");
    while (told < SOCKETS && epoll_wait(epoll, &seen, 1, PATIENCE_MS) == 1) {
        told++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, sockets[seen.data.u64], NULL);
    }
    GIVES("and tells of all", SOCKETS, told);
    close(epoll);
    all_are_connected("what was in a set is connected");
}

static void *closes_with_descriptors_of_its_own(void *unused) {
    if (unshare(CLONE_FILES))
        return "unshare";
    close_range(3, ~0U, 0);
    look_about();
    return unused;
}

static void closed_by_a_thread(void) {
    pthread_t thread;
    void *failed = &thread;
    begin_all();
    if (pthread_create(&thread, NULL, closes_with_descriptors_of_its_own, NULL) || pthread_join(thread, &failed))
        give_up("thread");
    check("a thread closes copies of its own", !failed, "%s", (char *)failed);
    look_about();
    all_connect("the other thread's connect");
}

/* Between sendmsg() and recvmsg() nobody has a descriptor. */
static void closed_while_under_way(void) {
    int pair[2];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof sockets)];
    } control;
    char byte = 'x';
    struct iovec part = {&byte, 1};
    begin_all();
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
        give_up("socketpair");
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = sizeof control;
    memset(&control, 0, sizeof control);
    control.header.cmsg_len = CMSG_LEN(sizeof sockets);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), sockets, sizeof sockets);
    if (sendmsg(pair[0], &message, 0) != 1)
        give_up("sendmsg: %s", strerror(errno));
    close_all();
    look_about();
    message.msg_controllen = sizeof control;
    if (recvmsg(pair[1], &message, 0) != 1)
        give_up("recvmsg: %s", strerror(errno));
    memcpy(sockets, CMSG_DATA(&control.header), sizeof sockets);
    close(pair[0]), close(pair[1]);
    all_connect("what was under way connects");
}

/* A copy that is left is as good as the first: reading from it does not disturb the connect. */
static void copies_are_left(void) {
    char byte;
    begin_all();
    for (int i = 0; i < SOCKETS; i++) {
        int first = sockets[i];
        sockets[i] = dup2(first, 200 + i);
        close(first);
    }
    look_about();
    for (int i = 0; i < SOCKETS; i++)
        if (read(sockets[i], &byte, 1) != -1 || errno != EAGAIN)
            check("a copy has nothing to read yet", 0, "errno %s", strerrorname_np(errno));
    all_connect("the copies connect");
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held = endpoint_of("held");
    closed_by_a_child(0, "a child closes its copies", "the parent's connect");
    closed_by_the_parent();
    closed_by_a_child_with_the_same_set();
    closed_by_a_child(1, "a vfork child closes its copies", "its parent's connect");
    closed_by_a_thread();
    closed_while_under_way();
    copies_are_left();
    return done();
}
