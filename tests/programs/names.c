/*
 * getaddrinfo(3): flags, families, services, errors.
 *
 * `name=` is a name that only the far side (natively: /etc/hosts) knows and `open=`'s port echoes under it; `local=` is
 * a name of /etc/hosts. With `proxied=1` also what a bare machine without a name server cannot show.
 */
#include "check.h"
#include <netdb.h>

static const char *name_of_far_side, *port;

#define RESOLVES(what, expected, node, service, hints)                                                                 \
    do {                                                                                                               \
        struct addrinfo *list_ = NULL;                                                                                 \
        int result_ = getaddrinfo(node, service, hints, &list_);                                                       \
        check(what, result_ == (expected), "returned %d (%s)", result_, gai_strerror(result_));                        \
        if (result_ == 0)                                                                                              \
            freeaddrinfo(list_);                                                                                       \
    } while (0)

static struct addrinfo *resolve(const char *node, const char *service, int family, int flags) {
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *list = NULL;
    int result = getaddrinfo(node, service, &hints, &list);
    if (result) {
        check("resolves", 0, "%s: %s", node ? node : "(null)", gai_strerror(result));
        return NULL;
    }
    return list;
}

static int count(const struct addrinfo *list) {
    int length = 0;
    for (; list; list = list->ai_next)
        length++;
    return length;
}

/* Whether the list's first address reads so. */
static int reads(const struct addrinfo *list, const char *expected) {
    char text[INET6_ADDRSTRLEN] = "";
    if (list && list->ai_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)list->ai_addr)->sin_addr, text, sizeof text);
    else if (list)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)list->ai_addr)->sin6_addr, text, sizeof text);
    return !strcmp(text, expected);
}

static void reads_as(const char *node, const char *expected) {
    char name[128];
    struct addrinfo *list = resolve(node, NULL, AF_UNSPEC, 0);
    snprintf(name, sizeof name, "literal %s", node);
    check(name, reads(list, expected) && count(list) == 1, "%d addresses, not %s", count(list), expected);
    if (list)
        freeaddrinfo(list);
}

static void connects(const char *label, int family, int flags) {
    struct addrinfo *list = resolve(name_of_far_side, port, family, flags);
    int fd = -1, result = -1;
    for (struct addrinfo *each = list; each && result; each = each->ai_next) {
        check(label, each->ai_addrlen == (each->ai_family == AF_INET ? 16 : 28) && each->ai_socktype == SOCK_STREAM && each->ai_protocol == IPPROTO_TCP && (family == AF_UNSPEC || each->ai_family == family), "family %d type %d protocol %d", each->ai_family, each->ai_socktype, each->ai_protocol);
        fd = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol);
        result = connect(fd, each->ai_addr, each->ai_addrlen);
        if (!result) {
            endpoint peer = {.length = each->ai_addrlen};
            memcpy(&peer.address, each->ai_addr, each->ai_addrlen);
            check(label, peer_is(fd, &peer) && echoes(fd), "another peer or no echo");
        }
        close(fd);
    }
    check(label, result == 0, "no connection: errno %s", strerrorname_np(errno));
    if (list)
        freeaddrinfo(list);
}

