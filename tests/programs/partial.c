/* sendmmsg(2) to loopback, which sends what it can: what comes before a message that is not there. */
#include "check.h"
#include <sys/mman.h>

static endpoint here;
static int server, client;
static char *unmapped;

static int udp(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

/* How many have arrived, all of one length. */
static int arrived(ssize_t length) {
    char seen[64];
    int count = 0;
    for (ssize_t got; (got = recv(server, seen, sizeof seen, MSG_DONTWAIT)) >= 0; count++)
        if (got != length)
            return -1;
    return count;
}

static struct mmsghdr message(struct iovec *part) {
    return (struct mmsghdr){.msg_hdr = {.msg_name = &here.address, .msg_namelen = here.length, .msg_iov = part, .msg_iovlen = 1}};
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    char text[] = "text";
    struct iovec part = {text, 4}, nowhere;
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unmapped = pages + 4096;
    munmap(unmapped, 4096);
    nowhere = (struct iovec){unmapped, 4};
    here = parse_endpoint("127.0.0.1:0");
    server = udp(), client = udp();
    if (bind(server, (void *)&here.address, here.length) || getsockname(server, (void *)&here.address, &here.length))
        give_up("a server on loopback: %s", strerror(errno));

    struct mmsghdr two[2] = {message(&part), message(&part)};
    GIVES("both", 2, sendmmsg(client, two, 2, 0));
    GIVES("both arrive", 2, arrived(4));
    two[1].msg_hdr.msg_name = unmapped;
    two[0].msg_len = 77;
    GIVES("a name that is not there", 1, sendmmsg(client, two, 2, 0));
    GIVES("its length is told", 4, two[0].msg_len);
    GIVES("the one before arrives", 1, arrived(4));
    two[1] = message(&nowhere);
    GIVES("a text that is not there", 1, sendmmsg(client, two, 2, 0));
    GIVES("and before it", 1, arrived(4));
    two[1] = message((void *)unmapped);
    GIVES("parts that are not there", 1, sendmmsg(client, two, 2, 0));
    GIVES("and before them", 1, arrived(4));
    struct mmsghdr *last = (void *)(unmapped - sizeof *last);
    *last = message(&part);
    GIVES("a message that is not there", 1, sendmmsg(client, last, 2, 0));
    GIVES("and before that", 1, arrived(4));
    two[0].msg_hdr.msg_name = unmapped;
    FAILS("a first name that is not there", EFAULT, sendmmsg(client, two, 2, 0));
    GIVES("sends nothing", 0, arrived(4));
    return done();
}
