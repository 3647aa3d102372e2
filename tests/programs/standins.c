/*
 * Names under presocks only: stand-ins are distinct and lasting, mean the same in every process, and no name is passed
 * to a resolver. Arguments as in names.c.
 */
#include "check.h"
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

#define DISTINCT 10000

static const char *name_of_far_side, *port;

static int ipv4_of(const char *name, struct in_addr *address) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int result = getaddrinfo(name, NULL, &hints, &list);
    if (result == 0) {
        *address = ((struct sockaddr_in *)list->ai_addr)->sin_addr;
        freeaddrinfo(list);
    }
    return result;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void distinct(void) {
    static uint32_t first[DISTINCT], sorted[DISTINCT];
    struct in_addr address;
    char name[64];
    int failed = 0, outside = 0, changed = 0, equal = 0;
    for (int i = 0; i < DISTINCT; i++) {
        snprintf(name, sizeof name, "host-%d.many.example", i);
        failed += ipv4_of(name, &address) != 0;
        first[i] = ntohl(address.s_addr);
        outside += (first[i] & 0xfffe0000) != 0xc6120000;
    }
    for (int i = 0; i < DISTINCT; i += 97) {
        snprintf(name, sizeof name, "host-%d.many.example", i);
        failed += ipv4_of(name, &address) != 0;
        changed += ntohl(address.s_addr) != first[i];
    }
    memcpy(sorted, first, sizeof first);
    qsort(sorted, DISTINCT, sizeof *sorted, compare);
    for (int i = 1; i < DISTINCT; i++)
        equal += sorted[i] == sorted[i - 1];
    GIVES("ten thousand names resolve", 0, failed);
    GIVES("to addresses of 198.18.0.0/15", 0, outside);
    GIVES("that are distinct", 0, equal);
    GIVES("and lasting", 0, changed);
}

/* `total` bytes in labels of at most 63. */
static const char *name_of_length(int total) {
    static char name[512];
    for (int i = 0; i < total; i++)
        name[i] = i % 64 == 63 ? '.' : 'n';
    if (name[total - 1] == '.')
        name[total - 1] = 'n';
    name[total] = 0;
    return name;
}

static void lengths(void) {
    struct in_addr address;
    GIVES("a name of 1 byte", 0, ipv4_of("n", &address));
    GIVES("a name of 253 bytes", 0, ipv4_of(name_of_length(253), &address));
    GIVES("a name of 255 bytes", 0, ipv4_of(name_of_length(255), &address));
    GIVES("a name of 256 bytes", EAI_NONAME, ipv4_of(name_of_length(256), &address));
    GIVES("a name of 500 bytes", EAI_NONAME, ipv4_of(name_of_length(500), &address));
    int result = ipv4_of("", &address);
    check("an empty name", result == EAI_NONAME, "returned %d", result);
    GIVES("a name with a final dot", 0, ipv4_of("origin.example.", &address));
    check("gethostbyname of 256 bytes", !gethostbyname(name_of_length(256)) && h_errno == HOST_NOT_FOUND, "h_errno %d", h_errno);
}

static int connects(struct in_addr address) {
    endpoint to = {.length = sizeof(struct sockaddr_in)};
    struct sockaddr_in *v4 = (void *)&to.address;
    v4->sin_family = AF_INET, v4->sin_port = htons((uint16_t)atoi(port)), v4->sin_addr = address;
    int fd = tcp(AF_INET, 0);
    int good = connect_to(fd, &to) == 0 && peer_is(fd, &to) && echoes(fd);
    close(fd);
    return good;
}

static void in_other_processes(char *self) {
    struct in_addr address;
    char text[64];
    if (ipv4_of(name_of_far_side, &address))
        give_up("the far side's name does not resolve");
    pid_t child = fork();
    if (!child)
        _exit(connects(address) ? 0 : 1);
    GIVES("resolved here, connected in a fork", 0, status_of(child));

    snprintf(text, sizeof text, "standin=%s", inet_ntoa(address));
    char port_text[32];
    snprintf(port_text, sizeof port_text, "open=0.0.0.0:%s", port);
    child = fork();
    if (!child) {
        execl("/proc/self/exe", self, text, port_text, NULL);
        _exit(2);
    }
    GIVES("resolved here, connected after exec", 0, status_of(child));

    int answer[2];
    struct in_addr from_child = {0};
    if (pipe(answer))
        give_up("pipe");
    child = fork();
    if (!child) {
        struct in_addr own;
        _exit(ipv4_of("only-the-child.example", &own) || write(answer[1], &own, sizeof own) != sizeof own);
    }
    status_of(child);
    GIVES("resolved in a child", (long)sizeof from_child, read(answer[0], &from_child, sizeof from_child));
    GIVES("resolved here as well", 0, ipv4_of("only-the-child.example", &address));
    check("to the same address", address.s_addr == from_child.s_addr, "another");
}

/* An address that could be a stand-in but was given to no name must not become a connection to anything. */
static void unknown(void) {
    endpoint to = parse_endpoint("198.19.255.254:7000");
    int fd = tcp(AF_INET, 0);
    int result = connect_to(fd, &to);
    check("a stand-in of no name", result == -1 && (errno == ENETUNREACH || errno == EHOSTUNREACH || errno == ECONNREFUSED), SAW(result));
    close(fd);
}

/* Addresses are stand-ins here, too. What only the DNS knows fails at once where it cannot be asked: not after a name server's time-out. */
static void resolver_calls(void) {
    unsigned char answer[512], query[512];
    struct __res_state state;
    memset(&state, 0, sizeof state);
    struct in_addr address = {0};
    long long begin = now_ms();
    int length = res_query("secret.example", ns_c_in, ns_t_a, answer, sizeof answer);
    check("res_query for an address", length > 4 && !ipv4_of("secret.example", &address) && !memcmp(answer + length - 4, &address, 4),
          "returned %d", length);
    check("res_querydomain for an address", res_querydomain("secret", "example", ns_c_in, ns_t_aaaa, answer, sizeof answer) > 0, "it failed");
    GIVES("res_query", -1, res_query("secret.example", ns_c_in, ns_t_mx, answer, sizeof answer));
    GIVES("h_errno", TRY_AGAIN, h_errno);
    GIVES("res_search", -1, res_search("secret.example", ns_c_in, ns_t_txt, answer, sizeof answer));
    length = res_mkquery(ns_o_query, "secret.example", ns_c_in, ns_t_mx, NULL, 0, NULL, query, sizeof query);
    GIVES("res_send answers with a server failure", length, res_send(query, length, answer, sizeof answer));
    GIVES("and says so", ns_r_servfail, answer[3] & 15);
    if (res_ninit(&state) == 0) {
        GIVES("res_nquery", -1, res_nquery(&state, "secret.example", ns_c_in, ns_t_mx, answer, sizeof answer));
        GIVES("res_nsearch", -1, res_nsearch(&state, "secret.example", ns_c_in, ns_t_mx, answer, sizeof answer));
        GIVES("res_nsend", length, res_nsend(&state, query, length, answer, sizeof answer));
        res_nclose(&state);
    }
    long long took = now_ms() - begin;
    check("all at once", took < 10000, "%lld ms", took);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    port = strrchr(argument("open"), ':') + 1;
    if (argument("standin")) {
        struct in_addr address;
        return inet_aton(argument("standin"), &address) && connects(address) ? 0 : 1;
    }
    name_of_far_side = argument("name");
    in_other_processes(argv[0]);
    lengths();
    distinct();
    unknown();
    resolver_calls();
    return done();
}
