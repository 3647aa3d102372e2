/*
 * Programs that listen beside a connection, as clients of active FTP do: `caller=` (and `caller6=`) is told where to connect to, and comes. What waits
 * for it, and what getsockname(), accept() and getpeername() say, is as on a bare machine. With `caught=1` accept() may show another peer.
 */
#include "check.h"

#include <sys/epoll.h>
#include <sys/select.h>

static const char *caller = "caller";

/* The control connection, with its own address as getsockname() has it. */
static int control_connection(endpoint *own) {
    endpoint to = endpoint_of(caller);
    int fd = tcp(to.address.ss_family, SOCK_CLOEXEC);
    if (connect_to(fd, &to))
        give_up("control connection: %s", strerror(errno));
    own->length = sizeof own->address;
    if (getsockname(fd, (void *)&own->address, &own->length))
        give_up("getsockname: %s", strerror(errno));
    return fd;
}

static in_port_t *port_of(endpoint *of) {
    return of->address.ss_family == AF_INET ? &((struct sockaddr_in *)&of->address)->sin_port
                                            : &((struct sockaddr_in6 *)&of->address)->sin6_port;
}

static endpoint name_of(int fd) {
    endpoint name = {.length = sizeof name.address};
    if (getsockname(fd, (void *)&name.address, &name.length))
        give_up("getsockname of a listener: %s", strerror(errno));
    return name;
}

static endpoint any(int family) {
    return parse_endpoint(family == AF_INET ? "0.0.0.0:0" : "[::]:0");
}

/* A listener as most programs make it: bound to any address. */
static int listener(int family, int flags) {
    endpoint here = any(family);
    int fd = tcp(family, SOCK_CLOEXEC | flags);
    if (bind(fd, (void *)&here.address, here.length) || listen(fd, 4))
        give_up("listen: %s", strerror(errno));
    return fd;
}

/* Has the caller come to `host`, at `port`. */
static void call(int control, endpoint host, in_port_t port) {
    char text[128], line[256];
    const void *address = host.address.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&host.address)->sin_addr
                                                            : (void *)&((struct sockaddr_in6 *)&host.address)->sin6_addr;
    inet_ntop(host.address.ss_family, address, text, sizeof text);
    const char *format = host.address.ss_family == AF_INET ? "call %s:%d\n" : "call [%s]:%d\n";
    int length = snprintf(line, sizeof line, format, text, ntohs(port));
    if (write(control, line, (size_t)length) != length)
        give_up("the control connection: %s", strerror(errno));
}

/* The caller's answer: where it has come from; 0 when it has not. */
static int answer(int control, endpoint *from) {
    static const char begin[] = "called from ";
    char line[256];
    size_t got = 0;
    while (got < sizeof line - 1 && read(control, line + got, 1) == 1 && line[got] != '\n')
        got++;
    line[got] = 0;
    if (strncmp(line, begin, sizeof begin - 1))
        return 0;
    *from = parse_endpoint(line + sizeof begin - 1);
    return 1;
}

static int says_hello(int fd) {
    return comes_back(fd, "hello from the caller\n");
}

