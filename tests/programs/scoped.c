/*
 * Datagrams for a device's own network: link-local addresses and groups, which name the device. The bare machine would send them there, so
 * this runs under presocks only. `device=NAME`.
 */
#include "check.h"
#include <net/if.h>

static int udp(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    return fd;
}

static void stays_here(const char *address, unsigned device) {
    char name[96], seen[8], bound[IF_NAMESIZE + 1] = "";
    socklen_t length = IF_NAMESIZE;
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", address, text), name)
    endpoint far = parse_endpoint(address), here = parse_endpoint("[::1]:0");
    ((struct sockaddr_in6 *)&far.address)->sin6_scope_id = device;
    int fd = udp(), server = udp();
    int connected = connect_to(fd, &far);
    check(NAMED("connects or is unreachable"), connected == 0 || errno == ENETUNREACH, SAW(connected));
    GIVES(NAMED("the device is asked for"), 0, getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, bound, &length));
    check(NAMED("no device"), !*bound, "bound to %s", bound);
    /* What was written before may be answered by an error; the counters of packets tell whether it left. */
    for (int i = 0; i < 3; i++) {
        ssize_t sent = write(fd, "leak", 4);
        check(NAMED("write is lost or fails"), sent == 4 || sent == -1, SAW(sent));
    }
    FAILS(NAMED("sendto"), ENETUNREACH, sendto(fd, "leak", 4, 0, (void *)&far.address, far.length));

    if (bind(server, (void *)&here.address, here.length) || getsockname(server, (void *)&here.address, &here.length))
        give_up("a server on loopback: %s", strerror(errno));
    socket_error(fd);
    GIVES(NAMED("connects to loopback then"), 0, connect_to(fd, &here));
    GIVES(NAMED("writes there"), 4, write(fd, "here", 4));
    GIVES(NAMED("which arrives"), POLLIN, poll_one(server, POLLIN, PATIENCE_MS));
    GIVES(NAMED("and nothing else"), 4, recv(server, seen, sizeof seen, MSG_DONTWAIT));
    close(fd), close(server);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    unsigned device = if_nametoindex(argument("device"));
    if (!device)
        give_up("no such device");
    stays_here("[fe80::1]:9", device);
    stays_here("[fe80::2]:9", device);
    stays_here("[ff02::1]:9", device);
    stays_here("[ff02::fb]:5353", device);
    return done();
}
