/*
 * What every program of this directory shares: named checks, endpoints from the command line, an echo exchange.
 *
 * A program is run twice, once on a bare machine and once under presocks, with the same arguments (`open=HOST:PORT
 * refused=HOST:PORT …`), and must pass both times: the bare run proves that an expectation is the kernel's, the other
 * that presocks keeps it. Each check prints one line, `name: ok` or `name: FAILED (details)`; main returns `done()`.
 * A watchdog ends a program that hangs.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WATCHDOG_SECONDS 60
#define PATIENCE_MS 15000

typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
} endpoint;

static char **arguments;
static int failures;

/* Must be main's first call. */
__attribute__((unused)) static void start(char **argv) {
    arguments = argv + 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    alarm(WATCHDOG_SECONDS);
}

__attribute__((unused)) static int done(void) {
    fflush(stdout);
    return failures ? 1 : 0;
}

/* The value of `name=value` on the command line, or NULL. */
__attribute__((unused)) static const char *argument(const char *name) {
    size_t length = strlen(name);
    for (char **each = arguments; *each; each++)
        if (!strncmp(*each, name, length) && (*each)[length] == '=')
            return *each + length + 1;
    return NULL;
}

__attribute__((format(printf, 3, 4), unused)) static int check(const char *name, int holds, const char *format, ...) {
    int saved = errno;
    if (holds) {
        printf("%s: ok\n", name);
    } else {
        char details[512];
        va_list list;
        va_start(list, format);
        vsnprintf(details, sizeof details, format, list);
        va_end(list);
        printf("%s: FAILED (%s)\n", name, details);
        __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
    }
    errno = saved;
    return holds;
}

/* `result` and errno as text, for a check's details. */
#define SAW(result) "returned %ld, errno %s", (long)(result), strerrorname_np(errno) ? strerrorname_np(errno) : "0"

/* A call that must fail with `expected`. */
#define FAILS(name, expected, call)                                                                                    \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result_ = (call);                                                                                         \
        check(name, result_ == -1 && errno == (expected), SAW(result_));                                               \
    } while (0)

/* A call that must return `expected`. */
#define GIVES(name, expected, call)                                                                                    \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result_ = (call);                                                                                         \
        check(name, result_ == (long)(expected), SAW(result_));                                                        \
    } while (0)

/* Ends the program: what follows cannot be checked. */
__attribute__((format(printf, 1, 2), noreturn, unused)) static void give_up(const char *format, ...) {
    va_list list;
    va_start(list, format);
    printf("set-up: FAILED (");
    vprintf(format, list);
    va_end(list);
    printf(")\n");
    fflush(stdout);
    _exit(2);
}

/* Reads "1.2.3.4:80" or "[::1]:80" without a resolver. */
__attribute__((unused)) static endpoint parse_endpoint(const char *text) {
    endpoint parsed = {0};
    char host[128];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        give_up("not an endpoint: %s", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    if (host[0] == '[') {
        struct sockaddr_in6 *v6 = (void *)&parsed.address;
        host[strlen(host) - 1] = 0;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)atoi(colon + 1));
        parsed.length = sizeof *v6;
        if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
            give_up("not an IPv6 address: %s", host);
    } else {
        struct sockaddr_in *v4 = (void *)&parsed.address;
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)atoi(colon + 1));
        parsed.length = sizeof *v4;
        if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
            give_up("not an IPv4 address: %s", host);
    }
    return parsed;
}

/* The endpoint given as `name=HOST:PORT`, which must be there. */
__attribute__((unused)) static endpoint endpoint_of(const char *name) {
    const char *text = argument(name);
    if (!text)
        give_up("argument %s= is missing", name);
    return parse_endpoint(text);
}

/* ::ffff:a.b.c.d for an IPv4 endpoint. */
__attribute__((unused)) static endpoint mapped(endpoint v4) {
    struct sockaddr_in *from = (void *)&v4.address;
    endpoint result = {0};
    struct sockaddr_in6 *to = (void *)&result.address;
    to->sin6_family = AF_INET6;
    to->sin6_port = from->sin_port;
    to->sin6_addr.s6_addr[10] = to->sin6_addr.s6_addr[11] = 0xff;
    memcpy(&to->sin6_addr.s6_addr[12], &from->sin_addr, 4);
    result.length = sizeof *to;
    return result;
}

__attribute__((unused)) static int tcp(int family, int flags) {
    int fd = socket(family, SOCK_STREAM | flags, 0);
    if (fd < 0)
        give_up("socket: %s", strerror(errno));
    return fd;
}

__attribute__((unused)) static int connect_to(int fd, const endpoint *to) {
    return connect(fd, (const void *)&to->address, to->length);
}

__attribute__((unused)) static int socket_error(int fd) {
    int error = -1;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length))
        return -errno;
    return error;
}