/* What came: from whom, where to, and what it says. `seen`: accept()'s address, or NULL. */
static void check_come(const char *what, int control, int fd, endpoint host, in_port_t port, const endpoint *seen) {
    char name[128];
    endpoint from = {0}, peer = {.length = sizeof peer.address}, own = {.length = sizeof own.address};
    snprintf(name, sizeof name, "%s: accept", what);
    if (!check(name, fd >= 0, SAW(fd)))
        return;
    snprintf(name, sizeof name, "%s: the caller came", what);
    check(name, answer(control, &from), "no answer");
    snprintf(name, sizeof name, "%s: getpeername is the caller", what);
    getpeername(fd, (void *)&peer.address, &peer.length);
    check(name, same_endpoint(&peer, &from), "port %d, not %d", ntohs(*port_of(&peer)), ntohs(*port_of(&from)));
    if (seen && !argument("caught")) {
        snprintf(name, sizeof name, "%s: accept's address is getpeername's", what);
        check(name, seen->length == peer.length && same_endpoint(seen, &peer), "port %d", ntohs(*port_of((endpoint *)seen)));
    }
    snprintf(name, sizeof name, "%s: getsockname is where it was called to", what);
    getsockname(fd, (void *)&own.address, &own.length);
    *port_of(&host) = port;
    check(name, same_endpoint(&own, &host), "port %d, not %d", ntohs(*port_of(&own)), ntohs(port));
    snprintf(name, sizeof name, "%s: talks", what);
    check(name, says_hello(fd) && echoes(fd), "no echo");
    shutdown(fd, SHUT_WR);
    char rest;
    snprintf(name, sizeof name, "%s: ends", what);
    check(name, poll_one(fd, POLLIN, PATIENCE_MS) > 0 && read(fd, &rest, 1) == 0, "no end");
    close(fd);
}

static int accept_from(int fd, endpoint *seen) {
    seen->length = sizeof seen->address;
    return accept(fd, (void *)&seen->address, &seen->length);
}

static void blocking(void) {
    endpoint own, seen;
    int control = control_connection(&own), fd = listener(own.address.ss_family, 0);
    in_port_t port = *port_of(&(endpoint[]){name_of(fd)}[0]);
    call(control, own, port);
    int come = accept_from(fd, &seen);
    check_come("blocking", control, come, own, port, &seen);
    close(fd), close(control);
}

/* Bound to the control connection's own address, asked for its port before it listens (tnftp, curl, wget). */
static void as_ftp_clients(void) {
    endpoint own, seen;
    int control = control_connection(&own), fd = tcp(own.address.ss_family, SOCK_CLOEXEC);
    endpoint here = own;
    *port_of(&here) = 0;
    GIVES("bind to the control connection's address", 0, bind(fd, (void *)&here.address, here.length));
    endpoint first = name_of(fd);
    check("it has that address", (*port_of(&here) = *port_of(&first), same_endpoint(&first, &here)), "another");
    GIVES("listen", 0, listen(fd, 1));
    endpoint second = name_of(fd);
    check("and the same port when it listens", same_endpoint(&first, &second), "port %d, not %d",
          ntohs(*port_of(&second)), ntohs(*port_of(&first)));
    call(control, own, *port_of(&first));
    check("select", poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN, "not readable");
    endpoint third = name_of(fd);
    check("and the same when somebody waits", same_endpoint(&first, &third), "port %d", ntohs(*port_of(&third)));
    int come = accept_from(fd, &seen);
    check_come("as ftp clients", control, come, own, *port_of(&first), &seen);
    close(fd), close(control);
}

