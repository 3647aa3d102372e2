/*
 * Functions of libc that look names up, connect or send inside it, where no hook sees them: each fails as on a machine without a
 * network. The bare machine would ask and connect, so this runs under presocks only; the test counts the packets that left.
 */
#include "check.h"
#include <ifaddrs.h>
#include <netdb.h>
#include <resolv.h>
#include <sys/time.h>

/* Those that only programs linked long ago can have. */
#define OLD(result, name, version, ...)                                                                                \
    result old_##name(__VA_ARGS__);                                                                                    \
    __asm__(".symver old_" #name "," #name "@" version)
#ifdef __x86_64__
#define BASE "GLIBC_2.2.5"
OLD(struct hostent *, res_gethostbyname, BASE, const char *);
OLD(struct hostent *, res_gethostbyname2, BASE, const char *, int);
OLD(struct hostent *, res_gethostbyaddr, BASE, const void *, socklen_t, int);
OLD(void *, clnt_create, BASE, const char *, unsigned long, unsigned long, const char *);
OLD(void *, clnttcp_create, BASE, struct sockaddr_in *, unsigned long, unsigned long, int *, unsigned, unsigned);
OLD(void *, clntudp_create, BASE, struct sockaddr_in *, unsigned long, unsigned long, struct timeval, int *);
OLD(void *, clntudp_bufcreate, BASE, struct sockaddr_in *, unsigned long, unsigned long, struct timeval, int *, unsigned, unsigned);
OLD(void *, svcudp_create, BASE, int);
OLD(int, callrpc, BASE, const char *, unsigned long, unsigned long, unsigned long, void *, void *, void *, void *);
OLD(int, clnt_broadcast, BASE, unsigned long, unsigned long, unsigned long, void *, void *, void *, void *, void *);
OLD(void *, pmap_getmaps, BASE, struct sockaddr_in *);
OLD(unsigned short, pmap_getport, BASE, struct sockaddr_in *, unsigned long, unsigned long, unsigned);
OLD(int, pmap_rmtcall, BASE, struct sockaddr_in *, unsigned long, unsigned long, unsigned long, void *, void *, void *, void *, struct timeval, void *);
OLD(int, getrpcport, BASE, const char *, unsigned long, unsigned long, unsigned);
OLD(int, rtime, BASE, struct sockaddr_in *, void *, void *);
#endif

#define NOTHING(name, call)                                                                                            \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        const void *result_ = (call);                                                                                  \
        check(name, result_ == NULL && errno == ENETUNREACH, "%p, errno %s", result_, strerrorname_np(errno));         \
    } while (0)

static int encodes_nothing(void) { return 1; }

static void host_number(void) {
    /* A name of which /etc/hosts knows nothing. */
    if (unshare(CLONE_NEWUTS) == 0)
        check("set-up: a host name", sethostname("nobody.test", 11) == 0, "errno %s", strerrorname_np(errno));
    int written = 0, file = open("/etc/hostid", O_RDONLY);
    if (file >= 0 && read(file, &written, sizeof written) != sizeof written)
        written = 0;
    GIVES("gethostid", written, gethostid());
}

static void networks(void) {
    struct netent entry, *result = (void *)1;
    char buffer[512];
    int problem = 0;
    h_errno = 0;
    check("getnetbyname", !getnetbyname("net.test") && h_errno == HOST_NOT_FOUND, "h_errno %d", h_errno);
    h_errno = 0;
    check("getnetbyaddr", !getnetbyaddr(0x0a5800, AF_INET) && h_errno == HOST_NOT_FOUND, "h_errno %d", h_errno);
    int error = getnetbyname_r("net.test", &entry, buffer, sizeof buffer, &result, &problem);
    check("getnetbyname_r", !error && !result && problem == HOST_NOT_FOUND, "%d, h_errno %d", error, problem);
    result = (void *)1, problem = 0;
    error = getnetbyaddr_r(0x0a5800, AF_INET, &entry, buffer, sizeof buffer, &result, &problem);
    check("getnetbyaddr_r", !error && !result && problem == HOST_NOT_FOUND, "%d, h_errno %d", error, problem);
}

static void remote_commands(void) {
    char literal[] = "10.88.0.2", unknown[] = "far.test", *host = literal, *name = unknown;
    FAILS("rcmd", ENETUNREACH, rcmd(&host, htons(514), "root", "root", "true", NULL));
    FAILS("rcmd, a name", ENETUNREACH, rcmd(&name, htons(514), "root", "root", "true", NULL));
    FAILS("rcmd_af", ENETUNREACH, rcmd_af(&host, htons(514), "root", "root", "true", NULL, AF_INET));
    FAILS("rexec", ENETUNREACH, rexec(&host, htons(512), "root", "root", "true", NULL));
    FAILS("rexec_af", ENETUNREACH, rexec_af(&host, htons(512), "root", "root", "true", NULL, AF_INET));
    GIVES("ruserok", -1, ruserok("friend.test", 0, "root", "root"));
    GIVES("ruserok_af", -1, ruserok_af("friend.test", 0, "root", "root", AF_INET6));
    GIVES("iruserok", -1, iruserok(inet_addr("10.88.0.2"), 0, "root", "root"));
    GIVES("iruserok_af", -1, iruserok_af("\x0a\x58\0\x02", 0, "root", "root", AF_INET));
}

