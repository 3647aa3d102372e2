/*
 * Random calls on random sockets to random destinations: whatever they return, nothing may leave. The same seed makes the same calls. With
 * `killing=1` the broker, which is this program's parent, is killed half-way. With `listening=1` sockets also listen and are bound to the addresses
 * that other sockets report. With `threads=N`, N threads share the sockets: a descriptor changes its meaning under another thread's call.
 */
#include "portable.h"
#include <net/if.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/uio.h>

#define SOCKETS 8
#define CALLS 1500
#define MOST_THREADS 8

static __thread uint64_t state;
static int sockets[SOCKETS];
static int is_killing, is_listening, is_shared;
static uint64_t seed;

static unsigned below(unsigned limit) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % limit;
}

static const char *const places[] = {
    "10.88.0.2:4", "10.88.0.2:7000", "10.77.0.1:9", "10.77.0.1:53", "192.0.2.53:53", "192.0.2.7:9", "255.255.255.255:9", "224.0.0.251:5353",
    "198.18.7.7:80", "127.0.0.1:9", "127.0.0.53:53", "0.0.0.0:9", "[fd88::2]:4", "[fd77::1]:9", "[2001:db8::53]:53", "[::1]:9", "[::]:9",
    "[::ffff:10.88.0.2]:4", "[::ffff:127.0.0.1]:9", "[ff02::1]:9", "[fe80::1]:9", "0.1.2.3:9",
};

/* To be bound to: of this machine, and of none. */
static const char *const own[] = {
    "10.77.0.2:0", "[fd77::2]:0", "203.0.113.9:0", "[2001:db8:113::9]:0", "[::1]:0", "127.0.0.1:0",
};

static unsigned device;

static endpoint one_of(const char *const *list, size_t count) {
    endpoint place = parse_endpoint(list[below((unsigned)count)]);
    if (place.address.ss_family == AF_INET6 && below(2))
        ((struct sockaddr_in6 *)&place.address)->sin6_scope_id = device;
    if (!below(16))
        place.address.ss_family = AF_UNSPEC;
    if (!below(16))
        place.length = below(sizeof place.address);
    return place;
}

static endpoint somewhere(void) {
    return one_of(places, sizeof places / sizeof *places);
}

static void bind_somewhere(int fd) {
    endpoint at = below(2) ? somewhere() : one_of(own, sizeof own / sizeof *own);
    bind(fd, (void *)&at.address, at.length);
}

static int any_socket(void) {
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM, SOCK_RAW};
    static const int protocols[] = {0, 0, 0, 0, IPPROTO_ICMP, 132, 136, 262};
    int family = below(2) ? AF_INET : AF_INET6;
    int fd = socket(below(32) ? family : AF_PACKET, kinds[below(4)] | (below(4) ? SOCK_NONBLOCK : 0), protocols[below(8)]);
    /* Some destinations never answer. */
    struct timeval patience = {.tv_usec = 200000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

static void set_any_option(int fd) {
    static unsigned char route[] = {131, 7, 4, 10, 77, 0, 1};
    int one = 1, index = (int)device, network = (int)htonl(device);
    struct ip_mreqn group = {.imr_ifindex = index};
    inet_pton(AF_INET, "224.0.0.251", &group.imr_multiaddr);
    struct ipv6_mreq group6 = {.ipv6mr_interface = device};
    inet_pton(AF_INET6, "ff02::fb", &group6.ipv6mr_multiaddr);
    switch (below(9)) {
    case 0: setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "cable", 6); break;
    case 1: setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0); break;
    case 2: setsockopt(fd, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &index, sizeof index); break;
    case 3: setsockopt(fd, IPPROTO_IP, 50 /* IP_UNICAST_IF */, &network, sizeof network); break;
    case 4: setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group); break;
    case 5: setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group6, sizeof group6); break;
    case 6: setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route, sizeof route); break;
    case 7: setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one); break;
    default: setsockopt(fd, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, &one, sizeof one);
    }
}

