/* epoll(7) around pending connects: modes, registration before and after, what each event carries. */
#include "check.h"
#include <sys/epoll.h>

/* A value that has every bit pattern that a wrong mask, sign or width would lose. */
#define DATA 0x8badf00dfeedc0deULL
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)

static int control(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operation, fd, &event);
}

/* One epoll_wait: its result, the first event in `*event`. Room for more, so that a second one would be seen. */
static int wait_one(int epoll, struct epoll_event *event, int timeout_ms) {
    struct epoll_event events[4] = {0};
    int count = epoll_wait(epoll, events, 4, timeout_ms);
    *event = events[0];
    return count;
}

static void event_is(const char *name, int epoll, uint32_t events, uint64_t data) {
    struct epoll_event seen;
    int count = wait_one(epoll, &seen, PATIENCE_MS);
    check(name, count == 1 && seen.events == events && seen.data.u64 == data, "%d events, first %#x with %#llx", count, seen.events, (unsigned long long)seen.data.u64);
}

static void no_event(const char *name, int epoll) {
    struct epoll_event seen = {0};
    int count = wait_one(epoll, &seen, 0);
    check(name, count == 0, "%d events, first %#x with %#llx", count, seen.events, (unsigned long long)seen.data.u64);
}

/* One socket's life in an epoll set with the given mode; `early` registers it before connect. */
static void life(const char *label, endpoint held, uint32_t mode, int early) {
    char name[96];
    struct epoll_event seen;
    int epoll = epoll_create1(EPOLL_CLOEXEC), fd = tcp(AF_INET, SOCK_NONBLOCK);
    stage("hold");
    if (early) {
        GIVES(NAMED("added before connect"), 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | mode, DATA));
        /* The kernel shows an unconnected socket as hung up: a program may look before it connects. */
        event_is(NAMED("unconnected is hung up"), epoll, EPOLLOUT | EPOLLHUP, DATA);
        if (mode & EPOLLONESHOT)
            control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | mode, DATA);
    }
    FAILS(NAMED("starts"), EINPROGRESS, connect_to(fd, &held));
    if (early && (mode & EPOLLONESHOT))
        control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | mode, DATA);
    if (!early)
        GIVES(NAMED("added after connect"), 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | mode, DATA));
    no_event(NAMED("nothing yet"), epoll);
    GIVES(NAMED("nothing for a while"), 0, wait_one(epoll, &seen, 50));
    stage("release");
    event_is(NAMED("writable when connected"), epoll, EPOLLOUT, DATA);
    GIVES(NAMED("no error"), 0, socket_error(fd));

    if (mode & (EPOLLET | EPOLLONESHOT))
        no_event(NAMED("told once"), epoll);
    else
        event_is(NAMED("told again"), epoll, EPOLLOUT, DATA);
    if (mode & EPOLLONESHOT) {
        GIVES(NAMED("armed again"), 0, control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | mode, ~DATA));
        event_is(NAMED("told after arming"), epoll, EPOLLOUT, ~DATA);
        control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | mode, DATA);
    } else if (!(mode & EPOLLEXCLUSIVE)) {
        GIVES(NAMED("changed to reading"), 0, control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | mode, DATA));
        no_event(NAMED("nothing to read"), epoll);
    }
    send(fd, "z", 1, 0);
    if (!(mode & EPOLLEXCLUSIVE))
        event_is(NAMED("data from the far end"), epoll, EPOLLIN, DATA);
    else if (poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN)
        event_is(NAMED("data from the far end"), epoll, EPOLLIN | EPOLLOUT, DATA);
    char byte;
    GIVES(NAMED("is read"), 1, recv(fd, &byte, 1, 0));
    GIVES(NAMED("deleted"), 0, control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    FAILS(NAMED("deleted twice"), ENOENT, control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    GIVES(NAMED("added afterwards"), 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 5));
    event_is(NAMED("told with the new data"), epoll, EPOLLOUT, 5);
    close(fd), close(epoll);
}

static void refusal(const char *label, endpoint refused, uint32_t mode, uint32_t asked, int early) {
    char name[96];
    int epoll = epoll_create1(0), fd = tcp(AF_INET, SOCK_NONBLOCK);
    struct epoll_event seen;
    stage("hold");
    if (early)
        control(epoll, EPOLL_CTL_ADD, fd, asked | mode, DATA);
    FAILS(NAMED("starts"), EINPROGRESS, connect_to(fd, &refused));
    if (!early)
        control(epoll, EPOLL_CTL_ADD, fd, asked | mode, DATA);
    no_event(NAMED("nothing yet"), epoll);
    stage("release");
    int count = wait_one(epoll, &seen, PATIENCE_MS);
    uint32_t expected = EPOLLERR | EPOLLHUP | (asked & (EPOLLIN | EPOLLOUT | EPOLLRDHUP));
    check(NAMED("shows"), count == 1 && seen.events == expected && seen.data.u64 == DATA, "%d events, first %#x not %#x", count, seen.events, expected);
    GIVES(NAMED("with its error"), ECONNREFUSED, socket_error(fd));
    close(fd);
    no_event(NAMED("nothing once closed"), epoll);
    close(epoll);
}

