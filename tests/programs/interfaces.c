/*
 * getifaddrs(), if_nameindex() and getaddrinfo() with what libc asks the kernel for them: the same as libc's own functions say, which are
 * called past every hook. `quietly` makes the program one into which nobody may look, counts how often whoever started it wakes up
 * meanwhile (under presocks: the broker), and compares nothing, as libc's own functions cannot do it then.
 */
#include "check.h"
#include <dlfcn.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <sys/prctl.h>

static int (*own_getifaddrs)(struct ifaddrs **);
static struct if_nameindex *(*own_if_nameindex)(void);
static int (*own_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int same_text(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

static int same_address(const struct sockaddr *a, const struct sockaddr *b) {
    if (!a || !b || a->sa_family != b->sa_family)
        return a == b;
    size_t length = a->sa_family == AF_INET    ? sizeof(struct sockaddr_in)
                    : a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                               : sizeof(struct sockaddr_ll);
    return !memcmp(a, b, length);
}

static const char *difference(void) {
    static char text[64];
    struct ifaddrs *list, *own;
    if (getifaddrs(&list) || own_getifaddrs(&own))
        return "fails";
    const char *seen = NULL;
    int links = 0, addresses = 0;
    struct ifaddrs *a = list, *b = own;
    for (; a && b && !seen; a = a->ifa_next, b = b->ifa_next) {
        int is_link = a->ifa_addr && a->ifa_addr->sa_family == AF_PACKET;
        links += is_link, addresses += !is_link;
        seen = !same_text(a->ifa_name, b->ifa_name)                                     ? "name"
               : a->ifa_flags != b->ifa_flags                                          ? "flags"
               : !same_address(a->ifa_addr, b->ifa_addr)                                ? "address"
               : !same_address(a->ifa_netmask, b->ifa_netmask)                          ? "mask"
               : !same_address(a->ifa_broadaddr, b->ifa_broadaddr)                      ? "other end"
               : !a->ifa_data != !b->ifa_data                                           ? "whether there is data"
               : a->ifa_data && memcmp(a->ifa_data, b->ifa_data, sizeof(struct rtnl_link_stats)) ? "data"
                                                                                        : NULL;
        if (seen)
            snprintf(text, sizeof text, "%s of %s", seen, b->ifa_name), seen = text;
    }
    if (!seen && (a || b))
        seen = a ? "one more" : "one less";
    if (!seen && (links < 100 || addresses < 100))
        snprintf(text, sizeof text, "only %d links, %d addresses", links, addresses), seen = text;
    freeifaddrs(list), freeifaddrs(own);
    return seen;
}

static const char *difference_of_names(void) {
    struct if_nameindex *list = if_nameindex(), *own = own_if_nameindex();
    if (!list || !own)
        return "fails";
    int n = 0;
    while (own[n].if_index && list[n].if_index == own[n].if_index && same_text(list[n].if_name, own[n].if_name))
        n++;
    const char *seen = own[n].if_index || list[n].if_index || list[n].if_name ? "differs" : n < 100 ? "too few" : NULL;
    if_freenameindex(list), if_freenameindex(own);
    return seen;
}

/* A packet counts, so links' numbers may differ for a moment. */
static void is_as_libcs(const char *name, const char *(*difference)(void)) {
    const char *seen = difference();
    for (int n = 0; seen && n < 50; n++)
        usleep(20000), seen = difference();
    check(name, !seen, "%s", seen);
}

static void look_up(const char *node, int family, int flags) {
    char name[96];
    struct addrinfo hints = {.ai_family = family, .ai_flags = flags, .ai_socktype = SOCK_STREAM}, *list = NULL, *own = NULL;
    int is = getaddrinfo(node, "80", &hints, &list);
    int should = own_getaddrinfo(node, "80", &hints, &own);
    struct addrinfo *a = list, *b = own;
    while (!is && !should && a && b && same_address(a->ai_addr, b->ai_addr))
        a = a->ai_next, b = b->ai_next;
    snprintf(name, sizeof name, "%s, family %d, flags %#x", node ? node : "no node", family, flags);
    check(name, is == should && !a && !b, "%d, libc has %d", is, should);
    if (!is)
        freeaddrinfo(list);
    if (!should)
        freeaddrinfo(own);
}

static void compare(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    own_getifaddrs = (int (*)(struct ifaddrs **))dlsym(libc, "getifaddrs");
    own_if_nameindex = (struct if_nameindex * (*)(void)) dlsym(libc, "if_nameindex");
    own_getaddrinfo = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(libc, "getaddrinfo");
    is_as_libcs("getifaddrs", difference);
    is_as_libcs("if_nameindex", difference_of_names);
    const char *nodes[] = {"10.1.2.3", "::1", "127.0.0.1", "2001:db8::1", "::ffff:10.1.2.3", NULL};
    int families[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX};
    int flags[] = {AI_ADDRCONFIG, AI_ADDRCONFIG | AI_V4MAPPED, 0, AI_PASSIVE, AI_CANONNAME, AI_ADDRCONFIG | AI_PASSIVE, AI_ADDRCONFIG | 0x100000};
    for (int n = 0; n < 6; n++)
        for (int f = 0; f < 4; f++)
            for (int g = 0; g < 7; g++)
                for (int numeric = 0; numeric < 2; numeric++)
                    look_up(nodes[n], families[f], flags[g] | (numeric ? AI_NUMERICHOST : 0));
}

/* How often this process's parent has gone to sleep, which is how often it has woken up. A bare one's is not in this namespace. */
static long wakes(void) {
    char path[64], line[128];
    long sum = 0, one;
    if (!getppid())
        return 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)getppid());
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &one) == 1)
            sum = one;
    if (!file || !sum)
        give_up("%s: %s", path, strerror(errno));
    fclose(file);
    return sum;
}

