/*
 * Arguments that are longer than what they describe, as the kernel takes them: it cuts a count to a limit of its own, or refuses it, before it reads.
 * All that a call may read lies at the end of a page; the next page is not there.
 */
#include "watched.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/uio.h>

/* The last `size` bytes before a page that is not there. */
static void *at_the_edge(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    char *memory = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + whole, page, PROT_NONE))
        give_up("mmap: %s", strerror(errno));
    return memory + whole - size;
}

/* As many old programs do: the count is what getdtablesize() says, the set an ordinary one. */
static void selects(const endpoint *held, int limit) {
    fd_set *out = at_the_edge(sizeof *out);
    stage("hold");
    int fd = begin(held), copy = dup(fd);
    for (int time = 0; time < 4; time++) {
        struct timeval soon = {0, 1000};
        struct timespec soon_too = {0, 1000000};
        FD_ZERO(out);
        FD_SET(time % 2 ? copy : fd, out);
        int ready = time < 2 ? select(limit, NULL, out, NULL, &soon) : pselect(limit, NULL, out, NULL, &soon_too, NULL);
        check("select: nothing is ready", ready == 0, SAW(ready));
    }
    struct {
        fd_set out;
        unsigned char behind[8192];
    } on_stack;
    memset(&on_stack, 0xff, sizeof on_stack);
    FD_ZERO(&on_stack.out);
    FD_SET(fd, &on_stack.out);
    struct timeval soon = {0, 1000};
    int ready = select(limit, NULL, &on_stack.out, NULL, &soon);
    check("select: what lies behind the set is not part of it", ready == 0, SAW(ready));
    stage("release");
    FD_ZERO(out);
    FD_SET(fd, out);
    ready = select(limit, NULL, out, NULL, NULL);
    check("select: becomes writable", ready == 1 && FD_ISSET(fd, out), SAW(ready));
    close(copy), close(fd);
}

