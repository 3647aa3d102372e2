/*
 * Copies of a pending socket, made in every way, before connect() and after it: each shows the connect as the first number does, nothing can be read or
 * written through it, and it connects.
 */
#include "watched.h"
#include <sys/uio.h>

/* A number that is not in use. */
#define FREE 77
#define ROOM 16

static endpoint held, refused, banner;
static char *self[ROOM + 4];
static int words;

static int by_dup(int fd) { return dup(fd); }
static int by_dup2(int fd) { return dup2(fd, FREE); }
static int by_dup3(int fd) { return dup3(fd, FREE, O_CLOEXEC); }
static int by_fcntl(int fd) { return fcntl(fd, F_DUPFD, FREE); }
static int by_fcntl_cloexec(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, FREE); }

static int by_a_copy(int fd) {
    int first = dup(fd), second = dup2(first, FREE);
    close(first);
    return second;
}

/* In a message to itself. */
static int by_message(int fd) {
    int pair[2], copy = -1;
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(pair[0], &message, 0) != 1 || recvmsg(pair[1], &message, 0) != 1)
        give_up("a message: %s", strerror(errno));
    memcpy(&copy, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof copy);
    close(pair[0]), close(pair[1]);
    return copy;
}

/* A vfork child has our memory: what it makes of its numbers means nothing to us. */
static int beside_a_vfork_child(int fd) {
    int copy = dup(fd);
    pid_t child = vfork();
    if (!child) {
        dup2(fd, copy + 1), dup2(STDOUT_FILENO, copy), dup2(STDOUT_FILENO, fd), close(copy), close(fd);
        _exit(0);
    }
    if (status_of(child))
        give_up("a vfork child");
    return copy;
}

static const struct {
    const char *name;
    int (*copy)(int);
} ways[] = {{"dup", by_dup}, {"dup2", by_dup2}, {"dup3", by_dup3}, {"F_DUPFD", by_fcntl}, {"F_DUPFD_CLOEXEC", by_fcntl_cloexec},
    {"a copy's copy", by_a_copy}, {"a message", by_message}, {"beside a vfork child", beside_a_vfork_child}};
#define WAYS (sizeof ways / sizeof *ways)

/* Nothing can be read or written; nor is anything else shown than that the connect is under way. 0 when all is well. */
static int carries_nothing(int fd) {
    char data[4] = "abc";
    struct iovec part = {data, 3};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
#define IS_EARLY(call) (errno = 0, (call) != -1 || errno != EAGAIN)
    return IS_EARLY(write(fd, data, 3)) ? 21 : IS_EARLY(writev(fd, &part, 1)) ? 22 : IS_EARLY(sendto(fd, data, 3, MSG_NOSIGNAL, NULL, 0)) ? 23
        : IS_EARLY(sendmsg(fd, &message, MSG_NOSIGNAL)) ? 24 : IS_EARLY(recv(fd, data, 3, 0)) ? 25 : IS_EARLY(readv(fd, &part, 1)) ? 26
        : IS_EARLY(recvfrom(fd, data, 3, 0, NULL, NULL)) ? 27 : IS_EARLY(recvmsg(fd, &message, 0)) ? 28 : is_pending(fd, &held);
}

