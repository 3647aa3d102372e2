/* gethostbyname(3) and its family, getnameinfo(3): results, reentrant forms, errors. Arguments as in names.c. */
#include "check.h"
#include <netdb.h>

static const char *name_of_far_side;
static uint16_t port;

static void well_formed(const char *what, const struct hostent *host, int family) {
    int length = family == AF_INET ? 4 : 16;
    check(what, host && host->h_addrtype == family && host->h_length == length && host->h_aliases && host->h_addr_list && host->h_addr_list[0] && host->h_name, "null or misshapen");
}

static int connects(const struct hostent *host) {
    endpoint to = {0};
    if (host->h_addrtype == AF_INET) {
        struct sockaddr_in *v4 = (void *)&to.address;
        v4->sin_family = AF_INET, v4->sin_port = htons(port);
        memcpy(&v4->sin_addr, host->h_addr_list[0], 4);
        to.length = sizeof *v4;
    } else {
        struct sockaddr_in6 *v6 = (void *)&to.address;
        v6->sin6_family = AF_INET6, v6->sin6_port = htons(port);
        memcpy(&v6->sin6_addr, host->h_addr_list[0], 16);
        to.length = sizeof *v6;
    }
    int fd = tcp(host->h_addrtype, 0);
    int good = connect_to(fd, &to) == 0 && peer_is(fd, &to) && echoes(fd);
    close(fd);
    return good;
}

static void plain(void) {
    struct hostent *host = gethostbyname(name_of_far_side);
    well_formed("gethostbyname", host, AF_INET);
    if (host) {
        check("gethostbyname's name", !strcmp(host->h_name, name_of_far_side), "%s", host->h_name);
        check("gethostbyname's address connects", connects(host), "it does not");
    }
    host = gethostbyname2(name_of_far_side, AF_INET);
    well_formed("gethostbyname2, IPv4", host, AF_INET);
    host = gethostbyname2(name_of_far_side, AF_INET6);
    well_formed("gethostbyname2, IPv6", host, AF_INET6);
    if (host)
        check("gethostbyname2's address connects", connects(host), "it does not");
    host = gethostbyname("192.0.2.9");
    well_formed("gethostbyname of a literal", host, AF_INET);
    check("the literal's bytes", host && !memcmp(host->h_addr_list[0], "\xc0\0\2\x09", 4) && !host->h_addr_list[1], "others");
    host = gethostbyname("localhost");
    check("localhost is local", host && !memcmp(host->h_addr_list[0], "\x7f\0\0\1", 4), "not");
    host = gethostbyname("");
    check("empty name", !host, "it has an address");
}

static void reentrant(int family) {
    struct hostent host, *result = (void *)1;
    char buffer[2048], what[64];
    int problem = 77, sufficient = 0, error;
    memset(&host, 0xff, sizeof host);
    error = gethostbyname2_r(name_of_far_side, family, &host, buffer, sizeof buffer, &result, &problem);
    snprintf(what, sizeof what, "gethostbyname2_r, family %d", family);
    if (!check(what, error == 0 && result == &host, "returned %d", error))
        return;
    well_formed(what, result, family);
    check(what, (char *)host.h_aliases >= buffer && (char *)host.h_aliases < buffer + sizeof buffer && host.h_addr_list[0] >= buffer, "not in the buffer");

    /* Every length: too small ones give ERANGE and never write beyond it. */
    int wrong = 0;
    for (size_t length = 0; length <= sizeof buffer && !wrong; length++) {
        memset(buffer, 0x5a, sizeof buffer);
        result = (void *)1;
        error = gethostbyname2_r(name_of_far_side, family, &host, buffer, length, &result, &problem);
        for (size_t at = length; at < sizeof buffer; at++)
            wrong |= buffer[at] != 0x5a;
        if (error == 0)
            sufficient = 1;
        else
            wrong |= sufficient || error != ERANGE || result != NULL || problem != NETDB_INTERNAL;
        if (error == 0 && length < sizeof buffer - 1)
            length += 61;
    }
    snprintf(what, sizeof what, "gethostbyname2_r in every length, family %d", family);
    check(what, !wrong && sufficient, "wrong %d, sufficient %d, error %d", wrong, sufficient, error);
}

static void reentrant_default(void) {
    struct hostent host, *result = NULL;
    char buffer[2048];
    int problem = 77;
    GIVES("gethostbyname_r", 0, gethostbyname_r(name_of_far_side, &host, buffer, sizeof buffer, &result, &problem));
    well_formed("gethostbyname_r's result", result, AF_INET);
    GIVES("gethostbyname_r of a literal", 0, gethostbyname_r("192.0.2.1", &host, buffer, sizeof buffer, &result, &problem));
    well_formed("the literal's result", result, AF_INET);
}

