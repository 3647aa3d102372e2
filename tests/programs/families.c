/* Families that lead off the machine by ways of their own are not there; those that stay on it are. Under presocks only. */
#include "check.h"
#include <linux/netlink.h>

#define AF_IS(name) {#name, name}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    static const struct {
        const char *name;
        int number;
    } absent[] = {AF_IS(AF_BLUETOOTH), AF_IS(AF_VSOCK), AF_IS(AF_CAN), AF_IS(AF_PPPOX), AF_IS(AF_TIPC), AF_IS(AF_RDS)};
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW | SOCK_CLOEXEC, SOCK_SEQPACKET | SOCK_NONBLOCK};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        for (size_t kind = 0; kind < sizeof types / sizeof *types; kind++)
            FAILS(absent[i].name, EAFNOSUPPORT, socket(absent[i].number, types[kind], 0));
    int here = socket(AF_UNIX, SOCK_SEQPACKET, 0), kernel = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    check("AF_UNIX", here >= 0, SAW(here));
    check("AF_NETLINK", kernel >= 0, SAW(kernel));
    return done();
}