/* poll() on one descriptor: the events seen, 0 at the time-out, -1 on error. */
/* connect() with AF_UNSPEC. */
__attribute__((unused)) static int dissolve(int fd) {
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    return connect(fd, &nothing, sizeof nothing);
}

/* How a child has ended. */
__attribute__((unused)) static int status_of(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

__attribute__((unused)) static int poll_one(int fd, int events, int timeout_ms) {
    struct pollfd one = {.fd = fd, .events = (short)events};
    int count = poll(&one, 1, timeout_ms);
    return count <= 0 ? count : one.revents;
}

__attribute__((unused)) static int same_endpoint(const endpoint *a, const endpoint *b) {
    if (a->address.ss_family != b->address.ss_family)
        return 0;
    if (a->address.ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)&a->address, *y = (const void *)&b->address;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const void *)&a->address, *y = (const void *)&b->address;
    return x->sin6_port == y->sin6_port && !memcmp(&x->sin6_addr, &y->sin6_addr, 16);
}

/* Whether getpeername gives exactly `expected`. */
__attribute__((unused)) static int peer_is(int fd, const endpoint *expected) {
    endpoint seen = {.length = sizeof seen.address};
    if (getpeername(fd, (void *)&seen.address, &seen.length))
        return 0;
    return seen.length == expected->length && same_endpoint(&seen, expected);
}

/* What was sent before comes back from an echo server. */
__attribute__((unused)) static int comes_back(int fd, const char *expected) {
    char seen[64];
    size_t length = strlen(expected), got = 0;
    while (got < length) {
        if (poll_one(fd, POLLIN, PATIENCE_MS) <= 0)
            return 0;
        ssize_t more = read(fd, seen + got, length - got);
        if (more <= 0)
            return 0;
        got += (size_t)more;
    }
    return !memcmp(seen, expected, length);
}

/* Sends a line that is new each time to the echo service and expects it back. Works on either kind of descriptor. */
__attribute__((unused)) static int echoes(int fd) {
    static int serial;
    char sent[64], seen[64];
    int length = snprintf(sent, sizeof sent, "echo %d %d\n", (int)getpid(), __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
    if (send(fd, sent, (size_t)length, MSG_NOSIGNAL) != length)
        return 0;
    for (int got = 0; got < length;) {
        if (poll_one(fd, POLLIN, PATIENCE_MS) <= 0)
            return 0;
        ssize_t more = read(fd, seen + got, (size_t)(length - got));
        if (more <= 0)
            return 0;
        got += (int)more;
    }
    return !memcmp(sent, seen, (size_t)length);
}

/*
 * Tells the stage ("hold", "release") through its Unix socket, `control=PATH`. While it holds, connections to the
 * `held=` and `heldrefused=` endpoints stay pending; once it releases, the first succeed and the second are refused.
 */
__attribute__((unused)) static void stage(const char *command) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char *path = argument("control");
    char answer[8] = "";
    if (!path || strlen(path) >= sizeof at.sun_path)
        give_up("argument control= is missing");
    strcpy(at.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (void *)&at, sizeof at))
        give_up("control socket: %s", strerror(errno));
    if (write(fd, command, strlen(command)) < 0 || shutdown(fd, SHUT_WR) || read(fd, answer, sizeof answer) < 2 || memcmp(answer, "ok", 2))
        give_up("the stage did not %s", command);
    close(fd);
}

/* The kernel binds a socket when it begins to connect it. */
__attribute__((unused)) static int gets_a_name(int fd) {
    endpoint own;
    for (int waited = 0; waited < PATIENCE_MS; waited++) {
        own.length = sizeof own.address;
        if (getsockname(fd, (void *)&own.address, &own.length)) return 0;
        /* In both families the port comes after the family. */
        if (((struct sockaddr_in *)&own.address)->sin_port) return 1;
        poll(NULL, 0, 1);
    }
    return 0;
}

/* A listener on loopback with a port of the kernel's choice, and its address. */
__attribute__((unused)) static int loopback_listener(int family, endpoint *at) {
    int fd = tcp(family, SOCK_CLOEXEC);
    *at = parse_endpoint(family == AF_INET ? "127.0.0.1:0" : "[::1]:0");
    if (bind(fd, (void *)&at->address, at->length) || listen(fd, 128) || getsockname(fd, (void *)&at->address, &at->length))
        give_up("listener: %s", strerror(errno));
    return fd;
}

__attribute__((unused)) static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/*
 * Returns when thread `*tid` of this process, which it stores there first, sleeps in a system call: state S in /proc. So
 * a test acts on a sleeping thread without guessing how long it takes to fall asleep.
 */
__attribute__((unused)) static void await_sleep(const volatile pid_t *tid) {
    char path[64], line[512];
    for (int asleep = 0; !asleep; sched_yield()) {
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)*tid);
        FILE *stat = *tid ? fopen(path, "r") : NULL;
        char *end = stat && fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
        asleep = end && end[2] == 'S';
        if (stat)
            fclose(stat);
    }
}
#endif