static void by_poll_select_and_epoll(void) {
    for (int way = 0; way < 4; way++) {
        const char *names[] = {"poll", "select", "epoll", "epoll, edges"};
        endpoint own, seen;
        int control = control_connection(&own), fd = listener(own.address.ss_family, SOCK_NONBLOCK);
        in_port_t port = *port_of(&(endpoint[]){name_of(fd)}[0]);
        FAILS("nobody has come yet", EAGAIN, accept(fd, NULL, NULL));
        int set = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN | (way == 3 ? EPOLLET : 0), .data.u64 = 77};
        if (way >= 2 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
            give_up("epoll_ctl: %s", strerror(errno));
        GIVES("nothing to wait for", 0, poll_one(fd, POLLIN, 0));
        call(control, own, port);
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        switch (way) {
        case 0: GIVES(names[way], POLLIN, poll_one(fd, POLLIN, PATIENCE_MS)); break;
        case 1: GIVES(names[way], 1, select(fd + 1, &readable, NULL, NULL, &(struct timeval){.tv_sec = PATIENCE_MS / 1000})); break;
        default:
            GIVES(names[way], 1, epoll_wait(set, &event, 1, PATIENCE_MS));
            check(names[way], event.data.u64 == 77 && event.events == EPOLLIN, "events %#x", event.events);
            GIVES(names[way], way == 2, epoll_wait(set, &event, 1, 0));
        }
        seen.length = sizeof seen.address;
        int come = accept4(fd, (void *)&seen.address, &seen.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        check_come(names[way], control, come, own, port, &seen);
        FAILS("nobody else", EAGAIN, accept4(fd, NULL, NULL, 0));
        close(set), close(fd), close(control);
    }
}

/* accept()'s address is cut to the room, and its length is whole (accept(2)). */
static void cut_addresses(void) {
    endpoint own;
    int control = control_connection(&own), fd = listener(own.address.ss_family, 0);
    in_port_t port = *port_of(&(endpoint[]){name_of(fd)}[0]);
    char room[8] = {0}, beyond[8] = {0};
    socklen_t length = 4;
    call(control, own, port);
    int come = accept(fd, (void *)room, &length);
    check("a short room is filled, and no more", !memcmp(room + 4, beyond, 4) && room[0], "written beyond");
    check("the length is whole", length == own.length, "%u", (unsigned)length);
    length = 2;
    GIVES("getsockname into a short room", 0, getsockname(come, (void *)room, &length));
    check("its length is whole", length == own.length, "%u", (unsigned)length);
    FAILS("getsockname without a length", EFAULT, getsockname(come, (void *)room, NULL));
    length = (socklen_t)-1;
    FAILS("getsockname with a negative length", EINVAL, getsockname(fd, (void *)room, &length));
    check_come("cut", control, come, own, port, NULL);
    close(fd), close(control);
}

/* A listener that the parent made; the child accepts. Then the child's own, beside the connection of its parent. */
static void forks(void) {
    endpoint own, seen;
    int control = control_connection(&own), fd = listener(own.address.ss_family, 0);
    in_port_t port = *port_of(&(endpoint[]){name_of(fd)}[0]);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        call(control, own, port);
        int come = accept_from(fd, &seen);
        check_come("a child accepts", control, come, own, port, &seen);
        int another = listener(own.address.ss_family, 0);
        port = *port_of(&(endpoint[]){name_of(another)}[0]);
        call(control, own, port);
        come = accept_from(another, &seen);
        check_come("a child listens", control, come, own, port, &seen);
        fflush(stdout);
        _exit(failures != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    GIVES("the child has seen no failure", 0, status);
    close(fd), close(control);
}

/* One that is never bound, and serves two calls: asked again, it may be elsewhere. */
static void never_bound_and_twice(void) {
    endpoint own, seen;
    int control = control_connection(&own), fd = tcp(own.address.ss_family, SOCK_CLOEXEC);
    GIVES("listen binds", 0, listen(fd, 4));
    for (int turn = 0; turn < 2; turn++) {
        in_port_t port = *port_of(&(endpoint[]){name_of(fd)}[0]);
        call(control, own, port);
        int come = accept_from(fd, &seen);
        check_come(turn ? "the second" : "the first", control, come, own, port, &seen);
    }
    close(fd), close(control);
}

enum { MANY = 8 };

static void several_at_once(void) {
    endpoint own, seen;
    int control = control_connection(&own), fds[MANY];
    in_port_t ports[MANY];
    for (int n = 0; n < MANY; n++) {
        fds[n] = listener(own.address.ss_family, SOCK_NONBLOCK);
        ports[n] = *port_of(&(endpoint[]){name_of(fds[n])}[0]);
    }
    for (int n = MANY - 1; n >= 0; n--) {
        call(control, own, ports[n]);
        check("the one that was called", poll_one(fds[n], POLLIN, PATIENCE_MS) == POLLIN, "not readable");
        for (int other = 0; other < n; other++)
            if (poll_one(fds[other], POLLIN, 0))
                check("no other", 0, "%d", other);
        int come = accept_from(fds[n], &seen);
        check_come("several", control, come, own, ports[n], &seen);
        close(fds[n]);
    }
    close(control);
}

static pid_t sleeper;
static int sleepers_listener;

static void *sleep_in_accept(void *seen) {
    __atomic_store_n(&sleeper, gettid(), __ATOMIC_SEQ_CST);
    return (void *)(long)accept_from(sleepers_listener, seen);
}

static void a_thread_in_accept(void) {
    endpoint own, seen;
    pthread_t thread;
    void *come;
    int control = control_connection(&own);
    sleepers_listener = listener(own.address.ss_family, 0);
    in_port_t port = *port_of(&(endpoint[]){name_of(sleepers_listener)}[0]);
    pthread_create(&thread, NULL, sleep_in_accept, &seen);
    await_sleep(&sleeper);
    call(control, own, port);
    pthread_join(thread, &come);
    check_come("a thread asleep in accept", control, (int)(long)come, own, port, &seen);
    close(sleepers_listener), close(control);
}

/* Bound as a listener would be, and then connected; or closed again (lftp and ncftp, passive). */
static void passive(void) {
    endpoint own, open = endpoint_of("open");
    int control = control_connection(&own);
    if (own.address.ss_family == open.address.ss_family) {
        endpoint here = own;
        *port_of(&here) = 0;
        for (int asks = 0; asks < 2; asks++) {
            int fd = tcp(own.address.ss_family, SOCK_CLOEXEC);
            GIVES("bind", 0, bind(fd, (void *)&here.address, here.length));
            if (asks)
                name_of(fd);
            GIVES("and connect", 0, connect_to(fd, &open));
            check("talks", echoes(fd), "no echo");
            close(fd);
        }
    }
    close(control);
}

/* What is on this machine, and what is no TCP socket. */
static void loopback(void) {
    endpoint own, at, seen;
    int control = control_connection(&own), fd = loopback_listener(AF_INET, &at), near = tcp(AF_INET, SOCK_CLOEXEC);
    endpoint mine;
    GIVES("connect to loopback", 0, connect_to(near, &at));
    int far = accept_from(fd, &seen);
    mine = name_of(near);
    check("the peer is the kernel's", same_endpoint(&seen, &mine), "another");
    check("its address, too", (mine = name_of(far), same_endpoint(&mine, &at)), "another");
    close(fd), close(near), close(far);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct sockaddr_un local;
    socklen_t length = sizeof local;
    GIVES("a Unix socket's name", 0, getsockname(pair[0], (void *)&local, &length));
    check("is empty", length == sizeof(sa_family_t), "%u", (unsigned)length);
    FAILS("a pair does not listen", EINVAL, listen(pair[0], 1));
    FAILS("what is no socket does not listen", ENOTSOCK, listen(0, 1));
    FAILS("nothing is not bound", EBADF, bind(-1, (void *)&at.address, at.length));
    int bound = tcp(AF_INET, SOCK_CLOEXEC);
    FAILS("too short an address", EINVAL, bind(bound, (void *)&at.address, 3));
    FAILS("a connection does not listen", EINVAL, listen(control, 1));
    fd = loopback_listener(AF_INET, &at), near = tcp(AF_INET, SOCK_CLOEXEC);
    GIVES("connect to loopback", 0, connect_to(near, &at));
    far = accept(fd, NULL, (socklen_t *)16);
    check("accept without an address does not look at its length", far >= 0, SAW(far));
    close(fd), close(near), close(far);
    endpoint here = any(AF_INET);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    GIVES("a datagram socket is bound", 0, bind(datagrams, (void *)&here.address, here.length));
    check("and has a port", (here = name_of(datagrams), *port_of(&here)), "none");
    FAILS("and does not listen", EOPNOTSUPP, listen(datagrams, 1));
    close(bound), close(datagrams), close(control), close(pair[0]), close(pair[1]);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (argument("by6"))
        caller = "caller6";
    blocking();
    as_ftp_clients();
    by_poll_select_and_epoll();
    cut_addresses();
    forks();
    never_bound_and_twice();
    several_at_once();
    a_thread_in_accept();
    passive();
    loopback();
    return done();
}
