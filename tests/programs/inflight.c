/*
 * More descriptors are on their way by SCM_RIGHTS than the user may have open (unix(7), ETOOMANYREFS), and nobody receives them: the broker cannot be sent
 * a socket, and connect() says so in the end. When they have been received it connects.
 */
#include "check.h"
#include <sys/resource.h>

static char room[CMSG_SPACE(sizeof(int))];
static char byte = 'x';
static struct iovec part = {&byte, 1};

static struct msghdr message(void) {
    return (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
}

static int hand_on(int by, int fd) {
    struct msghdr sent = message();
    struct cmsghdr *header = CMSG_FIRSTHDR(&sent);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(by, &sent, MSG_DONTWAIT) == 1 ? 0 : errno;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint to = endpoint_of("to");
    struct rlimit few = {64, 64};
    int pairs[2], error = 0, sent = 0;
    if (setrlimit(RLIMIT_NOFILE, &few) || socketpair(AF_UNIX, SOCK_DGRAM, 0, pairs))
        give_up("set-up: %s", strerror(errno));
    int size = 1 << 20;
    setsockopt(pairs[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    /* A queue of datagrams is short, so there are several. */
    int all[16][2] = {{0}}, count = 0;
    while (error != ETOOMANYREFS && count < 16) {
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, all[count]))
            give_up("socketpair: %s", strerror(errno));
        for (error = 0; !(error = hand_on(all[count][0], 0));)
            sent++;
        count++;
    }
    check("too many are on their way", error == ETOOMANYREFS, "%d sent, %s", sent, strerror(error));
    int fd = tcp(AF_INET, SOCK_NONBLOCK);
    FAILS("connect() says so", EAGAIN, connect_to(fd, &to));
    for (int i = 0; i < count; i++)
        close(all[i][0]), close(all[i][1]);
    close(fd);
    fd = tcp(AF_INET, 0);
    GIVES("it connects when they are gone", 0, connect_to(fd, &to));
    return done();
}
