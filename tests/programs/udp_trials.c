/*
 * Sockets that are bound to what leads away from lo, before datagrams are sent, meanwhile, or behind the sender's back. A send may fail; what it must
 * not do is leave by the device. The bare machine would send, so this runs under presocks only, and the test that runs it counts the packets that left.
 */
#include "datagram.h"
#include <net/if.h>
#include <stdatomic.h>

#define DEVICE "cable"
#define TRIES 500

static endpoint far, far6;

/* With the device as its scope, where it is an IPv6 address of one link. */
static endpoint on_device(const char *text) {
    endpoint parsed = parse_endpoint(text);
    struct sockaddr_in6 *v6 = (void *)&parsed.address;
    if (v6->sin6_family == AF_INET6 && (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) || IN6_IS_ADDR_MC_LINKLOCAL(&v6->sin6_addr)))
        v6->sin6_scope_id = if_nametoindex(DEVICE);
    return parsed;
}

static int bind_to(int fd, const endpoint *own) {
    return bind(fd, (void *)&own->address, own->length);
}

static int device_of(int fd) {
    int device = -1;
    socklen_t length = sizeof device;
    getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, &length);
    return device;
}

/* All of it went, or the network is said to be out of reach, or the kernel finds no way from there to here. */
static int went_or_not(ssize_t result) {
    return result == 4 || (result == -1 && (errno == ENETUNREACH || errno == EINVAL || errno == ECONNREFUSED || errno == EADDRNOTAVAIL || errno == EACCES));
}

/* `bound=HOST:PORT`: a socket bound there, which is no address of a machine, writes with a peer and without one. */
static void writes_from(const char *label) {
    endpoint own = on_device(label);
    const endpoint *to = own.address.ss_family == AF_INET ? &far : &far6;
    int one = 1, fd = udp(own.address.ss_family);
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    GIVES(NAMED("bind"), 0, bind_to(fd, &own));
    if (connect_to(fd, to) == 0)
        for (int time = 0; time < 3; time++) {
            check(NAMED("write"), went_or_not(write(fd, "leak", 4)), "%s", strerrorname_np(errno));
            check(NAMED("send"), went_or_not(send(fd, "leak", 4, 0)), "%s", strerrorname_np(errno));
            check(NAMED("sendto with a peer"), went_or_not(send_to(fd, "leak", to) ? 4 : -1), "%s", strerrorname_np(errno));
        }
    close(fd), fd = udp(own.address.ss_family);
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    GIVES(NAMED("bind another"), 0, bind_to(fd, &own));
    check(NAMED("sendto"), went_or_not(send_to(fd, "leak", to) ? 4 : -1), "%s", strerrorname_np(errno));
    check(NAMED("sendto again"), went_or_not(send_to(fd, "leak", to) ? 4 : -1), "%s", strerrorname_np(errno));
    close(fd);
}

static int contended, is_written;
static int (*binds)(int fd);
static pthread_barrier_t together;
/* Of the two that contend, how many are not done. */
static atomic_int busy;

static int binds_to_device(int fd) {
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE);
}

static int binds_to_link(int fd) {
    endpoint own = on_device("[fe80::77:77]:0");
    return bind_to(fd, &own);
}

/* So that each of the two comes first many times, by little and by much. */
static void dawdle(unsigned *seed) {
    int longest = 1000 << rand_r(seed) % 10;
    for (volatile int left = rand_r(seed) % longest; left > 0; left--)
        ;
}

static void *binds_each(void *unused) {
    unsigned seed = 7;
    for (int i = 0; i < TRIES; i++) {
        pthread_barrier_wait(&together);
        dawdle(&seed);
        if (i % 10)
            binds(contended);
        atomic_fetch_sub(&busy, 1);
        pthread_barrier_wait(&together);
    }
    return unused;
}

/* Writes all the while: were the socket for one moment connected to this machine and bound to a device, a packet would tell. */
static void *writes_each(void *unused) {
    for (int i = 0; i < TRIES; i++) {
        pthread_barrier_wait(&together);
        while (is_written && atomic_load(&busy))
            if (write(contended, "leak", 4) < 0)
                errno = 0;
        pthread_barrier_wait(&together);
    }
    return unused;
}