static void flags(void) {
    struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST}, service = {.ai_flags = AI_NUMERICSERV}, bad = {.ai_flags = 0x40000};
    struct addrinfo family = {.ai_family = AF_UNIX}, type = {.ai_socktype = 77}, mismatch = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_UDP};
    struct addrinfo canonical = {.ai_flags = AI_CANONNAME}, six = {.ai_family = AF_INET6};
    RESOLVES("AI_NUMERICHOST refuses a name", EAI_NONAME, name_of_far_side, NULL, &numeric);
    RESOLVES("AI_NUMERICHOST takes a number", 0, "192.0.2.1", NULL, &numeric);
    RESOLVES("AI_NUMERICSERV refuses a name", EAI_NONAME, name_of_far_side, "http", &service);
    RESOLVES("AI_NUMERICSERV takes a number", 0, name_of_far_side, "80", &service);
    RESOLVES("unknown flag", EAI_BADFLAGS, name_of_far_side, NULL, &bad);
    RESOLVES("unknown family", EAI_FAMILY, name_of_far_side, NULL, &family);
    RESOLVES("unknown socket type", EAI_SOCKTYPE, name_of_far_side, NULL, &type);
    RESOLVES("type and protocol that do not match", EAI_SOCKTYPE, name_of_far_side, NULL, &mismatch);
    RESOLVES("AI_CANONNAME of nothing", EAI_BADFLAGS, NULL, "80", &canonical);
    RESOLVES("neither node nor service", EAI_NONAME, NULL, NULL, NULL);
    RESOLVES("unknown service", EAI_SERVICE, name_of_far_side, "no-such-service", NULL);
    RESOLVES("null hints", 0, name_of_far_side, NULL, NULL);
    RESOLVES("null hints with a service", 0, name_of_far_side, "http", NULL);
    RESOLVES("service alone", 0, NULL, "http", NULL);
    RESOLVES("IPv4 literal for IPv6", EAI_ADDRFAMILY, "192.0.2.1", NULL, &six);

    struct addrinfo *list = resolve(name_of_far_side, NULL, AF_UNSPEC, AI_CANONNAME);
    check("AI_CANONNAME gives the name", list && list->ai_canonname && !strcmp(list->ai_canonname, name_of_far_side), "%s", list && list->ai_canonname ? list->ai_canonname : "(null)");
    freeaddrinfo(list);
    list = resolve(name_of_far_side, NULL, AF_INET, 0);
    check("no canonical name unasked", list && !list->ai_canonname, "there is one");
    freeaddrinfo(list);

    struct addrinfo every = {.ai_family = AF_INET};
    list = NULL;
    GIVES("no type asked for", 0, getaddrinfo(name_of_far_side, "80", &every, &list));
    check("gives stream, datagram and raw", count(list) == 3 && list->ai_socktype == SOCK_STREAM && list->ai_next->ai_socktype == SOCK_DGRAM && list->ai_next->ai_next->ai_socktype == SOCK_RAW, "%d entries", count(list));
    check("with the port", list && ((struct sockaddr_in *)list->ai_addr)->sin_port == htons(80), "another port");
    freeaddrinfo(list);

    list = resolve(NULL, "80", AF_UNSPEC, AI_PASSIVE);
    check("AI_PASSIVE gives both families", count(list) == 2 && list->ai_family != list->ai_next->ai_family, "%d entries", count(list));
    freeaddrinfo(list);
    list = resolve(NULL, "80", AF_INET, AI_PASSIVE);
    check("AI_PASSIVE gives the wildcard", reads(list, "0.0.0.0"), "another address");
    freeaddrinfo(list);
    list = resolve(NULL, "80", AF_INET, 0);
    check("no node means loopback", reads(list, "127.0.0.1"), "another address");
    freeaddrinfo(list);
    list = resolve(name_of_far_side, "https", AF_INET, 0);
    check("service names are looked up", list && ((struct sockaddr_in *)list->ai_addr)->sin_port == htons(443), "another port");
    freeaddrinfo(list);
}

static void literals(void) {
    reads_as("192.0.2.7", "192.0.2.7");
    reads_as("127.1", "127.0.0.1");
    reads_as("10.1.65535", "10.1.255.255");
    reads_as("0x7f.1", "127.0.0.1");
    reads_as("017.1", "15.0.0.1");
    reads_as("3221225985", "192.0.2.1");
    reads_as("::1", "::1");
    reads_as("2001:DB8::7", "2001:db8::7");
    reads_as("::ffff:192.0.2.1", "::ffff:192.0.2.1");
    struct addrinfo *list = resolve("fe80::1%lo", NULL, AF_UNSPEC, 0);
    check("literal with a scope", list && list->ai_family == AF_INET6 && ((struct sockaddr_in6 *)list->ai_addr)->sin6_scope_id == 1, "no scope");
    if (list)
        freeaddrinfo(list);
}

static void local_names(void) {
    struct addrinfo *list = resolve("localhost", NULL, AF_INET, 0);
    check("localhost is local", reads(list, "127.0.0.1"), "another address");
    freeaddrinfo(list);
    list = resolve(argument("local"), NULL, AF_INET, 0);
    check("names of /etc/hosts are local", reads(list, argument("localaddress")), "another address");
    freeaddrinfo(list);
}

static void same_and_other(void) {
    struct addrinfo *one = resolve(name_of_far_side, NULL, AF_INET, 0), *two = resolve(name_of_far_side, NULL, AF_INET, 0);
    check("the same name has the same address", one && two && !memcmp(one->ai_addr, two->ai_addr, 16), "two addresses");
    freeaddrinfo(one), freeaddrinfo(two);
    if (!argument("proxied"))
        return;
    two = resolve("ANOTHER.example", NULL, AF_INET, 0), one = resolve("another.EXAMPLE", NULL, AF_INET, 0);
    check("case does not matter", one && two && !memcmp(one->ai_addr, two->ai_addr, 16), "two addresses");
    freeaddrinfo(one), freeaddrinfo(two);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    name_of_far_side = argument("name");
    port = strrchr(argument("open"), ':') + 1;
    connects("connects by name, any family", AF_UNSPEC, 0);
    connects("connects by name, IPv4", AF_INET, 0);
    connects("connects by name, IPv6", AF_INET6, 0);
    connects("connects by name, AI_ADDRCONFIG", AF_UNSPEC, AI_ADDRCONFIG);
    connects("connects by name, AI_V4MAPPED", AF_INET6, AI_V4MAPPED);
    connects("connects by name, AI_V4MAPPED and AI_ALL", AF_INET6, AI_V4MAPPED | AI_ALL);
    flags();
    literals();
    local_names();
    same_and_other();
    return done();
}
