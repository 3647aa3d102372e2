/*
 * One thread calls on a number; another has the number mean one socket and another, in turn. What was found right for the one must not be
 * done to the other: nothing may leave. What the calls answer is not looked at. Nor may a socket be bound to a device once it is on its way to loopback.
 * The bare machine would send, so this runs under presocks only.
 */
#include "check.h"
#include <net/if.h>

#define DEVICE "cable"
#define CALLS 1500
/* A round in which the number did not change its meaning would prove nothing. */
#define SWAPS 100

static int number, first, second, is_over, swapped;
static endpoint far, far6, here;

static int made(int family, int kind) {
    int fd = socket(family, kind, 0);
    if (fd < 0)
        give_up("socket: %s", strerror(errno));
    if (family != AF_UNIX)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int on_the_device(int family, int kind) {
    int fd = made(family, kind);
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE))
        give_up("a device: %s", strerror(errno));
    return fd;
}

static int connected(int family, const endpoint *to) {
    int fd = made(family, SOCK_DGRAM);
    if (connect_to(fd, to))
        give_up("a connected datagram socket: %s", strerror(errno));
    return fd;
}

static const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

static void sends_to(const endpoint *to, int more) {
    sendto(number, "leak", 4, flags | more, (const void *)&to->address, to->length);
}

static struct msghdr message(const endpoint *to, struct iovec *part) {
    *part = (struct iovec){"leak", 4};
    return (struct msghdr){.msg_name = to ? (void *)&to->address : NULL, .msg_namelen = to ? to->length : 0, .msg_iov = part, .msg_iovlen = 1};
}

static void sends(void) { sends_to(&far, 0); }
static void sends6(void) { sends_to(&far6, 0); }
static void opens(void) { sends_to(&far, MSG_FASTOPEN); }
static void sends_here(void) { sends_to(&here, 0); }
static void connects(void) { connect_to(number, &far); }
static void connects_here(void) { connect_to(number, &here); }

static void sends_a_message(void) {
    struct iovec part;
    struct msghdr header = message(&far, &part);
    sendmsg(number, &header, flags);
}

static void sends_messages(void) {
    struct iovec part;
    struct mmsghdr headers[2] = {{.msg_hdr = message(&far, &part)}, {.msg_hdr = message(NULL, &part)}};
    sendmmsg(number, headers, 2, flags);
}

/* To the peer; but an IPv6 socket whose peer is mapped would send IPv6. */
static void sends_to_no_family(void) {
    endpoint none = {.address.ss_family = AF_UNSPEC, .length = 4};
    sends_to(&none, 0);
}

/* To the peer, by the device. */
static void names_the_device(void) {
    union {
        char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
        struct cmsghdr aligned;
    } control = {0};
    struct in_pktinfo info = {.ipi_ifindex = (int)if_nametoindex(DEVICE)};
    control.aligned = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    memcpy(CMSG_DATA(&control.aligned), &info, sizeof info);
    struct iovec part;
    struct msghdr header = message(NULL, &part);
    header.msg_control = &control, header.msg_controllen = sizeof control;
    sendmsg(number, &header, flags);
}

static void *swaps(void *nothing) {
    struct timespec pause = {.tv_nsec = 20000};
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        dup2(second, number);
        nanosleep(&pause, NULL);
        dup2(first, number);
        nanosleep(&pause, NULL);
        __atomic_add_fetch(&swapped, 1, __ATOMIC_RELEASE);
    }
    return nothing;
}

static void race(const char *name, void (*calls)(void), int one, int other) {
    pthread_t swapper;
    first = one, second = other, number = dup(first), is_over = 0, swapped = 0;
    pthread_create(&swapper, NULL, swaps, NULL);
    for (int call = 0; call < CALLS || __atomic_load_n(&swapped, __ATOMIC_ACQUIRE) < SWAPS; call++)
        calls();
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    pthread_join(swapper, NULL);
    close(first), close(second), close(number);
    check(name, 1, "%s", "");
}

/* The SYN that nobody answers is sent again. */
static void late(int family) {
    endpoint at;
    int listener = loopback_listener(family, &at), one = made(family, SOCK_STREAM), other = made(family, SOCK_STREAM);
    listen(listener, 0);
    connect_to(one, &at);
    GIVES("the queue has one, and is full", POLLIN, poll_one(listener, POLLIN, PATIENCE_MS));
    FAILS("a SYN", EINPROGRESS, connect_to(other, &at));
    GIVES("that nobody answers", 0, poll_one(other, POLLOUT, 0));
    FAILS("a device meanwhile", ENODEV, setsockopt(other, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
    close(one), close(other), close(listener);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    far = endpoint_of("refused"), far6 = endpoint_of("refused6"), here = parse_endpoint("127.0.0.1:9");
    endpoint inside = mapped(far);
    race("a stream and datagrams", sends, made(AF_INET, SOCK_STREAM), made(AF_INET, SOCK_DGRAM));
    race("a stream and IPv6 datagrams", sends6, made(AF_INET6, SOCK_STREAM), made(AF_INET6, SOCK_DGRAM));
    race("a stream and a message", sends_a_message, made(AF_INET, SOCK_STREAM), made(AF_INET, SOCK_DGRAM));
    race("a stream and messages", sends_messages, made(AF_INET, SOCK_STREAM), made(AF_INET, SOCK_DGRAM));
    race("a Unix socket and datagrams", sends, made(AF_UNIX, SOCK_DGRAM), made(AF_INET, SOCK_DGRAM));
    race("a Unix socket and a message", sends_a_message, made(AF_UNIX, SOCK_STREAM), made(AF_INET, SOCK_DGRAM));
    race("a Unix socket and a stream", connects, made(AF_UNIX, SOCK_STREAM), made(AF_INET, SOCK_STREAM));
    race("a Unix socket and a fast open", opens, made(AF_UNIX, SOCK_STREAM), made(AF_INET, SOCK_STREAM));
    race("a datagram socket and a fast open", opens, made(AF_INET, SOCK_DGRAM), made(AF_INET, SOCK_STREAM));
    race("no family", sends_to_no_family, made(AF_INET6, SOCK_STREAM), connected(AF_INET6, &inside));
    race("a device by its number", names_the_device, made(AF_INET, SOCK_DGRAM), connected(AF_INET, &far));
    race("datagrams on a device", sends_here, made(AF_INET, SOCK_DGRAM), on_the_device(AF_INET, SOCK_DGRAM));
    race("a stream and datagrams on a device", sends_here, made(AF_INET, SOCK_STREAM), on_the_device(AF_INET, SOCK_DGRAM));
    race("streams on a device", connects_here, made(AF_INET, SOCK_STREAM), on_the_device(AF_INET, SOCK_STREAM));
    late(AF_INET);
    late(AF_INET6);
    return done();
}