/*
 * A thread binds the socket while another sends, or connects it and sends, and a third writes whatever comes. Each tenth is left alone, so that it is
 * known that they would send.
 */
static void races(const char *label, const endpoint *to, int (*how)(int fd), int is_connected, int is_shared) {
    pthread_t binder, writer;
    unsigned seed = 99;
    int bound = 0, alone = 0, one = 1;
    endpoint any = parse_endpoint(to->address.ss_family == AF_INET ? "0.0.0.0:5001" : "[::]:5001");
    int sharer = udp(to->address.ss_family);
    setsockopt(sharer, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (is_shared)
        GIVES(NAMED("its address is taken"), 0, bind_to(sharer, &any) || connect_to(sharer, to));
    binds = how, is_written = is_connected;
    pthread_create(&binder, NULL, binds_each, NULL);
    pthread_create(&writer, NULL, writes_each, NULL);
    for (int i = 0; i < TRIES; i++) {
        contended = udp(to->address.ss_family);
        setsockopt(contended, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        if (is_shared)
            bind_to(contended, &any);
        atomic_store(&busy, 2);
        pthread_barrier_wait(&together);
        dawdle(&seed);
        int is_sent = is_connected ? !connect_to(contended, to) && write(contended, "leak", 4) == 4 : send_to(contended, "leak", to);
        atomic_fetch_sub(&busy, 1);
        pthread_barrier_wait(&together);
        /* And from what the two have left behind. */
        is_sent &= is_connected ? write(contended, "more", 4) == 4 : send_to(contended, "more", to);
        bound += device_of(contended) > 1;
        alone += i % 10 == 0 && is_sent;
        close(contended);
    }
    pthread_join(binder, NULL);
    pthread_join(writer, NULL);
    close(sharer);
    check(NAMED("all that were left alone were sent"), alone == TRIES / 10, "%d", alone);
    check(NAMED("others were bound"), bound > 0, "none");
}

/* A child binds the socket of its parent, whose sends have a token by then. */
static void behind_the_back(const char *label, const endpoint *to, int (*how)(int fd)) {
    int fd = udp(to->address.ss_family);
    check(NAMED("sends"), exchanges(fd, to), "not");
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        dissolve(fd);
        how(fd);
        _exit(device_of(fd) > 1 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(NAMED("its child binds it"), WIFEXITED(status), "status %x", status);
    for (int time = 0; time < 5; time++)
        check(NAMED("sends on"), went_or_not(send_to(fd, "leak", to) ? 4 : -1), "%s", strerrorname_np(errno));
    /* Without a peer, should the connect fail. */
    connect_to(fd, to);
    check(NAMED("writes"), went_or_not(write(fd, "leak", 4)) || errno == EDESTADDRREQ, "%s", strerrorname_np(errno));
    close(fd);
}

/* The device is named in the message. */
static void by_message(const char *label, const endpoint *to, int level, int kind) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    struct in_pktinfo by = {.ipi_ifindex = (int)if_nametoindex(DEVICE)};
    struct in6_pktinfo by6 = {.ipi6_ifindex = if_nametoindex(DEVICE)};
    /* To a mapped address the kernel takes a mapped source only. */
    if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)&to->address)->sin6_addr))
        inet_pton(AF_INET6, "::ffff:0.0.0.0", &by6.ipi6_addr);
    size_t size = level == IPPROTO_IP ? sizeof by : sizeof by6;
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = kind};
    memcpy(CMSG_DATA(&control.header), level == IPPROTO_IP ? (void *)&by : (void *)&by6, size);
    int fd = udp(to->address.ss_family);
    check(NAMED("sends"), exchanges(fd, to), "not");
    for (int time = 0; time < 3; time++) {
        char line[64];
        struct iovec part = {line, (size_t)new_line(line)};
        struct msghdr message = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(size)};
        ssize_t sent = sendmsg(fd, &message, 0);
        check(NAMED("sendmsg"), sent == (ssize_t)part.iov_len || (sent == -1 && errno == ENETUNREACH), SAW(sent));
        if (sent > 0)
            check(NAMED("an answer"), comes_from(fd, line, to), "none");
    }
    close(fd);
}

