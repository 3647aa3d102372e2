/*
 * One thread writes to a datagram socket, which no hook sees, while another connects it elsewhere, again and again. Nothing may leave;
 * the source address is each time the one that the kernel has for that destination. An IPv6 socket goes to loopback in between when no thread writes alone: presocks
 * does not let it go there from an address that it cannot take from it.
 */
#include "check.h"

#define ROUNDS 300

static int fd, over;

static void *writes(void *nothing) {
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
        if (write(fd, "leak", 4) < 0)
            sched_yield();
    return nothing;
}

static int source_is_specified(int family) {
    endpoint own = {.length = sizeof own.address};
    if (getsockname(fd, (void *)&own.address, &own.length) || own.address.ss_family != family)
        return 0;
    if (family == AF_INET)
        return (ntohl(((struct sockaddr_in *)&own.address)->sin_addr.s_addr) >> 24) % 127 != 0;
    const struct in6_addr *address = &((struct sockaddr_in6 *)&own.address)->sin6_addr;
    return !IN6_IS_ADDR_UNSPECIFIED(address) && !IN6_IS_ADDR_LOOPBACK(address);
}

static void race(const char *label, int family, endpoint far, endpoint here) {
    char name[96];
    pthread_t writer;
    int connected = 0, sourced = 0, returned = 0;
    fd = socket(family, SOCK_DGRAM, 0);
    over = 0;
    pthread_create(&writer, NULL, writes, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        connected += connect_to(fd, &far) == 0;
        sourced += source_is_specified(family);
        if (round % 10 == 0)
            returned += family == AF_INET6 || (connect_to(fd, &here) == 0 && peer_is(fd, &here));
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    pthread_join(writer, NULL);
    snprintf(name, sizeof name, "%s connects", label);
    check(name, connected == ROUNDS, "%d times", connected);
    snprintf(name, sizeof name, "%s has a source address", label);
    check(name, sourced == ROUNDS, "%d times", sourced);
    snprintf(name, sizeof name, "%s connects to loopback in between", label);
    check(name, returned == ROUNDS / 10, "%d times", returned);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    race("IPv4", AF_INET, endpoint_of("open"), parse_endpoint("127.0.0.1:9"));
    race("IPv6", AF_INET6, endpoint_of("open6"), parse_endpoint("[::1]:9"));

    endpoint far6 = endpoint_of("open6"), here6 = parse_endpoint("[::1]:9");
    fd = socket(AF_INET6, SOCK_DGRAM, 0);
    for (int round = 0; round < 3; round++) {
        check("IPv6 alone connects", connect_to(fd, &far6) == 0 && source_is_specified(AF_INET6), "round %d", round);
        (void)!write(fd, "leak", 4);
        check("IPv6 alone connects to loopback", connect_to(fd, &here6) == 0 && peer_is(fd, &here6), "round %d", round);
        dissolve(fd);
    }
    close(fd);

    /* What the program has bound stays as it is; an address that cannot go there is refused as the kernel does. */
    endpoint far = endpoint_of("open"), here = parse_endpoint("127.0.0.1:0");
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    bind(fd, (void *)&here.address, here.length);
    FAILS("bound to loopback", EINVAL, connect_to(fd, &far));
    close(fd);
    endpoint everyone = parse_endpoint("255.255.255.255:9");
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    FAILS("broadcast without leave", EACCES, connect_to(fd, &everyone));
    close(fd);
    return done();
}
