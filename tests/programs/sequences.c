/*
 * Sequences of calls on a TCP socket, made by a seeded generator. Each prints what every call has returned, so that two runs can be compared; whatever
 * could be a race between the calls and the network is waited for in between. Which calls are made does not depend on what they return.
 *
 * `first=N count=M`: the seeds. `caught=1`: a non-blocking socket is blocking while it is connected elsewhere than to loopback, as a rule. `open=` echoes, `refused=` refuses and `silent=` never answers, each with `6` for IPv6.
 */
#include "check.h"
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define CHILDREN 16
#define LONGEST 4000

/* For a call that comes to an end by itself, and for one that would wait for ever. */
#define LONG_MS 8000
#define SHORT_MS 60

enum peer { OPEN, REFUSED, SILENT, LOCAL, LOCAL_REFUSED, NOBODY, PEERS };
static const char *const peer_names[PEERS] = {"open", "refused", "silent", "local", "local refused", "nobody"};

static endpoint peers[2][PEERS];

static const struct kind {
    const char *name;
    int family, protocol;
} kinds[] = {{"IPv4", AF_INET, 0}, {"IPv6", AF_INET6, 0}, {"MPTCP", AF_INET, IPPROTO_MPTCP}};

static int is_caught;

/* One sequence. */
static struct {
    uint64_t random;
    const struct kind *kind;
    int fd, is_nonblocking, timeout, is_under_way;
    /* Where the socket is connected to, or on its way to. */
    enum peer peer;
    /* Bytes that the peer sends back, and have not been read. */
    int due;
    char text[LONGEST];
    int length, step;
    unsigned seed;
} now;