static void send_any_message(int fd, int flags) {
    static char text[] = "storm";
    union {
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr aligned;
    } control[2] = {0};
    struct iovec part = {text, sizeof text};
    endpoint to[2];
    struct mmsghdr messages[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct msghdr *message = &messages[i].msg_hdr;
        to[i] = somewhere();
        message->msg_iov = &part, message->msg_iovlen = 1;
        if (below(4))
            message->msg_name = &to[i].address, message->msg_namelen = to[i].length;
        if (below(3))
            continue;
        message->msg_control = &control[i], message->msg_controllen = sizeof control[i];
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        int is_v6 = (int)below(2);
        header->cmsg_level = is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, header->cmsg_type = is_v6 ? IPV6_PKTINFO : IP_PKTINFO;
        header->cmsg_len = CMSG_LEN(is_v6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo));
        /* The device comes last, or first. */
        memcpy(CMSG_DATA(header) + (is_v6 ? 16 : 0), &device, sizeof device);
        message->msg_controllen = is_v6 ? sizeof control[i].room : CMSG_SPACE(sizeof(struct in_pktinfo));
    }
    if (below(2))
        sendmsg(fd, &messages[0].msg_hdr, flags);
    else
        sendmmsg(fd, messages, 2, (unsigned)flags);
}

static void listen_somehow(int fd, int other) {
    endpoint own = {.length = sizeof own.address};
    switch (below(4)) {
    case 0: listen(fd, 2); break;
    case 1:
        getsockname(other, (void *)&own.address, &own.length);
        if (own.address.ss_family == AF_INET)
            ((struct sockaddr_in *)&own.address)->sin_port = 0;
        bind(fd, (void *)&own.address, own.length);
        break;
    case 2: getsockname(fd, (void *)&own.address, &own.length); break;
    default:
        fcntl(fd, F_SETFL, O_NONBLOCK);
        close(accept(fd, (void *)&own.address, &own.length));
    }
}

/* With threads a number is never free: closing it would let a file of libc's take it, and the storm would write into that. */
static void make_anew(int *fd) {
    int made = any_socket();
    if (!is_shared) {
        close(*fd), *fd = made;
    } else if (made >= 0) {
        dup2(made, *fd), close(made);
    }
}

static void *storm(void *thread) {
    unsigned number = (unsigned)(uintptr_t)thread;
    state = seed + number * 7919;
    for (int call = 0; call < CALLS; call++) {
        int *fd = &sockets[below(SOCKETS)], flags = MSG_NOSIGNAL | (below(8) ? MSG_DONTWAIT : 0) | (below(4) ? 0 : MSG_FASTOPEN);
        endpoint to = somewhere();
        if (is_killing && !number && call == CALLS / 2)
            kill(getppid(), SIGKILL);
        switch (below(is_listening ? 13 : 10)) {
        case 0: make_anew(fd); break;
        case 1: case 2: connect_to(*fd, &to); break;
        case 3: case 4: sendto(*fd, "storm", 5, flags, (void *)&to.address, to.length); break;
        case 5: send_any_message(*fd, flags); break;
        case 6: if (write(*fd, "storm", 5) < 0) errno = 0; break;
        case 7: send(*fd, "storm", 5, flags); break;
        case 8: bind_somewhere(*fd); break;
        case 9: set_any_option(*fd); break;
        default: listen_somehow(*fd, sockets[below(SOCKETS)]);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    signal(SIGPIPE, SIG_IGN);
    state = seed = strtoull(argument("seed"), NULL, 10);
    device = if_nametoindex("cable");
    is_killing = atoi(argument("killing")), is_listening = atoi(argument("listening"));
    int threads = argument("threads") ? atoi(argument("threads")) : 1;
    is_shared = threads > 1;
    for (int i = 0; i < SOCKETS; i++)
        sockets[i] = any_socket();
    pthread_t others[MOST_THREADS];
    for (int i = 1; i < threads && i < MOST_THREADS; i++)
        if (pthread_create(&others[i], NULL, storm, (void *)(uintptr_t)i))
            give_up("no thread");
    storm(NULL);
    for (int i = 1; i < threads && i < MOST_THREADS; i++)
        pthread_join(others[i], NULL);
    return done();
}