static void operations_while_pending(endpoint held) {
    int epoll = epoll_create1(0), other = epoll_create1(0), fd = tcp(AF_INET, SOCK_NONBLOCK);
    stage("hold");
    FAILS("pending starts", EINPROGRESS, connect_to(fd, &held));
    FAILS("MOD of what is not there", ENOENT, control(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT, 1));
    FAILS("DEL of what is not there", ENOENT, control(epoll, EPOLL_CTL_DEL, fd, EPOLLOUT, 1));
    GIVES("ADD while pending", 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 1));
    FAILS("ADD again while pending", EEXIST, control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 2));
    GIVES("MOD while pending", 0, control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 3));
    no_event("MOD does not show it", epoll);
    GIVES("DEL while pending", 0, control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    FAILS("DEL again while pending", ENOENT, control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    FAILS("MOD after DEL", ENOENT, control(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT, 1));
    GIVES("ADD after DEL", 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 4));
    GIVES("DEL takes a null event", 0, epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
    GIVES("ADD once more", 0, control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 5));
    struct epoll_event *volatile nowhere = NULL;
    FAILS("MOD with a null event", EFAULT, epoll_ctl(epoll, EPOLL_CTL_MOD, fd, nowhere));
    FAILS("ADD to what is no epoll", EINVAL, control(fd, EPOLL_CTL_ADD, fd, EPOLLOUT, 6));
    FAILS("unknown operation", EINVAL, control(epoll, 77, fd, EPOLLOUT, 6));
    FAILS("EPOLLEXCLUSIVE in MOD", EINVAL, control(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLEXCLUSIVE, 6));
    GIVES("ADD to a second set", 0, control(other, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 7));
    no_event("first set is silent", epoll);
    no_event("second set is silent", other);
    GIVES("the first set is not readable", 0, poll_one(epoll, POLLIN, 0));
    stage("release");
    GIVES("the first set becomes readable", POLLIN, poll_one(epoll, POLLIN, PATIENCE_MS));
    GIVES("so does the second", POLLIN, poll_one(other, POLLIN, PATIENCE_MS));
    event_is("first set tells", epoll, EPOLLOUT, 5);
    event_is("second set tells", other, EPOLLOUT, 7);
    no_event("second set tells once", other);
    check("the socket echoes", echoes(fd), "no echo");
    close(fd);
    no_event("first set is empty", epoll);
    no_event("second set is empty", other);
    close(epoll), close(other);
}

/* EPOLL_CTL_DEL while pending, and never added again: nothing may come of it. */
static void deleted_for_good(endpoint held) {
    int epoll = epoll_create1(0), fd = tcp(AF_INET, SOCK_NONBLOCK);
    stage("hold");
    connect_to(fd, &held);
    control(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 1);
    control(epoll, EPOLL_CTL_DEL, fd, 0, 0);
    stage("release");
    GIVES("deleted: poll sees it through", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    no_event("deleted: epoll stays silent", epoll);
    close(fd), close(epoll);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint held = endpoint_of("held"), refused = endpoint_of("heldrefused");
    life("level, before", held, 0, 1);
    life("level, after", held, 0, 0);
    life("edge, before", held, EPOLLET, 1);
    life("edge, after", held, EPOLLET, 0);
    life("one-shot, before", held, EPOLLONESHOT, 1);
    life("one-shot, after", held, EPOLLONESHOT, 0);
    life("edge and one-shot, after", held, EPOLLET | EPOLLONESHOT, 0);
    life("exclusive, before", held, EPOLLEXCLUSIVE, 1);
    life("exclusive, after", held, EPOLLEXCLUSIVE, 0);
    refusal("refused, level", refused, 0, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 0);
    refusal("refused, edge, before", refused, EPOLLET, EPOLLIN | EPOLLOUT, 1);
    refusal("refused, one-shot", refused, EPOLLONESHOT, EPOLLOUT, 0);
    refusal("refused, nothing asked", refused, 0, 0, 0);
    operations_while_pending(held);
    deleted_for_good(held);
    return done();
}