static uint64_t next(void) {
    /* splitmix64 */
    uint64_t mixed = (now.random += 0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

static int below(int limit) { return (int)(next() % (uint64_t)limit); }

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    now.length += vsnprintf(now.text + now.length, sizeof now.text - (size_t)now.length, format, list);
    va_end(list);
    if (now.length >= LONGEST)
        give_up("sequence %u is too long", now.seed);
}

/* A line: what was called, and what came of it. */
static void saw(const char *what, long result) {
    const char *name = result < 0 ? strerrorname_np(errno) : "";
    say("%u.%02d %s: %ld %s\n", now.seed, now.step, what, result, name ? name : "?");
}

static void take_at_most(int milliseconds) {
    struct timeval time = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    if (milliseconds == now.timeout)
        return;
    now.timeout = milliseconds;
    setsockopt(now.fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    setsockopt(now.fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

static void new_socket(void) {
    now.is_nonblocking = below(2);
    now.fd = socket(now.kind->family, SOCK_STREAM | (now.is_nonblocking ? SOCK_NONBLOCK : 0), now.kind->protocol);
    now.peer = NOBODY, now.due = now.timeout = now.is_under_way = 0;
    if (now.fd < 0)
        give_up("socket: %s", strerror(errno));
    say("%u.%02d %s %s\n", now.seed, now.step, now.is_nonblocking ? "non-blocking" : "blocking", now.kind->name);
}

static void nap(void) {
    struct timespec time = {.tv_nsec = 1000000};
    nanosleep(&time, NULL);
}

static int tcp_state(void) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    return getsockopt(now.fd, IPPROTO_TCP, TCP_INFO, &info, &length) ? -1 : info.tcpi_state;
}

/* The peer has nothing more to say, and the kernel knows it. */
static void await_end(void) {
    /* MPTCP is told a little later than the TCP in it. */
    for (int waited = 0; waited < 1000 && (tcp_state() != TCP_CLOSE || !(poll_one(now.fd, 0, 0) & POLLHUP)); waited++)
        nap();
}

static void await_echo(void) {
    int here = 0;
    for (int waited = 0; waited < 1000 && !ioctl(now.fd, FIONREAD, &here) && here < now.due; waited++)
        nap();
}

/* The kernel binds a socket when it begins to connect it. */
static void await_begin(void) {
    endpoint own = {.length = sizeof own.address};
    const struct sockaddr_in *v4 = (const void *)&own.address;
    const struct sockaddr_in6 *v6 = (const void *)&own.address;
    for (int waited = 0; waited < PATIENCE_MS && !getsockname(now.fd, (void *)&own.address, &own.length); waited++, nap()) {
        int is_v6 = own.address.ss_family == AF_INET6;
        if (is_v6 ? memcmp(&v6->sin6_addr, &in6addr_any, 16) != 0 : v4->sin_addr.s_addr != 0)
            return;
        own.length = sizeof own.address;
    }
}

/* By connect(), or by a send that does it (`MSG_FASTOPEN`, tcp(7)). */
static void connects(enum peer to, int by_sending) {
    const endpoint *at = &peers[now.kind->family == AF_INET6][to];
    char what[64];
    int flags = fcntl(now.fd, F_GETFL), waits = is_caught && now.is_nonblocking && to < LOCAL && (to == SILENT || below(16));
    snprintf(what, sizeof what, "%s %s", by_sending ? "fast connect" : "connect", peer_names[to]);
    take_at_most(to == SILENT || now.peer == SILENT ? SHORT_MS : LONG_MS);
    if (waits)
        fcntl(now.fd, F_SETFL, flags & ~O_NONBLOCK);
    int result = by_sending ? (int)sendto(now.fd, "ab", 2, MSG_FASTOPEN | MSG_NOSIGNAL, (const void *)&at->address, at->length)
                            : connect_to(now.fd, at);
    int error = errno;
    if (waits)
        fcntl(now.fd, F_SETFL, flags);
    errno = error;
    saw(what, result);
    /* The first after one that was under way says how that has ended. */
    if (result >= 0 ? to == NOBODY || !now.is_under_way : error == EINPROGRESS)
        now.peer = to, now.due = 0;
    if (result > 0 && now.peer == OPEN)
        now.due += result, await_echo();
    now.is_under_way = result < 0 && (error == EINPROGRESS || error == EALREADY);
    if (result < 0 && error == EINPROGRESS && to == SILENT)
        await_begin();
    else if (result < 0 && error == EINPROGRESS) {
        int events = poll_one(now.fd, POLLOUT, LONG_MS);
        say("%u.%02d is done: %x\n", now.seed, now.step, events);
    }
}

static void connects_somewhere(void) {
    static const enum peer choice[] = {OPEN, OPEN, REFUSED, REFUSED, REFUSED, SILENT, SILENT, LOCAL, LOCAL_REFUSED, NOBODY, NOBODY};
    connects(choice[below(sizeof choice / sizeof *choice)], 0);
}

static void sends_to_connect(void) {
    static const enum peer choice[] = {OPEN, OPEN, REFUSED, SILENT, LOCAL, LOCAL_REFUSED};
    /* MPTCP knows it since Linux 6.2, and not as TCP does. */
    connects(choice[below(sizeof choice / sizeof *choice)], !now.kind->protocol);
}

static void asks_error(void) {
    int error = -1;
    socklen_t length = sizeof error;
    int result = getsockopt(now.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    const char *name = strerrorname_np(error);
    say("%u.%02d SO_ERROR: %d %s\n", now.seed, now.step, result, name ? name : "0");
}

/* What an address is, where bare and wrapped can agree. */
static const char *address_name(const endpoint *at) {
    static char name[64];
    for (int family = 0; family < 2; family++)
        for (int peer = OPEN; peer < NOBODY; peer++)
            if (same_endpoint(at, &peers[family][peer]))
                return peer_names[peer];
    const struct sockaddr_in *v4 = (const void *)&at->address;
    const struct sockaddr_in6 *v6 = (const void *)&at->address;
    int is_v4 = at->address.ss_family == AF_INET, port = is_v4 ? v4->sin_port : v6->sin6_port;
    int is_any = is_v4 ? !v4->sin_addr.s_addr : !memcmp(&v6->sin6_addr, &in6addr_any, 16);
    int is_loopback = is_v4 ? v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK) : !memcmp(&v6->sin6_addr, &in6addr_loopback, 16);
    snprintf(name, sizeof name, "%s:%s", is_any ? "any" : is_loopback ? "loopback" : "own", port ? "port" : "0");
    return name;
}

static void asks_name(const char *what, int (*call)(int, struct sockaddr *, socklen_t *)) {
    endpoint at = {.length = sizeof at.address};
    int result = call(now.fd, (void *)&at.address, &at.length);
    char line[96];
    snprintf(line, sizeof line, "%s%s%s", what, result ? "" : " ", result ? "" : address_name(&at));
    saw(line, result);
}

static void asks_peer(void) { asks_name("getpeername", getpeername); }

static void asks_own(void) { asks_name("getsockname", getsockname); }

static void sends(void) {
    static const char *const ways[] = {"send", "write", "writev", "sendto", "sendmsg", "send at once"};
    char data[4] = "abc", what[32];
    int length = 1 + below(3), way = below(6);
    struct iovec part = {.iov_base = data, .iov_len = (size_t)length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    take_at_most(SHORT_MS);
    ssize_t sent = way == 0   ? send(now.fd, data, (size_t)length, MSG_NOSIGNAL)
                   : way == 1 ? write(now.fd, data, (size_t)length)
                   : way == 2 ? writev(now.fd, &part, 1)
                   : way == 3 ? sendto(now.fd, data, (size_t)length, MSG_NOSIGNAL, NULL, 0)
                   : way == 4 ? sendmsg(now.fd, &message, MSG_NOSIGNAL)
                              : send(now.fd, data, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
    snprintf(what, sizeof what, "%s %d", ways[way], length);
    saw(what, sent);
    if (sent > 0 && now.peer == OPEN)
        now.due += (int)sent, await_echo();
}

static void receives(void) {
    static const char *const ways[] = {"recv", "read", "readv", "recvfrom", "recvmsg", "recv at once", "peek"};
    char data[8];
    int way = below(7);
    struct iovec part = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    endpoint from = {.length = sizeof from.address};
    take_at_most(SHORT_MS);
    ssize_t got = way == 0   ? recv(now.fd, data, sizeof data, 0)
                  : way == 1 ? read(now.fd, data, sizeof data)
                  : way == 2 ? readv(now.fd, &part, 1)
                  : way == 3 ? recvfrom(now.fd, data, sizeof data, 0, (void *)&from.address, &from.length)
                  : way == 4 ? recvmsg(now.fd, &message, 0)
                  : way == 5 ? recv(now.fd, data, sizeof data, MSG_DONTWAIT)
                             : recv(now.fd, data, sizeof data, MSG_PEEK);
    saw(ways[way], got);
    if (got > 0 && way != 6)
        now.due -= (int)got;
}

static void polls(void) {
    static const int choice[] = {POLLIN, POLLOUT, 0, POLLIN | POLLOUT, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, POLLRDNORM | POLLWRNORM};
    int events = choice[below(sizeof choice / sizeof *choice)];
    struct pollfd one = {.fd = now.fd, .events = (short)events};
    int count = poll(&one, 1, 0);
    say("%u.%02d poll %x: %d %x\n", now.seed, now.step, events, count, one.revents);
}

static void selects(void) {
    fd_set in, out, error;
    struct timeval none = {0};
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&error);
    FD_SET(now.fd, &in);
    FD_SET(now.fd, &out);
    FD_SET(now.fd, &error);
    int count = select(now.fd + 1, &in, &out, &error, &none);
    say("%u.%02d select: %d %d%d%d\n", now.seed, now.step, count, !!FD_ISSET(now.fd, &in), !!FD_ISSET(now.fd, &out), !!FD_ISSET(now.fd, &error));
}

static void polls_a_set(void) {
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP}, seen = {0};
    int added = epoll_ctl(set, EPOLL_CTL_ADD, now.fd, &event), count = epoll_wait(set, &seen, 1, 0);
    say("%u.%02d epoll: %d %d %x\n", now.seed, now.step, added, count, (unsigned)seen.events);
    close(set);
}

static void shuts(void) {
    static const char *const names[] = {"shutdown RD", "shutdown WR", "shutdown RDWR"};
    int how = below(3), result = shutdown(now.fd, how);
    saw(names[how], result);
    if (!result && now.peer == OPEN && how != SHUT_RD)
        await_end();
}

static void counts(void) {
    int here = -1, result = ioctl(now.fd, FIONREAD, &here);
    char what[32];
    snprintf(what, sizeof what, "FIONREAD %d", here);
    saw(what, result);
}

/* From ::1 a bare socket is never answered, and nothing is learnt. */
static void binds(void) {
    int v6 = now.kind->family == AF_INET6, to_loopback = !v6 && !below(3);
    endpoint at = parse_endpoint(v6 ? "[::]:0" : to_loopback ? "127.0.0.1:0" : "0.0.0.0:0");
    saw(to_loopback ? "bind loopback" : "bind any", bind(now.fd, (void *)&at.address, at.length));
}

static void listens(void) { saw("listen", listen(now.fd, 4)); }

/* It waits for none: MPTCP's knows no limit. */
static void accepts(void) {
    int flags = fcntl(now.fd, F_GETFL);
    fcntl(now.fd, F_SETFL, flags | O_NONBLOCK);
    int accepted = accept(now.fd, NULL, NULL), error = errno;
    fcntl(now.fd, F_SETFL, flags);
    errno = error;
    saw("accept", accepted < 0 ? -1 : 0);
    if (accepted >= 0)
        close(accepted);
}

static void asks_whether_it_listens(void) {
    int value = -1;
    socklen_t length = sizeof value;
    int result = getsockopt(now.fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length);
    say("%u.%02d SO_ACCEPTCONN: %d %d\n", now.seed, now.step, result, value);
}

/* Both numbers are good for a call; then the first is closed. */
static void copies(void) {
    static void (*const uses[])(void) = {sends, sends, receives, receives, polls, selects, polls_a_set, asks_error, shuts, connects_somewhere};
    int first = now.fd, way = below(3), uses_first = !below(4);
    int copy = way == 0 ? dup(first) : way == 1 ? fcntl(first, F_DUPFD_CLOEXEC, 0) : dup2(first, first + 100);
    now.fd = uses_first ? first : copy;
    say("%u.%02d %s\n", now.seed, now.step, uses_first ? "dup" : "dup, and used");
    uses[below(sizeof uses / sizeof *uses)]();
    close(first);
    now.fd = copy;
    say("%u.%02d close\n", now.seed, now.step);
}

static void turns(void) {
    now.is_nonblocking ^= 1;
    int flags = fcntl(now.fd, F_GETFL);
    int result = fcntl(now.fd, F_SETFL, now.is_nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
    saw(now.is_nonblocking ? "non-blocking" : "blocking", result);
}

static void reopens(void) {
    saw("close", close(now.fd));
    new_socket();
}

static const struct {
    int weight;
    void (*call)(void);
} calls[] = {
    {16, connects_somewhere}, {2, sends_to_connect}, {7, asks_error}, {4, asks_peer}, {4, asks_own}, {8, sends},   {8, receives},
    {6, polls},               {2, selects},    {3, polls_a_set}, {7, shuts},  {1, counts},  {2, binds},
    {1, listens},             {1, accepts},    {1, asks_whether_it_listens},  {2, copies},  {3, turns}, {1, reopens},
};

static void runs(unsigned seed) {
    alarm(WATCHDOG_SECONDS);
    memset(&now, 0, sizeof now);
    now.seed = seed, now.random = seed;
    now.kind = &kinds[below(5) % 3];
    new_socket();
    if (below(8))
        connects_somewhere();
    for (int left = 5 + below(9); left; left--) {
        int weights = 0;
        now.step++;
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
            weights += calls[i].weight;
        int chosen = below(weights);
        size_t i = 0;
        for (; chosen >= calls[i].weight; i++)
            chosen -= calls[i].weight;
        calls[i].call();
    }
    close(now.fd);
    /* In one piece: a pipe takes so much at once. */
    if (write(STDOUT_FILENO, now.text, (size_t)now.length) != now.length)
        give_up("write: %s", strerror(errno));
}

static endpoint nobody(void) {
    endpoint none = {.address.ss_family = AF_UNSPEC, .length = sizeof(struct sockaddr_in6)};
    return none;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    alarm(0);
    unsigned first = (unsigned)atoi(argument("first")), count = (unsigned)atoi(argument("count"));
    is_caught = argument("caught") && atoi(argument("caught"));
    for (int v6 = 0; v6 < 2; v6++) {
        endpoint *to = peers[v6];
        to[OPEN] = endpoint_of(v6 ? "open6" : "open");
        to[REFUSED] = endpoint_of(v6 ? "refused6" : "refused");
        to[SILENT] = endpoint_of(v6 ? "silent6" : "silent");
        listen(loopback_listener(v6 ? AF_INET6 : AF_INET, &to[LOCAL]), 4096);
        to[LOCAL_REFUSED] = parse_endpoint(v6 ? "[::1]:9" : "127.0.0.1:9");
        to[NOBODY] = nobody();
    }
    for (unsigned child = 0; child < CHILDREN; child++)
        if (!fork()) {
            for (unsigned seed = first + child; seed < first + count; seed += CHILDREN)
                runs(seed);
            _exit(0);
        }
    int failed = 0;
    for (int status; wait(&status) > 0;)
        failed |= status;
    return failed ? 1 : 0;
}