static void backwards(void) {
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    struct hostent *host = gethostbyaddr(&loopback, 4, AF_INET);
    check("gethostbyaddr of loopback", host && !strcmp(host->h_name, "localhost"), "h_errno %d", h_errno);

    /* The name that an address was given for comes back from that address. */
    host = gethostbyname(name_of_far_side);
    if (!host)
        return;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(80)};
    memcpy(&at.sin_addr, host->h_addr_list[0], 4);
    host = gethostbyaddr(&at.sin_addr, 4, AF_INET);
    well_formed("gethostbyaddr", host, AF_INET);
    check("gethostbyaddr gives the name", host && !strcmp(host->h_name, name_of_far_side), "%s", host ? host->h_name : "(null)");

    struct hostent room, *result = NULL;
    char buffer[1024], text[256], service[32], expected[64];
    int problem = 0;
    GIVES("gethostbyaddr_r", 0, gethostbyaddr_r(&at.sin_addr, 4, AF_INET, &room, buffer, sizeof buffer, &result, &problem));
    well_formed("gethostbyaddr_r's result", result, AF_INET);
    GIVES("gethostbyaddr_r without room", ERANGE, gethostbyaddr_r(&at.sin_addr, 4, AF_INET, &room, buffer, 4, &result, &problem));

    inet_ntop(AF_INET, &at.sin_addr, expected, sizeof expected);
    GIVES("getnameinfo, numeric", 0, getnameinfo((void *)&at, sizeof at, text, sizeof text, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV));
    check("gives the number", !strcmp(text, expected) && !strcmp(service, "80"), "%s %s", text, service);
    GIVES("getnameinfo", 0, getnameinfo((void *)&at, sizeof at, text, sizeof text, service, sizeof service, 0));
    check("gives the name and the service", !strcmp(text, name_of_far_side) && !strcmp(service, "http"), "%s %s", text, service);
    GIVES("getnameinfo, name required", 0, getnameinfo((void *)&at, sizeof at, text, sizeof text, NULL, 0, NI_NAMEREQD));
    check("gives it", !strcmp(text, name_of_far_side), "%s", text);
    GIVES("getnameinfo without room for the name", EAI_OVERFLOW, getnameinfo((void *)&at, sizeof at, text, 3, NULL, 0, 0));
    GIVES("getnameinfo without room for the number", EAI_OVERFLOW, getnameinfo((void *)&at, sizeof at, text, 3, NULL, 0, NI_NUMERICHOST));
    GIVES("getnameinfo without room for the service", EAI_OVERFLOW, getnameinfo((void *)&at, sizeof at, NULL, 0, service, 1, 0));
    GIVES("getnameinfo of a short address", EAI_FAMILY, getnameinfo((void *)&at, 4, text, sizeof text, NULL, 0, 0));
    GIVES("getnameinfo of nothing", EAI_NONAME, getnameinfo((void *)&at, sizeof at, NULL, 0, NULL, 0, NI_NAMEREQD));

    /* An address that no name was asked for. */
    inet_pton(AF_INET, "192.0.2.55", &at.sin_addr);
    if (argument("proxied")) {
        GIVES("getnameinfo of an unknown address, name required", EAI_NONAME, getnameinfo((void *)&at, sizeof at, text, sizeof text, NULL, 0, NI_NAMEREQD));
        GIVES("getnameinfo of an unknown address", 0, getnameinfo((void *)&at, sizeof at, text, sizeof text, NULL, 0, 0));
        check("gives its number", !strcmp(text, "192.0.2.55"), "%s", text);
        host = gethostbyaddr(&at.sin_addr, 4, AF_INET);
        check("gethostbyaddr of an unknown address", !host && h_errno == HOST_NOT_FOUND, "h_errno %d", h_errno);
    }
}

/* What a failure leaves where: the result, *h_errnop, h_errno and errno as glibc has them. `UNTOUCHED` is what was there before. */
#define UNTOUCHED (-5)

static void says(const char *what, int returned, const struct hostent *result, int by_pointer, int wanted, int wanted_by_pointer, int wanted_h_errno) {
    int seen = h_errno, error = errno;
    check(what, returned == wanted && error == wanted && !result == (wanted || wanted_by_pointer) && by_pointer == wanted_by_pointer && seen == wanted_h_errno,
          "returned %d, %s, *h_errnop %d, h_errno %d, errno %d", returned, result ? "a result" : "none", by_pointer, seen, error);
}