static void connects(const char *name, int fd) {
    char text[96];
    snprintf(text, sizeof text, "%s: becomes writable", name);
    GIVES(text, POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    snprintf(text, sizeof text, "%s: echoes", name);
    check(text, echoes(fd), "no echo");
}

enum { CLOSES_NONE, CLOSES_FIRST, CLOSES };

/* `before` connect(), or after. The connect is begun under the first number, or, `by_copy`, under the copy's. */
static void copied(size_t way, int before, int by_copy, int closes) {
    char name[80];
    snprintf(name, sizeof name, "%s%s%s%s", ways[way].name, before ? " before" : "", by_copy ? ", connected by it" : "", closes ? ", first closed" : "");
    stage("hold");
    int fd = before ? tcp(AF_INET, SOCK_NONBLOCK) : begin(&held), copy = ways[way].copy(fd);
    if (before && (connect_to(by_copy ? copy : fd, &held) != -1 || errno != EINPROGRESS))
        check(name, 0, "errno %s", strerrorname_np(errno));
    int other = by_copy ? fd : copy;
    if (closes == CLOSES_FIRST)
        close(fd), other = copy;
    GIVES(name, 0, carries_nothing(other));
    stage("release");
    connects(name, other);
    close(copy);
    if (closes == CLOSES_NONE)
        close(fd);
}

static void everyone_hears_of_a_failure_once(void) {
    char byte;
    for (size_t way = 0; way < 2; way++) {
        stage("hold");
        int fd = begin(&refused), copy = dup(fd);
        FAILS("refused: nothing yet", EAGAIN, read(copy, &byte, 1));
        stage("release");
        poll_one(fd, POLLOUT, PATIENCE_MS);
        if (way)
            FAILS("refused: the copy says it when it is written", ECONNREFUSED, write(copy, "late", 4));
        else
            FAILS("refused: the copy says it when it is read", ECONNREFUSED, read(copy, &byte, 1));
        GIVES("refused: the first number does not, after that", 0, socket_error(fd));
        close(fd), close(copy);
    }
}

/* Each gets the number of another. */
static void over_another(void) {
    stage("hold");
    int fd = begin(&held), other = begin(&held);
    GIVES("over another that is pending", other, dup2(fd, other));
    GIVES("over another: nothing can be read or written", 0, carries_nothing(other));
    close(fd);
    GIVES("over another, first closed: the same", 0, carries_nothing(other));
    stage("release");
    connects("over another", other);
    int file = open("/dev/null", O_RDWR);
    GIVES("over it, in the end", other, dup3(file, other, O_CLOEXEC));
    GIVES("and that is another file", 3, write(other, "abc", 3));
    GIVES("a number over itself", other, dup2(other, other));
    FAILS("and that is refused", EINVAL, dup3(other, other, 0));
    FAILS("what is not open has no copy", EBADF, dup(FREE));
    FAILS("and is put on no number", EBADF, dup2(FREE, other));
    close(other), close(file);
}

static int blocking_copy;

static void *reads_hello(void *tid) {
    char text[11];
    *(volatile pid_t *)tid = gettid();
    return read(blocking_copy, text, sizeof text) == sizeof text && !memcmp(text, "220 hello\r\n", 11) ? tid : NULL;
}

/* What waits to read sees the server's first bytes, and not what a proxy answers. */
static void a_reader_sleeps_on_a_copy(void) {
    pthread_t reader;
    volatile pid_t tid = 0;
    void *is_told;
    stage("hold");
    int fd = begin(&banner);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    blocking_copy = dup(fd);
    pthread_create(&reader, NULL, reads_hello, (void *)&tid);
    await_sleep(&tid);
    stage("release");
    pthread_join(reader, &is_told);
    check("a reader sleeps on a copy through to the banner", is_told != NULL, "it reads something else");
    close(fd), close(blocking_copy);
}

static void in_a_child(void) {
    stage("hold");
    int fd = begin(&held);
    pid_t child = fork();
    if (!child) {
        int copy = dup(fd), early = carries_nothing(copy);
        close(fd);
        if (!early)
            early = carries_nothing(copy);
        stage("release");
        _exit(early ? early : poll_one(copy, POLLOUT, PATIENCE_MS) != POLLOUT ? 41 : echoes(copy) ? 0 : 42);
    }
    int status = status_of(child);
    check("a child makes a copy", status == 0, "status %#x", status);
    close(fd);
}

/* This program again, with the socket as its standard input and output. */
static void in_the_next_program(int begins) {
    stage("hold");
    pid_t child = fork();
    if (!child) {
        char number[16];
        int fd = begins ? begin(&held) : tcp(AF_INET, SOCK_NONBLOCK);
        if (begins && !gets_a_name(fd))
            _exit(43);
        dup2(fd, STDIN_FILENO), dup2(fd, STDOUT_FILENO);
        snprintf(number, sizeof number, "begun=%d", begins);
        self[words] = number, self[words + 1] = NULL;
        execv("/proc/self/exe", self);
        _exit(44);
    }
    int status = status_of(child);
    check(begins ? "two numbers in the next program" : "two numbers in the next program, not connected", status == 0, "status %#x", status);
}

static int is_standard_input_and_output(int is_begun) {
    if (!is_begun && (connect_to(STDIN_FILENO, &held) != -1 || errno != EINPROGRESS))
        return 45;
    int early = carries_nothing(STDOUT_FILENO);
    if (!early)
        early = carries_nothing(STDIN_FILENO);
    stage("release");
    return early ? early : poll_one(STDOUT_FILENO, POLLOUT, PATIENCE_MS) != POLLOUT ? 46 : echoes(STDOUT_FILENO) ? 0 : 47;
}

int main(int argc, char **argv) {
    start(argv);
    held = endpoint_of("held"), refused = endpoint_of("heldrefused"), banner = held;
    endpoint says_hello = endpoint_of("banner");
    ((struct sockaddr_in *)&banner.address)->sin_port = ((struct sockaddr_in *)&says_hello.address)->sin_port;
    if (argument("begun"))
        return is_standard_input_and_output(atoi(argument("begun")));
    for (words = 0; words < argc && words < ROOM; words++)
        self[words] = argv[words];
    a_reader_sleeps_on_a_copy();
    for (size_t way = 0; way < WAYS; way++) {
        copied(way, 0, 0, CLOSES_NONE), copied(way, 0, 0, CLOSES_FIRST);
        for (int by_copy = 0; by_copy < 2; by_copy++)
            copied(way, 1, by_copy, CLOSES_NONE), copied(way, 1, by_copy, CLOSES_FIRST);
    }
    everyone_hears_of_a_failure_once();
    over_another();
    in_a_child();
    in_the_next_program(0);
    in_the_next_program(1);
    return done();
}