#define ROUNDS 300
#define UNNOTICED(name, call)                                                                                          \
    do {                                                                                                               \
        long before_ = wakes();                                                                                        \
        int good_ = 0;                                                                                                 \
        for (int n_ = 0; n_ < ROUNDS; n_++)                                                                            \
            good_ += (call);                                                                                           \
        long after_ = wakes();                                                                                         \
        check(name, good_ == ROUNDS, "%d of %d", good_, ROUNDS);                                                       \
        check(name " without the broker", after_ - before_ < ROUNDS / 10, "it woke %ld times", after_ - before_);         \
    } while (0)

static int lists(void) {
    struct ifaddrs *list = NULL;
    int is = getifaddrs(&list) == 0 && list;
    freeifaddrs(list);
    return is;
}

static int names(void) {
    struct if_nameindex *list = if_nameindex();
    int is = list && list->if_index;
    if_freenameindex(list);
    return is;
}

static int looks_up(const char *node, const struct addrinfo *hints) {
    struct addrinfo *list;
    if (getaddrinfo(node, "80", hints, &list))
        return 0;
    freeaddrinfo(list);
    return 1;
}

/* As sd_notify(3) and journald's clients do. */
static int notifies(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    socklen_t length = sizeof at.sun_family;
    char seen[8];
    int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0);
    /* Linux chooses an abstract address. */
    int is = bind(to, (void *)&at, length) == 0 && (length = sizeof at, getsockname(to, (void *)&at, &length) == 0);
    struct iovec part = {"READY=1", 7};
    struct msghdr message = {.msg_name = &at, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1};
    is = is && sendto(from, "READY=1", 7, 0, (void *)&at, length) == 7 && sendmsg(from, &message, 0) == 7;
    is = is && recv(to, seen, sizeof seen, 0) == 7 && recv(to, seen, sizeof seen, 0) == 7;
    close(to), close(from);
    return is;
}

/* As iproute2 and the libraries for netlink do. */
static int asks_the_kernel(void) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg body;
    } ask = {{.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST}, {.ifi_index = 1}};
    char answer[8192];
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct iovec part = {answer, sizeof answer};
    struct msghdr message = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &part, .msg_iovlen = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    int is = sendto(fd, &ask, sizeof ask, 0, (void *)&kernel, sizeof kernel) == sizeof ask && recvmsg(fd, &message, 0) > 200;
    close(fd);
    return is;
}

static void count(void) {
    struct addrinfo stream = {.ai_socktype = SOCK_STREAM}, literal = {.ai_flags = AI_NUMERICHOST | AI_ADDRCONFIG}, passive = {.ai_flags = AI_PASSIVE};
    if (prctl(PR_SET_DUMPABLE, 0))
        give_up("PR_SET_DUMPABLE: %s", strerror(errno));
    UNNOTICED("datagrams to a Unix socket", notifies());
    UNNOTICED("a question by netlink", asks_the_kernel());
    UNNOTICED("localhost", looks_up("localhost", &stream));
    UNNOTICED("getifaddrs", lists());
    UNNOTICED("if_nameindex", names());
    UNNOTICED("if_nametoindex", if_nametoindex("lo") == 1);
    UNNOTICED("getaddrinfo without hints", looks_up("10.1.2.3", NULL));
    UNNOTICED("getaddrinfo", looks_up("10.1.2.3", &stream));
    UNNOTICED("getaddrinfo of nothing, to connect to", looks_up(NULL, NULL));
    UNNOTICED("getaddrinfo of nothing, to bind to", looks_up(NULL, &passive));
    UNNOTICED("getaddrinfo for a literal", looks_up("10.1.2.3", &literal));
}

int main(int argc, char **argv) {
    int is_quiet = argc > 1 && !strcmp(argv[1], "quietly");
    start(argv);
    if (is_quiet)
        count();
    else
        compare();
    return done();
}