#define SAYS(what, wanted, wanted_by_pointer, wanted_h_errno, call)                                                    \
    do {                                                                                                               \
        result = (void *)1, by_pointer = UNTOUCHED, h_errno = UNTOUCHED, errno = EBADMSG;                              \
        int returned_ = (call);                                                                                        \
        says(what, returned_, result, by_pointer, wanted, wanted_by_pointer, wanted_h_errno);                          \
    } while (0)

static void errors(void) {
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)}, unknown = {inet_addr("192.0.2.55")};
    struct hostent host, *result;
    char buffer[2048], big[400];
    const size_t size = sizeof buffer;
    int by_pointer;
    memset(big, 'a', sizeof big);
    big[sizeof big - 1] = 0;
    SAYS("an address of another length", EAFNOSUPPORT, NETDB_INTERNAL, UNTOUCHED, gethostbyaddr_r(&loopback, 3, AF_INET, &host, buffer, size, &result, &by_pointer));
    SAYS("an address of another family", EAFNOSUPPORT, NETDB_INTERNAL, UNTOUCHED, gethostbyaddr_r(&loopback, 4, AF_UNIX, &host, buffer, size, &result, &by_pointer));
    SAYS("an address without room", ERANGE, NETDB_INTERNAL, UNTOUCHED, gethostbyaddr_r(&loopback, 4, AF_INET, &host, buffer, 4, &result, &by_pointer));
    SAYS("an unknown address without room", ERANGE, NETDB_INTERNAL, UNTOUCHED, gethostbyaddr_r(&unknown, 4, AF_INET, &host, buffer, 4, &result, &by_pointer));
    SAYS("a name with a space", 0, HOST_NOT_FOUND, UNTOUCHED, gethostbyname_r("no such.name", &host, buffer, size, &result, &by_pointer));
    SAYS("a name that is too long", 0, HOST_NOT_FOUND, UNTOUCHED, gethostbyname_r(big, &host, buffer, size, &result, &by_pointer));
    SAYS("a name of another family", EAFNOSUPPORT, NO_DATA, UNTOUCHED, gethostbyname2_r("localhost", AF_UNIX, &host, buffer, size, &result, &by_pointer));
    SAYS("an IPv4 literal as IPv6", 0, HOST_NOT_FOUND, UNTOUCHED, gethostbyname2_r("192.0.2.1", AF_INET6, &host, buffer, size, &result, &by_pointer));
    SAYS("an IPv6 literal as IPv4", 0, HOST_NOT_FOUND, UNTOUCHED, gethostbyname2_r("::1", AF_INET, &host, buffer, size, &result, &by_pointer));
    SAYS("a literal", 0, NETDB_SUCCESS, UNTOUCHED, gethostbyname_r("192.0.2.1", &host, buffer, size, &result, &by_pointer));
    SAYS("a literal without room", ERANGE, NETDB_INTERNAL, UNTOUCHED, gethostbyname_r("192.0.2.1", &host, buffer, 4, &result, &by_pointer));
    SAYS("a name without room", ERANGE, NETDB_INTERNAL, UNTOUCHED, gethostbyname_r("localhost", &host, buffer, 4, &result, &by_pointer));
    /* Bare there is no name server that knows. */
    if (argument("proxied"))
        SAYS("an unknown address", 0, HOST_NOT_FOUND, HOST_NOT_FOUND, gethostbyaddr_r(&unknown, 4, AF_INET, &host, buffer, size, &result, &by_pointer));
    h_errno = UNTOUCHED;
    check("gethostbyaddr, another length", !gethostbyaddr(&loopback, 3, AF_INET) && h_errno == NETDB_INTERNAL && errno == EAFNOSUPPORT, "h_errno %d, errno %d", h_errno, errno);
    check("gethostbyname, a space", !gethostbyname("no such.name") && h_errno == HOST_NOT_FOUND && errno == 0, "h_errno %d, errno %d", h_errno, errno);
    check("gethostbyname2, another family", !gethostbyname2("localhost", AF_UNIX) && h_errno == NO_DATA && errno == EAFNOSUPPORT, "h_errno %d, errno %d", h_errno, errno);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    name_of_far_side = argument("name");
    port = (uint16_t)atoi(strrchr(argument("open"), ':') + 1);
    plain();
    reentrant(AF_INET);
    reentrant(AF_INET6);
    reentrant_default();
    backwards();
    errors();
    return done();
}