/* A socket with a token, bound to the device afterwards; its message names lo where the kernel does not read it for this destination. */
static void by_message_from_a_device(const char *label, const endpoint *to, int kind) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    struct in6_pktinfo by = {.ipi6_ifindex = if_nametoindex("lo")};
    inet_pton(AF_INET6, "::ffff:0.0.0.0", &by.ipi6_addr);
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof by), .cmsg_level = IPPROTO_IPV6, .cmsg_type = kind};
    memcpy(CMSG_DATA(&control.header), &by, sizeof by);
    int fd = udp(to->address.ss_family);
    check(NAMED("sends"), exchanges(fd, to), "not");
    GIVES(NAMED("is bound"), 0, binds_to_device(fd));
    for (int time = 0; time < 3; time++) {
        struct iovec part = {"leak", 4};
        struct msghdr message = {.msg_name = (void *)&to->address, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        check(NAMED("sendmsg"), went_or_not(sendmsg(fd, &message, 0)), "%s", strerrorname_np(errno));
    }
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    far = endpoint_of("far"), far6 = endpoint_of("far6");
    const char *trial = argument("trial");
    for (char **each = arguments; *each; each++)
        if (!strncmp(*each, "bound=", 6))
            writes_from(*each + 6);
    if (trial && !strcmp(trial, "races")) {
        endpoint near = parse_endpoint("127.0.0.1:7100"), near6 = parse_endpoint("[::1]:7100");
        int hears = udp(AF_INET), hears6 = udp(AF_INET6);
        GIVES("somebody hears", 0, bind_to(hears, &near) || bind_to(hears6, &near6));
        pthread_barrier_init(&together, NULL, 3);
        races("IPv4, a device", &far, binds_to_device, 0, 0);
        races("IPv6, a device", &far6, binds_to_device, 0, 0);
        races("IPv6, a link", &far6, binds_to_link, 0, 0);
        races("IPv4, a device, connected", &far, binds_to_device, 1, 0);
        races("IPv6, a device, connected", &far6, binds_to_device, 1, 0);
        races("IPv6, a link, connected", &far6, binds_to_link, 1, 0);
        races("IPv4, a device, connected, address shared", &far, binds_to_device, 1, 1);
        races("IPv6, a device, connected, address shared", &far6, binds_to_device, 1, 1);
        races("IPv4, a device, connected to loopback", &near, binds_to_device, 1, 0);
        races("IPv6, a device, connected to loopback", &near6, binds_to_device, 1, 0);
        races("IPv6, a link, connected to loopback", &near6, binds_to_link, 1, 0);
        close(hears), close(hears6);
    }
    if (trial && !strcmp(trial, "children")) {
        behind_the_back("IPv4, a device", &far, binds_to_device);
        behind_the_back("IPv6, a device", &far6, binds_to_device);
        behind_the_back("IPv6, a link", &far6, binds_to_link);
    }
    if (trial && !strcmp(trial, "messages")) {
        endpoint far4 = mapped(far);
        by_message("IP_PKTINFO", &far, IPPROTO_IP, IP_PKTINFO);
        by_message("IPV6_PKTINFO", &far6, IPPROTO_IPV6, IPV6_PKTINFO);
        by_message("IPV6_2292PKTINFO", &far6, IPPROTO_IPV6, 2);
        by_message("IPV6_PKTINFO, mapped", &far4, IPPROTO_IPV6, IPV6_PKTINFO);
        by_message_from_a_device("IPV6_PKTINFO on an IPv4 socket", &far, IPV6_PKTINFO);
        by_message_from_a_device("IPV6_2292PKTINFO, mapped", &far4, 2);
    }
    return done();
}