static void polls(const endpoint *held) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    struct pollfd *one = at_the_edge(sizeof *one);
    stage("hold");
    int fd = begin(held);
    *one = (struct pollfd){.fd = fd, .events = POLLOUT};
    volatile nfds_t many = limit.rlim_cur + 1, endless = (nfds_t)-1;
    FAILS("poll: more than there can be descriptors", EINVAL, poll(one, many, 0));
    FAILS("poll: an endless count", EINVAL, poll(one, endless, 0));
    FAILS("ppoll: an endless count", EINVAL, ppoll(one, endless, NULL, NULL));
    GIVES("poll: as many as there are", 0, poll(one, 1, 0));
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT};
    volatile int negative = -1, largest = 0x7fffffff;
    GIVES("epoll: added", 0, epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    FAILS("epoll_wait: a negative count", EINVAL, epoll_wait(set, &event, negative, 0));
    FAILS("epoll_wait: an endless count", EINVAL, epoll_wait(set, &event, largest, 0));
    GIVES("epoll: what is deleted needs no event", 0, epoll_ctl(set, EPOLL_CTL_DEL, fd, (void *)8));
    int error = 7;
    socklen_t length = (socklen_t)-1;
    FAILS("SO_ERROR: a negative length", EINVAL, getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    length = 2;
    GIVES("SO_ERROR: a short length", 0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    check("SO_ERROR: half of it is written", length == 2 && error == 0, "%d bytes, %x", (int)length, (unsigned)error);
    struct sockaddr_storage peer;
    length = (socklen_t)-1;
    int named = getpeername(fd, (void *)&peer, &length);
    check("getpeername: not connected", named == -1 && errno == ENOTCONN, SAW(named));
    stage("release");
    GIVES("poll: becomes writable", 1, poll(one, 1, -1));
    length = (socklen_t)-1;
    FAILS("getpeername: a negative length", EINVAL, getpeername(fd, (void *)&peer, &length));
    close(set), close(fd);
}

/* To a socket of this machine; and to a far one, where a UDP service is named. */
static void messages(const endpoint *far) {
    char *text = at_the_edge(4), seen[16];
    memcpy(text, "text", 4);
    struct iovec *part = at_the_edge(sizeof *part);
    *part = (struct iovec){text, 4};
    endpoint here = parse_endpoint("127.0.0.1:0");
    int fd = socket(AF_INET, SOCK_DGRAM, 0), peer = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(peer, (void *)&here.address, here.length) || getsockname(peer, (void *)&here.address, &here.length))
        give_up("bind: %s", strerror(errno));
    const endpoint *to[] = {&here, far};
    for (int i = 0; i < (far ? 2 : 1); i++) {
        struct msghdr message = {.msg_name = (void *)&to[i]->address, .msg_namelen = to[i]->length, .msg_iov = part, .msg_iovlen = 1};
        GIVES("sendmsg: one part", 4, sendmsg(fd, &message, 0));
        message.msg_iovlen = 1025;
        FAILS("sendmsg: more parts than are taken", EMSGSIZE, sendmsg(fd, &message, 0));
        message.msg_iovlen = (size_t)-1;
        FAILS("sendmsg: parts without end", EMSGSIZE, sendmsg(fd, &message, 0));
        message.msg_iovlen = 1;
        struct cmsghdr *control = at_the_edge(CMSG_SPACE(sizeof(int)));
        *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
        *(int *)CMSG_DATA(control) = 64;
        message.msg_control = control, message.msg_controllen = CMSG_SPACE(sizeof(int));
        GIVES("sendmsg: a control message", 4, sendmsg(fd, &message, 0));
        message.msg_controllen = (size_t)-1;
        FAILS("sendmsg: control messages without end", ENOBUFS, sendmsg(fd, &message, 0));
        message.msg_controllen = 0x7fffffff;
        FAILS("sendmsg: more control messages than are taken", ENOBUFS, sendmsg(fd, &message, 0));
        message.msg_control = NULL, message.msg_controllen = 0;
        message.msg_namelen = 4096;
        GIVES("sendmsg: a long name is cut", 4, sendmsg(fd, &(struct msghdr){.msg_name = memcpy(calloc(1, 4096), &to[i]->address, to[i]->length), .msg_namelen = 4096, .msg_iov = part, .msg_iovlen = 1}, 0));
        FAILS("sendto: a name that is too long", EINVAL, sendto(fd, text, 4, 0, (void *)&to[i]->address, 4096));
    }
    struct mmsghdr *two = at_the_edge(2 * sizeof *two);
    struct iovec into[2] = {{seen, 8}, {seen + 8, 8}};
    for (int i = 0; i < 2; i++)
        two[i] = (struct mmsghdr){.msg_hdr = {.msg_name = (void *)&here.address, .msg_namelen = here.length, .msg_iov = part, .msg_iovlen = 1}};
    GIVES("sendmmsg: two", 2, sendmmsg(fd, two, 2, 0));
    GIVES("sendmmsg: those that are there", 2, sendmmsg(fd, two, 5000, 0));
    struct sockaddr_storage senders[2];
    for (int i = 0; i < 2; i++)
        two[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &senders[i], .msg_namelen = sizeof senders[i], .msg_iov = &into[i], .msg_iovlen = 1}};
    GIVES("recvmmsg: two", 2, recvmmsg(peer, two, 2, 0, NULL));
    GIVES("recvmmsg: those that are there", 2, recvmmsg(peer, two, 5000, 0, NULL));
    close(fd), close(peer);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (argument("echo")) {
        endpoint far = endpoint_of("echo");
        messages(&far);
        return done();
    }
    endpoint held = endpoint_of("held");
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &limit);
    /* Its table is as large as its own descriptors want; ours is as large as that of whoever started us. */
    fflush(stdout);
    pid_t child = fork();
    if (child) {
        int status = status_of(child);
        return !WIFEXITED(status) || WEXITSTATUS(status);
    }
    alarm(WATCHDOG_SECONDS);
    check("the table of descriptors may be larger than a set", getdtablesize() > FD_SETSIZE, "%d", getdtablesize());
    selects(&held, getdtablesize());
    selects(&held, 0x7fffffff);
    polls(&held);
    messages(NULL);
    return done();
}