static void old_functions(void) {
#ifdef BASE
    struct hostent *host = old_res_gethostbyname("localhost");
    check("res_gethostbyname, a local name", host && !memcmp(host->h_addr_list[0], "\x7f\0\0\1", 4), "another");
    check("res_gethostbyname, a far name", !!old_res_gethostbyname("far.test"), "no stand-in");
    check("res_gethostbyname2", !!old_res_gethostbyname2("far.test", AF_INET6), "no stand-in");
    check("res_gethostbyaddr", !old_res_gethostbyaddr("\x0a\x58\0\x02", 4, AF_INET), "a name");

    endpoint far = parse_endpoint("10.88.0.2:111");
    struct sockaddr_in *at = (void *)&far.address;
    struct timeval second = {1, 0};
    char result[64];
    int fd = -1;
    NOTHING("clnt_create by TCP", old_clnt_create("10.88.0.2", 100000, 2, "tcp"));
    NOTHING("clnt_create by UDP", old_clnt_create("far.test", 100000, 2, "udp"));
    NOTHING("clnttcp_create", old_clnttcp_create(at, 100000, 2, &fd, 0, 0));
    at->sin_port = 0; /* asks the port mapper */
    NOTHING("clntudp_create", old_clntudp_create(at, 100000, 2, second, &fd));
    NOTHING("clntudp_bufcreate", old_clntudp_bufcreate(at, 100000, 2, second, &fd, 400, 400));
    NOTHING("svcudp_create", old_svcudp_create(-1));
    NOTHING("pmap_getmaps", old_pmap_getmaps(at));
    check("callrpc", old_callrpc("10.88.0.2", 100000, 2, 0, encodes_nothing, NULL, encodes_nothing, NULL) != 0, "it called");
    check("clnt_broadcast", old_clnt_broadcast(100000, 2, 0, encodes_nothing, NULL, encodes_nothing, NULL, encodes_nothing) != 0, "it called");
    check("pmap_rmtcall", old_pmap_rmtcall(at, 100000, 2, 0, encodes_nothing, NULL, encodes_nothing, result, second, result) != 0, "it called");
    GIVES("pmap_getport", 0, old_pmap_getport(at, 100000, 2, IPPROTO_TCP));
    GIVES("getrpcport", 0, old_getrpcport("10.88.0.2", 100000, 2, IPPROTO_TCP));
    at->sin_port = htons(37);
    FAILS("rtime", ENETUNREACH, old_rtime(at, result, &second));
#endif
}

/* An address that is longer than any is read as far as its family goes. */
static void names_of_long_addresses(void) {
    union { struct sockaddr_in v4; struct sockaddr_in6 v6; struct sockaddr any; char bytes[300]; } at = {0};
    char host[NI_MAXHOST], service[NI_MAXSERV];
    at.v4.sin_family = AF_INET, at.v4.sin_port = htons(80);
    inet_pton(AF_INET, "10.88.0.2", &at.v4.sin_addr);
    socklen_t lengths[] = {sizeof at.v4, 128, 129, 300};
    for (size_t at_length = 0; at_length < 4; at_length++) {
        int error = getnameinfo(&at.any, lengths[at_length], host, sizeof host, service, sizeof service, NI_NUMERICSERV);
        check("getnameinfo of IPv4", error == 0 && !strcmp(host, "10.88.0.2"), "%s, %s", gai_strerror(error), host);
    }
    memset(&at, 0, sizeof at);
    at.v6.sin6_family = AF_INET6;
    inet_pton(AF_INET6, "fd88::2", &at.v6.sin6_addr);
    socklen_t longer[] = {sizeof at.v6, 129, 300};
    for (size_t at_length = 0; at_length < 3; at_length++) {
        int error = getnameinfo(&at.any, longer[at_length], host, sizeof host, NULL, 0, 0);
        check("getnameinfo of IPv6", error == 0 && !strcmp(host, "fd88::2"), "%s, %s", gai_strerror(error), host);
    }
    memset(&at, 0, sizeof at);
    at.any.sa_family = AF_UNIX;
    GIVES("getnameinfo of a Unix socket", 0, getnameinfo(&at.any, sizeof(struct sockaddr_un), host, sizeof host, NULL, 0, 0));
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    host_number();
    networks();
    remote_commands();
    old_functions();
    names_of_long_addresses();
    return done();
}
